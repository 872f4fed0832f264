// Integer matrix products modulo 2^w on AMX tiles. With a = sum_i 256^i a_i and b = sum_j 256^j b_j in planes of bytes,
// a b = sum_d 256^d sum_{i + j = d} a_i b_j, where only d < ceil(w / 8) counts. Tiles add the products of one d up in 32 bits.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>

#include "byte_planes.hpp"

namespace roundelay {
namespace {

constexpr int MAX_PLANES = 8, BLOCK_TILES = 4;  // tiles of sums at a time: 2 x 2, or 1 x 4 where one row of tiles is left
constexpr std::size_t MAX_DEPTH = 1024, MAX_ROWS = 128, PANEL_BYTES = std::size_t(1) << 19;  // both packed operands stay in a 2 MiB cache
static_assert(MAX_PLANES * 255 * 255 * MAX_DEPTH < std::size_t(1) << 31, "sums of one diagonal fit 32 bits, signed or not");

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

// The tiles of one thread while this lives: sums 0 to 3 and left operands 4 and 5 of `rows` rows, right operands 6 and 7.
class TileState {
public:
    explicit TileState(std::size_t rows) {
        struct alignas(64) {
            u8 palette = 1, start = 0, reserved[14] = {};
            u16 bytes[16] = {};
            u8 rows[16] = {};
        } config;
        for (int t = 0; t < 8; ++t) config.bytes[t] = TILE_DEPTH, config.rows[t] = u8(t < 6 ? rows : TILE_SIDE);
        asm volatile("" ::"r"(&config) : "memory");
        _tile_loadconfig(&config);
    }
    ~TileState() { _tile_release(); }
    TileState(const TileState&) = delete;
    TileState& operator=(const TileState&) = delete;
};

// The tiles of a block: two rows of them times two columns, or one row times four columns.
struct Block {
    const u8* left[2];
    const u8* right[4];
    bool single;
};

#define ROUNDELAY_TILE_PRODUCT(sum, a, b)              \
    do {                                               \
        if constexpr (is_signed) _tile_dpbusd(sum, a, b); \
        else _tile_dpbuud(sum, a, b);                  \
    } while (0)

// Adds the products of one plane of each operand, whose tiles follow one another, to the sums.
template <bool is_signed>
void add_products(const Block& at, std::size_t left, std::size_t right, std::size_t steps) {
    const u8 *a0 = at.left[0] + left, *a1 = at.left[1] + left;
    const u8 *b0 = at.right[0] + right, *b1 = at.right[1] + right;
    if (!at.single) {
        for (std::size_t s = 0; s < steps * TILE_BYTES; s += TILE_BYTES) {
            _tile_loadd(4, a0 + s, TILE_DEPTH);
            _tile_loadd(6, b0 + s, TILE_DEPTH);
            ROUNDELAY_TILE_PRODUCT(0, 4, 6);
            _tile_loadd(7, b1 + s, TILE_DEPTH);
            ROUNDELAY_TILE_PRODUCT(1, 4, 7);
            _tile_loadd(5, a1 + s, TILE_DEPTH);
            ROUNDELAY_TILE_PRODUCT(2, 5, 6);
            ROUNDELAY_TILE_PRODUCT(3, 5, 7);
        }
        return;
    }
    const u8 *b2 = at.right[2] + right, *b3 = at.right[3] + right;
    for (std::size_t s = 0; s < steps * TILE_BYTES; s += TILE_BYTES) {
        _tile_loadd(4, a0 + s, TILE_DEPTH);
        _tile_loadd(6, b0 + s, TILE_DEPTH);
        ROUNDELAY_TILE_PRODUCT(0, 4, 6);
        _tile_loadd(7, b1 + s, TILE_DEPTH);
        ROUNDELAY_TILE_PRODUCT(1, 4, 7);
        _tile_loadd(6, b2 + s, TILE_DEPTH);
        ROUNDELAY_TILE_PRODUCT(2, 4, 6);
        _tile_loadd(7, b3 + s, TILE_DEPTH);
        ROUNDELAY_TILE_PRODUCT(3, 4, 7);
    }
}

#undef ROUNDELAY_TILE_PRODUCT

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
        : s(shape), mask(low_bits(w)), left_planes((w + 7) / 8), right_planes(left_planes < WIDTH ? left_planes : WIDTH),
          rows(s.m, MAX_ROWS, TILE_SIDE), depth(s.k, MAX_DEPTH, TILE_DEPTH), steps(depth.size / TILE_DEPTH),
          columns(s.n, PANEL_BYTES / (right_planes * steps * TILE_BYTES) / 2 * 2 * TILE_SIDE, 2 * TILE_SIDE),
          tile_rows(tiles(rows.size, tiles(rows.size, TILE_SIDE))), left(tiles(rows.size, tile_rows) * left_tiles()),
          right(tiles(columns.size, TILE_SIDE) * right_tiles()) {}

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
    static constexpr bool is_signed = sizeof(Entry) < sizeof(u64);  // then the highest plane has the sign

