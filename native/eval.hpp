// Evaluation: all questions of a key, W instances at a time. x_hat is public, so indices may depend on it; seeds decide nothing but data.
#pragma once

#include "plan.hpp"

namespace roundelay {
namespace {

class Evaluator {
public:
    explicit Evaluator(const EvalJob& job)
        : job_(job), plan_(job), places_(plan_.points.size()), bit_stride_(16 * (most_blocks() + 2)), nodes_(most_leaves()),
          bits_(W * bit_stride_ + spare()), before_(plan_.whole ? plan_.whole_leaves() * W : 0) {
        for (const TableSum& sum : plan_.sums) repeated_ = sum.size / 8 + 1 > repeated_ ? sum.size / 8 + 1 : repeated_;
    }

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
    std::size_t bit_stride_;
    Nodes nodes_;
    Array<u8> bits_;      // [instance][leaf block]
    Array<u64> before_;   // [leaf][instance], for a whole tree
    V first_[G];          // the first leaf's blocks
    Rows rows_;
    std::size_t at_ = 0, count_ = 0;
    u64 repeated_ = 0;  // bytes at the start of a whole tree that follow it once more, so that no table wraps

    u64 most_leaves() const {
        if (plan_.whole) return plan_.whole_leaves();
        u64 most = 1;
        for (const Window& window : plan_.windows) most = window.leaves() > most ? window.leaves() : most;
        return most;
    }
    std::size_t spare() const {  // bytes that sums may read past the last row
        u64 most = 0;
        for (const TableSum& sum : plan_.sums) most = Rows::bytes_read(sum.size) > most ? Rows::bytes_read(sum.size) : most;
        return most;
    }
    u64 most_blocks() const { return plan_.whole ? 2 * plan_.whole_leaves() + 1 : most_leaves(); }

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
            if (plan_.begins(plan_.points[k].offset)) continue;
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
            for (std::size_t k = 0; k < places_.size(); ++k)
                if (plan_.points[k].offset == window.back) take_first(places_[k], before);
            const TableSum* taken = nullptr;  // whose rows are there
            for (const TableSum* sum : window.sums) {
                const u64 ahead = (window.back - sum->back) & plan_.modulus;
                if (!taken || taken->back != sum->back || taken->size < sum->size) {
                    for (int i = 0; i < W; ++i) index[i] = (point[i] & 127) + ahead;
                    rows_.take(bits_.data(), bit_stride_, index, sum->size);
                    taken = sum;
                }
                emit(*sum);
            }
        }
    }

    void take_first(Place& place, const V (&before)[G]) const {
        for (int g = 0; g < G; ++g) {
            place.block[g] = first_[g];
            place.before[g] = before[g];
        }
    }

    void whole(const HashPair& keys, const Columns& c, const Trunk& trunk) {
        static const u64 zeros[W] = {};
        const u64 leaves = plan_.whole_leaves();
        V before[G];
        u64 point[W];
        expand(keys, c, trunk, zeros, leaves, nodes_, before);
        if (!places_.empty()) sum_controls(leaves);
        leaf_blocks(keys, c, leaves);
        for (std::size_t k = 0; k < places_.size(); ++k) {
            points(c.x_hat, plan_.points[k].offset, point);
            find_leaf(point, places_[k]);
        }
        if (plan_.sums.empty()) return;
        for (int i = 0; i < W; ++i) repeat(bits_.data() + std::size_t(i) * bit_stride_);
        for (const TableSum& sum : plan_.sums) {
            points(c.x_hat, sum.back, point);
            rows_.take(bits_.data(), bit_stride_, point, sum.size);
            emit(sum);
        }
    }

    void find_leaf(const u64* point, Place& place) const {
        u8 *block = reinterpret_cast<u8*>(place.block), *before = reinterpret_cast<u8*>(place.before);
        for (int i = 0; i < W; ++i) {
            const u64 q = point[i] >> LEAF_BITS;
            std::memcpy(block + 16 * i, bits_.data() + std::size_t(i) * bit_stride_ + 16 * q, 16);
            std::memcpy(before + 16 * i, before_.data() + q * W + u64(i), 8);
        }
    }

    void repeat(u8* bits) const {
        const u64 bytes = 16 * plan_.whole_leaves();
        if (job_.m >= LEAF_BITS) {
            std::memcpy(bits + bytes, bits, repeated_ < bytes ? repeated_ : bytes);
            return;
        }
        u64 word;
        std::memcpy(&word, bits, 8);
        word &= low_bits(1 << job_.m);
        for (int have = 1 << job_.m; have < 64; have *= 2) word |= word << have;
        std::memcpy(bits, &word, 8);
        std::memcpy(bits + 8, &word, 8);
    }

    void sum_controls(u64 leaves) {
        V sum[G];
        for (int g = 0; g < G; ++g) sum[g] = Isa::zero();
        for (u64 q = 0; q < leaves; ++q)
            for (int g = 0; g < G; ++g) {
                Isa::store_low(before_.data() + q * W + B * g, sum[g]);
                sum[g] = Isa::exclusive_or(sum[g], nodes_.now[q * G + g]);
            }
    }

    void leaf_blocks(const HashPair& keys, const Columns& c, u64 leaves) {
        V v[G], cw[G];
        load_group(c.leaf, cw);
        for (u64 q = leaves; q-- > 0;) {
            V s[G];
            for (int g = 0; g < G; ++g) s[g] = nodes_.now[q * G + g];
            stepped(keys.leaf, s, cw, v);
            for (int g = 0; g < G; ++g) Isa::scatter(bits_.data() + B * g * bit_stride_ + 16 * q, std::ptrdiff_t(bit_stride_), v[g]);
        }
        for (int g = 0; g < G; ++g) first_[g] = v[g];
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
