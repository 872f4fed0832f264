// Integer matrix products modulo 2^w on AMX tiles: chunks of the left operand and panels of the right one are packed as planes of bytes,
// and every row of tiles meets every two columns of tiles.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>

#include "tiles.hpp"

namespace roundelay {
namespace {

constexpr std::size_t MAX_ROWS = 128, PANEL_BYTES = std::size_t(1) << 19;  // with MAX_DEPTH: both packed operands stay in a 2 MiB cache

// Cache lines without contents.
class Scratch {
public:
    explicit Scratch(std::size_t bytes) : data_(static_cast<u8*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64))) {
        if (!data_) throw std::bad_alloc();
    }
    ~Scratch() { std::free(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    u8* data() const { return data_; }

private:
    u8* data_;
};

// `total` cut into pieces of nearly equal size, each at most `most` and all but the last a multiple of `step`.
struct Cut {
    std::size_t total, count, size;
    Cut(std::size_t total, std::size_t most, std::size_t step) : total(total), count((total + most - 1) / most) {
        size = ((total + count - 1) / count + step - 1) / step * step;
        count = (total + size - 1) / size;
    }
    std::size_t length(std::size_t piece) const { return piece + 1 < count ? size : total - piece * size; }
};

constexpr std::size_t tiles(std::size_t length, std::size_t side) { return (length + side - 1) / side; }

template <class Entry>
class TileProduct {
public:
    TileProduct(int w, const MatmulShape& shape)
        : s(shape), left_planes((w + 7) / 8), right_planes(left_planes < WIDTH ? left_planes : WIDTH),
          rows(s.m, MAX_ROWS, 1), depth(s.k, MAX_DEPTH, TILE_DEPTH), steps(depth.size / TILE_DEPTH),
          columns(s.n, PANEL_BYTES / right_tiles() / 2 * 2 * TILE_SIDE, 2 * TILE_SIDE),
          tile_rows(tiles(rows.size, tiles(rows.size, TILE_SIDE))), left(tiles(rows.size, tile_rows) * left_tiles()),
          right(tiles(columns.size, TILE_SIDE) * right_tiles()) {
        sums.pitch = s.n, sums.ring = low_bits(w), sums.planes = left_planes;
    }

    void operator()(const u64* a, const Entry* b, u64* out) {
        const TileState state(tile_rows);
        for (std::size_t kc = 0; kc < depth.count; ++kc)
            for (std::size_t mc = 0; mc < rows.count; ++mc) {
                const std::size_t k = kc * depth.size, m = mc * rows.size;
                pack_left(a + m * s.k + k, rows.length(mc), depth.length(kc));
                for (std::size_t nc = 0; nc < columns.count; ++nc) {
                    const std::size_t n = nc * columns.size;
                    pack_right(b + k * s.n + n, depth.length(kc), columns.length(nc));
                    multiply(out + m * s.n + n, rows.length(mc), columns.length(nc), tiles(depth.length(kc), TILE_DEPTH), kc > 0);
                }
            }
    }

private:
    static constexpr int WIDTH = sizeof(Entry);

    const MatmulShape s;
    const int left_planes, right_planes;
    const Cut rows, depth;
    const std::size_t steps;  // 64 of depth; the planes of one step lie together, then the next step, then the next 16 rows or columns
    const Cut columns;
    const std::size_t tile_rows;
    const Scratch left, right;
    Sums sums;

    std::size_t left_tiles() const { return std::size_t(left_planes) * steps * TILE_BYTES; }
    std::size_t right_tiles() const { return std::size_t(right_planes) * steps * TILE_BYTES; }

    void pack_left(const u64* a, std::size_t count, std::size_t length) {
        for (std::size_t t = 0; t * tile_rows < count; ++t)
            for (std::size_t r = 0; r < tile_rows; ++r) {
                const std::size_t i = t * tile_rows + r;
                u8* to = left.data() + t * left_tiles() + r * TILE_DEPTH;
                for (std::size_t k = 0; k < length; k += TILE_DEPTH, to += std::size_t(left_planes) * TILE_BYTES)
                    split_row(a + i * s.k + k, i < count ? length - k : 0, left_planes, to);
            }
    }

    void pack_right(const Entry* b, std::size_t length, std::size_t count) {
        for (std::size_t k = 0; k < tiles(length, TILE_DEPTH) * TILE_DEPTH; k += 4) {
            const Entry* from = b + k * s.n;
            u8* to = right.data() + k / TILE_DEPTH * std::size_t(right_planes) * TILE_BYTES + k % TILE_DEPTH / 4 * 64;
            for (std::size_t j = 0; j < count; j += TILE_SIDE, to += right_tiles())
                split_square({s.n, beyond(length, k), count - j}, from + j, right_planes, to);
        }
    }

    void multiply(u64* out, std::size_t height, std::size_t width, std::size_t used, bool add) {
        const std::size_t across = tiles(width, TILE_SIDE);
        settle();
        for (std::size_t i = 0; i < height; i += tile_rows)
            for (std::size_t j = 0; j < across; j += 2) {
                const u8* b = right.data() + j * right_tiles();
                const Pass pass{left.data() + i / tile_rows * left_tiles(), {b, j + 1 < across ? b + right_tiles() : b}, used,
                                left_planes, right_planes, WIDTH < 8 ? WIDTH - 1 : -1};
                sums.out = out + i * s.n + j * TILE_SIDE, sums.add = add;
                sums.height = height - i < tile_rows ? height - i : tile_rows, sums.width = width - j * TILE_SIDE;
                sums.fetch();
                if (left_planes % 2) pass.operator()<false>(0, sums);
                for (int d = left_planes % 2; d < left_planes; d += 2) pass.operator()<true>(d, sums);
                sums.flush();
            }
    }
};

template <class Entry>
void matmul(const u64* a, const Entry* b, int w, u64* out, MatmulShape s) {
    if (s.batch * s.m * s.n == 0) return;
    if (s.k == 0) {
        std::memset(out, 0, s.batch * s.m * s.n * sizeof(u64));
        return;
    }
    TileProduct<Entry> product(w, s);
    for (std::size_t i = 0; i < s.batch; ++i) product(a + i * s.m * s.k, b + i * s.k * s.n, out + i * s.m * s.n);
}

}  // namespace
}  // namespace roundelay
