// Evaluation: all questions of a key, W instances at a time. x_hat is public, so indices may depend on it; seeds decide nothing but data.
#pragma once

#include "plan.hpp"

namespace roundelay {
namespace {

class Evaluator {
public:
    explicit Evaluator(const EvalJob& job)
        : job_(job), plan_(job), places_(plan_.points.size()), nodes_(most_blocks()), blocks_(most_blocks() * G),
          before_(places_.empty() ? 0 : most_blocks() * G) {}

    void group(const HashPair& keys, std::size_t at, std::size_t count) {
        const Bits bits = plan_.bits;
        const u64* const words = job_.cw.data + 2 * at;
        const u64* const leaf = job_.leaf + 2 * at;
        const Columns here{job_.root + 2 * at, {words, job_.cw.stride, bits.levels},
                           {bits.halves == 1 ? leaf : words + bits.levels * job_.cw.stride, leaf}, bits.halves, job_.x_hat + at, AHEAD};
        at_ = at;
        count_ = count;
        if (count == W) return run(keys, here);
        const Padded padded(here, count);
        run(keys, padded.columns);
    }

private:
    const EvalJob& job_;
    const Plan plan_;
    Array<Place> places_;
    Nodes nodes_;
    Array<V> blocks_;  // [block][group]
    Array<V> before_;  // [block][group], as in a place
    Rows rows_;
    std::size_t at_ = 0, count_ = 0;

