// Operands of a polynomial, a strip at a time, made in the first-level cache: expanded, unpacked, lifted.
#pragma once

#include "lanes.hpp"
#include "streams.hpp"

namespace roundelay {
namespace {

constexpr std::size_t STRIP = 256;  // elements

// Words at a multiple of a cache line.
class Strip {
public:
    explicit Strip(bool wanted = true) : lines_(wanted ? STRIP / 8 : 0) {}
    u64* data() { return lines_.data()->words; }

private:
    struct alignas(64) Line {
        u64 words[8];
    };
    Array<Line> lines_;
};

// One operand of a sum modulo 2^w, as whole words where it lies so, else made for each strip. Bits from the w-th on may be anything.
class Reader {
public:
    Reader(const Operand& operand, int w, std::size_t n)
        : o_(operand), keys_(operand.keys), moves_(8 * operand.width), mask_(low_bits(operand.bits)), lifted_(o_.add || o_.drop || o_.flip),
          changed_(lifted_ || (!o_.bytes && (o_.shift || o_.bits + o_.shift < (w < 64 ? w : 64)))),
          direct_(o_.words && o_.repeat == 1 && o_.size >= n && !changed_), strip_(!direct_) {}

    // Whether it is 0 or 1 everywhere.
    bool bit() const { return (changed_ || o_.bytes) && !o_.shift && o_.flip <= 1 && mask_ >> o_.drop <= 1; }

    const u64* read(std::size_t at, std::size_t n) {
        if (direct_) return o_.words + at;
        if (o_.words && o_.repeat == 1 && o_.size >= at + n) return change(o_.words + at, n);
        const u64 first = at / o_.repeat, last = (at + n - 1) / o_.repeat;
        if (n <= filled_ && first == element_ && last == element_) return strip_.data();
        for (std::size_t done = 0; done < n;) done += run(at + done, strip_.data() + done, n - done);
        element_ = first;
        filled_ = first == last ? n : 0;
        return changed_ ? change(strip_.data(), n) : strip_.data();
    }

private:
    const Operand& o_;
    Isa::Keys keys_;
    ByteMoves moves_;
    u64 mask_;
    bool lifted_, changed_, direct_;
    Strip strip_;
    u64 element_ = 0;
    std::size_t filled_ = 0;  // how much of the strip is this element over and over

    std::size_t run(u64 at, u64* to, std::size_t n) const {
        const u64 element = at / o_.repeat % o_.size;
        if (o_.repeat == 1) {
            const std::size_t count = n < o_.size - element ? n : o_.size - element;
            fetch(element, to, count);
            return count;
        }
        const std::size_t left = o_.repeat - at % o_.repeat, count = n < left ? n : left;
        fetch(element, to, 1);
        for (std::size_t i = 1; i < count; ++i) to[i] = to[0];
        return count;
    }
    void fetch(u64 element, u64* to, std::size_t n) const {
        if (o_.words) std::memcpy(to, o_.words + element, 8 * n);
        else if (!o_.bytes) keystream_words(keys_, o_.offset + element, to, n);
        else if (lifted_) unpack_moves(moves_, o_.bytes + element * u64(o_.width), 8 * o_.width, to, n);
        else unpack_moves(moves_, o_.bytes + element * u64(o_.width), 8 * o_.width, to, n, mask_, o_.shift);
    }
    const u64* change(const u64* from, std::size_t n) {
        const u64 add = o_.add, mask = mask_, flip = o_.flip;
        const int drop = o_.drop, shift = o_.shift;
        u64* to = strip_.data();
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) to[i] = ((((from[i] + add) & mask) >> drop) ^ flip) << shift;
        return to;
    }
};

}  // namespace
}  // namespace roundelay
