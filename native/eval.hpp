// Evaluation: all questions of a key, W instances at a time. x_hat is public, so indices may depend on it; seeds decide nothing but data.
#pragma once

#include "plan.hpp"

namespace roundelay {
namespace {

class Evaluator {
public:
    explicit Evaluator(const EvalJob& job)
        : job_(job), plan_(job), places_(plan_.points.size()), nodes_(most_leaves()), blocks_(most_leaves() * G),
          before_(places_.empty() ? 0 : most_leaves() * W) {}

    void group(const HashPair& keys, std::size_t at, std::size_t count) {
        const Columns here{job_.root + 2 * at, {job_.cw.data + 2 * at, job_.cw.stride, job_.cw.count}, job_.leaf + 2 * at,
                           job_.x_hat + at, AHEAD};
        at_ = at;
        count_ = count;
        if (count == W) return run(keys, here);
        const Padded padded(here, count, 2);
        run(keys, padded.columns);
    }

private:
    const EvalJob& job_;
    const Plan plan_;
    Array<Place> places_;
    Nodes nodes_;
    Array<V> blocks_;    // [leaf][group]
    Array<u64> before_;  // [leaf][instance], as in a place
    Rows rows_;
    std::size_t at_ = 0, count_ = 0;

    u64 most_leaves() const {
        if (plan_.whole) return plan_.whole_leaves();
        u64 most = 1;
        for (const Window& window : plan_.windows) most = window.leaves() > most ? window.leaves() : most;
        return most;
    }
    void run(const HashPair& keys, Columns c) {
        const Trunk trunk(keys, c, job_.party);
        if (plan_.whole) whole(keys, c, trunk);
        else parts(keys, c, trunk);
        for (std::size_t k = 0; k < plan_.intervals.size(); ++k) answer(plan_.intervals[k], c.x_hat, job_.questions.intervals[k].out + at_);
        for (std::size_t k = 0; k < plan_.half_lines.size(); ++k) answer(plan_.half_lines[k], c.x_hat, trunk, job_.questions.half_lines[k]);
        for (std::size_t k = 0; k < plan_.equals.size(); ++k) answer(plan_.equals[k], c.x_hat, job_.questions.equals[k].out + at_);
    }

    // Points x_hat - offset.
    void points(const u64* x_hat, u64 offset, u64* out) const {
        for (int i = 0; i < W; ++i) out[i] = (x_hat[i] - offset) & plan_.modulus;
    }
    static void leaves_of(const u64* points, u64* out) {
        for (int i = 0; i < W; ++i) out[i] = points[i] >> LEAF_BITS;
    }
    static void load_places(const u64* points, V (&p)[G]) {  // in the leaf, in both words of a block
        for (int g = 0; g < G; ++g) p[g] = Isa::both_of(Isa::spread(points + B * g), Isa::both(127));
    }

    void parts(const HashPair& keys, Columns c, const Trunk& trunk) {
        u64 point[W], index[W];
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (plan_.holds(plan_.points[k].offset)) continue;
            points(c.x_hat, plan_.points[k].offset, point);
            leaves_of(point, index);
            if (plan_.points[k].ordered) walk<true>(keys, c, trunk, index, places_[k]);
            else walk<false>(keys, c, trunk, index, places_[k]);
            c.ahead = 0;
        }
        for (const Window& window : plan_.windows) {
            points(c.x_hat, window.back, point);
            leaves_of(point, index);
            V before[G];
            expand(keys, c, trunk, index, window.leaves(), nodes_, before);
            c.ahead = 0;
            leaf_blocks(keys, c, window.leaves());
            place_points(window, index, point, before);
            const TableSum* taken = nullptr;  // whose rows are there
            for (const TableSum* sum : window.sums) {
                if (!taken || taken->back != sum->back || taken->size < sum->size) {
                    lead(point, (window.back - sum->back) & plan_.modulus, index);
                    rows_.take(blocks_.data(), window.leaves(), index, sum->size);
                    taken = sum;
                }
                emit(*sum);
            }
        }
    }

    // Where in the blocks of a window a point lies that is `ahead` of its first one.
    static void lead(const u64* first, u64 ahead, u64* out) {
        for (int i = 0; i < W; ++i) out[i] = (first[i] & 127) + ahead;
    }

    // The places of all points in a window that begins at `first`, in the leaf `start`.
    void place_points(const Window& window, const u64* start, const u64* first, const V (&before)[G]) {
        bool summed = false;
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (!window.holds(plan_.points[k].offset, plan_.modulus)) continue;
            if (plan_.points[k].offset == window.back) {
                take_first(places_[k], before);
                continue;
            }
            if (!summed) sum_controls(window.leaves(), before);
            summed = true;
            u64 at[W];
            lead(first, (window.back - plan_.points[k].offset) & plan_.modulus, at);
            find_leaf(start, at, places_[k]);
        }
    }

    void take_first(Place& place, const V (&before)[G]) const {
        for (int g = 0; g < G; ++g) {
            place.block[g] = blocks_[std::size_t(g)];
            place.before[g] = before[g];
        }
    }

    void whole(const HashPair& keys, const Columns& c, const Trunk& trunk) {
        static const u64 zeros[W] = {};
        const u64 leaves = plan_.whole_leaves();
        V before[G];
        u64 point[W];
        expand(keys, c, trunk, zeros, leaves, nodes_, before);
        if (!places_.empty()) sum_controls(leaves, before);
        leaf_blocks(keys, c, leaves);
        for (std::size_t k = 0; k < places_.size(); ++k) {
            points(c.x_hat, plan_.points[k].offset, point);
            find_leaf(zeros, point, places_[k]);
        }
        if (job_.m < LEAF_BITS && !plan_.sums.empty()) repeat(reinterpret_cast<u64*>(blocks_.data()));
        for (const TableSum& sum : plan_.sums) {
            points(c.x_hat, sum.back, point);
            rows_.take(blocks_.data(), leaves, point, sum.size);
            emit(sum);
        }
    }

