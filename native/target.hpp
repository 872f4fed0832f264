// Gathers one instruction set's functions; the last include of a `target_*.cpp`.
#pragma once

#include "derive.hpp"
#include "eval.hpp"
#include "gen.hpp"
#include "leaf_eval.hpp"
#include "matmul.hpp"
#include "openings.hpp"
#include "polynomial.hpp"
#include "streams.hpp"

namespace roundelay {
namespace {

constexpr Target make_target(const char* name) {
    return {
        name, Isa::expand_key, derive_keys, ctr, pack, unpack, mask, combine, poly, matmul<u64>, matmul<i16>, matmul<i32>, dpf_gen, dpf_eval,
        leaf_gen, leaf_eval, onehot_share<u8>, onehot_share<u16>, onehot_counts<u8>, onehot_counts<u16>,
    };
}

}  // namespace
}  // namespace roundelay