    u64 most_blocks() const {
        if (plan_.whole) return plan_.whole_blocks();
        u64 most = 1;
        for (const Window& window : plan_.windows) most = window.blocks() > most ? window.blocks() : most;
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
    static void blocks_of(const u64* points, u64* out) {
        for (int i = 0; i < W; ++i) out[i] = points[i] >> BLOCK_BITS;
    }
    void parts(const HashPair& keys, Columns c, const Trunk& trunk) {
        alignas(64) u64 point[W], index[W];
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (plan_.holds(plan_.points[k].offset)) continue;
            points(c.x_hat, plan_.points[k].offset, point);
            blocks_of(point, index);
            if (plan_.points[k].ordered) walk<true>(keys, c, trunk, index, places_[k]);
            else walk<false>(keys, c, trunk, index, places_[k]);
            c.ahead = 0;
        }
        for (const Window& window : plan_.windows) {
            points(c.x_hat, window.back, point);
            blocks_of(point, index);
            fill(keys, c, trunk, index, window.blocks(), plan_.summed(window));
            c.ahead = 0;
            place_points(window, index, point);
            const TableSum* taken = nullptr;  // whose rows are there
            for (const TableSum* sum : window.sums) {
                if (!taken || taken->back != sum->back || taken->size < sum->size) {
                    lead(point, (window.back - sum->back) & plan_.modulus, index);
                    rows_.take(blocks_.data(), window.blocks(), index, sum->size);
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

    // The places of all points in a window that begins at `first`, in the block `start`.
    void place_points(const Window& window, const u64* start, const u64* first) {
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (!window.holds(plan_.points[k].offset, plan_.modulus)) continue;
            if (plan_.points[k].offset == window.back) {
                take_first(places_[k]);
                continue;
            }
            alignas(64) u64 at[W];
            lead(first, (window.back - plan_.points[k].offset) & plan_.modulus, at);
            find_block(start, at, places_[k]);
        }
    }

    void take_first(Place& place) const {
        for (std::size_t g = 0; g < std::size_t(G); ++g) {
            place.block[g] = blocks_[g];
            place.before[g] = before_[g];
        }
    }

    void whole(const HashPair& keys, const Columns& c, const Trunk& trunk) {
        alignas(64) static const u64 zeros[W] = {};
        alignas(64) u64 point[W];
        fill(keys, c, trunk, zeros, plan_.whole_blocks(), places_.empty() ? 0 : plan_.whole_blocks());
        for (std::size_t k = 0; k < places_.size(); ++k) {
            points(c.x_hat, plan_.points[k].offset, point);
            find_block(zeros, point, places_[k]);
        }
        if (job_.m < BLOCK_BITS && !plan_.sums.empty()) repeat(reinterpret_cast<u64*>(blocks_.data()));
        for (const TableSum& sum : plan_.sums) {
            points(c.x_hat, sum.back, point);
            rows_.take(blocks_.data(), plan_.whole_blocks(), point, sum.size);
            emit(sum);
        }
    }

    // The block of the bit `at`, counted from the block `start`. Past the last block of the tree comes its first, before which there is
    // nothing: the parity of all bits is the root's control bit.
    void find_block(const u64* start, const u64* at, Place& place) const {
        alignas(64) u64 bytes[W], around[W];
        for (int i = 0; i < W; ++i) {
            const u64 q = at[i] >> BLOCK_BITS;
            bytes[i] = 16 * (q * W + u64(i));
            around[i] = u64(job_.party) & (start[i] + q) >> plan_.depth();
        }
        for (int g = 0; g < G; ++g) {
            place.block[g] = Isa::gather(blocks_.data(), bytes + B * g);
            const V before = Isa::gather(before_.data(), bytes + B * g);
            place.before[g] = Isa::xor_both(before, Isa::spread(around + B * g), Isa::spread_low(1));
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

    // The blocks start, start + 1, ... of each instance, and what lies before each of the first `summed`.
    void fill(const HashPair& keys, const Columns& c, const Trunk& trunk, const u64* start, u64 blocks, u64 summed) {
        V before[G], path[G], odd[G];
        if (summed) expand<true>(keys, c, trunk, start, blocks, nodes_, before);
        else expand<false>(keys, c, trunk, start, blocks, nodes_, before);
        load_path(start, path);
        for (int g = 0; g < G; ++g) odd[g] = Isa::has(path[g], 0);
        if (c.halves == 2) paired_blocks(keys.leaf, c, odd, blocks);
        else single_blocks(keys.leaf, c, blocks);
        if (summed == 0) return;
        for (V& b : before) b = Isa::both_of(b, Isa::spread_low(CONTROL));
        if (c.halves == 2) sum_pairs(odd, before, summed);
        else sum_singles(before, summed);
    }

    void single_blocks(const Isa::Keys& keys, const Columns& c, u64 blocks) {
        for (u64 q = 0; q < blocks; ++q) step_group(keys, nodes_.now.data() + q * G, c.leaf[0], blocks_.data() + q * G);
    }

    // Two blocks a leaf. Where the first one wanted is a second half (`odd`), block q is half q + 1 of the leaves.
    void paired_blocks(const Isa::Keys& keys, const Columns& c, const V (&odd)[G], u64 blocks) {
        for (int half = 0; half < G; half += C) {
            V even[C];
            for (int g = 0; g < C; ++g) even[g] = Isa::exclusive_or(odd[half + g], Isa::both(~u64(0)));
            const u64 *const low = c.leaf[0] + 2 * B * half, *const high = c.leaf[1] + 2 * B * half;
            const HalfLeaf first(odd + half, low, high), second(even, low, high);
            const V* s = nodes_.now.data() + half;
            V* out = blocks_.data() + half;
            for (u64 q = 0; q < blocks; q += 2, s += G, out += 2 * G) {
                leaf_block(keys, s, first, out);
                if (q + 1 == blocks) break;
                V seeds[C];
                for (int g = 0; g < C; ++g) seeds[g] = Isa::choose(odd[half + g], s[G + g], s[g]);
                leaf_block(keys, seeds, second, out + G);
            }
        }
    }

    // The control bits before a leaf.
    void sum_singles(const V (&before)[G], u64 blocks) {
        V sum[G];
        for (int g = 0; g < G; ++g) sum[g] = before[g];
        for (u64 q = 0; q < blocks; ++q)
            for (u64 g = 0; g < u64(G); ++g) {
                before_[q * G + g] = sum[g];
                sum[g] = Isa::xor_both(sum[g], nodes_.now[q * G + g], Isa::spread_low(CONTROL));
            }
    }

    // The control bits before a leaf, and for its second half what the first takes in.
    void sum_pairs(const V (&odd)[G], const V (&before)[G], u64 blocks) {
        for (u64 g = 0; g < u64(G); ++g) {
            V sum = before[g];
            for (u64 q = 0; q < blocks; ++q) {
                const V leaf = nodes_.now[q / 2 * G + g], block = blocks_[q * G + g];
                if (q % 2 == 0) before_[q * G + g] = Isa::xor_both(sum, odd[g], Isa::xor_both(block, leaf, Isa::spread_low(CONTROL)));
                else {
                    sum = Isa::xor_both(sum, leaf, Isa::spread_low(CONTROL));
                    before_[q * G + g] = Isa::choose(odd[g], sum, Isa::exclusive_or(sum, block));
                }
            }
        }
    }

    void emit(const TableSum& sum) const {
        if (count_ == W) return sum(rows_, job_.party, sum.out + at_);
        u64 totals[W];
        sum(rows_, job_.party, totals);
        std::memcpy(sum.out + at_, totals, 8 * count_);
    }

    // A bit for each instance, of those for each block of a vector.
    template <class Bits>
    static u64 blockwise(Bits bits) {
        u64 all = 0;
        for (int g = 0; g < G; ++g) all |= u64(bits(g)) << B * g;
        return all;
    }
    void put(u64 bits, u8* out) const {
        if (count_ == W) return Isa::put_bits(bits, out);
        for (std::size_t i = 0; i < count_; ++i) out[i] = u8(bits >> i & 1);
    }
    // The places of points in their blocks, in both words.
    static V place_in_block(const u64* points, int g) { return Isa::both_of(Isa::spread(points + B * g), Isa::both(127)); }

    // The parity of the bits below both points, and of all before their blocks.
    void answer(const Plan::Pair& q, const u64* x_hat, u8* out) const {
        alignas(64) u64 e[W], f[W];
        points(x_hat, plan_.points[q.e].offset, e);
        points(x_hat, plan_.points[q.f].offset, f);
        const Place &low = places_[q.e], &high = places_[q.f];
        const u64 parities = blockwise([&](int g) {
            V v = Isa::exclusive_or(low.before[g], high.before[g]);
            v = Isa::xor_both(v, low.block[g], Isa::below(place_in_block(e, g)));
            return Isa::parities(Isa::xor_both(v, high.block[g], Isa::below(place_in_block(f, g))));
        });
        put(parities ^ (job_.party ? 0 : Isa::beyond(f, e)), out);
    }

    // The parity of the bits below one point; where that may have wrapped, the left half's too: the control bit of the root's left child.
    void answer(std::size_t k, const u64* x_hat, const Trunk& trunk, const HalfLine& q) const {
        alignas(64) u64 e[W];
        points(x_hat, plan_.points[k].offset, e);
        const Place& place = places_[k];
        const u64 parities = blockwise([&](int g) {
            return Isa::parities(Isa::xor_both(place.before[g], place.block[g], Isa::below(place_in_block(e, g))));
        });
        const u64 left = blockwise([&](int g) { return Isa::meet(trunk.left[g], Isa::spread_low(CONTROL)); });
        const u64 up = ~Isa::beyond(e, q.up), down = Isa::beyond(e, q.down);
        put(parities ^ ((up | down) & left) ^ (job_.party ? 0 : up ^ (u64(0) - u64(q.turned))), q.out + at_);
    }

    void answer(std::size_t place, const u64* x_hat, u8* out) const {
        alignas(64) u64 point[W];
        points(x_hat, plan_.points[place].offset, point);
        put(blockwise([&](int g) { return Isa::meet(places_[place].block[g], Isa::point(place_in_block(point, g))); }), out);
    }
};

inline void dpf_eval(const EvalJob& job) {
    Evaluator evaluator(job);
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) { evaluator.group(keys, at, count); });
}

}  // namespace
}  // namespace roundelay
