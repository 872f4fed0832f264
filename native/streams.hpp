// Elementwise kernels: keystream, packing, one-hot vectors.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

inline void keystream(const Isa::Keys& keys, u64 block, u64* out) {
    V x[G];
    for (int g = 0; g < G; ++g) x[g] = Isa::count_up(block + u64(B * g));
    Isa::encrypt(keys, x);
    store_group(out, x);
}

inline void keystream_words(const Isa::Keys& keys, u64 offset, u64* out, std::size_t n) {
    u64 buffer[2 * W];
    u64 block = offset / 2, skip = offset % 2;
    while (n) {
        const bool direct = !skip && n >= 2 * W;
        const std::size_t count = n < 2 * W - skip ? n : 2 * W - skip;
        keystream(keys, block, direct ? out : buffer);
        if (!direct) std::memcpy(out, buffer + skip, 8 * count);
        out += count;
        n -= count;
        block += W;
        skip = 0;
    }
}

inline void ctr(const RoundKeys& keys, u64 offset, u64* out, std::size_t n) { keystream_words(Isa::Keys(keys), offset, out, n); }

// Eight values of w bits are w bytes: shifts and offsets of a group repeat in the next.
template <int w>
void pack_groups(const u64* values, u8* out, std::size_t groups) {
    constexpr u64 mask = w == 64 ? ~u64(0) : (u64(1) << (w % 64)) - 1;
    for (std::size_t i = 0; i < groups; ++i, values += 8, out += w) {
        u64 words[w / 8 + 2] = {};
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
            const int at = k * w / 64, shift = k * w % 64;
            const u64 v = values[k] & mask;
            words[at] |= v << shift;
            if (shift + w > 64) words[at + 1] = v >> (64 - shift) % 64;
        }
        std::memcpy(out, words, w);
    }
}

template <int w>
void unpack_groups(const u8* data, u64* out, std::size_t groups) {
    constexpr u64 mask = w == 64 ? ~u64(0) : (u64(1) << (w % 64)) - 1;
    for (std::size_t i = 0; i < groups; ++i, data += w, out += 8) {
        u64 words[w / 8 + 2] = {};
        std::memcpy(words, data, w);
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
            const int at = k * w / 64, shift = k * w % 64;
            u64 v = words[at] >> shift;
            if (shift + w > 64) v |= words[at + 1] << (64 - shift) % 64;
            out[k] = v & mask;
        }
    }
}

template <int w>
struct Widths {
    static void pack(int wanted, const u64* values, u8* out, std::size_t groups) {
        if (wanted == w) return pack_groups<w>(values, out, groups);
        if constexpr (w < 64) Widths<w + 1>::pack(wanted, values, out, groups);
    }
    static void unpack(int wanted, const u8* data, u64* out, std::size_t groups) {
        if (wanted == w) return unpack_groups<w>(data, out, groups);
        if constexpr (w < 64) Widths<w + 1>::unpack(wanted, data, out, groups);
    }
};

#if defined(__AVX512VBMI__)
// Value k of eight lies within eight bytes from byte k w / 8 on, shifted by k w mod 8, where w <= 57.
constexpr int WIDEST_SHUFFLED = 57;

struct ByteMoves {
    alignas(64) u8 unpacked[64];     // byte of w bytes for each byte of eight words
    alignas(64) u8 packed[2][64];    // byte of eight shifted words, even or odd ones, for each of w bytes
    u64 places[2] = {0, 0};          // which of the w bytes those reach
    alignas(64) u64 shifts[8];

    explicit ByteMoves(int w) : unpacked{}, packed{} {
        for (int k = 0; k < 8; ++k) {
            const int first = k * w / 8, last = (k * w + w - 1) / 8;
            shifts[k] = u64(k * w % 8);
            for (int i = 0; i < 8; ++i) unpacked[8 * k + i] = u8(first + i < 64 ? first + i : 63);
            for (int byte = first; byte <= last; ++byte) {
                packed[k % 2][byte] = u8(8 * k + byte - first);
                places[k % 2] |= u64(1) << byte;
            }
        }
    }
};

