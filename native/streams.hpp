// Elementwise kernels: keystream, packing, one-hot vectors.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

inline void keystream(const Isa::Keys& keys, u64 block, u64* out) {
    V x[G], nothing[G];
    for (int g = 0; g < G; ++g) {
        x[g] = Isa::count_up(block + u64(B * g));
        nothing[g] = Isa::zero();
    }
    Isa::encrypt(keys, x, nothing);
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

inline void pack(const u64* values, int w, u8* out, std::size_t n) {
    const std::size_t groups = n / 8, rest = n % 8;
    Widths<1>::pack(w, values, out, groups);
    if (!rest) return;
    u64 last[8] = {};
    u8 bytes[64];
    std::memcpy(last, values + 8 * groups, 8 * rest);
    Widths<1>::pack(w, last, bytes, 1);
    std::memcpy(out + groups * w, bytes, (rest * w + 7) / 8);
}

inline void unpack(const u8* data, int w, u64* out, std::size_t n) {
    const std::size_t groups = n / 8, rest = n % 8;
    Widths<1>::unpack(w, data, out, groups);
    if (!rest) return;
    u64 last[8];
    u8 bytes[64] = {};
    std::memcpy(bytes, data + groups * w, (rest * w + 7) / 8);
    Widths<1>::unpack(w, bytes, last, 1);
    std::memcpy(out + 8 * groups, last, 8 * rest);
}

// r is a mask: compared with every index, it is never one.
template <class Count>
void onehot_share(const u64* r, const Count* hot0, Count* out, std::size_t n, std::size_t buckets) {
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
#if defined(__AVX512BW__)
inline void add_rotated(const u8* hot, u8* sum, std::size_t base, std::size_t buckets) {
    for (std::size_t k = 0; k < buckets; k += 64) {
        const std::size_t lanes = buckets - k < 64 ? buckets - k : 64, left = buckets - base > k ? buckets - base - k : 0;
        const __mmask64 all = low_bits(int(lanes)), ahead = low_bits(int(left < lanes ? left : lanes));
        const V start = _mm512_maskz_loadu_epi8(ahead, hot + base + k);
        const V around = _mm512_maskz_loadu_epi8(all & ~ahead, hot + base + k - buckets);
        const V total = _mm512_add_epi8(_mm512_maskz_loadu_epi8(all, sum + k), _mm512_or_si512(start, around));
        _mm512_mask_storeu_epi8(sum + k, all, total);
    }
}
#endif
template <class Count>
void add_rotated(const Count* hot, Count* sum, std::size_t base, std::size_t buckets) {
    add_run(hot + base, sum, buckets - base);
    add_run(hot, sum + buckets - base, base);
}

// Summed back to front: entry (-k) mod B of `sum` takes bucket (t + B/2 - k) mod B, two runs of neighbours.
template <class Count>
void onehot_counts(const Count* hot, const u64* t_hat, Count* out, std::size_t rows, std::size_t length, std::size_t buckets) {
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

}  // namespace
}  // namespace roundelay
