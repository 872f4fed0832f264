// Sums of a public table over secret bits, 32 instances at once: four bits pick one of the 16 sums of four entries, in a register, where
// a permutation reads all of it whatever the bits are. Needs AVX-512 VBMI and VNNI.
#pragma once

#include <algorithm>

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
        const u64 words = words_for(size), chunks = (words + 7) / 4;  // `turn` looks four words ahead
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
// Sums are moved so that the least of four begins where the digits do, and a range of 256^planes takes as many; the planes above have
// zeros there, and are added up only where some entry is large.
struct TableSum {
    u64 back, size;  // the lowest point is x_hat - back
    u64* out;

    TableSum(const Lookup& q, u64 modulus)
        : back((q.first + q.size - 1) & modulus), size(q.size), out(q.out), together_(size < 1 << 17 ? 2 : 1) {
        const u64 words = Rows::words_for(size);
        Array<u64> entries(32 * words);
        for (u64 k = 0; k < size; ++k) entries[k] = u64(q.table[size - 1 - k]);
        Array<u8> planes(8 * words);
        for (u64 k = 0; k < planes.size(); ++k) planes_ = std::max<u64>(planes_, planes[k] = planes_for(entries.data() + 4 * k));
        digits_.resize(128 * words * planes_ + 64);
        first_ = std::size_t(-reinterpret_cast<std::uintptr_t>(digits_.data()) % 64);
        for (u64 k = 0; k < planes.size(); ++k) put(k, entries.data() + 4 * k, planes[k]);
        for (u64 p = 0; p < planes_; p += together_) parts_.push_back(part(p, planes));
    }
    // totals[i] = sum of table[size - 1 - k] over the set bits k of row i
    void operator()(const Rows& rows, u64* totals) const {
        alignas(64) i32 sum[W];
        for (int i = 0; i < W; ++i) totals[i] = u64(0) - moved_;
        for (const Part& part : parts_) {
            if (part.planes == 1) add_up<1>(rows, part, sum);
            else add_up<2>(rows, part, sum);
            for (int i = 0; i < W; ++i) totals[i] += u64(i64(sum[i])) << (8 * part.plane);
        }
    }

private:
    struct Part {  // planes whose sums fit 32 bits, and the words in which they are not all zeros
        u64 plane, planes, first, last;
    };
    u64 together_, planes_ = 1, first_;
    u64 moved_ = 0;     // by how much all sums are too large
    Array<i8> digits_;  // from first_ on, a multiple of 64 in memory: [32 bits][nibble][plane][64]
    Array<Part> parts_;

    // How many digits the sums of four entries take.
    static u8 planes_for(const u64* e) {
        u8 planes = 1;
        while (planes < 8 && !within(e, low_bits(8 * planes))) ++planes;
        return planes;
    }
    static bool within(const u64* e, u64 most) {  // whether their largest sum lies at most so far above the least
        u64 range = 0;
        for (int i = 0; i < 4; ++i) {
            const u64 magnitude = e[i] >> 63 ? u64(0) - e[i] : e[i];
            if (magnitude > most - range) return false;
            range += magnitude;
        }
        return true;
    }

    // The 16 sums of four entries, moved to where `planes` digits begin.
    void put(u64 k, const u64* e, int planes) {
        u64 by = u64(0) - 128 * (low_bits(8 * planes) / 255);
        for (int i = 0; i < 4; ++i) by -= (e[i] >> 63) * e[i];
        moved_ += by;
        V low = Isa::both(by);
        for (int i = 0; i < 3; ++i) low = Isa::add_if(low, Mask(i == 0 ? 0xaa : i == 1 ? 0xcc : 0xf0), Isa::both(e[i]));
        V sums[2] = {low, Isa::add(low, Isa::both(e[3]))};
        i8* to = digits_.data() + first_ + 64 * planes_ * (k / 8 * 2 + k % 2) + k % 8 / 2 * 16;
        for (u64 p = 0; p < planes_; ++p, to += 64)
            for (int half = 0; half < 2; ++half) {
                _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 8 * half), _mm512_cvtepi64_epi8(sums[half]));
                const V digit = _mm512_srai_epi64(_mm512_slli_epi64(sums[half], 56), 56);
                sums[half] = _mm512_srai_epi64(Isa::subtract(sums[half], digit), 8);
            }
    }

    Part part(u64 plane, const Array<u8>& planes) const {
        Part part{plane, std::min(together_, planes_ - plane), 0, planes.size() / 8};
        const auto needed = [&](u64 word) { return std::any_of(&planes[8 * word], &planes[8 * word] + 8, [&](u8 have) { return have > plane; }); };
        while (!needed(part.first)) ++part.first;
        while (!needed(part.last - 1)) --part.last;
        return part;
    }

    // The sum of the planes of a part, modulo 2^32.
    template <int planes>
    void add_up(const Rows& rows, const Part& part, i32* out) const {
        V sum[2][2][planes];
        for (auto& half : sum)
            for (auto& nibble : half)
                for (V& s : nibble) s = Isa::zero();
        const V low = _mm512_set1_epi8(15), byte = _mm512_set1_epi32(0x30201000), one = _mm512_set1_epi8(1);
        const V* digits = reinterpret_cast<const V*>(digits_.data() + first_) + 2 * planes_ * part.first + part.plane;
        for (u64 d = part.first; d < part.last; ++d, digits += 2 * planes_)
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                const V bits = rows.word(half, d);
                const V index[2] = {_mm512_ternarylogic_epi32(bits, low, byte, 0xea),
                                    _mm512_ternarylogic_epi32(_mm512_srli_epi32(bits, 4), low, byte, 0xea)};
#pragma GCC unroll 2
                for (int nibble = 0; nibble < 2; ++nibble)
#pragma GCC unroll 2
                    for (int p = 0; p < planes; ++p) {
                        const V picked = _mm512_permutexvar_epi8(index[nibble], digits[planes_ * u64(nibble) + u64(p)]);
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
