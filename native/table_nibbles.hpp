// Sums of a public table over secret bits, 32 instances at once: four bits pick one of the 16 sums of four entries, in a register, where
// a permutation reads all of it whatever the bits are. Needs AVX-512 VBMI and VNNI.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

static_assert(W == 32, "two vectors of 16 instances");

// Consecutive bits of each instance, as vectors of 32 bits of 16 instances: instance 4 j + k in element 4 k + j, where transposed
// vectors of blocks have it.
class Rows {
public:
    // `size` bits from `from[i]` on in the blocks [leaf][instance] of `leaves` leaves; past the last comes the first.
    void take(const V* blocks, u64 leaves, const u64* from, u64 size) {
        const u64 words = words_for(size), chunks = words / 4 + 2;
        words_.resize(2 * words);
        raw_.resize(4 * chunks);
        u64 leads = 0;
        for (int i = 0; i < W; ++i) leads |= from[i] >> 7;
        for (int half = 0; half < 2; ++half) {
            for (u64 c = 0; c < chunks; ++c) {
                V v[4];
                if (leads) gather(blocks, leaves, from, 16 * half, c, v);
                else
                    for (int j = 0; j < 4; ++j) v[j] = blocks[wrapped(c, leaves) * G + u64(4 * half + j)];
                transpose(v, raw_.data() + 4 * c);
            }
            turn(from + 16 * half, words, words_.data() + half);
        }
    }
    static u64 words_for(u64 size) { return (size + 31) / 32; }

    V word(int half, u64 d) const { return words_[2 * d + u64(half)]; }  // bits 32 d to 32 d + 31

    // Between the order of instances and that of elements, which is its own inverse.
    static V reorder(V v) { return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v); }

private:
    Array<V> words_;  // [32 bits][half of the instances]
    Array<V> raw_;    // of one half, from the first bit of a block on

    static u64 wrapped(u64 q, u64 leaves) {
        while (q >= leaves) q -= leaves;
        return q;
    }
    static void gather(const V* blocks, u64 leaves, const u64* from, int first, u64 c, V (&v)[4]) {
        for (int j = 0; j < 4; ++j) {
            const auto part = [&](int k) {
                const u64 i = u64(first + 4 * j + k);
                return _mm_load_si128(reinterpret_cast<const __m128i*>(blocks) + wrapped((from[i] >> 7) + c, leaves) * W + i);
            };
            v[j] = _mm512_castsi128_si512(part(0));
            v[j] = _mm512_inserti32x4(v[j], part(1), 1);
            v[j] = _mm512_inserti32x4(v[j], part(2), 2);
            v[j] = _mm512_inserti32x4(v[j], part(3), 3);
        }
    }
    static void transpose(const V (&v)[4], V* to) {
        const V a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpacklo_epi32(v[2], v[3]);
        const V c = _mm512_unpackhi_epi32(v[0], v[1]), d = _mm512_unpackhi_epi32(v[2], v[3]);
        to[0] = _mm512_unpacklo_epi64(a, b);
        to[1] = _mm512_unpackhi_epi64(a, b);
        to[2] = _mm512_unpacklo_epi64(c, d);
        to[3] = _mm512_unpackhi_epi64(c, d);
    }
    static V low_halves(const u64* words) {
        return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(Isa::load(words))), _mm512_cvtepi64_epi32(Isa::load(words + 8)), 1);
    }
    // From bit from[i] mod 128 on: by 64, by 32, by less.
    void turn(const u64* from, u64 words, V* out) const {
        const V place = reorder(low_halves(from));
        const __mmask16 odd = _mm512_test_epi32_mask(place, _mm512_set1_epi32(32)), high = _mm512_test_epi32_mask(place, _mm512_set1_epi32(64));
        const V right = _mm512_and_si512(place, _mm512_set1_epi32(31)), left = _mm512_sub_epi32(_mm512_set1_epi32(32), right);
        const V* raw = raw_.data();
        const auto moved = [&](u64 d) { return _mm512_mask_mov_epi32(raw[d], odd, raw[d + 1]); };
        V second = moved(1), third = moved(2), now = _mm512_mask_mov_epi32(moved(0), high, third);
        for (u64 d = 0; d < words; ++d) {
            const V fourth = moved(d + 3), next = _mm512_mask_mov_epi32(second, high, fourth);
            out[2 * d] = _mm512_or_si512(_mm512_srlv_epi32(now, right), _mm512_sllv_epi32(next, left));
            now = next;
            second = third;
            third = fourth;
        }
    }
};

// The sums of four entries as signed digits: sum of 256^plane digit, modulo 2^64. The table lies back to front, in the order of the
// points that its entries multiply. Byte j of 32 bits looks in entries 16 j to 16 j + 15 of a vector, once for each of its nibbles.
struct TableSum {
    u64 back, size;  // the lowest point is x_hat - back
    u64* out;