inline std::size_t unpack_shuffled(const ByteMoves& moves, const u8* data, int w, u64* out, std::size_t groups, u64 keep, int shift) {
    const V bytes = Isa::load(moves.unpacked), shifts = Isa::load(moves.shifts), mask = Isa::both(low_bits(w) & keep);
    const __m128i up = _mm_cvtsi32_si128(shift);
    const __mmask64 inside = low_bits(w);
    for (std::size_t i = 0; i < groups; ++i, data += w, out += 8) {
        const V moved = _mm512_permutexvar_epi8(bytes, _mm512_maskz_loadu_epi8(inside, data));
        Isa::store(out, _mm512_sll_epi64(_mm512_and_si512(_mm512_srlv_epi64(moved, shifts), mask), up));
    }
    return groups;
}

// Neighbours may share a byte, values two apart only below 8 bits.
inline std::size_t pack_shuffled(const u64* values, int w, u8* out, std::size_t groups) {
    const ByteMoves moves(w);
    const V even = Isa::load(moves.packed[0]), odd = Isa::load(moves.packed[1]);
    const V shifts = Isa::load(moves.shifts), mask = Isa::both(low_bits(w));
    for (std::size_t i = 0; i < groups; ++i, values += 8, out += w) {
        const V shifted = _mm512_sllv_epi64(_mm512_and_si512(Isa::load(values), mask), shifts);
        const V low = _mm512_maskz_permutexvar_epi8(moves.places[0], even, shifted);
        const V high = _mm512_maskz_permutexvar_epi8(moves.places[1], odd, shifted);
        _mm512_mask_storeu_epi8(out, low_bits(w), _mm512_or_si512(low, high));
    }
    return groups;
}
#else
constexpr int WIDEST_SHUFFLED = 0;
struct ByteMoves {
    explicit ByteMoves(int) {}
};
inline std::size_t unpack_shuffled(const ByteMoves&, const u8*, int, u64*, std::size_t, u64, int) { return 0; }
inline std::size_t pack_shuffled(const u64*, int, u8*, std::size_t) { return 0; }
#endif

inline void pack(const u64* values, int w, u8* out, std::size_t n) {
    const std::size_t groups = n / 8, rest = n % 8;
    if (w < 8 || w > WIDEST_SHUFFLED || !pack_shuffled(values, w, out, groups)) Widths<1>::pack(w, values, out, groups);
    if (!rest) return;
    u64 last[8] = {};
    u8 bytes[64];
    std::memcpy(last, values + 8 * groups, 8 * rest);
    Widths<1>::pack(w, last, bytes, 1);
    std::memcpy(out + groups * std::size_t(w), bytes, (rest * std::size_t(w) + 7) / 8);
}

inline void keep_and_shift(u64* x, std::size_t n, u64 keep, int shift) {
    for (std::size_t i = 0; i < n; ++i) x[i] = (x[i] & keep) << shift;
}

// (value & keep) << shift of n values of w bits.
inline void unpack_moves(const ByteMoves& moves, const u8* data, int w, u64* out, std::size_t n, u64 keep = ~u64(0), int shift = 0) {
    const std::size_t groups = n / 8, rest = n % 8;
    if (w > WIDEST_SHUFFLED || !unpack_shuffled(moves, data, w, out, groups, keep, shift)) {
        if (w == 64) std::memcpy(out, data, 64 * groups);
        else Widths<1>::unpack(w, data, out, groups);
        if (shift || (low_bits(w) & ~keep)) keep_and_shift(out, 8 * groups, keep, shift);
    }
    if (!rest) return;
    u64 last[8];
    u8 bytes[64] = {};
    std::memcpy(bytes, data + groups * std::size_t(w), (rest * std::size_t(w) + 7) / 8);
    Widths<1>::unpack(w, bytes, last, 1);
    keep_and_shift(last, rest, keep, shift);
    std::memcpy(out + 8 * groups, last, 8 * rest);
}

inline void unpack(const u8* data, int w, u64* out, std::size_t n) { unpack_moves(ByteMoves(w), data, w, out, n); }

// r is a mask: compared with every index, it is never one.
template <class Count>
void shares_of_rows(const u64* r, const Count* hot0, Count* out, std::size_t n, std::size_t buckets) {
    for (std::size_t i = 0; i < n; ++i) {
        const Count place = Count(r[i]), inside = Count(r[i] == place);
        const Count* __restrict from = hot0 + i * buckets;
        Count* __restrict to = out + i * buckets;
        for (std::size_t k = 0; k < buckets; ++k) to[k] = Count((inside & Count(Count(k) == place)) - from[k]);
    }
}

