// Vectors of 128-bit blocks: AES-NI and AVX2, one block a vector, eight in flight.
#pragma once

#include <immintrin.h>

#include "kernels.hpp"

namespace roundelay {
namespace {

struct Isa {
    using V = __m128i;
    using Mask = __m128i;
    static constexpr int blocks = 1, group = 8;

    struct Keys {
        V round[11];
        explicit Keys(const RoundKeys& keys) {
            for (int r = 0; r < 11; ++r) round[r] = load(keys.bytes[r]);
        }
    };

    static V load(const void* p) { return _mm_loadu_si128(static_cast<const V*>(p)); }
    static void store(void* p, V v) { _mm_storeu_si128(static_cast<V*>(p), v); }
    static V zero() { return _mm_setzero_si128(); }
    static V exclusive_or(V a, V b) { return _mm_xor_si128(a, b); }
    static V sigma(V s) {
        const V high = _mm_and_si128(s, _mm_set_epi64x(-1, 0));
        return _mm_xor_si128(_mm_shuffle_epi32(s, 0x4e), high);
    }
    static Mask odd(V s) { return top(_mm_slli_epi64(_mm_shuffle_epi32(s, 0x44), 63)); }
    static Mask top(V p) { return _mm_cmpgt_epi64(zero(), p); }
    static V spread(const u64* words) { return _mm_set1_epi64x(i64(*words)); }
    static V twice(V p) { return _mm_slli_epi64(p, 1); }
    static V spread_low(u64 value) { return _mm_set_epi64x(0, i64(value)); }
    static V count_up(u64 first) { return spread_low(first); }
    static V xor_if(V a, Mask k, V b) { return _mm_xor_si128(a, _mm_and_si128(k, b)); }
    static V add_if(V a, Mask k, V b) { return _mm_add_epi64(a, _mm_and_si128(k, b)); }  // words
    static V select(Mask k, V yes, V no) { return _mm_blendv_epi8(no, yes, k); }
    static void store_low(u64* out, V v) { *out = u64(_mm_cvtsi128_si64(v)); }
    static void scatter(u8* out, std::ptrdiff_t, V v) { store(out, v); }

    static void encrypt(const Keys& keys, V (&x)[group]) {
        for (V& v : x) v = _mm_xor_si128(v, keys.round[0]);
        for (int r = 1; r < 10; ++r)
            for (V& v : x) v = _mm_aesenc_si128(v, keys.round[r]);
        for (V& v : x) v = _mm_aesenclast_si128(v, keys.round[10]);
    }

    static u64 parity(u64 x) { return u64(_mm_popcnt_u64(x)) & 1; }

    static i64 total(__m256i v) {
        const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        return _mm_cvtsi128_si64(pair) + _mm_extract_epi64(pair, 1);
    }

    static i64 total32(__m256i v) {
        const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v));
        return total(_mm256_add_epi64(low, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(v, 1))));
    }

    // Sum of table[i] over the set bits i; 32 `chunks` bits. Entries of 16 and 32 bits only where no sum leaves 32 bits.
    static i64 masked_sum(const u8* bits, const i16* table, std::size_t chunks) {
        const __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, i16(-32768));
        __m256i sum = _mm256_setzero_si256();
        for (std::size_t i = 0; i < 2 * chunks; ++i) {
            const __m256i word = _mm256_set1_epi16(i16(bits[2 * i] | bits[2 * i + 1] << 8));
            const __m256i mask = _mm256_cmpeq_epi16(_mm256_and_si256(word, bit), bit);
            const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + 16 * i));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(mask, entries), _mm256_set1_epi16(1)));
        }
        return total32(sum);
    }

    static i64 masked_sum(const u8* bits, const i32* table, std::size_t chunks) {
        const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        __m256i sum = _mm256_setzero_si256();
        for (std::size_t i = 0; i < 4 * chunks; ++i) {
            const __m256i mask = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits[i]), bit), bit);
            const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + 8 * i));
            sum = _mm256_add_epi32(sum, _mm256_and_si256(mask, entries));
        }
        return total32(sum);
    }

    static i64 masked_sum(const u8* bits, const i64* table, std::size_t chunks) {
        const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8);
        __m256i sum = _mm256_setzero_si256();
        for (std::size_t i = 0; i < 8 * chunks; ++i) {
            const __m256i four = _mm256_set1_epi64x(bits[i / 2] >> (4 * (i % 2)));
            const __m256i mask = _mm256_cmpeq_epi64(_mm256_and_si256(four, bit), bit);
            const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + 4 * i));
            sum = _mm256_add_epi64(sum, _mm256_and_si256(mask, entries));
        }
        return total(sum);
    }
};

}  // namespace
}  // namespace roundelay
