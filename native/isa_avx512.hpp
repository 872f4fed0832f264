// Vectors of 128-bit blocks: VAES and AVX-512, four blocks a vector, 32 in flight: enough to hide the latency of a walk's steps.
#pragma once

#include "aes_schedule.hpp"

namespace roundelay {
namespace {

struct Isa : KeySchedule {
    using V = __m512i;
    static constexpr int blocks = 4, group = 8, chains = 4;

    struct Keys {
        V round[11];
        explicit Keys(const RoundKeys& keys) {
            for (int r = 0; r < 11; ++r)
                round[r] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes[r])));
        }
    };

    static V load(const void* p) { return _mm512_loadu_si512(p); }
    static void store(void* p, V v) { _mm512_storeu_si512(p, v); }
    // The blocks so many bytes from `base`.
    static V gather(const void* base, const u64* bytes) {
        const auto part = [&](int k) { return _mm_load_si128(reinterpret_cast<const __m128i*>(static_cast<const u8*>(base) + bytes[k])); };
        V v = _mm512_castsi128_si512(part(0));
        v = _mm512_inserti32x4(v, part(1), 1);
        v = _mm512_inserti32x4(v, part(2), 2);
        return _mm512_inserti32x4(v, part(3), 3);
    }
    static V zero() { return _mm512_setzero_si512(); }
    static V second_word() { return _mm512_maskz_set1_epi64(0xaa, 64); }  // where the second word of a block begins
    static V exclusive_or(V a, V b) { return _mm512_xor_si512(a, b); }
    static V sigma(V s) {
        const V swapped = _mm512_shuffle_epi32(s, _MM_PERM_ENUM(0x4e));
        return _mm512_mask_xor_epi64(swapped, 0xaa, swapped, s);
    }
    // Words of all ones where bit 63, or bit k, is set. No test into a mask: that would take a turn of the units of AES.
    static V controls(V s) { return _mm512_srai_epi64(s, 63); }
    static V has(V p, int k) { return controls(_mm512_sllv_epi64(p, both(u64(63 - k)))); }
    static V both(u64 value) { return _mm512_set1_epi64(i64(value)); }
    static V spread(const u64* words) {
        const V four = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
        return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), four);
    }
    static V spread_low(u64 value) { return _mm512_maskz_set1_epi64(0x55, i64(value)); }  // in the low word of each block
    static V count_up(u64 first) { return _mm512_add_epi64(spread_low(first), _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0)); }
    static V both_of(V a, V b) { return _mm512_and_si512(a, b); }
    static V xor_both(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x78); }  // a xor (b and c)
    static V choose(V bits, V yes, V no) { return _mm512_ternarylogic_epi64(bits, yes, no, 0xca); }
    // The bit p of a block, or all bits below it, where both words hold p < 128.
    static V point(V p) { return _mm512_sllv_epi64(_mm512_set1_epi64(1), _mm512_sub_epi64(p, second_word())); }
    static V below(V p) {
        const V one = _mm512_set1_epi64(1);
        return _mm512_sub_epi64(_mm512_sllv_epi64(one, _mm512_subs_epu16(p, second_word())), one);
    }
    // Answers, of which a block has two, one for each word: whether a and b have a bit in common there, or the parity of what is there.
    static constexpr int answers = 2;
    static u64 meet(V a, V b) { return _mm512_test_epi64_mask(a, b); }
    static u64 parities(V v) { return meet(_mm512_popcnt_epi64(v), both(1)); }
    // An answer for each block: whether either is set, or one alone.
    static u64 either(u64 words) { return _pext_u64(words | words >> 1, 0x5555555555555555); }
    static u64 one_alone(u64 words) { return _pext_u64(words ^ words >> 1, 0x5555555555555555); }
    // Of a group's words. Bit i: whether a[i] is greater.
    static u64 beyond(const u64* a, u64 b) {
        u64 bits = 0;
        for (int i = 0; i < blocks * group; i += 8) bits |= u64(_mm512_cmpgt_epu64_mask(load(a + i), both(b))) << i;
        return bits;
    }
    static u64 beyond(const u64* a, const u64* b) {
        u64 bits = 0;
        for (int i = 0; i < blocks * group; i += 8) bits |= u64(_mm512_cmpgt_epu64_mask(load(a + i), load(b + i))) << i;
        return bits;
    }
    static void put_bits(u64 bits, u8* out) {  // a byte each
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_maskz_set1_epi8(__mmask32(bits), 1));
    }
    static void store_low(u64* out, V v) {
        const V low = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6), v);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(low));
    }
    static void scatter(u8* out, std::ptrdiff_t stride, V v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(v));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + stride), _mm512_extracti32x4_epi32(v, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * stride), _mm512_extracti32x4_epi32(v, 2));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * stride), _mm512_extracti32x4_epi32(v, 3));
    }

    // x = AES(x)
    template <int N>
    static void encrypt(const Keys& keys, V (&x)[N]) {
        V last[N];
        for (int g = 0; g < N; ++g) {
            x[g] = _mm512_xor_si512(x[g], keys.round[0]);
            last[g] = keys.round[10];
        }
        permute(keys, x, last);
    }
    // What AES does between its first key and its last: x = that of x, xor `after`, which is ready before the rounds are.
    template <int N>
    static void permute(const Keys& keys, V (&x)[N], const V (&after)[N]) {
        for (int r = 1; r < 10; ++r)
#pragma GCC unroll 16
            for (int g = 0; g < N; ++g) x[g] = _mm512_aesenc_epi128(x[g], keys.round[r]);
#pragma GCC unroll 16
        for (int g = 0; g < N; ++g) x[g] = _mm512_aesenclast_epi128(x[g], after[g]);
    }

    static V add(V a, V b) { return _mm512_add_epi64(a, b); }  // words
    static V subtract(V a, V b) { return _mm512_sub_epi64(a, b); }
    static V low_words(V a, V b) { return _mm512_unpacklo_epi64(a, b); }  // of each block
    static constexpr bool short_products = true;  // modulo 2^52, in one instruction instead of four
    // sum + a b, word by word, modulo 2^52 if `brief`; b is two words, the same for every block.
    template <bool brief>
    static V add_product(V sum, V a, const u64* b) {
        const V factor = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
        if constexpr (brief) return _mm512_madd52lo_epu64(sum, a, factor);
        else return _mm512_add_epi64(sum, _mm512_mullo_epi64(a, factor));
    }
    static V where_equal(V a, V b, V value) { return _mm512_maskz_mov_epi64(_mm512_cmpeq_epi64_mask(a, b), value); }  // else 0
    static V block_of(u64 low, u64 high) { return _mm512_broadcast_i32x4(_mm_set_epi64x(i64(high), i64(low))); }
};

}  // namespace
}  // namespace roundelay
