// Sums of a public table over secret bits, 32 instances at once: four bits pick one of the 16 sums of four entries, in a register, where
// a permutation reads all of it whatever the bits are. Needs AVX-512 VBMI, VBMI2 and VNNI.
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
        const u64 chunks = (words_for(size) + 3) / 4;
        words_.resize(8 * chunks);
        u64 leads = 0;
        for (int i = 0; i < W; ++i) leads |= from[i] >> 7;
        for (int half = 0; half < 2; ++half) {
            const auto gathered = [&](u64 c, V (&v)[4]) { gather(blocks, leaves, from, 16 * half, c, v); };
            const auto loaded = [&](u64 c, V (&v)[4]) {
                const V* const block = blocks + wrapped(c, leaves) * G + 4 * half;
                for (int j = 0; j < 4; ++j) v[j] = block[j];
            };
            if (leads) turn(from + 16 * half, chunks, words_.data() + half, gathered);
            else turn(from + 16 * half, chunks, words_.data() + half, loaded);
        }
    }
    static u64 words_for(u64 size) { return (size + 31) / 32; }

    V word(int half, u64 d) const { return words_[2 * d + u64(half)]; }  // bits 32 d to 32 d + 31

    // Between the order of instances and that of elements, which is its own inverse.
    static V reorder(V v) { return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v); }

private:
    Array<V> words_;  // [32 bits][half of the instances]

    static u64 wrapped(u64 q, u64 leaves) {
        while (q >= leaves) q -= leaves;
        return q;
    }
    static void gather(const V* blocks, u64 leaves, const u64* from, int first, u64 c, V (&v)[4]) {
        u64 bytes[16];
        for (int k = 0; k < 16; ++k) bytes[k] = 16 * (wrapped((from[first + k] >> 7) + c, leaves) * W + u64(first + k));
        for (int j = 0; j < 4; ++j) v[j] = Isa::gather(blocks, bytes + 4 * j);
    }
    static void transpose(const V (&v)[4], V (&to)[4]) {
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
    // Chunks of 128 bits, from bit from[i] mod 128 of the first block on: moved by 32, by 64 and by less, 32 bits from the next 128 at a time.
    template <class Load>
    static void turn(const u64* from, u64 chunks, V* out, Load load) {
        const V place = reorder(low_halves(from)), right = _mm512_and_si512(place, _mm512_set1_epi32(31));
        const __mmask16 odd = _mm512_test_epi32_mask(place, _mm512_set1_epi32(32)), high = _mm512_test_epi32_mask(place, _mm512_set1_epi32(64));
        const auto by_32 = [&](V now, V next) { return _mm512_mask_mov_epi32(now, odd, next); };
        const auto by_64 = [&](V now, V next) { return _mm512_mask_mov_epi32(now, high, next); };
        V v[4], raw[4], next[4];
        load(0, v);
        transpose(v, raw);
        V second = by_32(raw[1], raw[2]), third = by_32(raw[2], raw[3]), first = by_64(by_32(raw[0], raw[1]), third);
        for (u64 c = 0; c < chunks; ++c, out += 8) {
            load(c + 1, v);
            transpose(v, next);
            const V fourth = by_32(raw[3], next[0]), fifth = by_32(next[0], next[1]);
            const V sixth = by_32(next[1], next[2]), last = by_32(next[2], next[3]);
            const V turned[5] = {first, by_64(second, fourth), by_64(third, fifth), by_64(fourth, sixth), by_64(fifth, last)};
            for (int d = 0; d < 4; ++d) out[2 * d] = _mm512_shrdv_epi32(turned[d], turned[d + 1], right);
            first = turned[4];
            second = sixth;
            third = last;
            raw[3] = next[3];
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
    // totals[i] = sum of table[size - 1 - k] over the set bits k of row i, or where `minus` its opposite
    void operator()(const Rows& rows, bool minus, u64* totals) const {
        V total[W / 8];
        for (V& t : total) t = Isa::both(u64(0) - moved_);
        for (const Part& part : parts_) {
            if (part.planes == 1) add_up<1>(rows, part, total);
            else add_up<2>(rows, part, total);
        }
        for (int i = 0; i < W / 8; ++i) Isa::store(totals + 8 * i, minus ? Isa::subtract(Isa::zero(), total[i]) : total[i]);
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
        for (int i = 0; i < 3; ++i) low = _mm512_mask_add_epi64(low, __mmask8(i == 0 ? 0xaa : i == 1 ? 0xcc : 0xf0), low, Isa::both(e[i]));
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

    // Adds the sum of the planes of a part, 32 bits with a sign, at its place.
    template <int planes>
    void add_up(const Rows& rows, const Part& part, V (&total)[W / 8]) const {
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
        const __m128i place = _mm_cvtsi32_si128(int(8 * part.plane));
        for (int half = 0; half < 2; ++half) {
            V whole = Isa::zero();
            for (int p = planes; p-- > 0;)
                whole = _mm512_add_epi32(_mm512_slli_epi32(whole, 8), _mm512_add_epi32(sum[half][0][p], sum[half][1][p]));
            whole = Rows::reorder(whole);
            V* const to = total + 2 * half;
            to[0] = Isa::add(to[0], _mm512_sll_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(whole)), place));
            to[1] = Isa::add(to[1], _mm512_sll_epi64(_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(whole, 1)), place));
        }
    }
};

}  // namespace
}  // namespace roundelay
