// Vectors of 128-bit blocks: plain C++, one block a vector, 16 in flight.
#pragma once

#include "aes_bitsliced.hpp"
#include "word_by_word.hpp"

namespace roundelay {
namespace {

struct Isa : WordByWord<16> {
    struct V {
        u64 lo, hi;
    };
    using Keys = BitslicedKeys;
    static constexpr int blocks = 1, group = 16, chains = 16;

    static V load(const void* p) {
        V v;
        std::memcpy(&v, p, 16);
        return v;
    }
    static void store(void* p, V v) { std::memcpy(p, &v, 16); }
    static V gather(const void* base, const u64* bytes) { return load(static_cast<const u8*>(base) + *bytes); }
    static V zero() { return {0, 0}; }
    static V exclusive_or(V a, V b) { return {a.lo ^ b.lo, a.hi ^ b.hi}; }
    static V sigma(V s) { return {s.hi, s.hi ^ s.lo}; }
    // Words of all ones where bit 63, or bit k, is set.
    static V controls(V s) { return has(s, 63); }
    static V has(V p, int k) { return {u64(0) - ((p.lo >> k) & 1), u64(0) - ((p.hi >> k) & 1)}; }
    static V both(u64 value) { return {value, value}; }
    static V spread(const u64* words) { return {*words, *words}; }
    static V spread_low(u64 value) { return {value, 0}; }
    static V count_up(u64 first) { return {first, 0}; }
    static V both_of(V a, V b) { return {a.lo & b.lo, a.hi & b.hi}; }
    static V xor_both(V a, V b, V c) { return {a.lo ^ (b.lo & c.lo), a.hi ^ (b.hi & c.hi)}; }  // a xor (b and c)
    static V choose(V bits, V yes, V no) { return xor_both(no, bits, exclusive_or(yes, no)); }
    // The bit p of a block, or all bits below it (for a public p), where both words hold p < 128.
    static V point(V p) {
        const u64 bit = u64(1) << (p.lo & 63), high = u64(0) - (p.lo >> 6);
        return {bit & ~high, bit & high};
    }
    // Whether a and b have a bit in common.
    static u64 meet(V a, V b) {
        const u64 common = (a.lo & b.lo) | (a.hi & b.hi);
        return (common | (u64(0) - common)) >> 63;
    }
    static V below(V p) { return p.lo < 64 ? V{low_bits(int(p.lo)), 0} : V{~u64(0), low_bits(int(p.lo) - 64)}; }
    static void store_low(u64* out, V v) { *out = v.lo; }
    static void scatter(u8* out, std::ptrdiff_t, V v) { store(out, v); }

    static V add(V a, V b) { return {a.lo + b.lo, a.hi + b.hi}; }  // words
    static V subtract(V a, V b) { return {a.lo - b.lo, a.hi - b.hi}; }
    static V low_words(V a, V b) { return {a.lo, b.lo}; }  // of each block
    // sum + a b, word by word; b is two words, the same for every block.
    static constexpr bool short_products = false;
    template <bool>
    static V add_product(V sum, V a, const u64* b) { return {sum.lo + a.lo * b[0], sum.hi + a.hi * b[1]}; }
    static u64 equal(u64 a, u64 b) {  // all ones if so
        const u64 x = a ^ b;
        return ((x | (u64(0) - x)) >> 63) - 1;
    }
    static V where_equal(V a, V b, V value) { return {equal(a.lo, b.lo) & value.lo, equal(a.hi, b.hi) & value.hi}; }  // else 0
    static V block_of(u64 low, u64 high) { return {low, high}; }

    // x = AES(x)
    static void encrypt(const Keys& keys, V (&x)[group]) { encrypt_16_blocks(keys, reinterpret_cast<u8*>(x)); }
    // What AES does between its first key and its last, if those are zero: x = that of x, xor `after`.
    static void permute(const Keys& keys, V (&x)[group], const V (&after)[group]) {
        encrypt(keys, x);
        for (int g = 0; g < group; ++g) x[g] = exclusive_or(x[g], after[g]);
    }

    // Constant time, as all of this.
    static void expand_key(const u8 key[16], RoundKeys& out) {
        std::memcpy(out.bytes[0], key, 16);
        u8 constant = 1;
        for (int r = 1; r <= 10; ++r) {
            const u8* last = out.bytes[r - 1];
            u8 blocks[256] = {};
            for (int i = 0; i < 4; ++i) blocks[i] = last[12 + (i + 1) % 4];
            Planes q[8];
            load_blocks(blocks, q);
            sbox(q);
            store_blocks(q, blocks);
            blocks[0] ^= constant;
            for (int i = 0; i < 16; ++i) out.bytes[r][i] = last[i] ^ (i < 4 ? blocks[i] : out.bytes[r][i - 4]);
            constant = u8((constant << 1) ^ (constant & 0x80 ? 0x1b : 0));  // public
        }
    }

    // No popcount here: without the instruction it may be a table lookup, and these bits are secret.
    static u64 parities(V v) {
        u64 x = v.lo ^ v.hi;
        for (int shift = 32; shift; shift >>= 1) x ^= x >> shift;
        return x & 1;
    }

    // The sum over planes p and set bits i of 256^p table[i / 64][p][i mod 64]; 64 `chunks` bits.
    template <int planes>
    static i32 lane_sums(const u8* bits, const i8* table, std::size_t chunks) {
        u32 sum[planes] = {};
        for (std::size_t i = 0; i < 8 * chunks; ++i)
            for (int k = 0; k < 8; ++k) {
                const u32 mask = u32(0) - u32((bits[i] >> k) & 1);
                for (int p = 0; p < planes; ++p) sum[p] += mask & u32(i32(table[64 * (planes * (i / 8) + std::size_t(p)) + i % 8 * 8 + std::size_t(k)]));
            }
        for (int p = planes - 1; p > 0; --p) sum[p - 1] += sum[p] << 8;
        return i32(sum[0]);
    }
};

}  // namespace
}  // namespace roundelay
