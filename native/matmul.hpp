// Integer matrix products modulo 2^w: panels of the right operand are widened and packed, then tiles of the result stay in registers.
#pragma once

#include "lanes.hpp"
#include "memory.hpp"

namespace roundelay {
namespace {

constexpr std::size_t PANEL_DEPTH = 512;  // a packed panel stays in the second-level cache

constexpr std::size_t TILE_COLUMNS = std::size_t(TILE_VECTORS) * LANES;

// tile[R][TILE_COLUMNS] = rows of a times a packed panel [depth][TILE_COLUMNS].
template <int R, class Multiply>
void tile_product(const u64* a, std::size_t row, const u64* panel, std::size_t depth, u64* tile) {
    typename Multiply::Sum sum[R][TILE_VECTORS] = {};
    for (std::size_t k = 0; k < depth; ++k) {
        Lane b[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; ++v) b[v] = load_lane(panel + k * TILE_COLUMNS + v * LANES);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < TILE_VECTORS; ++v) sum[r][v].add(a + r * row + k, b[v]);
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < TILE_VECTORS; ++v) store_lane(tile + r * TILE_COLUMNS + v * LANES, sum[r][v].total());
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
    constexpr int R = Multiply::tile_rows;
    alignas(64) u64 tile[R * TILE_COLUMNS];
    for (std::size_t j = 0; j < s.n; j += TILE_COLUMNS) {
        const std::size_t columns = s.n - j < TILE_COLUMNS ? s.n - j : TILE_COLUMNS;
        for (std::size_t k = 0; k < s.k; k += PANEL_DEPTH) {
            const std::size_t depth = s.k - k < PANEL_DEPTH ? s.k - k : PANEL_DEPTH;
            pack_panel(b + k * s.n + j, s.n, depth, columns, panel.data());
            for (std::size_t i = 0; i < s.m; i += R) {
                const std::size_t rows = s.m - i < R ? s.m - i : R;
                tile_rows<R, Multiply>(int(rows), a + i * s.k + k, s.k, panel.data(), depth, tile);
                add_tile(tile, rows, columns, k == 0, mask, out + i * s.n + j, s.n);
            }
        }
    }
}

// Few rows: packing would cost more than it saves, so the right operand streams past rows of results.
template <class Multiply, class Entry>
void thin_product(const u64* a, const Entry* b, u64 mask, u64* out, const MatmulShape& s) {
    constexpr std::size_t unroll = 8;
    std::memset(out, 0, s.m * s.n * sizeof(u64));
    for (std::size_t k = 0; k < s.k; k += unroll) {
        const std::size_t depth = s.k - k < unroll ? s.k - k : unroll;
        for (std::size_t i = 0; i < s.m; ++i) {
            const u64* factors = a + i * s.k + k;
            const Entry* from = b + k * s.n;
            u64* to = out + i * s.n;
            std::size_t j = 0;
            for (; j + LANES <= s.n; j += LANES) {
                typename Multiply::Sum sum{};
                for (std::size_t d = 0; d < depth; ++d) sum.add(factors + d, load_lane(from + d * s.n + j));
                store_lane(to + j, load_lane(to + j) + sum.total());
            }
            for (; j < s.n; ++j)
                for (std::size_t d = 0; d < depth; ++d) to[j] += factors[d] * u64(i64(from[d * s.n + j]));
        }
    }
    for (std::size_t i = 0; i < s.m * s.n; ++i) out[i] &= mask;
}

template <class Multiply, class Entry>
void choose_product(const u64* a, const Entry* b, u64 mask, u64* out, const MatmulShape& s) {
    constexpr std::size_t thin = 4;
    if (s.m <= thin) thin_product<Multiply>(a, b, mask, out, s);
    else product<Multiply>(a, b, mask, out, s);
}

template <class Entry>
void matmul(const u64* a, const Entry* b, int w, u64* out, MatmulShape s) {
    if (s.k == 0) std::memset(out, 0, s.batch * s.m * s.n * sizeof(u64));
    for (std::size_t i = 0; i < s.batch && s.k; ++i, a += s.m * s.k, b += s.k * s.n, out += s.m * s.n) {
        if (w <= 52) choose_product<Fused52>(a, b, low_bits(w), out, s);
        else choose_product<Full64>(a, b, low_bits(w), out, s);
    }
}

}  // namespace
}  // namespace roundelay
