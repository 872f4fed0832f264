// Words cut into planes of bytes, laid out as AMX tiles: 16 rows of 64 bytes. A left tile holds 64 bytes of depth of 16 rows of a plane; a
// right tile holds in row i, for each of 16 columns, the bytes of depth 4i to 4i + 3.
#pragma once

#include <immintrin.h>

#include "kernels.hpp"

namespace roundelay {
namespace {

constexpr std::size_t TILE_SIDE = 16, TILE_DEPTH = 64, TILE_BYTES = 1024;

// The mask of the first `count` lanes.
inline u64 first_lanes(std::size_t count) { return low_bits(count < 64 ? int(count) : 64); }
inline std::size_t beyond(std::size_t count, std::size_t start) { return count > start ? count - start : 0; }

// Word q of x[p] and word p of x[q] change places.
inline void transpose_words(__m512i (&x)[8]) {
    __m512i pairs[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
    }
    for (int odd = 0; odd < 2; ++odd) {
        const __m512i *low = pairs + odd, *high = pairs + 4 + odd;
        const __m512i a = _mm512_shuffle_i64x2(low[0], low[2], 0x88), b = _mm512_shuffle_i64x2(high[0], high[2], 0x88);
        const __m512i c = _mm512_shuffle_i64x2(low[0], low[2], 0xdd), d = _mm512_shuffle_i64x2(high[0], high[2], 0xdd);
        x[odd] = _mm512_shuffle_i64x2(a, b, 0x88);
        x[odd + 4] = _mm512_shuffle_i64x2(a, b, 0xdd);
        x[odd + 2] = _mm512_shuffle_i64x2(c, d, 0x88);
        x[odd + 6] = _mm512_shuffle_i64x2(c, d, 0xdd);
    }
}

// Indices for _mm512_permutexvar_epi8: byte `outer * inner_count + inner` comes from byte `inner * (64 / inner_count) + outer`.
template <int inner_count>
struct Regroup {
    alignas(64) u8 from[64];
    constexpr Regroup() : from{} {
        for (int i = 0; i < 64; ++i) from[i] = u8(i % inner_count * (64 / inner_count) + i / inner_count);
    }
    __m512i operator()(__m512i v) const { return _mm512_permutexvar_epi8(_mm512_load_si512(from), v); }
};
constexpr Regroup<8> words_to_planes;    // eight words become eight bytes of each plane
constexpr Regroup<16> halves_to_planes;  // sixteen words of four bytes become sixteen bytes of each plane
constexpr Regroup<4> depth_first;        // four rows of sixteen columns become sixteen columns of four rows

// Indices for _mm512_permutex2var_epi8: byte 4 column + row comes from the low byte of that column in four rows of sixteen shorts.
struct LowBytes {
    alignas(64) u8 from[64];
    constexpr LowBytes() : from{} {
        for (int i = 0; i < 64; ++i) from[i] = u8(i % 4 * 32 + i / 4 * 2);
    }
};
constexpr LowBytes low_bytes;

// 64 words become 64 bytes of each plane.
inline void split_words(__m512i (&x)[8]) {
    for (__m512i& v : x) v = words_to_planes(v);
    transpose_words(x);
}

// The planes of a row of the left operand, of which `count` words are left, from a tile to the next; zeros follow the last word.
inline void split_row(const u64* from, std::size_t count, int planes, u8* to) {
    __m512i x[8];
    for (int q = 0; q < 8; ++q) x[q] = _mm512_maskz_loadu_epi64(__mmask8(first_lanes(beyond(count, 8 * q))), from + 8 * q);
    split_words(x);
    for (int p = 0; p < planes; ++p) _mm512_store_si512(to + std::size_t(p) * TILE_BYTES, x[p]);
}

// Four rows of sixteen columns of the right operand, `row` entries apart, of which `rows` and `columns` are left.
struct Square {
    std::size_t row, rows, columns;
    bool whole() const { return rows >= 4 && columns >= TILE_SIDE; }
};

template <bool whole>
void load_square(const Square& s, const u64* from, __m512i (&x)[8]) {
    for (std::size_t i = 0; i < 8; ++i) {
        const __mmask8 lanes = __mmask8(whole ? 0xff : i / 2 < s.rows ? first_lanes(beyond(s.columns, i % 2 * 8)) : 0);
        x[i] = _mm512_maskz_loadu_epi64(lanes, from + i / 2 * s.row + i % 2 * 8);
    }
    split_words(x);
    for (__m512i& v : x) v = depth_first(v);
}

template <bool whole>
void load_square(const Square& s, const i32* from, __m512i (&x)[4]) {
    __m512i v[4];
    for (std::size_t i = 0; i < 4; ++i) {
        const __mmask16 lanes = __mmask16(whole ? 0xffff : i < s.rows ? first_lanes(s.columns) : 0);
        v[i] = halves_to_planes(_mm512_maskz_loadu_epi32(lanes, from + i * s.row));
    }
    const __m512i a = _mm512_shuffle_i64x2(v[0], v[1], 0x44), b = _mm512_shuffle_i64x2(v[0], v[1], 0xee);
    const __m512i c = _mm512_shuffle_i64x2(v[2], v[3], 0x44), d = _mm512_shuffle_i64x2(v[2], v[3], 0xee);
    x[0] = depth_first(_mm512_shuffle_i64x2(a, c, 0x88));
    x[1] = depth_first(_mm512_shuffle_i64x2(a, c, 0xdd));
    x[2] = depth_first(_mm512_shuffle_i64x2(b, d, 0x88));
    x[3] = depth_first(_mm512_shuffle_i64x2(b, d, 0xdd));
}

template <bool whole>
void load_square(const Square& s, const i16* from, __m512i (&x)[2]) {
    __m256i v[4];
    for (std::size_t i = 0; i < 4; ++i) {
        const __mmask16 lanes = __mmask16(whole ? 0xffff : i < s.rows ? first_lanes(s.columns) : 0);
        v[i] = _mm256_maskz_loadu_epi16(lanes, from + i * s.row);
    }
    const __m512i upper = _mm512_inserti64x4(_mm512_castsi256_si512(v[0]), v[1], 1);
    const __m512i lower = _mm512_inserti64x4(_mm512_castsi256_si512(v[2]), v[3], 1);
    const __m512i even = _mm512_load_si512(low_bytes.from), odd = _mm512_add_epi8(even, _mm512_set1_epi8(1));
    x[0] = _mm512_permutex2var_epi8(upper, even, lower);
    x[1] = _mm512_permutex2var_epi8(upper, odd, lower);
}

// Its planes, each a row of a tile, from a tile to the next; zeros where no entries are left.
template <class Entry>
void split_square(const Square& s, const Entry* from, int planes, u8* to) {
    __m512i x[sizeof(Entry)];
    if (s.whole()) load_square<true>(s, from, x);
    else load_square<false>(s, from, x);
    for (int p = 0; p < planes; ++p) _mm512_store_si512(to + std::size_t(p) * TILE_BYTES, x[p]);
}

}  // namespace
}  // namespace roundelay
