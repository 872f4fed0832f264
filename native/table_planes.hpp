// Sums of a public table over secret bits, an instance at a time: entries as bytes, added up where the bits are set.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

// Consecutive bits of each instance.
struct Rows {
    const u8* row[W];
    u64 lead[W];  // where they begin in the first byte

    // `size` bits from `from[i]` on in the blocks [leaf][instance] of `leaves` leaves; past the last comes the first.
    void take(const V* blocks, u64 leaves, const u64* from, u64 size) {
        const u64 count = (size + 7 + 63) / 64 / 2 + 2;
        bits_.resize(16 * count * W);
        u8* to = bits_.data();
        for (u64 i = 0; i < u64(W); ++i) {
            row[i] = to + from[i] % 128 / 8;
            lead[i] = from[i] % 8;
            u64 q = from[i] / 128;
            for (u64 c = 0; c < count; ++c, ++q, to += 16) {
                while (q >= leaves) q -= leaves;
                std::memcpy(to, reinterpret_cast<const u8*>(blocks) + 16 * (q * W + i), 16);
            }
        }
    }

private:
    Array<u8> bits_;  // [instance][block]
};

// A table as signed bytes: entry = sum of 256^plane byte, modulo 2^64. Back to front, in the order of the points that its entries
// multiply, with zeros on both sides, so that whole chunks of 64 are read; once for each of the eight places that the first point may
// have in a byte of bits, so that every chunk is aligned. Planes whose sum cannot leave 32 bits are added up together.
struct TableSum {
    u64 back, size;  // the lowest point is x_hat - back
    u64* out;

    TableSum(const Lookup& q, u64 modulus)
        : back((q.first + q.size - 1) & modulus), size(q.size), out(q.out), chunks_((size + 7 + 63) / 64) {
        Array<i64> rest(q.table, q.table + q.size);
        for (bool more = true; more && planes_ < 8; ++planes_) more = peel(rest);
        if (fits(q)) together_ = planes_ = planes_ < 4 ? planes_ : 4;  // more would only be a sign
        else if (size < 1 << 15) together_ = 2;
        for (int p = 0; p < planes_; p += together_) add_part(p, planes_ - p < together_ ? planes_ - p : together_);
    }
    // totals[i] = sum of table[size - 1 - k] over the set bits k of row i, or where `minus` its opposite
    void operator()(const Rows& rows, bool minus, u64* totals) const {
        for (int i = 0; i < W; ++i) totals[i] = 0;
        for (const Part& part : parts_) {
            const auto run = [&](auto sums) {
                for (int i = 0; i < W; ++i) {
                    const i32 sum = sums(rows.row[i], part.copies[rows.lead[i]], chunks_);
                    totals[i] += u64(i64(sum)) << (8 * part.plane);
                }
            };
            if (part.planes == 1) run(Isa::lane_sums<1>);
            else if (part.planes == 2) run(Isa::lane_sums<2>);
            else if (part.planes == 3) run(Isa::lane_sums<3>);
            else run(Isa::lane_sums<4>);
        }
        if (minus)
            for (int i = 0; i < W; ++i) totals[i] = u64(0) - totals[i];
    }

private:
    struct Part {
        int plane, planes;
        Array<i8> bytes;  // [copy][chunk][plane][64]
        const i8* copies[8];
    };
    std::size_t chunks_;
    int planes_ = 0, together_ = 1;
    Array<i8> reversed_;  // [plane][entry]
    Array<Part> parts_;

    static bool fits(const Lookup& q) {  // whether every sum is below 2^31
        u64 total = 0;
        for (u64 j = 0; j < q.size && total >> 31 == 0; ++j) {
            const u64 magnitude = q.table[j] < 0 ? u64(0) - u64(q.table[j]) : u64(q.table[j]);
            total += magnitude >> 31 ? u64(1) << 31 : magnitude;
        }
        return total >> 31 == 0;
    }
    bool peel(Array<i64>& rest) {  // the lowest bytes into a new plane; whether anything is left
        i64 left = 0;
        reversed_.resize(reversed_.size() + size);
        for (u64 j = 0; j < size; ++j) {
            const i8 byte = i8(rest[j]);
            reversed_[reversed_.size() - 1 - j] = byte;
            rest[j] = i64(u64(rest[j]) - u64(i64(byte))) >> 8;
            left |= rest[j];
        }
        return left != 0;
    }
    void add_part(int plane, int planes) {
        const std::size_t width = 64 * std::size_t(planes);
        parts_.push_back({plane, planes, Array<i8>(8 * chunks_ * width + 64), {}});
        Part& part = parts_.back();
        for (std::size_t lead = 0; lead < 8; ++lead) {
            i8* copy = part.bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(part.bytes.data()) % 64) + lead * chunks_ * width;
            part.copies[lead] = copy;
            for (std::size_t p = 0; p < std::size_t(planes); ++p)
                for (std::size_t j = 0; j < size; ++j)
                    copy[(j + lead) / 64 * width + 64 * p + (j + lead) % 64] = reversed_[(std::size_t(plane) + p) * size + j];
        }
    }
};

}  // namespace
}  // namespace roundelay
