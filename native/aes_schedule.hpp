// The AES-128 key schedule in AES-NI.
#pragma once

#include <immintrin.h>

#include "kernels.hpp"

namespace roundelay {
namespace {

struct KeySchedule {
    template <int constant>
    static __m128i next_key(__m128i key) {
        const __m128i word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, constant), 0xff);
        key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
        return _mm_xor_si128(_mm_xor_si128(key, _mm_slli_si128(key, 8)), word);
    }
    static void expand_key(const u8 key[16], RoundKeys& out) {
        __m128i k[11] = {_mm_loadu_si128(reinterpret_cast<const __m128i*>(key))};
        k[1] = next_key<0x01>(k[0]), k[2] = next_key<0x02>(k[1]), k[3] = next_key<0x04>(k[2]), k[4] = next_key<0x08>(k[3]);
        k[5] = next_key<0x10>(k[4]), k[6] = next_key<0x20>(k[5]), k[7] = next_key<0x40>(k[6]), k[8] = next_key<0x80>(k[7]);
        k[9] = next_key<0x1b>(k[8]), k[10] = next_key<0x36>(k[9]);
        for (int r = 0; r < 11; ++r) _mm_store_si128(reinterpret_cast<__m128i*>(out.bytes[r]), k[r]);
    }
};

}  // namespace
}  // namespace roundelay
