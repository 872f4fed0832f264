// Evaluation of arithmetic leaves: value[j] + slope[j] d as one sum of coefficients times leaf words.
#pragma once

#include "gen.hpp"

namespace roundelay {
namespace {

// With y the share of (1, r_d) at a point: value y_0 + slope (d_hat y_0 - y_1) = plain . y + d_hat (scaled . y), where
// plain = (value, -slope) and scaled = (slope, 0). Tables lie back to front, as the points do, between zeros.
struct Coefficients {
    u64 pitch, points;  // words a point takes in a leaf's blocks
    Array<u64> plain, scaled, slopes;  // slopes: of points, where a leaf block is one point

    Coefficients(const LeafEvalJob& job, u64 pitch, u64 room)
        : pitch(pitch), points(u64(1) << job.points), plain((points + job.size + room) * pitch), scaled(job.slope ? plain.size() : 0),
          slopes(job.slope ? plain.size() / pitch : 0) {
        for (u64 j = 0; j < job.size; ++j) {
            const u64 at = (points + job.size - 1 - j) * pitch;
            plain[at] = u64(job.value[j]);
            if (!job.slope) continue;
            plain[at + 1] = u64(0) - u64(job.slope[j]);
            scaled[at] = slopes[at / pitch] = u64(job.slope[j]);
        }
    }
    // Where the coefficient of a point lies that is `ahead` points after the first point of the leaf in which the table begins,
    // `lead` points into it.
    u64 at(u64 ahead, u64 lead) const { return (points + ahead - lead) * pitch; }
};

inline u64 dot(const u64* a, const u64* b, u64 n) {
    u64 total = 0;
    for (u64 k = 0; k < n; ++k) total += a[k] * b[k];
    return total;
}

// The words of the leaves, plus CW where t = 1, as [instance][leaf][word].
inline void leaf_words(const Isa::Keys& keys, const Nodes& nodes, u64 leaves, u64 blocks, const V* cw, u64* out) {
    V s[G], tweaked[G], h[G];
    const std::ptrdiff_t stride = std::ptrdiff_t(16 * leaves * blocks);
    for (u64 q = 0; q < leaves; ++q) {
        for (int g = 0; g < G; ++g) s[g] = nodes.now[q * G + g];
        for (u64 block = 0; block < blocks; ++block) {
            for (int g = 0; g < G; ++g) tweaked[g] = Isa::exclusive_or(s[g], Isa::spread_low((block + 1) << 1));
            hash(keys, tweaked, h);
            for (int g = 0; g < G; ++g) {
                u8* to = reinterpret_cast<u8*>(out) + B * g * stride + 16 * (q * blocks + block);
                Isa::scatter(to, stride, Isa::add_if(h[g], Isa::odd(s[g]), cw[block * G + g]));
            }
        }
    }
}

// The same sums for four instances at a time, in registers: N blocks of one seed in flight, then transposed to N blocks of one
// instance. Adds up coefficients times words in plain[i], and slopes times first words of points in scaled[i].
template <class I, bool sloped>
void inner_products(const typename I::Keys& keys, const Nodes& nodes, u64 leaves, u64 blocks, const V* cw, const Coefficients& c,
                    const u64* from, u64* plain, u64* scaled) {
    constexpr int N = sloped ? 2 * B : B;
    for (int g = 0; g < G; ++g) {
        V plain_sum[B], scaled_sum[B];
        for (int i = 0; i < B; ++i) plain_sum[i] = scaled_sum[i] = I::zero();
        for (u64 q = 0; q < leaves; ++q) {
            const V s = nodes.now[q * G + g], sigma = I::sigma(s);
            const Mask odd = I::odd(s);
            for (u64 block = 0; block < blocks; block += N) {
                V y[N], last[N];
#pragma GCC unroll 16
                for (int b = 0; b < N; ++b)
                    y[b] = last[b] = I::exclusive_or(sigma, I::sigma(I::spread_low((block + u64(b) + 1) << 1)));
                I::encrypt(keys, y, last);
#pragma GCC unroll 16
                for (int b = 0; b < N; ++b) y[b] = I::add_if(y[b], odd, cw[(block + u64(b)) * G + g]);
#pragma GCC unroll 16
                for (int b = 0; b < N; b += B) I::transpose(y + b);
                const u64 first = q * blocks + block;
#pragma GCC unroll 16
                for (int i = 0; i < B; ++i) {
                    const u64* at = c.plain.data() + from[B * g + i] + 2 * first;
                    for (int b = 0; b < N; b += B) plain_sum[i] = I::add_product(plain_sum[i], y[b + i], at + 2 * b);
                    if constexpr (sloped)
                        scaled_sum[i] = I::add_product(scaled_sum[i], I::even_words(y[i], y[B + i]),
                                                       c.slopes.data() + from[B * g + i] / 2 + first);
                }
            }
        }
        for (int i = 0; i < B; ++i) {
            plain[B * g + i] = I::word_total(plain_sum[i]);
            scaled[B * g + i] = I::word_total(scaled_sum[i]);
        }
    }
}

class LeafEvaluator {
public:
    explicit LeafEvaluator(const LeafEvalJob& job)
        : job_(job), modulus_(low_bits(job.m)), points_(u64(1) << job.points), words_(points_ * (job.slope ? 2 : 1)),
          blocks_((words_ + 1) / 2), leaves_(count_leaves()),
          coefficients_(job, 2 * blocks_ / points_, (wraps_ ? 2 : 1) * leaves_ * points_), nodes_(leaves_), cw_(blocks_ * G),
          y_(2 * blocks_ * leaves_ * W) {}

