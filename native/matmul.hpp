// Integer matrix products modulo 2^w: panels of the right operand are widened and packed, then tiles of the result stay in registers.
#pragma once

#include <cstring>

#include "memory.hpp"

#if defined(__AVX512IFMA__)
#include <immintrin.h>
#endif

namespace roundelay {
namespace {

constexpr std::size_t PANEL_DEPTH = 512;  // a packed panel stays in the second-level cache

#if defined(__AVX512IFMA__)

constexpr int TILE_ROWS = 8, TILE_VECTORS = 3, LANES = 8;
using Lane = __m512i;

inline Lane load_lane(const u64* p) { return _mm512_loadu_si512(p); }
inline void store_lane(u64* p, Lane v) { _mm512_storeu_si512(p, v); }
inline Lane zero_lane() { return _mm512_setzero_si512(); }

// Low 52 bits of a product of 52-bit words, added modulo 2^64: exact modulo 2^52 for any number of terms.
struct Fused52 {
    static Lane add(Lane sum, u64 a, Lane b) { return _mm512_madd52lo_epu64(sum, _mm512_set1_epi64(i64(a)), b); }
};
struct Full64 {
    static Lane add(Lane sum, u64 a, Lane b) {
        return _mm512_add_epi64(sum, _mm512_mullo_epi64(_mm512_set1_epi64(i64(a)), b));
    }
};

#else

constexpr int TILE_ROWS = 4, TILE_VECTORS = 2, LANES = 4;
typedef u64 Lane __attribute__((vector_size(32)));

inline Lane load_lane(const u64* p) {
    Lane v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store_lane(u64* p, Lane v) { std::memcpy(p, &v, sizeof v); }
inline Lane zero_lane() { return Lane{}; }

struct Full64 {
    static Lane add(Lane sum, u64 a, Lane b) { return sum + a * b; }
};
using Fused52 = Full64;

#endif

constexpr std::size_t TILE_COLUMNS = std::size_t(TILE_VECTORS) * LANES;

// tile[R][TILE_COLUMNS] = rows of a times a packed panel [depth][TILE_COLUMNS].
template <int R, class Multiply>
void tile_product(const u64* a, std::size_t row, const u64* panel, std::size_t depth, u64* tile) {
    Lane sum[R][TILE_VECTORS];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) sum[r][v] = zero_lane();
    for (std::size_t k = 0; k < depth; ++k) {
        Lane b[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; ++v) b[v] = load_lane(panel + k * TILE_COLUMNS + v * LANES);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < TILE_VECTORS; ++v) sum[r][v] = Multiply::add(sum[r][v], a[r * row + k], b[v]);
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) store_lane(tile + r * TILE_COLUMNS + v * LANES, sum[r][v]);
}

template <int R, class Multiply>
void tile_rows(int rows, const u64* a, std::size_t row, const u64* panel, std::size_t depth, u64* tile) {
    if (rows == R) return tile_product<R, Multiply>(a, row, panel, depth, tile);
    if constexpr (R > 1) tile_rows<R - 1, Multiply>(rows, a, row, panel, depth, tile);
}

template <class Entry>
void pack_panel(const Entry* b, std::size_t row, std::size_t depth, std::size_t columns, u64* panel) {
    for (std::size_t k = 0; k < depth; ++k, b += row, panel += TILE_COLUMNS) {
        for (std::size_t j = 0; j < columns; ++j) panel[j] = u64(i64(b[j]));
        for (std::size_t j = columns; j < TILE_COLUMNS; ++j) panel[j] = 0;
    }
}

inline void add_tile(const u64* tile, std::size_t rows, std::size_t columns, bool first, u64 mask, u64* out, std::size_t row) {
    for (std::size_t r = 0; r < rows; ++r, out += row, tile += TILE_COLUMNS)
        for (std::size_t j = 0; j < columns; ++j) out[j] = ((first ? 0 : out[j]) + tile[j]) & mask;
}

template <class Multiply, class Entry>
void product(const u64* a, const Entry* b, u64 mask, u64* out, const MatmulShape& s) {
    Array<u64> panel(PANEL_DEPTH * TILE_COLUMNS);
    alignas(64) u64 tile[TILE_ROWS * TILE_COLUMNS];
    for (std::size_t j = 0; j < s.n; j += TILE_COLUMNS) {
        const std::size_t columns = s.n - j < TILE_COLUMNS ? s.n - j : TILE_COLUMNS;
        for (std::size_t k = 0; k < s.k; k += PANEL_DEPTH) {
            const std::size_t depth = s.k - k < PANEL_DEPTH ? s.k - k : PANEL_DEPTH;
            pack_panel(b + k * s.n + j, s.n, depth, columns, panel.data());
            for (std::size_t i = 0; i < s.m; i += TILE_ROWS) {
                const std::size_t rows = s.m - i < TILE_ROWS ? s.m - i : TILE_ROWS;
                tile_rows<TILE_ROWS, Multiply>(int(rows), a + i * s.k + k, s.k, panel.data(), depth, tile);
                add_tile(tile, rows, columns, k == 0, mask, out + i * s.n + j, s.n);
            }
        }
    }
}

template <class Entry>
void matmul(const u64* a, const Entry* b, int w, u64* out, MatmulShape s) {
    if (s.k == 0) std::memset(out, 0, s.batch * s.m * s.n * sizeof(u64));
    for (std::size_t i = 0; i < s.batch && s.k; ++i, a += s.m * s.k, b += s.k * s.n, out += s.m * s.n) {
        if (w <= 52) product<Fused52>(a, b, low_bits(w), out, s);
        else product<Full64>(a, b, low_bits(w), out, s);
    }
}

}  // namespace
}  // namespace roundelay
