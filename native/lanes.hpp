// Vectors of words and their products modulo 2^52 and 2^64, for matrix products and polynomials.
#pragma once

#include <cstring>

#include "kernels.hpp"

#if defined(__AVX512IFMA__)
#include <immintrin.h>
#endif

namespace roundelay {
namespace {

#if defined(__AVX512IFMA__)

constexpr int TILE_VECTORS = 3, LANES = 8;
using Lane = __m512i;

inline Lane load_lane(const u64* p) { return _mm512_loadu_si512(p); }
inline Lane load_lane(const i32* p) { return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Lane load_lane(const i16* p) { return _mm512_cvtepi16_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline void store_lane(u64* p, Lane v) { _mm512_storeu_si512(p, v); }
inline Lane load_columns(const u64* p, int columns) { return _mm512_maskz_loadu_epi64(__mmask8(low_bits(columns)), p); }
inline void store_columns(u64* p, Lane v, int columns) { _mm512_mask_storeu_epi64(p, __mmask8(low_bits(columns)), v); }
inline Lane masked(Lane v, u64 mask) { return _mm512_and_si512(v, _mm512_set1_epi64(i64(mask))); }
inline Lane add_lanes(Lane a, Lane b) { return _mm512_add_epi64(a, b); }  // `+` would be signed

// Low 52 bits of products of 52-bit words, added modulo 2^64: exact modulo 2^52 for any number of terms.
struct Fused52 {
    static constexpr int tile_rows = 8;
    static Lane product(Lane a, Lane b) { return add_product(_mm512_setzero_si512(), a, b); }
    static Lane add_product(Lane sum, Lane a, Lane b) { return _mm512_madd52lo_epu64(sum, a, b); }
    struct Sum {
        Lane low;
        void add(const u64* a, Lane b) { low = _mm512_madd52lo_epu64(low, _mm512_set1_epi64(i64(*a)), b); }
        Lane total() const { return low; }
    };
};

// Three products of 32-bit halves: several times faster than vpmullq on the machines that were measured.
struct Full64 {
    static constexpr int tile_rows = 4;
    static Lane product(Lane a, Lane b) {
        const Lane cross = _mm512_add_epi64(_mm512_mul_epu32(_mm512_srli_epi64(a, 32), b), _mm512_mul_epu32(a, _mm512_srli_epi64(b, 32)));
        return _mm512_add_epi64(_mm512_mul_epu32(a, b), _mm512_slli_epi64(cross, 32));
    }
    static Lane add_product(Lane sum, Lane a, Lane b) { return _mm512_add_epi64(sum, product(a, b)); }
    struct Sum {
        Lane low, cross;  // cross: the two products of one low and one high half, side by side
        void add(const u64* a, Lane b) {
            const Lane each = _mm512_set1_epi64(i64(*a));
            low = _mm512_add_epi64(low, _mm512_mul_epu32(each, b));
            cross = _mm512_add_epi32(cross, _mm512_mullo_epi32(each, _mm512_shuffle_epi32(b, _MM_PERM_ENUM(0xb1))));
        }
        Lane total() const {
            return _mm512_add_epi64(low, _mm512_slli_epi64(_mm512_add_epi64(cross, _mm512_srli_epi64(cross, 32)), 32));
        }
    };
};

#else

constexpr int TILE_VECTORS = 2, LANES = 4;
typedef u64 Lane __attribute__((vector_size(32)));

template <class Entry>
Lane load_lane(const Entry* p) {
    return Lane{u64(i64(p[0])), u64(i64(p[1])), u64(i64(p[2])), u64(i64(p[3]))};
}
inline void store_lane(u64* p, Lane v) { std::memcpy(p, &v, sizeof v); }
inline Lane load_columns(const u64* p, int columns) {
    Lane v{};
    std::memcpy(&v, p, sizeof(u64) * std::size_t(columns));
    return v;
}
inline void store_columns(u64* p, Lane v, int columns) { std::memcpy(p, &v, sizeof(u64) * std::size_t(columns)); }
inline Lane masked(Lane v, u64 mask) { return v & mask; }
inline Lane add_lanes(Lane a, Lane b) { return a + b; }

struct Full64 {
    static constexpr int tile_rows = 4;
    static Lane product(Lane a, Lane b) { return a * b; }
    static Lane add_product(Lane sum, Lane a, Lane b) { return sum + a * b; }
    struct Sum {
        Lane low;
        void add(const u64* a, Lane b) { low += *a * b; }
        Lane total() const { return low; }
    };
};
using Fused52 = Full64;

#endif

}  // namespace
}  // namespace roundelay
