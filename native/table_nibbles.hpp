// Sums of a public table over secret bits, 32 instances at once: four bits pick one of the 16 sums of four entries, in a register, where
// a permutation reads all of it whatever the bits are. Needs AVX-512 VBMI and VNNI.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

static_assert(W == 32, "two vectors of 16 instances");

// The bits from `from[i]` on of each instance, as vectors of 32 bits of 16 instances.
class Rows {
public:
    void take(const u8* bits, std::size_t stride, const u64* from, u64 size) {
        const u64 chunks = words_for(size) / 4 + 1;
        words_.resize(2 * 4 * chunks);
        const u8* row[W];
        for (int i = 0; i < W; ++i) row[i] = bits + std::size_t(i) * stride + from[i] / 8;
        for (u64 c = 0; c < chunks; ++c)
            for (int half = 0; half < 2; ++half) chunk(row + 16 * half, 16 * c, words_.data() + 8 * c + half);
        for (int half = 0; half < 2; ++half) shift_[half] = low_halves(from + 16 * half);
    }
    static u64 words_for(u64 size) { return (size + 31) / 32; }
    static u64 bytes_read(u64 size) { return 16 * (words_for(size) / 4 + 1); }

    // Bits 32 d to 32 d + 31 after `from`.
    V word(int half, u64 d) const {
        const V low = words_[2 * d + u64(half)], high = words_[2 * d + 2 + u64(half)];
        return _mm512_or_si512(_mm512_srlv_epi32(low, shift_[half]), _mm512_sllv_epi32(high, _mm512_sub_epi32(_mm512_set1_epi32(32), shift_[half])));
    }

private:
    Array<V> words_;  // [32 bits][half of the instances]
    V shift_[2];

    static V low_halves(const u64* from) {  // their last three bits
        const V a = _mm512_and_si512(Isa::load(from), _mm512_set1_epi64(7)), b = _mm512_and_si512(Isa::load(from + 8), _mm512_set1_epi64(7));
        return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(a)), _mm512_cvtepi64_epi32(b), 1);
    }
    // 16 bytes of 16 rows, transposed to four vectors: to[0], to[2], to[4], to[6].
    static void chunk(const u8* const* row, u64 at, V* to) {
        V v[4];
        for (int p = 0; p < 4; ++p) {
            const auto part = [&](int k) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[4 * k + p] + at)); };
            v[p] = _mm512_castsi128_si512(part(0));
            v[p] = _mm512_inserti32x4(v[p], part(1), 1);
            v[p] = _mm512_inserti32x4(v[p], part(2), 2);
            v[p] = _mm512_inserti32x4(v[p], part(3), 3);
        }
        const V a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpacklo_epi32(v[2], v[3]);
        const V c = _mm512_unpackhi_epi32(v[0], v[1]), d = _mm512_unpackhi_epi32(v[2], v[3]);
        to[0] = _mm512_unpacklo_epi64(a, b);
        to[2] = _mm512_unpackhi_epi64(a, b);
        to[4] = _mm512_unpacklo_epi64(c, d);
        to[6] = _mm512_unpackhi_epi64(c, d);
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
            Isa::store(out + 16 * half, total);
        }
    }
};

}  // namespace
}  // namespace roundelay
