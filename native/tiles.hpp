// A block of a product of planes of bytes on AMX tiles. With a = sum_i 256^i a_i and b = sum_j 256^j b_j,
// a b = sum_d 256^d sum_{i + j = d} a_i b_j, of which modulo 2^w only d < ceil(w / 8) counts. Each d, a diagonal, has sums of its own.
#pragma once

#include "byte_planes.hpp"

namespace roundelay {
namespace {

constexpr std::size_t MAX_PLANES = 8, MAX_DEPTH = 768;
static_assert(MAX_PLANES * 255 * 255 * MAX_DEPTH < std::size_t(1) << 31, "sums of one diagonal fit 32 bits, signed or not");

// What was written before is in memory after: GCC does not know what its tile intrinsics read.
inline void settle() { asm volatile("" ::: "memory"); }

// The tiles of one thread while this lives: sums 0 to 3 and left operand 4 of `rows` rows, right operands 5 and 6.
class TileState {
public:
    explicit TileState(std::size_t rows) {
        struct alignas(64) {
            u8 palette = 1, start = 0, reserved[14] = {};
            u16 bytes[16] = {};
            u8 rows[16] = {};
        } config;
        for (int t = 0; t < 7; ++t) config.bytes[t] = TILE_DEPTH, config.rows[t] = u8(t < 5 ? rows : TILE_SIDE);
        settle();
        _tile_loadconfig(&config);
    }
    ~TileState() { _tile_release(); }
    TileState(const TileState&) = delete;
    TileState& operator=(const TileState&) = delete;
};

// The sums of every diagonal of a row of tiles times two columns of tiles, on their way to `out`: at most 16 rows of 32 words.
struct Sums {
    alignas(64) i32 of[MAX_PLANES][2][TILE_SIDE][TILE_SIDE];  // diagonal, column
    u64* out;
    std::size_t pitch, height, width;
    u64 ring;
    int planes;
    bool add;  // to what is there

    // Asks for the part of `out` that `flush` will need.
    void fetch() const {
        for (std::size_t row = 0; row < height; ++row)
            for (std::size_t j = 0; j < 2 * TILE_SIDE && j < width; j += 8) __builtin_prefetch(out + row * pitch + j, 1);
    }

    // out = (out if `add`, else 0) + sum_d 256^d of[d] modulo 2^w.
    void flush() const {
        for (std::size_t j = 0; j < 2 * TILE_SIDE && j < width; j += 8) flush(j, &of[0][j / TILE_SIDE][0][j % TILE_SIDE]);
    }

private:
    static __m512i load(const i32* from) { return _mm512_cvtepi32_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(from))); }

    void flush(std::size_t column, const i32* first) const {
        constexpr std::size_t diagonal = 2 * TILE_SIDE * TILE_SIDE;
        const __mmask8 lanes = __mmask8(first_lanes(width - column)), old = add ? lanes : __mmask8(0);
        const __m512i mask = _mm512_set1_epi64(i64(ring));
        u64* at = out + column;
        for (std::size_t row = 0; row < height; ++row, at += pitch, first += TILE_SIDE) {
            __m512i total = load(first + std::size_t(planes - 1) * diagonal);
            for (int d = planes - 2; d >= 0; --d)
                total = _mm512_add_epi64(_mm512_slli_epi64(total, 8), load(first + std::size_t(d) * diagonal));
            total = _mm512_add_epi64(total, _mm512_maskz_loadu_epi64(old, at));
            _mm512_mask_storeu_epi64(at, lanes, _mm512_and_si512(total, mask));
        }
    }
};

#define ROUNDELAY_TILE_PRODUCT(is_signed, sum, a, b) \
    do {                                             \
        if (is_signed) _tile_dpbusd(sum, a, b);      \
        else _tile_dpbuud(sum, a, b);                \
    } while (0)

// One row of tiles times two columns of tiles, planes following one another at each step of the depth.
struct Pass {
    const u8 *left, *right[2];
    std::size_t steps;
    int left_planes, right_planes, sign_plane;  // of the right operand; no plane is -1

    // The sums of diagonals d and, if `two`, d + 1.
    template <bool two>
    void operator()(int d, Sums& to) const {
        const int first = d < right_planes ? 0 : d - right_planes + 1, last = two ? d + 1 : d;
        const u8 *a = left, *b0 = right[0], *b1 = right[1];
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (std::size_t s = 0; s < steps; ++s) {
            if (two && d + 1 < right_planes) load_right(b0, b1, d + 1);
            for (int i = first, j = d - first; i <= last; ++i, --j) {
                _tile_loadd(4, a + std::size_t(i) * TILE_BYTES, TILE_DEPTH);
                if (two && j + 1 < right_planes) {
                    ROUNDELAY_TILE_PRODUCT(j + 1 == sign_plane, 2, 4, 5);
                    ROUNDELAY_TILE_PRODUCT(j + 1 == sign_plane, 3, 4, 6);
                }
                if (j >= 0) {
                    load_right(b0, b1, j);
                    ROUNDELAY_TILE_PRODUCT(j == sign_plane, 0, 4, 5);
                    ROUNDELAY_TILE_PRODUCT(j == sign_plane, 1, 4, 6);
                }
            }
            a += std::size_t(left_planes) * TILE_BYTES;
            b0 += std::size_t(right_planes) * TILE_BYTES;
            b1 += std::size_t(right_planes) * TILE_BYTES;
        }
        _tile_stored(0, to.of[d][0], TILE_DEPTH);
        _tile_stored(1, to.of[d][1], TILE_DEPTH);
        if (!two) return;
        _tile_stored(2, to.of[d + 1][0], TILE_DEPTH);
        _tile_stored(3, to.of[d + 1][1], TILE_DEPTH);
    }

private:
    static void load_right(const u8* b0, const u8* b1, int plane) {
        _tile_loadd(5, b0 + std::size_t(plane) * TILE_BYTES, TILE_DEPTH);
        _tile_loadd(6, b1 + std::size_t(plane) * TILE_BYTES, TILE_DEPTH);
    }
};

#undef ROUNDELAY_TILE_PRODUCT

}  // namespace
}  // namespace roundelay
