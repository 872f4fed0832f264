// Polynomials, a strip at a time and in Horner's form: terms are gathered by their leading factors, sums of what follows a factor are
// multiplied by it once, and nothing but the result is written to memory.
#pragma once

#include "reader.hpp"

namespace roundelay {
namespace {

// to = onto + a b, where a null `onto` is zero. `to` may be `onto`.
template <class Multiply>
void add_product(const u64* onto, const u64* a, const u64* b, u64* to, std::size_t n) {
    std::size_t i = 0;
    if (onto)
        for (; i + LANES <= n; i += LANES) store_lane(to + i, Multiply::add_product(load_lane(onto + i), load_lane(a + i), load_lane(b + i)));
    else
        for (; i + LANES <= n; i += LANES) store_lane(to + i, Multiply::product(load_lane(a + i), load_lane(b + i)));
    for (; i < n; ++i) to[i] = (onto ? onto[i] : 0) + a[i] * b[i];
}

// The same for a of zeros and ones.
inline void add_where(const u64* onto, const u64* a, const u64* b, u64* to, std::size_t n) {
    if (onto) {
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) to[i] = onto[i] + (b[i] & (0 - a[i]));
    } else {
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) to[i] = b[i] & (0 - a[i]);
    }
}

inline void add_multiple(const u64* onto, u64 times, const u64* a, u64* to, std::size_t n) {
    if (!onto) {
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) to[i] = times * a[i];
    } else if (times == 1) {
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) to[i] = onto[i] + a[i];
    } else {
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) to[i] = onto[i] + times * a[i];
    }
}

// A factor times (constant + the sum of what follows it). The first one is the sum itself.
struct Factor {
    u32 operand = 0;
    u64 constant = 0;
    Array<u32> followers;
    bool plain() const { return constant == 1 && followers.empty(); }
};

class Horner {
public:
    explicit Horner(const std::vector<Term>& terms) : factors_(1) {
        for (const Term& term : terms) {
            u32 at = 0;
            for (u32 operand : term.factors) at = follower(at, operand);
            factors_[at].constant += term.coefficient;
            depth_ = term.factors.size() > depth_ ? term.factors.size() : depth_;
        }
    }
    const Factor& operator[](u32 k) const { return factors_[k]; }
    std::size_t depth() const { return depth_; }

private:
    Array<Factor> factors_;
    std::size_t depth_ = 0;

    u32 follower(u32 at, u32 operand) {
        for (u32 k : factors_[at].followers)
            if (factors_[k].operand == operand) return k;
        const u32 made = u32(factors_.size());
        factors_.emplace_back();
        factors_[made].operand = operand;
        factors_[at].followers.push_back(made);
        return made;
    }
};

template <class Multiply>
class Polynomial {
public:
    Polynomial(const std::vector<Operand>& operands, const std::vector<Term>& terms, int w, std::size_t n)
        : horner_(terms), mask_(low_bits(w)), values_(operands.size()), sums_(horner_.depth() + 1) {
        readers_.reserve(operands.size());
        for (const Operand& operand : operands) readers_.emplace_back(operand, w, n);
    }

    void evaluate(u64* out, std::size_t n) {
        for (at_ = 0; at_ < n; at_ += STRIP) {
            count_ = n - at_ < STRIP ? n - at_ : STRIP;
            for (const u64*& value : values_) value = nullptr;
            const u64* total = sum(horner_[0], 0);
            for (std::size_t i = 0; i < count_; ++i) out[at_ + i] = total[i] & mask_;
        }
    }

private:
    Horner horner_;
    u64 mask_;
    Array<Reader> readers_;
    Array<const u64*> values_;  // of operands in this strip, null where not yet read
    Array<Strip> sums_;         // by depth
    std::size_t at_ = 0, count_ = 0;

    const u64* operand(u32 k) {
        if (!values_[k]) values_[k] = readers_[k].read(at_, count_);
        return values_[k];
    }
    // The constant and what follows.
    const u64* sum(const Factor& factor, std::size_t depth) {
        u64* to = sums_[depth].data();
        const u64* total = nullptr;
        if (factor.constant || factor.followers.empty()) {
            for (std::size_t i = 0; i < count_; ++i) to[i] = factor.constant;
            total = to;
        }
        for (u32 k : factor.followers) total = add(total, horner_[k], to, depth + 1);
        return total;
    }
    const u64* add(const u64* onto, const Factor& factor, u64* to, std::size_t depth) {
        const u64* a = operand(factor.operand);
        if (factor.plain() && !onto) return a;
        if (factor.followers.empty()) add_multiple(onto, factor.constant, a, to, count_);
        else if (readers_[factor.operand].bit()) add_where(onto, a, sum(factor, depth), to, count_);
        else add_product<Multiply>(onto, a, sum(factor, depth), to, count_);
        return to;
    }
};

inline void poly(const std::vector<Operand>& operands, const std::vector<Term>& terms, int w, u64* out, std::size_t n) {
    if (w <= 52) Polynomial<Fused52>(operands, terms, w, n).evaluate(out, n);
    else Polynomial<Full64>(operands, terms, w, n).evaluate(out, n);
}

}  // namespace
}  // namespace roundelay