    // The leaf of the bit `at` of the blocks, the first of which is that of the leaf `start`. Past the last leaf of the tree comes its
    // first, before which there is nothing: the parity of all control bits is the root's.
    void find_leaf(const u64* start, const u64* at, Place& place) const {
        u64 *block = reinterpret_cast<u64*>(place.block), *before = reinterpret_cast<u64*>(place.before);
        for (std::size_t i = 0; i < std::size_t(W); ++i) {
            const u64 q = at[i] >> LEAF_BITS;
            std::memcpy(block + 2 * i, reinterpret_cast<const u64*>(blocks_.data()) + 2 * (q * W + i), 16);
            before[2 * i] = before_[q * W + i] ^ (u64(job_.party) & (start[i] + q) >> plan_.levels);
        }
    }

    // A domain of less than a block, again and again until the block is full.
    void repeat(u64* words) const {
        for (int i = 0; i < W; ++i) {
            u64 word = words[2 * i] & low_bits(1 << job_.m);
            for (int have = 1 << job_.m; have < 64; have *= 2) word |= word << have;
            words[2 * i] = words[2 * i + 1] = word;
        }
    }

    void sum_controls(u64 leaves, const V (&before)[G]) {
        V sum[G];
        for (int g = 0; g < G; ++g) sum[g] = before[g];
        for (u64 q = 0; q < leaves; ++q)
            for (int g = 0; g < G; ++g) {
                Isa::store_low(before_.data() + q * W + B * g, sum[g]);
                sum[g] = Isa::exclusive_or(sum[g], nodes_.now[q * G + g]);
            }
    }

    void leaf_blocks(const HashPair& keys, const Columns& c, u64 leaves) {
        V cw[G];
        load_group(c.leaf, cw);
        for (u64 q = 0; q < leaves; ++q) stepped(keys.leaf, nodes_.now.data() + q * G, cw, blocks_.data() + q * G);
    }

    void emit(const TableSum& sum) const {
        u64 total[W];
        sum(rows_, total);
        if (job_.party)
            for (u64& t : total) t = u64(0) - t;
        std::memcpy(sum.out + at_, total, 8 * count_);
    }

    // The parity of the bits below both points, and of the control bits before their leaves.
    void answer(const Plan::Pair& q, const u64* x_hat, u8* out) const {
        u64 e[W], f[W], bits[2 * W];
        points(x_hat, plan_.points[q.e].offset, e);
        points(x_hat, plan_.points[q.f].offset, f);
        V at_e[G], at_f[G];
        load_places(e, at_e);
        load_places(f, at_f);
        const Place &low = places_[q.e], &high = places_[q.f];
        const V one = Isa::spread_low(1);
        for (int g = 0; g < G; ++g) {
            V v = Isa::both_of(Isa::exclusive_or(low.before[g], high.before[g]), one);
            v = Isa::xor_both(v, low.block[g], Isa::below(at_e[g]));
            Isa::store(bits + 2 * B * g, Isa::xor_both(v, high.block[g], Isa::below(at_f[g])));
        }
        const u64 wraps = job_.party ? 0 : 1;
        for (std::size_t i = 0; i < count_; ++i) out[i] = u8(Isa::parity(bits[2 * i] ^ bits[2 * i + 1]) ^ (wraps & (f[i] > e[i])));
    }

    // The parity of the bits below one point; where that may have wrapped, the left half's too: the control bit of the root's left child.
    void answer(std::size_t k, const u64* x_hat, const Trunk& trunk, const HalfLine& q) const {
        u64 e[W], bits[2 * W], left[2 * W];
        points(x_hat, plan_.points[k].offset, e);
        V at_e[G];
        load_places(e, at_e);
        const Place& place = places_[k];
        const V one = Isa::spread_low(1);
        for (int g = 0; g < G; ++g) {
            Isa::store(bits + 2 * B * g, Isa::xor_both(Isa::both_of(place.before[g], one), place.block[g], Isa::below(at_e[g])));
            Isa::store(left + 2 * B * g, trunk.left[g]);
        }
        const u64 first = job_.party ? 0 : 1;
        for (std::size_t i = 0; i < count_; ++i) {
            const u64 up = e[i] <= q.up, down = e[i] > q.down;
            q.out[at_ + i] = u8((Isa::parity(bits[2 * i] ^ bits[2 * i + 1]) ^ ((up | down) & left[2 * i]) ^ (first & (up ^ q.turned))) & 1);
        }
    }

    void answer(std::size_t place, const u64* x_hat, u8* out) const {
        u64 point[W], bits[2 * W];
        points(x_hat, plan_.points[place].offset, point);
        V at[G];
        load_places(point, at);
        for (int g = 0; g < G; ++g) Isa::store(bits + 2 * B * g, Isa::both_of(places_[place].block[g], Isa::point(at[g])));
        for (std::size_t i = 0; i < count_; ++i) out[i] = (bits[2 * i] | bits[2 * i + 1]) != 0;
    }
};

inline void dpf_eval(const EvalJob& job) {
    Evaluator evaluator(job);
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) { evaluator.group(keys, at, count); });
}

}  // namespace
}  // namespace roundelay
