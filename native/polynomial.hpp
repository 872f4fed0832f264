// Polynomials, a strip at a time: operands are expanded, unpacked and lifted in the first-level cache, and nothing but the result is
// written to memory.
#pragma once

#include "lanes.hpp"
#include "streams.hpp"

namespace roundelay {
namespace {

constexpr std::size_t STRIP = 256;  // elements

// One operand, as whole words where it lies so, else made for each strip.
class Reader {
public:
    Reader(const Operand& operand, std::size_t n)
        : o_(operand), keys_(operand.keys), moves_(8 * operand.width), mask_(low_bits(operand.bits)),
          changed_(o_.add || (o_.words && o_.bits < 64) || (!o_.words && !o_.bytes && o_.bits < 64) || o_.bits % 8 || o_.drop || o_.flip ||
                   o_.shift),
          direct_(o_.words && o_.repeat == 1 && o_.size >= n && !changed_), strip_(direct_ ? 0 : STRIP) {}

    const u64* read(std::size_t at, std::size_t n) {
        if (direct_) return o_.words + at;
        if (o_.words && o_.repeat == 1 && o_.size >= at + n) return change(o_.words + at, n);
        for (std::size_t done = 0; done < n;) done += run(at + done, strip_.data() + done, n - done);
        if (changed_) change(strip_.data(), n);
        return strip_.data();
    }

private:
    const Operand& o_;
    Isa::Keys keys_;
    ByteMoves moves_;
    u64 mask_;
    bool changed_, direct_;
    Array<u64> strip_;

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
        else if (o_.bytes) unpack_moves(moves_, o_.bytes + element * u64(o_.width), 8 * o_.width, to, n);
        else keystream_words(keys_, o_.offset + element, to, n);
    }
    const u64* change(const u64* from, std::size_t n) {
        const u64 add = o_.add, mask = mask_, flip = o_.flip;
        const int drop = o_.drop, shift = o_.shift;
        u64* to = strip_.data();
        for (std::size_t i = 0; i < n; ++i) to[i] = ((((from[i] + add) & mask) >> drop) ^ flip) << shift;
        return to;
    }
};

template <class Multiply>
void multiply(const u64* a, const u64* b, u64* __restrict out, std::size_t n) {
    std::size_t i = 0;
    for (; i + LANES <= n; i += LANES) store_lane(out + i, Multiply::product(load_lane(a + i), load_lane(b + i)));
    for (; i < n; ++i) out[i] = a[i] * b[i];
}

// The operands of a strip, and products of the leading factors of the last term, so that terms with a common beginning share them.
struct Strip {
    Array<Reader> readers;
    Array<const u64*> operands;  // null where not yet read
    const std::vector<u32>* last = nullptr;
    Array<u64> products;  // [depth][STRIP]; depth 0 holds the product of the first two
    std::size_t at = 0, n = 0;

    Strip(const std::vector<Operand>& from, std::size_t longest, std::size_t elements) : operands(from.size()), products(longest * STRIP) {
        readers.reserve(from.size());
        for (const Operand& operand : from) readers.emplace_back(operand, elements);
    }
    void start(std::size_t first, std::size_t count) {
        at = first;
        n = count;
        last = nullptr;
        for (const u64*& operand : operands) operand = nullptr;
    }
    const u64* operand(u32 k) {
        if (!operands[k]) operands[k] = readers[k].read(at, n);
        return operands[k];
    }
    // of all factors but the last
    template <class Multiply>
    const u64* leading_product(const std::vector<u32>& wanted) {
        std::size_t common = 0;
        while (last && common + 1 < wanted.size() && common + 1 < last->size() && wanted[common] == (*last)[common]) ++common;
        const u64* done = operand(wanted[0]);
        for (std::size_t k = 1; k + 1 < wanted.size(); ++k) {
            u64* to = products.data() + (k - 1) * STRIP;
            if (k >= common) multiply<Multiply>(done, operand(wanted[k]), to, n);
            done = to;
        }
        last = &wanted;
        return done;
    }
};

inline void accumulate(u64 coefficient, const u64* x, u64* sum, std::size_t n) {
    if (coefficient == 1)
        for (std::size_t i = 0; i < n; ++i) sum[i] += x[i];
    else if (coefficient == ~u64(0))
        for (std::size_t i = 0; i < n; ++i) sum[i] -= x[i];
    else
        for (std::size_t i = 0; i < n; ++i) sum[i] += coefficient * x[i];
}

template <class Multiply>
void accumulate_product(u64 coefficient, const u64* a, const u64* b, u64* sum, std::size_t n) {
    if (coefficient != 1) {
        alignas(64) u64 product[STRIP];
        multiply<Multiply>(a, b, product, n);
        return accumulate(coefficient, product, sum, n);
    }
    std::size_t i = 0;
    for (; i + LANES <= n; i += LANES) store_lane(sum + i, Multiply::add_product(load_lane(sum + i), load_lane(a + i), load_lane(b + i)));
    for (; i < n; ++i) sum[i] += a[i] * b[i];
}

template <class Multiply>
void polynomial(const std::vector<Operand>& operands, const std::vector<Term>& terms, u64 mask, u64* out, std::size_t n) {
    std::size_t longest = 1;
    u64 constant = 0;
    for (const Term& term : terms) {
        longest = term.factors.size() > longest ? term.factors.size() : longest;
        if (term.factors.empty()) constant += term.coefficient;
    }
    Strip strip(operands, longest, n);
    alignas(64) u64 sum[STRIP];
    for (std::size_t at = 0; at < n; at += STRIP) {
        const std::size_t count = n - at < STRIP ? n - at : STRIP;
        strip.start(at, count);
        for (std::size_t i = 0; i < count; ++i) sum[i] = constant;
        for (const Term& term : terms) {
            if (term.factors.empty()) continue;
            const u64* last = strip.operand(term.factors.back());
            if (term.factors.size() == 1) accumulate(term.coefficient, last, sum, count);
            else accumulate_product<Multiply>(term.coefficient, strip.leading_product<Multiply>(term.factors), last, sum, count);
        }
        for (std::size_t i = 0; i < count; ++i) out[at + i] = sum[i] & mask;
    }
}

inline void poly(const std::vector<Operand>& operands, const std::vector<Term>& terms, int w, u64* out, std::size_t n) {
    if (w <= 52) polynomial<Fused52>(operands, terms, low_bits(w), out, n);
    else polynomial<Full64>(operands, terms, low_bits(w), out, n);
}

}  // namespace
}  // namespace roundelay