    TableSum(const Lookup& q, u64 modulus)
        : back((q.first + q.size - 1) & modulus), size(q.size), out(q.out), narrow_(fits(q)), words_(Rows::words_for(size)) {
        Array<i64> rest(128 * words_);  // [32 bits][nibble][byte][its value]
        for (u64 k = 0; k < 32 * words_; ++k) {
            i64* sums = rest.data() + k / 32 * 128 + k / 4 % 2 * 64 + k % 32 / 8 * 16;
            const u64 bit = u64(1) << k % 4, entry = k < size ? u64(q.table[size - 1 - k]) : 0;
            for (u64 n = 0; n < bit; ++n) sums[bit + n] = i64(u64(sums[n]) + entry);
        }
        const std::size_t most = narrow_ ? 4 : 8;  // beyond four, narrow sums have only a sign
        for (bool more = true; more && planes_ < most; ++planes_) more = peel(rest);
        digits_.resize(128 * words_ * planes_ + 64);
        u8* to = reinterpret_cast<u8*>(digits_.data());
        first_ = std::size_t(-reinterpret_cast<std::uintptr_t>(to) % 64);
        for (std::size_t v = 0; v < 2 * words_; ++v)
            for (std::size_t p = 0; p < planes_; ++p) std::memcpy(to + first_ + 64 * (planes_ * v + p), peeled_.data() + 64 * (2 * words_ * p + v), 64);
    }
    // totals[i] = sum of table[size - 1 - k] over the set bits k of row i
    void operator()(const Rows& rows, u64* totals) const {
        alignas(64) i32 sum[W];
        for (int i = 0; i < W; ++i) totals[i] = 0;
        const std::size_t together = narrow_ ? 4 : size < 1 << 17 ? 2 : 1;
        for (std::size_t p = 0; p < planes_; p += together) {
            const std::size_t left = planes_ - p;
            const V* from = reinterpret_cast<const V*>(digits_.data() + first_) + p;
            if (left == 1 || together == 1) add_up<1>(rows, from, sum);
            else if (left == 2 || together == 2) add_up<2>(rows, from, sum);
            else if (left == 3) add_up<3>(rows, from, sum);
            else add_up<4>(rows, from, sum);
            for (int i = 0; i < W; ++i) totals[i] += u64(i64(sum[i])) << (8 * p);
        }
    }

private:
    bool narrow_;  // every sum is below 2^31
    std::size_t words_, planes_ = 0, first_;
    Array<i8> peeled_;  // [plane][32 bits][nibble][64]
    Array<i8> digits_;  // from first_ on, a multiple of 64 in memory: [32 bits][nibble][plane][64]

    static bool fits(const Lookup& q) {
        u64 total = 0;
        for (u64 j = 0; j < q.size && total >> 31 == 0; ++j) {
            const u64 magnitude = q.table[j] < 0 ? u64(0) - u64(q.table[j]) : u64(q.table[j]);
            total += magnitude >> 31 ? u64(1) << 31 : magnitude;
        }
        return total >> 31 == 0;
    }
    bool peel(Array<i64>& rest) {  // the lowest digits into a new plane; whether anything is left
        i64 left = 0;
        peeled_.resize(rest.size() * (planes_ + 1));
        i8* to = peeled_.data() + rest.size() * planes_;
        for (std::size_t i = 0; i < rest.size(); ++i) {
            to[i] = i8(rest[i]);
            rest[i] = i64(u64(rest[i]) - u64(i64(to[i]))) >> 8;
            left |= rest[i];
        }
        return left != 0;
    }
    // The sum of `planes` planes, modulo 2^32.
    template <int planes>
    void add_up(const Rows& rows, const V* digits, i32* out) const {
        V sum[2][2][planes];
        for (auto& half : sum)
            for (auto& nibble : half)
                for (V& s : nibble) s = Isa::zero();
        const V low = _mm512_set1_epi8(15), byte = _mm512_set1_epi32(0x30201000), one = _mm512_set1_epi8(1);
        for (u64 d = 0; d < words_; ++d, digits += 2 * planes_)
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                const V bits = rows.word(half, d);
                const V index[2] = {_mm512_ternarylogic_epi32(bits, low, byte, 0xea),
                                    _mm512_ternarylogic_epi32(_mm512_srli_epi32(bits, 4), low, byte, 0xea)};
#pragma GCC unroll 2
                for (int nibble = 0; nibble < 2; ++nibble)
#pragma GCC unroll 4
                    for (int p = 0; p < planes; ++p) {
                        const V picked = _mm512_permutexvar_epi8(index[nibble], digits[planes_ * std::size_t(nibble) + std::size_t(p)]);
                        sum[half][nibble][p] = _mm512_dpbusd_epi32(sum[half][nibble][p], one, picked);
                    }
            }
        for (int half = 0; half < 2; ++half) {
            V total = Isa::zero();
            for (int p = planes; p-- > 0;)
                total = _mm512_add_epi32(_mm512_slli_epi32(total, 8), _mm512_add_epi32(sum[half][0][p], sum[half][1][p]));
            Isa::store(out + 16 * half, Rows::reorder(total));
        }
    }
};

}  // namespace
}  // namespace roundelay