    const MatmulShape s;
    const u64 mask;
    const int left_planes, right_planes;
    const Cut rows, depth;
    const std::size_t steps;  // tiles of a plane, one after another; then the next plane, then the next 16 rows or columns
    const Cut columns;
    const std::size_t tile_rows;
    const Scratch left, right;
    alignas(64) i32 sums[MAX_PLANES][BLOCK_TILES][TILE_SIDE][TILE_SIDE];

    std::size_t pitch() const { return steps * TILE_BYTES; }
    std::size_t left_tiles() const { return std::size_t(left_planes) * pitch(); }
    std::size_t right_tiles() const { return std::size_t(right_planes) * pitch(); }

    void pack_left(const u64* a, std::size_t count, std::size_t length) {
        for (std::size_t t = 0; t * tile_rows < count; ++t)
            for (std::size_t r = 0; r < tile_rows; ++r) {
                const std::size_t i = t * tile_rows + r;
                for (std::size_t k = 0; k < length; k += TILE_DEPTH)
                    split_row(a + i * s.k + k, i < count ? length - k : 0, left_planes,
                              left.data() + t * left_tiles() + k / TILE_DEPTH * TILE_BYTES + r * TILE_DEPTH, pitch());
            }
    }

    void pack_right(const Entry* b, std::size_t length, std::size_t count) {
        for (std::size_t k = 0; k < tiles(length, TILE_DEPTH) * TILE_DEPTH; k += 4)
            for (std::size_t j = 0; j < count; j += TILE_SIDE) {
                __m512i planes[WIDTH];
                Square{s.n, beyond(length, k), count - j}.planes(b + k * s.n + j, planes);
                u8* to = right.data() + j / TILE_SIDE * right_tiles() + k / TILE_DEPTH * TILE_BYTES + k % TILE_DEPTH / 4 * 64;
                for (int p = 0; p < right_planes; ++p) _mm512_store_si512(to + std::size_t(p) * pitch(), planes[p]);
            }
    }

    void multiply(u64* out, std::size_t height, std::size_t width, std::size_t used, bool add) {
        const std::size_t down = tiles(height, tile_rows), across = tiles(width, TILE_SIDE);
        for (std::size_t i = 0; i < down; i += 2) {
            const bool single = i + 1 == down;
            for (std::size_t j = 0; j < across; j += single ? 4 : 2) {
                Block block{{left.data() + i * left_tiles(), left.data() + (single ? i : i + 1) * left_tiles()}, {}, single};
                for (std::size_t c = 0; c < 4; ++c)
                    block.right[c] = right.data() + (j + c < across ? j + c : across - 1) * right_tiles();
                sum_diagonals(block, used);
                for (std::size_t t = 0; t < BLOCK_TILES; ++t) {
                    const std::size_t row = i + (single ? 0 : t / 2), column = j + (single ? t : t % 2);
                    if (column < across)
                        combine(t, out + row * tile_rows * s.n + column * TILE_SIDE, beyond(height, row * tile_rows), width - column * TILE_SIDE, add);
                }
            }
        }
    }

    void sum_diagonals(const Block& block, std::size_t used) {
        for (int d = 0; d < left_planes; ++d) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int j = 0; j <= d && j < right_planes; ++j) {
                const std::size_t a = std::size_t(d - j) * pitch(), b = std::size_t(j) * pitch();
                if (is_signed && j == WIDTH - 1) add_products<true>(block, a, b, used);
                else add_products<false>(block, a, b, used);
            }
            _tile_stored(0, sums[d][0], TILE_DEPTH);
            _tile_stored(1, sums[d][1], TILE_DEPTH);
            _tile_stored(2, sums[d][2], TILE_DEPTH);
            _tile_stored(3, sums[d][3], TILE_DEPTH);
        }
    }

    // out = (out if `add`, else 0) + sum_d 256^d sums[d] mod 2^w of one tile, of which `height` rows and `width` columns exist.
    void combine(std::size_t tile, u64* out, std::size_t height, std::size_t width, bool add) const {
        const __m512i ring = _mm512_set1_epi64(i64(mask));
        const __mmask8 lanes[2] = {__mmask8(first_lanes(width)), __mmask8(first_lanes(beyond(width, 8)))};
        for (std::size_t r = 0; r < height && r < tile_rows; ++r)
            for (int half = 0; half < 2; ++half) {
                u64* at = out + r * s.n + 8 * half;
                __m512i total = add ? _mm512_maskz_loadu_epi64(lanes[half], at) : _mm512_setzero_si512();
                __m512i high = _mm512_setzero_si512();
                for (int d = left_planes - 1; d >= 0; --d) {
                    const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(&sums[d][tile][r][8 * half]));
                    high = _mm512_add_epi64(_mm512_slli_epi64(high, 8), _mm512_cvtepi32_epi64(sum));
                }
                total = _mm512_and_si512(_mm512_add_epi64(total, high), ring);
                _mm512_mask_storeu_epi64(at, lanes[half], total);
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
