// Evaluation of arithmetic leaves: value[j] + slope[j] d as one sum of coefficients times leaf words.
#pragma once

#include "gen.hpp"

namespace roundelay {
namespace {

// With y the share of (1, r_d) at a point: value y_0 + slope (d_hat y_0 - y_1) = plain . y + d_hat (scaled . y), where
// plain = (value, -slope) and scaled = (slope, 0). Tables lie back to front, as the points do, with room for a leaf on both sides.
struct Coefficients {
    u64 width, points, size;
    Array<u64> plain, scaled;

    Coefficients(const LeafEvalJob& job, u64 room)
        : width(job.slope ? 2 : 1), points(u64(1) << job.points), size(job.size), plain((size + room + 2 * points) * width),
          scaled(job.slope ? plain.size() : 0) {
        for (u64 j = 0; j < size; ++j) {
            const u64 at = (points + size - 1 - j) * width;
            plain[at] = u64(job.value[j]);
            if (!job.slope) continue;
            plain[at + 1] = u64(0) - u64(job.slope[j]);
            scaled[at] = u64(job.slope[j]);
        }
    }
    // Where the leaf begins whose first point lies `ahead - lead` entries after the lowest point of the table.
    u64 at(u64 ahead, u64 lead) const { return (points + ahead - lead) * width; }
};

inline u64 dot(const u64* a, const u64* b, u64 n) {
    u64 total = 0;
    for (u64 k = 0; k < n; ++k) total += a[k] * b[k];
    return total;
}

class LeafEvaluator {
public:
    explicit LeafEvaluator(const LeafEvalJob& job)
        : job_(job), modulus_(low_bits(job.m)), points_(u64(1) << job.points), words_(points_ * (job.slope ? 2 : 1)),
          blocks_((words_ + 1) / 2), leaves_(count_leaves()), coefficients_(job, wraps_ ? leaves_ * points_ : points_),
          nodes_(leaves_), stream_(blocks_ * G), words_buffer_(2 * blocks_) {}

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
    Array<V> stream_;
    Array<u64> words_buffer_;
    std::size_t at_ = 0, count_ = 0;

    u64 count_leaves() {
        const u64 touched = (job_.size + points_ - 2) / points_ + 1;
        wraps_ = job_.cw.count < 60 && touched >= (u64(1) << job_.cw.count);
        return wraps_ ? u64(1) << job_.cw.count : touched;
    }

    void run(const HashPair& keys, const Columns& c) {
        u64 lead[W], start[W], total[W] = {};
        for (int i = 0; i < W; ++i) {
            const u64 lowest = (c.x_hat[i] - job_.first - (job_.size - 1)) & modulus_;
            lead[i] = lowest & (points_ - 1);
            start[i] = lowest >> job_.points;
        }
        expand(keys, c, job_.party, start, leaves_, nodes_);
        for (u64 q = 0; q < leaves_; ++q) {
            V s[G];
            u64 low[W];
            for (int g = 0; g < G; ++g) {
                s[g] = nodes_.now[q * G + g];
                Isa::store_low(low + B * g, s[g]);
            }
            convert(keys.leaf, s, blocks_, stream_.data());
            for (std::size_t i = 0; i < count_; ++i) total[i] += leaf_sum(c, i, u64(0) - (low[i] & 1), q * points_, lead[i]);
        }
        for (std::size_t i = 0; i < count_; ++i) job_.out[at_ + i] = job_.party ? u64(0) - total[i] : total[i];
    }

    u64 leaf_sum(const Columns& c, std::size_t i, u64 control, u64 ahead, u64 lead) {
        u64* y = words_buffer_.data();
        const u8* stream = reinterpret_cast<const u8*>(stream_.data()) + 16 * i;
        for (u64 block = 0; block < blocks_; ++block) std::memcpy(y + 2 * block, stream + 16 * W * block, 16);
        for (u64 k = 0; k < words_; ++k) y[k] += control & c.leaf[words_ * i + k];
        u64 sum = inner(i, y, coefficients_.at(ahead, lead));
        if (wraps_ && ahead + (modulus_ + 1) < job_.size + lead) sum += inner(i, y, coefficients_.at(ahead + modulus_ + 1, lead));
        return sum;
    }

    u64 inner(std::size_t i, const u64* y, u64 from) const {
        const u64 plain = dot(coefficients_.plain.data() + from, y, words_);
        return job_.slope ? plain + job_.d_hat[at_ + i] * dot(coefficients_.scaled.data() + from, y, words_) : plain;
    }
};

inline void leaf_eval(const LeafEvalJob& job) {
    LeafEvaluator evaluator(job);
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) { evaluator.group(keys, at, count); });
}

}  // namespace
}  // namespace roundelay