    void group(const HashPair& keys, std::size_t at, std::size_t count) {
        const Columns here{job_.root + 2 * at, {job_.cw.data + 2 * at, job_.cw.stride, job_.cw.count}, job_.leaf + words_ * at,
                           job_.x_hat + at, 0};
        at_ = at;
        count_ = count;
        if (count == W) return run(keys, here);
        const Padded padded(here, count, words_);
        run(keys, padded.columns);
    }

private:
    const LeafEvalJob& job_;
    u64 modulus_, points_, words_, blocks_;
    bool wraps_ = false;  // the whole domain is visited, and a table may go around its end
    u64 leaves_;
    Coefficients coefficients_;
    Nodes nodes_;
    Array<V> cw_;   // [block][instance]
    Array<u64> y_;  // [instance][leaf][word]
    std::size_t at_ = 0, count_ = 0;

    u64 count_leaves() {
        const u64 touched = (job_.size + points_ - 2) / points_ + 1;
        wraps_ = job_.cw.count < 60 && touched >= (u64(1) << job_.cw.count);
        return wraps_ ? u64(1) << job_.cw.count : touched;
    }

    void run(const HashPair& keys, const Columns& c) {
        u64 lead[W], start[W];
        for (int i = 0; i < W; ++i) {
            const u64 lowest = (c.x_hat[i] - job_.first - (job_.size - 1)) & modulus_;
            lead[i] = lowest & (points_ - 1);
            start[i] = lowest >> job_.points;
        }
        for (u64 k = 0; k < words_; ++k)
            for (int i = 0; i < W; ++i) set_word(k, i, c.leaf[words_ * u64(i) + k]);
        V before[G];
        expand(keys, c, Trunk(keys, c, job_.party), start, leaves_, nodes_, before);
        if constexpr (Isa::transposes)
            if (!wraps_ && blocks_ % u64(job_.slope ? 2 * B : B) == 0 && (!job_.slope || blocks_ == points_)) return in_registers(keys, lead);
        leaf_words(keys.leaf, nodes_, leaves_, blocks_, cw_.data(), y_.data());
        for (std::size_t i = 0; i < count_; ++i) {
            const u64 total = inner(i, coefficients_.at(0, lead[i])) + (wraps_ ? inner(i, coefficients_.at(modulus_ + 1, lead[i])) : 0);
            job_.out[at_ + i] = job_.party ? u64(0) - total : total;
        }
    }

    template <class Keys = Isa::Keys>
    void in_registers(const HashPair& keys, const u64* lead) {
        u64 from[W], plain[W], scaled[W];
        for (int i = 0; i < W; ++i) from[i] = coefficients_.at(0, lead[i]);
        const auto sum = job_.slope ? inner_products<Isa, true> : inner_products<Isa, false>;
        sum(keys.leaf, nodes_, leaves_, blocks_, cw_.data(), coefficients_, from, plain, scaled);
        for (std::size_t i = 0; i < count_; ++i) {
            const u64 total = job_.slope ? plain[i] + job_.d_hat[at_ + i] * scaled[i] : plain[i];
            job_.out[at_ + i] = job_.party ? u64(0) - total : total;
        }
    }

    void set_word(u64 word, int instance, u64 value) {
        std::memcpy(reinterpret_cast<u8*>(cw_.data()) + (word / 2 * W + u64(instance)) * 16 + word % 2 * 8, &value, 8);
    }

    u64 inner(std::size_t i, u64 from) const {
        const u64 count = 2 * blocks_ * leaves_;
        const u64* y = y_.data() + i * count;
        const u64 plain = dot(coefficients_.plain.data() + from, y, count);
        return job_.slope ? plain + job_.d_hat[at_ + i] * dot(coefficients_.scaled.data() + from, y, count) : plain;
    }
};

inline void leaf_eval(const LeafEvalJob& job) {
    LeafEvaluator evaluator(job);
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) { evaluator.group(keys, at, count); });
}

}  // namespace
}  // namespace roundelay
