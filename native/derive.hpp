// Fixed keys of H and H': AES under the tape's id of gate (8 bytes), key block (4) and use (4, 0 for H, 1 for H'), little-endian.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

inline void derive_keys(const RoundKeys& tape, u64 gate, u64 block, HashKeys* out, std::size_t count) {
    constexpr std::size_t pairs = W / 2;
    const Isa::Keys keys(tape);
    for (std::size_t at = 0; at < count; at += pairs) {
        u64 words[2 * W];
        for (u64 i = 0; i < u64(W); ++i) {
            words[2 * i] = gate;
            words[2 * i + 1] = ((block + at + i / 2) & low_bits(32)) | (i % 2) << 32;
        }
        V x[G];
        load_group(words, x);
        Isa::encrypt(keys, x);
        store_group(words, x);
        for (std::size_t i = 0; i < pairs && at + i < count; ++i) {
            Isa::expand_key(reinterpret_cast<const u8*>(words + 4 * i), out[at + i].node);
            Isa::expand_key(reinterpret_cast<const u8*>(words + 4 * i + 2), out[at + i].leaf);
        }
    }
}

}  // namespace
}  // namespace roundelay
