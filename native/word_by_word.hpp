// What an instruction set without vectors of words does with those of a group.
#pragma once

#include "kernels.hpp"

namespace roundelay {
namespace {

template <int count>
struct WordByWord {
    // Answers, of which a block has one here, and two where there is one for each word.
    static constexpr int answers = 1;
    static u64 either(u64 blocks) { return blocks; }
    static u64 one_alone(u64 blocks) { return blocks; }
    // Bit i: whether a[i] is greater.
    static u64 beyond(const u64* a, u64 b) {
        u64 bits = 0;
        for (int i = 0; i < count; ++i) bits |= u64(a[i] > b) << i;
        return bits;
    }
    static u64 beyond(const u64* a, const u64* b) {
        u64 bits = 0;
        for (int i = 0; i < count; ++i) bits |= u64(a[i] > b[i]) << i;
        return bits;
    }
    static void put_bits(u64 bits, u8* out) {  // a byte each
        for (int i = 0; i < count; ++i) out[i] = u8(bits >> i & 1);
    }
};

}  // namespace
}  // namespace roundelay