template <class Count>
void add_run(const Count* __restrict from, Count* __restrict sum, std::size_t n) {
    for (std::size_t k = 0; k < n; ++k) sum[k] = Count(sum[k] + from[k]);
}

// sum[k] += hot[(base + k) mod buckets]
template <class Count>
void add_rotated(const Count* hot, Count* sum, std::size_t base, std::size_t buckets) {
    add_run(hot + base, sum, buckets - base);
    add_run(hot, sum + buckets - base, base);
}

// Summed back to front: entry (-k) mod B of `sum` takes bucket (t + B/2 - k) mod B, two runs of neighbours.
template <class Count>
void counts_of_rows(const Count* hot, const u64* t_hat, Count* out, std::size_t rows, std::size_t length, std::size_t buckets) {
    Array<Count> sum(buckets);
    for (std::size_t row = 0; row < rows; ++row, out += buckets) {
        for (Count& x : sum) x = 0;
        for (std::size_t i = 0; i < length; ++i, hot += buckets) {
            const std::size_t base = (*t_hat++ + buckets / 2) & (buckets - 1);
            add_rotated(hot, sum.data(), base, buckets);
        }
        for (std::size_t k = 0; k < buckets; ++k) out[k] = sum[(buckets - k) & (buckets - 1)];
    }
}

#if defined(__AVX512VBMI__)
// Up to 64 buckets of a byte are one vector.
inline V count_bytes() {
    alignas(64) u8 places[64];
    for (int k = 0; k < 64; ++k) places[k] = u8(k);
    return Isa::load(places);
}

inline void shares_of_vectors(const u64* r, const u8* hot0, u8* out, std::size_t n, std::size_t buckets) {
    const V places = count_bytes(), one = _mm512_set1_epi8(1);
    const __mmask64 all = low_bits(int(buckets));
    for (std::size_t i = 0; i < n; ++i, hot0 += buckets, out += buckets) {
        const __mmask64 inside = u64(0) - u64((r[i] >> 8) == 0);
        const __mmask64 hot = inside & _mm512_cmpeq_epi8_mask(places, _mm512_set1_epi8(char(r[i])));
        _mm512_mask_storeu_epi8(out, all, _mm512_sub_epi8(_mm512_maskz_mov_epi8(hot, one), _mm512_maskz_loadu_epi8(all, hot0)));
    }
}

inline void counts_of_vectors(const u8* hot, const u64* t_hat, u8* out, std::size_t rows, std::size_t length, std::size_t buckets) {
    const V half = _mm512_set1_epi8(char(buckets / 2)), last = _mm512_set1_epi8(char(buckets - 1));
    const V back = _mm512_sub_epi8(half, count_bytes());
    const __mmask64 all = low_bits(int(buckets));
    for (std::size_t row = 0; row < rows; ++row, out += buckets) {
        V sum = Isa::zero();
        for (std::size_t i = 0; i < length; ++i, hot += buckets) {
            const V index = _mm512_and_si512(_mm512_add_epi8(_mm512_set1_epi8(char(*t_hat++)), back), last);
            sum = _mm512_add_epi8(sum, _mm512_permutexvar_epi8(index, _mm512_maskz_loadu_epi8(all, hot)));
        }
        _mm512_mask_storeu_epi8(out, all, sum);
    }
}
#endif

template <class Count>
void onehot_share(const u64* r, const Count* hot0, Count* out, std::size_t n, std::size_t buckets) {
#if defined(__AVX512VBMI__)
    if constexpr (sizeof(Count) == 1)
        if (buckets <= 64) return shares_of_vectors(r, hot0, out, n, buckets);
#endif
    shares_of_rows(r, hot0, out, n, buckets);
}

template <class Count>
void onehot_counts(const Count* hot, const u64* t_hat, Count* out, std::size_t rows, std::size_t length, std::size_t buckets) {
#if defined(__AVX512VBMI__)
    if constexpr (sizeof(Count) == 1)
        if (buckets <= 64) return counts_of_vectors(hot, t_hat, out, rows, length, buckets);
#endif
    counts_of_rows(hot, t_hat, out, rows, length, buckets);
}

}  // namespace
}  // namespace roundelay
