// Integer matrix products modulo 2^w: panels of the right operand are widened and packed, then tiles of the result stay in registers.
#pragma once

#include "lanes.hpp"
#include "memory.hpp"

namespace roundelay {
namespace {

constexpr std::size_t PANEL_DEPTH = 768;  // a packed panel, and much of the rows of b that it comes from, stay in the second-level cache

// Where a tile's results go: out = (out if `add`, else 0) + tile mod 2^w; `last` columns of the last vector exist. `ahead`: entries of
// the panel from here to those to prefetch, 0 for none.
struct TileOut {
    u64* out;
    std::size_t row;
    int last;
    bool add;
    u64 mask;
    std::size_t ahead;
};

// rows of a times a panel [depth][vectors] of b, whose rows are `pitch` entries apart.
template <int R, int vectors, class Multiply, class Entry>
void tile_product(const u64* a, std::size_t row, const Entry* panel, std::size_t pitch, std::size_t depth, const TileOut& to) {
    typename Multiply::Sum sum[R][vectors] = {};
    for (std::size_t k = 0; k < depth; ++k) {
        Lane b[vectors];
        for (int v = 0; v < vectors; ++v) b[v] = load_lane(panel + k * pitch + v * LANES);
        if (to.ahead)
            for (int v = 0; v < vectors; ++v) __builtin_prefetch(panel + k * pitch + to.ahead + v * LANES, 0, 2);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < vectors; ++v) sum[r][v].add(a + std::size_t(r) * row + k, b[v]);
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < vectors; ++v) {
            u64* at = to.out + std::size_t(r) * to.row + v * LANES;
            const int columns = v + 1 < vectors ? LANES : to.last;
            Lane total = sum[r][v].total();
            if (to.add) total = add_lanes(total, load_columns(at, columns));
            store_columns(at, masked(total, to.mask), columns);
        }
}

template <int R, int vectors, class Multiply, class Entry>
void tile_rows(std::size_t rows, const u64* a, std::size_t row, const Entry* panel, std::size_t pitch, std::size_t depth,
               const TileOut& to) {
    if (rows == R) return tile_product<R, vectors, Multiply>(a, row, panel, pitch, depth, to);
    if constexpr (R > 1) tile_rows<R - 1, vectors, Multiply>(rows, a, row, panel, pitch, depth, to);
}

// All rows of a times one panel of 1 to TILE_VECTORS vectors.
template <class Multiply, class Entry, int vectors = TILE_VECTORS>
void panel_product(std::size_t width, const u64* a, const Entry* panel, std::size_t pitch, std::size_t depth, TileOut to,
                   const MatmulShape& s) {
    if constexpr (vectors > 1)
        if (width < vectors) return panel_product<Multiply, Entry, vectors - 1>(width, a, panel, pitch, depth, to, s);
    constexpr std::size_t R = Multiply::tile_rows;
    for (std::size_t i = 0; i < s.m; i += R, a += R * s.k, to.out += R * s.n, to.ahead = 0)
        tile_rows<int(R), vectors, Multiply>(s.m - i < R ? s.m - i : R, a, s.k, panel, pitch, depth, to);
}

template <class Entry>
void pack_panel(const Entry* b, std::size_t row, std::size_t depth, std::size_t columns, std::size_t vectors, u64* panel) {
    const std::size_t whole = columns / LANES;
    for (std::size_t k = 0; k < depth; ++k, b += row, panel += vectors * LANES) {
        for (std::size_t v = 0; v < whole; ++v) store_lane(panel + v * LANES, load_lane(b + v * LANES));
        for (std::size_t j = whole * LANES; j < vectors * LANES; ++j) panel[j] = j < columns ? u64(i64(b[j])) : 0;
    }
}

// The columns are cut into panels of nearly equal numbers of vectors, which are packed where enough rows of a use them. Else b is read
// where it lies, a few rows at a time, so that it streams: as many as lie beside one another in the first-level cache, words with the
// next ones asked for. Only a vector that its columns do not fill is packed.
template <class Multiply, class Entry>
void product(const u64* a, const Entry* b, u64 mask, u64* out, const MatmulShape& s) {
    constexpr bool wide = sizeof(Entry) == sizeof(u64);
    constexpr std::size_t widest = TILE_VECTORS, few_rows = wide ? 32 : 16;
    const bool thin = s.m <= few_rows;
    const std::size_t at_once = thin ? (wide ? 16 : 32) : PANEL_DEPTH;
    Array<u64> packed(at_once * widest * LANES);
    const std::size_t vectors = (s.n + LANES - 1) / LANES, in_place = thin ? s.n / LANES : 0;
    const std::size_t panels = ((thin ? in_place : vectors) + widest - 1) / widest;
    for (std::size_t k = 0; k < s.k; k += at_once) {
        const std::size_t depth = s.k - k < at_once ? s.k - k : at_once;
        const auto panel = [&](std::size_t first, std::size_t stop, bool pack) {
            const std::size_t j = first * LANES, width = stop - first, columns = s.n - j < width * LANES ? s.n - j : width * LANES;
            const TileOut to{out + j, s.n, int(columns - (width - 1) * LANES), k > 0, mask, thin && wide ? at_once * s.n : 0};
            const Entry* from = b + k * s.n + j;
            if (!pack) return panel_product<Multiply>(width, a + k, from, s.n, depth, to, s);
            pack_panel(from, s.n, depth, columns, width, packed.data());
            panel_product<Multiply, u64>(width, a + k, packed.data(), width * LANES, depth, to, s);
        };
        const std::size_t cut = thin ? in_place : vectors;
        for (std::size_t p = 0; p < panels; ++p) panel(p * cut / panels, (p + 1) * cut / panels, !thin);
        if (cut < vectors) panel(cut, vectors, true);
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
