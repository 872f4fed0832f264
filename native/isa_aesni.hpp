// Vectors of 128-bit blocks: AES-NI and AVX2, one block a vector, eight in flight.
#pragma once

#include "aes_schedule.hpp"
#include "word_by_word.hpp"

namespace roundelay {
namespace {

struct Isa : KeySchedule, WordByWord<8> {
    using V = __m128i;
    static constexpr int blocks = 1, group = 8, chains = 8;

    struct Keys {
        V round[11];
        explicit Keys(const RoundKeys& keys) {
            for (int r = 0; r < 11; ++r) round[r] = load(keys.bytes[r]);
        }
    };

    static V load(const void* p) { return _mm_loadu_si128(static_cast<const V*>(p)); }
    static void store(void* p, V v) { _mm_storeu_si128(static_cast<V*>(p), v); }
    static V gather(const void* base, const u64* bytes) { return load(static_cast<const u8*>(base) + *bytes); }
    static V zero() { return _mm_setzero_si128(); }
    static V exclusive_or(V a, V b) { return _mm_xor_si128(a, b); }
    static V sigma(V s) {
        const V high = _mm_and_si128(s, _mm_set_epi64x(-1, 0));
        return _mm_xor_si128(_mm_shuffle_epi32(s, 0x4e), high);
    }
    // Words of all ones where bit 63, or bit k, is set.
    static V controls(V s) { return _mm_cmpgt_epi64(zero(), s); }
    static V has(V p, int k) { return controls(_mm_sll_epi64(p, _mm_cvtsi32_si128(63 - k))); }
    static V both(u64 value) { return _mm_set1_epi64x(i64(value)); }
    static V spread(const u64* words) { return _mm_set1_epi64x(i64(*words)); }
    static V spread_low(u64 value) { return _mm_set_epi64x(0, i64(value)); }
    static V count_up(u64 first) { return spread_low(first); }
    static V both_of(V a, V b) { return _mm_and_si128(a, b); }
    static V xor_both(V a, V b, V c) { return _mm_xor_si128(a, _mm_and_si128(b, c)); }  // a xor (b and c)
    static V choose(V bits, V yes, V no) { return _mm_or_si128(_mm_and_si128(bits, yes), _mm_andnot_si128(bits, no)); }
    // The bit p of a block, or all bits below it, where both words hold p < 128.
    static V point(V p) { return _mm_sllv_epi64(_mm_set1_epi64x(1), _mm_sub_epi64(p, _mm_set_epi64x(64, 0))); }
    static V below(V p) {
        const V one = _mm_set1_epi64x(1);
        return _mm_sub_epi64(_mm_sllv_epi64(one, _mm_subs_epu16(p, _mm_set_epi64x(64, 0))), one);
    }
    // Whether a and b have a bit in common.
    static u64 meet(V a, V b) { return u64(_mm_testz_si128(a, b) == 0); }
    static void store_low(u64* out, V v) { *out = u64(_mm_cvtsi128_si64(v)); }
    static void scatter(u8* out, std::ptrdiff_t, V v) { store(out, v); }

    // x = AES(x)
    static void encrypt(const Keys& keys, V (&x)[group]) {
        V last[group];
        for (int g = 0; g < group; ++g) {
            x[g] = _mm_xor_si128(x[g], keys.round[0]);
            last[g] = keys.round[10];
        }
        permute(keys, x, last);
    }
    // What AES does between its first key and its last: x = that of x, xor `after`, which is ready before the rounds are.
    static void permute(const Keys& keys, V (&x)[group], const V (&after)[group]) {
        for (int r = 1; r < 10; ++r)
            for (V& v : x) v = _mm_aesenc_si128(v, keys.round[r]);
        for (int g = 0; g < group; ++g) x[g] = _mm_aesenclast_si128(x[g], after[g]);
    }

    static u64 parities(V v) { return u64(_mm_popcnt_u64(u64(_mm_cvtsi128_si64(v)) ^ u64(_mm_extract_epi64(v, 1)))) & 1; }

    static V add(V a, V b) { return _mm_add_epi64(a, b); }  // words
    static V subtract(V a, V b) { return _mm_sub_epi64(a, b); }
    static V low_words(V a, V b) { return _mm_unpacklo_epi64(a, b); }  // of each block
    // sum + a b, word by word; b is two words, the same for every block.
    static constexpr bool short_products = false;
    template <bool>
    static V add_product(V sum, V a, const u64* b) {
        const u64 low = u64(_mm_cvtsi128_si64(a)) * b[0], high = u64(_mm_extract_epi64(a, 1)) * b[1];
        return _mm_add_epi64(sum, _mm_set_epi64x(i64(high), i64(low)));
    }
    static V where_equal(V a, V b, V value) { return _mm_and_si128(_mm_cmpeq_epi64(a, b), value); }  // else 0
    static V block_of(u64 low, u64 high) { return _mm_set_epi64x(i64(high), i64(low)); }

    static i32 total(__m256i v) {
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
        return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
    }

    // 32 bits as bytes of all ones or zero.
    static __m256i spread_bits(const u8* bits) {
        i32 word;
        __builtin_memcpy(&word, bits, 4);
        const __m256i place = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
        const __m256i bit = _mm256_set1_epi64x(i64(0x8040201008040201));
        return _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), place), bit), bit);
    }

    // The sum over planes p and set bits i of 256^p table[i / 64][p][i mod 64]; 64 `chunks` bits.
    template <int planes>
    static i32 lane_sums(const u8* bits, const i8* table, std::size_t chunks) {
        __m256i sum[planes];
        for (__m256i& s : sum) s = _mm256_setzero_si256();
        for (std::size_t i = 0; i < 2 * chunks; ++i) {
            const __m256i mask = spread_bits(bits + 4 * i);
            for (int p = 0; p < planes; ++p) {
                const i8* from = table + 64 * (planes * (i / 2) + p) + 32 * (i % 2);
                const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
                const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_and_si256(mask, entries));
                sum[p] = _mm256_add_epi32(sum[p], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
        for (int p = planes - 1; p > 0; --p) sum[p - 1] = _mm256_add_epi32(sum[p - 1], _mm256_slli_epi32(sum[p], 8));
        return total(sum[0]);
    }
};

}  // namespace
}  // namespace roundelay
