// Openings: a share and its mask to a packed message, and two messages to the opened value, each in one pass over memory.
#pragma once

#include "streams.hpp"

namespace roundelay {
namespace {

constexpr std::size_t PIECE = 1024;  // elements: a multiple of 8, and small enough for the first-level cache

// out = the low w bits of values[i] + keystream word (offset + i), packed.
inline void mask(const RoundKeys& round_keys, u64 offset, const u64* values, int w, u8* out, std::size_t n) {
    const Isa::Keys keys(round_keys);
    alignas(64) u64 sum[PIECE];
    for (std::size_t at = 0; at < n; at += PIECE, out += PIECE / 8 * std::size_t(w)) {
        const std::size_t count = n - at < PIECE ? n - at : PIECE;
        keystream_words(keys, offset + at, sum, count);
        for (std::size_t i = 0; i < count; ++i) sum[i] += values[at + i];
        pack(sum, w, out, count);
    }
}

// out = (own + peer mod 2^w) >> drop, both packed.
inline void combine(const u8* own, const u8* peer, int w, int drop, u64* out, std::size_t n) {
    const ByteMoves moves(w);
    const u64 bits = low_bits(w);
    alignas(64) u64 other[PIECE];
    for (std::size_t at = 0; at < n; at += PIECE, out += PIECE) {
        const std::size_t count = n - at < PIECE ? n - at : PIECE, byte = at / 8 * std::size_t(w);
        unpack_moves(moves, own + byte, w, out, count);
        unpack_moves(moves, peer + byte, w, other, count);
        for (std::size_t i = 0; i < count; ++i) out[i] = ((out[i] + other[i]) & bits) >> drop;
    }
}

}  // namespace
}  // namespace roundelay
