// Evaluation of arithmetic leaves: value[j] + slope[j] d as one sum of coefficients times leaf words.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

// With y the share of (1, r_d) at a point: value y_0 + slope (d_hat y_0 - y_1) = plain . y + d_hat slope y_0, where
// plain = (value, -slope). Tables lie back to front, as the points do, between zeros; where the whole domain is visited, a table that
// goes around its end is there twice.
struct Coefficients {
    u64 pitch, points;  // words a point takes in a leaf's blocks
    Array<u64> plain, slopes;

    Coefficients(const LeafEvalJob& job, u64 pitch, u64 visited, bool wraps)
        : pitch(pitch), points(u64(1) << job.points), plain((points + job.size + visited + 1) * pitch), slopes(job.slope ? plain.size() / pitch : 0) {
        for (u64 j = 0; j < job.size; ++j) {
            const u64 at = points + job.size - 1 - j;
            put(job, j, at);
            if (wraps && at >= visited) put(job, j, at - visited);
        }
    }
    // The point `lead` points before the table's last entry: where the leaf begins that holds this entry's point.
    u64 first(u64 lead) const { return points - lead; }

private:
    void put(const LeafEvalJob& job, u64 j, u64 at) {
        plain[at * pitch] = u64(job.value[j]);
        if (!job.slope) return;
        plain[at * pitch + 1] = u64(0) - u64(job.slope[j]);
        slopes[at] = u64(job.slope[j]);
    }
};

// The instances from `start` to `stop`, ordered by where in its leaf the table begins: the vectors of a group have one such place each,
// and coefficients are the same for all their instances. -1 fills up a vector or a group.
inline Array<std::ptrdiff_t> by_lead(const LeafEvalJob& job, std::size_t start, std::size_t stop) {
    const u64 points = u64(1) << job.points, back = job.first + job.size - 1;
    Array<std::size_t> count(points + 1);
    const auto lead = [&](std::size_t i) { return (job.x_hat[i] - back) & (points - 1); };
    for (std::size_t i = start; i < stop; ++i) ++count[lead(i) + 1];
    for (u64 k = 0; k < points; ++k) count[k + 1] = count[k] + (count[k + 1] + B - 1) / B * B;
    Array<std::ptrdiff_t> order((count[points] + W - 1) / W * W, -1);
    for (std::size_t i = start; i < stop; ++i) order[count[lead(i)]++] = std::ptrdiff_t(i);
    return order;
}

// `brief`: whether sums are wanted modulo 2^52 at most.
template <bool brief>
class LeafEvaluator {
public:
    explicit LeafEvaluator(const LeafEvalJob& job)
        : job_(job), modulus_(low_bits(job.m)), points_(u64(1) << job.points), words_(points_ * (job.slope ? 2 : 1)),
          blocks_((words_ + 1) / 2), leaves_(count_leaves()), coefficients_(job, 2 * blocks_ / points_, leaves_ * points_, wraps_),
          nodes_(leaves_), cw_(blocks_ * G), root_(2 * W), levels_(std::size_t(job.cw.count) * 2 * W) {}

    void evaluate(const HashPair& keys, std::size_t start, std::size_t stop) {
        const Array<std::ptrdiff_t> order = by_lead(job_, start, stop);
        for (std::size_t at = 0; at < order.size(); at += W) group(keys, order.data() + at);
    }

private:
    const LeafEvalJob& job_;
    u64 modulus_, points_, words_, blocks_;
    bool wraps_ = false;  // the whole domain is visited, and a table may go around its end
    u64 leaves_;
    Coefficients coefficients_;
    Nodes nodes_;
    Array<V> cw_;               // [block][instance]
    Array<u64> root_, levels_;  // of a group

    u64 count_leaves() {
        const u64 touched = (job_.size + points_ - 2) / points_ + 1;
        wraps_ = job_.cw.count < 60 && touched >= (u64(1) << job_.cw.count);
        return wraps_ ? u64(1) << job_.cw.count : touched;
    }

    void group(const HashPair& keys, const std::ptrdiff_t* instances) {
        u64 start[W], from[G];
        for (int i = W; i-- > 0;) {  // the first of a vector decides
            const std::size_t instance = instances[i] < 0 ? std::size_t(instances[0]) : std::size_t(instances[i]);
            const u64 lowest = (job_.x_hat[instance] - job_.first - (job_.size - 1)) & modulus_;
            start[i] = lowest >> job_.points;
            from[i / B] = coefficients_.first(lowest & (points_ - 1));
            take(instance, std::size_t(i));
        }
        const Columns c{root_.data(), {levels_.data(), 2 * W, job_.cw.count}, {}, 1, nullptr, 0};
        V before[G], plain[G], sloped[G];
        expand<false>(keys, c, Trunk(keys, c, job_.party), start, leaves_, nodes_, before);
        for (int g = 0; g < G; ++g) plain[g] = sloped[g] = Isa::zero();
        const int used = vectors_used(instances);
        if (job_.slope) add_up<true>(keys.leaf, from, used, plain, sloped);
        else add_up<false>(keys.leaf, from, used, plain, sloped);
        emit(instances, plain, sloped);
    }

