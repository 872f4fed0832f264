// Vectors of 128-bit blocks: plain C++, one block a vector, 16 in flight.
#pragma once

#include "aes_bitsliced.hpp"

namespace roundelay {
namespace {

struct Isa {
    struct V {
        u64 lo, hi;
    };
    using Mask = u64;  // all ones or zero
    using Keys = BitslicedKeys;
    static constexpr int blocks = 1, group = 16;

    static V load(const void* p) {
        V v;
        std::memcpy(&v, p, 16);
        return v;
    }
    static void store(void* p, V v) { std::memcpy(p, &v, 16); }
    static V zero() { return {0, 0}; }
    static V exclusive_or(V a, V b) { return {a.lo ^ b.lo, a.hi ^ b.hi}; }
    static V sigma(V s) { return {s.hi, s.hi ^ s.lo}; }
    static Mask odd(V s) { return u64(0) - (s.lo & 1); }
    static Mask top(V p) { return u64(0) - (p.lo >> 63); }
    static V spread(const u64* words) { return {*words, *words}; }
    static V twice(V p) { return {p.lo << 1, p.hi << 1}; }
    static V spread_low(u64 value) { return {value, 0}; }
    static V count_up(u64 first) { return {first, 0}; }
    static V xor_if(V a, Mask k, V b) { return {a.lo ^ (k & b.lo), a.hi ^ (k & b.hi)}; }
    static V add_if(V a, Mask k, V b) { return {a.lo + (k & b.lo), a.hi + (k & b.hi)}; }  // words
    static V select(Mask k, V yes, V no) { return xor_if(no, k, exclusive_or(yes, no)); }
    static void store_low(u64* out, V v) { *out = v.lo; }
    static void scatter(u8* out, std::ptrdiff_t, V v) { store(out, v); }

    static void encrypt(const Keys& keys, V (&x)[group]) { encrypt_16_blocks(keys, reinterpret_cast<u8*>(x)); }

    // No popcount here: without the instruction it may be a table lookup, and these bits are secret.
    static u64 parity(u64 x) {
        for (int shift = 32; shift; shift >>= 1) x ^= x >> shift;
        return x & 1;
    }

    // Sum of table[i] over the set bits i; 32 `chunks` bits.
    template <class Entry>
    static i64 masked_sum(const u8* bits, const Entry* table, std::size_t chunks) {
        i64 total = 0;
        for (std::size_t i = 0; i < 4 * chunks; ++i)
            for (int k = 0; k < 8; ++k) {
                const i64 mask = -i64((bits[i] >> k) & 1);
                total += mask & i64(table[8 * i + k]);
            }
        return total;
    }
};

}  // namespace
}  // namespace roundelay
