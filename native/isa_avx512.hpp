// Vectors of 128-bit blocks: VAES and AVX-512, four blocks a vector, 16 in flight.
#pragma once

#include <immintrin.h>

#include "kernels.hpp"

namespace roundelay {
namespace {

struct Isa {
    using V = __m512i;
    using Mask = __mmask8;
    static constexpr int blocks = 4, group = 4;

    struct Keys {
        V round[11];
        explicit Keys(const RoundKeys& keys) {
            for (int r = 0; r < 11; ++r)
                round[r] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys.bytes[r])));
        }
    };

    static V load(const void* p) { return _mm512_loadu_si512(p); }
    static void store(void* p, V v) { _mm512_storeu_si512(p, v); }
    static V zero() { return _mm512_setzero_si512(); }
    static V exclusive_or(V a, V b) { return _mm512_xor_si512(a, b); }
    static V sigma(V s) {
        const V swapped = _mm512_shuffle_epi32(s, _MM_PERM_ENUM(0x4e));
        return _mm512_mask_xor_epi64(swapped, 0xaa, swapped, s);
    }
    static Mask odd(V s) { return _mm512_test_epi64_mask(_mm512_shuffle_epi32(s, _MM_PERM_ENUM(0x44)), _mm512_set1_epi64(1)); }
    static Mask top(V p) { return _mm512_movepi64_mask(p); }
    static V spread(const u64* words) {
        const V four = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
        return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), four);
    }
    static V twice(V p) { return _mm512_slli_epi64(p, 1); }
    static V spread_low(u64 value) { return _mm512_maskz_set1_epi64(0x55, i64(value)); }  // in the low word of each block
    static V count_up(u64 first) { return _mm512_add_epi64(spread_low(first), _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0)); }
    static V xor_if(V a, Mask k, V b) { return _mm512_mask_xor_epi64(a, k, a, b); }
    static V add_if(V a, Mask k, V b) { return _mm512_mask_add_epi64(a, k, a, b); }  // words
    static V select(Mask k, V yes, V no) { return _mm512_mask_blend_epi64(k, no, yes); }
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

    static void encrypt(const Keys& keys, V (&x)[group]) {
        for (V& v : x) v = _mm512_xor_si512(v, keys.round[0]);
        for (int r = 1; r < 10; ++r)
            for (V& v : x) v = _mm512_aesenc_epi128(v, keys.round[r]);
        for (V& v : x) v = _mm512_aesenclast_epi128(v, keys.round[10]);
    }

    static u64 parity(u64 x) { return u64(_mm_popcnt_u64(x)) & 1; }

    static __mmask32 mask_at(const u8* bits, std::size_t chunk) {
        return _load_mask32(reinterpret_cast<__mmask32*>(const_cast<u8*>(bits + 4 * chunk)));
    }
    static V add_if(V sum, __mmask16 k, const i32* table) { return _mm512_mask_add_epi32(sum, k, sum, load(table)); }
    static V add_if(V sum, __mmask8 k, const i64* table) { return _mm512_mask_add_epi64(sum, k, sum, load(table)); }

    // Sum of table[i] over the set bits i; 32 `chunks` bits. Entries of 16 and 32 bits only where no sum leaves 32 bits.
    static i64 masked_sum(const u8* bits, const i16* table, std::size_t chunks) {
        const V ones = _mm512_set1_epi16(1);
        V sum[2] = {zero(), zero()};
        std::size_t i = 0;
        for (; i + 2 <= chunks; i += 2)
            for (int k = 0; k < 2; ++k)
                sum[k] = _mm512_dpwssd_epi32(sum[k], _mm512_maskz_loadu_epi16(mask_at(bits, i + k), table + 32 * (i + k)), ones);
        if (i < chunks) sum[0] = _mm512_dpwssd_epi32(sum[0], _mm512_maskz_loadu_epi16(mask_at(bits, i), table + 32 * i), ones);
        return _mm512_reduce_add_epi32(_mm512_add_epi32(sum[0], sum[1]));
    }

    static i64 masked_sum(const u8* bits, const i32* table, std::size_t chunks) {
        V low = zero(), high = zero();
        for (std::size_t i = 0; i < chunks; ++i) {
            const __mmask32 mask = mask_at(bits, i);
            low = add_if(low, __mmask16(mask), table + 32 * i);
            high = add_if(high, __mmask16(mask >> 16), table + 32 * i + 16);
        }
        return _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
    }

    static i64 masked_sum(const u8* bits, const i64* table, std::size_t chunks) {
        V sum[4] = {zero(), zero(), zero(), zero()};
        for (std::size_t i = 0; i < chunks; ++i) {
            const __mmask32 mask = mask_at(bits, i);
            for (int k = 0; k < 4; ++k) sum[k] = add_if(sum[k], __mmask8(mask >> (8 * k)), table + 32 * i + 8 * k);
        }
        const V low = _mm512_add_epi64(sum[0], sum[1]), high = _mm512_add_epi64(sum[2], sum[3]);
        return _mm512_reduce_add_epi64(_mm512_add_epi64(low, high));
    }
};

}  // namespace
}  // namespace roundelay