    // The last group may fill only its first vectors.
    static int vectors_used(const std::ptrdiff_t* instances) {
        int used = G;
        while (instances[B * (used - 1)] < 0) --used;  // a vector begins with an instance, or has none
        return used;
    }

    // An instance's key into place i of the group.
    void take(std::size_t instance, std::size_t i) {
        std::memcpy(root_.data() + 2 * i, job_.root + 2 * instance, 16);
        for (int level = 0; level < job_.cw.count; ++level)
            std::memcpy(levels_.data() + 2 * (std::size_t(level) * W + i), job_.cw.data + level * job_.cw.stride + 2 * instance, 16);
        u8* to = reinterpret_cast<u8*>(cw_.data()) + 16 * i;
        for (u64 k = 0; k < words_; k += 2) std::memcpy(to + 8 * k * W, job_.leaf + words_ * instance + k, words_ == 1 ? 8 : 16);
    }

    // Coefficients times words, and slopes times first words of points, word by word. Words of a leaf are those of H', plus CW if t = 1.
    template <bool slope>
    void add_up(const Isa::Keys& keys, const u64* from, int used, V (&plain)[G], V (&sloped)[G]) const {
        for (int at = 0; at < used; at += C) {
            V sum[C], slope_sum[C];
            for (int g = 0; g < C; ++g) sum[g] = slope_sum[g] = Isa::zero();
            for (u64 q = 0; q < leaves_; ++q) {
                V seeds[C];
                for (int g = 0; g < C; ++g) seeds[g] = nodes_.now[q * G + std::size_t(at + g)];
                const auto words = [&](u64 block, V (&y)[C]) {
                    const V tweak = Isa::sigma(Isa::spread_low((block + 1) << 1));
                    V sigma[C];
                    for (int g = 0; g < C; ++g) y[g] = sigma[g] = Isa::exclusive_or(Isa::sigma(seeds[g]), tweak);
                    Isa::permute(keys, y, sigma);
                    for (int g = 0; g < C; ++g) {
                        y[g] = Isa::add(y[g], Isa::both_of(Isa::controls(seeds[g]), cw_[block * G + u64(at + g)]));
                        const u64* factors = coefficients_.plain.data() + from[at + g] * coefficients_.pitch + 2 * (q * blocks_ + block);
                        sum[g] = Isa::add_product<brief>(sum[g], y[g], factors);
                    }
                };
                for (u64 block = 0; block < blocks_; block += 2) {
                    V y[C], z[C];
                    words(block, y);
                    if (block + 1 < blocks_) words(block + 1, z);
                    else
                        for (V& v : z) v = Isa::zero();
                    if constexpr (slope)
                        for (int g = 0; g < C; ++g) {
                            const u64* factors = coefficients_.slopes.data() + from[at + g] + q * points_ + block;
                            slope_sum[g] = Isa::add_product<brief>(slope_sum[g], Isa::low_words(y[g], z[g]), factors);
                        }
                }
            }
            for (int g = 0; g < C; ++g) {
                plain[at + g] = sum[g];
                sloped[at + g] = slope_sum[g];
            }
        }
    }

    void emit(const std::ptrdiff_t* instances, const V (&plain)[G], const V (&sloped)[G]) const {
        u64 sum[2 * W], slope_sum[2 * W];
        store_group(sum, plain);
        store_group(slope_sum, sloped);
        for (int i = 0; i < W; ++i) {
            if (instances[i] < 0) continue;
            u64 total = sum[2 * i] + sum[2 * i + 1];
            if (job_.slope) total += job_.d_hat[instances[i]] * (slope_sum[2 * i] + slope_sum[2 * i + 1]);
            job_.out[instances[i]] = (job_.party ? u64(0) - total : total) & low_bits(job_.width);
        }
    }
};

template <bool brief>
void evaluate_leaves(const LeafEvalJob& job) {
    LeafEvaluator<brief> evaluator(job);
    for_keys(job.slice, [&](const HashPair& keys, std::size_t start, std::size_t stop) { evaluator.evaluate(keys, start, stop); });
}

inline void leaf_eval(const LeafEvalJob& job) {
    if (Isa::short_products && job.width <= 52) evaluate_leaves<Isa::short_products>(job);
    else evaluate_leaves<false>(job);
}

}  // namespace
}  // namespace roundelay
