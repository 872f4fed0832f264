// Evaluation: all questions of a key, W instances at a time. x_hat is public, so indices may depend on it; seeds decide nothing but data.
#pragma once

#include <optional>

#include "plan.hpp"

namespace roundelay {
namespace {

// What is known of one group of instances, step by step.
class Group {
public:
    Group(const EvalJob& job, const Plan& plan)
        : job_(job), plan_(plan), places_(plan.points.size()), nodes_(plan.most_blocks()), blocks_(plan.most_blocks() * G),
          before_(places_.empty() ? 0 : plan.most_blocks() * G) {}

    void begin(const HashPair& keys, std::size_t at, std::size_t count) {
        const Bits bits = plan_.bits;
        const u64* const words = job_.cw.data + 2 * at;
        const u64* const leaf = job_.leaf + 2 * at;
        c_ = {job_.root + 2 * at, {words, job_.cw.stride, bits.levels},
              {bits.halves == 1 ? leaf : words + bits.levels * job_.cw.stride, leaf}, bits.halves, job_.x_hat + at,
              bits.levels < 2 ? 0 : AHEAD};  // a few streams the processor follows by itself
        keys_ = &keys;
        at_ = at;
        count_ = count;
        if (count < W) c_ = padded_.emplace(c_, count).columns;
        trunk_.emplace(keys, c_, job_.party);
    }

    // A walk to the point k of the plan.
    void visit(std::size_t k) {
        alignas(64) u64 index[W], point[W];
        points(plan_.points[k].offset, point);
        blocks_of(point, index);
        if (plan_.points[k].ordered) walk<true>(*keys_, c_, *trunk_, index, places_[k]);
        else walk<false>(*keys_, c_, *trunk_, index, places_[k]);
        c_.ahead = 0;
    }

    // The leaves that hold a window, their blocks, and what lies before those.
    void open(const Window& window) {
        points(window.back, point_);
        blocks_of(point_, start_);
        expand_to(window.blocks(), plan_.summed(window) > 0);
    }
    void open_all() {
        for (u64& q : start_) q = 0;
        expand_to(plan_.whole_blocks(), !places_.empty());
    }
    void fill(u64 blocks) {
        V path[G];
        load_path(start_, path);
        for (int g = 0; g < G; ++g) odd_[g] = Isa::has(path[g], 0);
        if (c_.halves == 2) paired_blocks(blocks);
        else single_blocks(blocks);
    }
    void sum_up(u64 blocks) {
        if (blocks == 0) return;
        for (V& b : first_) b = Isa::both_of(b, Isa::spread_low(CONTROL));
        if (c_.halves == 2) sum_pairs(blocks);
        else sum_singles(blocks);
    }

    // The places of the points in a window, or of all in the whole tree.
    void place(const Window& window) {
        for (std::size_t k = 0; k < places_.size(); ++k) {
            const u64 offset = plan_.points[k].offset;
            if (!window.holds(offset, plan_.modulus)) continue;
            if (offset == window.back) {
                take_first(places_[k]);
                continue;
            }
            alignas(64) u64 at[W];
            lead(point_, (window.back - offset) & plan_.modulus, at);
            find_block(start_, at, places_[k]);
        }
    }
    void place_all() {
        for (std::size_t k = 0; k < places_.size(); ++k) {
            points(plan_.points[k].offset, point_);
            find_block(start_, point_, places_[k]);
        }
        if (job_.m < BLOCK_BITS && !plan_.sums.empty()) repeat(reinterpret_cast<u64*>(blocks_.data()));
    }

    // The bits that a table multiplies: its first point in the window that is open, or in the whole tree.
    void take(const Window& window, const TableSum& sum) {
        alignas(64) u64 at[W];
        lead(point_, (window.back - sum.back) & plan_.modulus, at);
        rows_.take(blocks_.data(), window.blocks(), at, sum.size);
    }
    void take(const TableSum& sum) {
        points(sum.back, point_);
        rows_.take(blocks_.data(), plan_.whole_blocks(), point_, sum.size);
    }
    void emit(const TableSum& sum) const {
        if (count_ == W) return sum(rows_, job_.party, sum.out + at_);
        u64 totals[W];
        sum(rows_, job_.party, totals);
        std::memcpy(sum.out + at_, totals, 8 * count_);
    }
    void answer() const {
        for (std::size_t k = 0; k < plan_.intervals.size(); ++k) answer(plan_.intervals[k], job_.questions.intervals[k].out + at_);
        for (std::size_t k = 0; k < plan_.half_lines.size(); ++k) answer(plan_.half_lines[k], job_.questions.half_lines[k]);
        for (std::size_t k = 0; k < plan_.equals.size(); ++k) answer(plan_.equals[k], job_.questions.equals[k].out + at_);
    }

private:
    const EvalJob& job_;
    const Plan& plan_;
    const HashPair* keys_ = nullptr;
    Columns c_{};
    std::optional<Padded> padded_;
    std::optional<Trunk> trunk_;
    alignas(64) u64 point_[W], start_[W];  // the first point of what is open, and its block
    V odd_[G], first_[G];                  // whether that is a second half; what lies before its leaf
    Array<Place> places_;
    Nodes nodes_;
    Array<V> blocks_;  // [block][group]
    Array<V> before_;  // [block][group], as in a place
    Rows rows_;
    std::size_t at_ = 0, count_ = 0;

    // Points x_hat - offset.
    void points(u64 offset, u64* out) const {
        for (int i = 0; i < W; ++i) out[i] = (c_.x_hat[i] - offset) & plan_.modulus;
    }
    static void blocks_of(const u64* points, u64* out) {
        for (int i = 0; i < W; ++i) out[i] = points[i] >> BLOCK_BITS;
    }
    void expand_to(u64 blocks, bool ordered) {
        if (ordered) expand<true>(*keys_, c_, *trunk_, start_, blocks, nodes_, first_);
        else expand<false>(*keys_, c_, *trunk_, start_, blocks, nodes_, first_);
        c_.ahead = 0;
    }

    // Where in the blocks of a window a point lies that is `ahead` of its first one.
    static void lead(const u64* first, u64 ahead, u64* out) {
        for (int i = 0; i < W; ++i) out[i] = (first[i] & 127) + ahead;
    }

    void take_first(Place& place) const {
        for (std::size_t g = 0; g < std::size_t(G); ++g) {
            place.block[g] = blocks_[g];
            place.before[g] = before_[g];
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

    void single_blocks(u64 blocks) {
        for (u64 q = 0; q < blocks; ++q) step_group(keys_->leaf, nodes_.now.data() + q * G, c_.leaf[0], blocks_.data() + q * G);
    }

    // Two blocks a leaf. Where the first one wanted is a second half (`odd_`), block q is half q + 1 of the leaves.
    void paired_blocks(u64 blocks) {
        const Isa::Keys& keys = keys_->leaf;
        for (int half = 0; half < G; half += C) {
            V even[C];
            for (int g = 0; g < C; ++g) even[g] = Isa::exclusive_or(odd_[half + g], Isa::both(~u64(0)));
            const u64 *const low = c_.leaf[0] + 2 * B * half, *const high = c_.leaf[1] + 2 * B * half;
            const HalfLeaf first(odd_ + half, low, high), second(even, low, high);
            const V* s = nodes_.now.data() + half;
            V* out = blocks_.data() + half;
            for (u64 q = 0; q < blocks; q += 2, s += G, out += 2 * G) {
                leaf_block(keys, s, first, out);
                if (q + 1 == blocks) break;
                V seeds[C];
                for (int g = 0; g < C; ++g) seeds[g] = Isa::choose(odd_[half + g], s[G + g], s[g]);
                leaf_block(keys, seeds, second, out + G);
            }
        }
    }

    // The control bits before a leaf.
    void sum_singles(u64 blocks) {
        V sum[G];
        for (int g = 0; g < G; ++g) sum[g] = first_[g];
        for (u64 q = 0; q < blocks; ++q)
            for (u64 g = 0; g < u64(G); ++g) {
                before_[q * G + g] = sum[g];
                sum[g] = Isa::xor_both(sum[g], nodes_.now[q * G + g], Isa::spread_low(CONTROL));
            }
    }

    // The control bits before a leaf, and for its second half what the first takes in.
    void sum_pairs(u64 blocks) {
        for (u64 g = 0; g < u64(G); ++g) {
            V sum = first_[g];
            for (u64 q = 0; q < blocks; ++q) {
                const V leaf = nodes_.now[q / 2 * G + g], block = blocks_[q * G + g];
                if (q % 2 == 0) before_[q * G + g] = Isa::xor_both(sum, odd_[g], Isa::xor_both(block, leaf, Isa::spread_low(CONTROL)));
                else {
                    sum = Isa::xor_both(sum, leaf, Isa::spread_low(CONTROL));
                    before_[q * G + g] = Isa::choose(odd_[g], sum, Isa::exclusive_or(sum, block));
                }
            }
        }
    }

    // A bit for each instance: the parity of its block, or whether it has a bit in common with another.
    template <class Block>
    static u64 parities(Block block) {
        u64 words = 0;
        for (int g = 0; g < G; ++g) words |= Isa::parities(block(g)) << Isa::answers * B * g;
        return Isa::one_alone(words);
    }
    template <class Block, class Other>
    static u64 meet(Block block, Other other) {
        u64 words = 0;
        for (int g = 0; g < G; ++g) words |= Isa::meet(block(g), other(g)) << Isa::answers * B * g;
        return Isa::either(words);
    }
    void put(u64 bits, u8* out) const {
        if (count_ == W) return Isa::put_bits(bits, out);
        for (std::size_t i = 0; i < count_; ++i) out[i] = u8(bits >> i & 1);
    }
    // The places of points in their blocks, in both words.
    static V place_in_block(const u64* points, int g) { return Isa::both_of(Isa::spread(points + B * g), Isa::both(127)); }

    // The parity of the bits below both points, and of all before their blocks.
    void answer(const Plan::Pair& q, u8* out) const {
        alignas(64) u64 e[W], f[W];
        points(plan_.points[q.e].offset, e);
        points(plan_.points[q.f].offset, f);
        const Place &low = places_[q.e], &high = places_[q.f];
        const u64 shares = parities([&](int g) {
            V v = Isa::exclusive_or(low.before[g], high.before[g]);
            v = Isa::xor_both(v, low.block[g], Isa::below(place_in_block(e, g)));
            return Isa::xor_both(v, high.block[g], Isa::below(place_in_block(f, g)));
        });
        put(shares ^ (job_.party ? 0 : Isa::beyond(f, e)), out);
    }

    // The parity of the bits below one point; where that may have wrapped, the left half's too: the control bit of the root's left child.
    void answer(std::size_t k, const HalfLine& q) const {
        alignas(64) u64 e[W];
        points(plan_.points[k].offset, e);
        const Place& place = places_[k];
        const u64 shares = parities([&](int g) { return Isa::xor_both(place.before[g], place.block[g], Isa::below(place_in_block(e, g))); });
        const u64 left = meet([&](int g) { return trunk_->left[g]; }, [](int) { return Isa::spread_low(CONTROL); });
        const u64 up = ~Isa::beyond(e, q.up), down = Isa::beyond(e, q.down);
        put(shares ^ ((up | down) & left) ^ (job_.party ? 0 : up ^ (u64(0) - u64(q.turned))), q.out + at_);
    }

    void answer(std::size_t place, u8* out) const {
        alignas(64) u64 point[W];
        points(plan_.points[place].offset, point);
        const Place& at = places_[place];
        put(meet([&](int g) { return at.block[g]; }, [&](int g) { return Isa::point(place_in_block(point, g)); }), out);
    }
};

// All answers of some groups, step by step in turn: the end of a step is one long wait, in which the next group's step can begin.
template <class Each>
void evaluate(const Plan& plan, Each each) {
    if (plan.whole) {
        each([&](Group& g) { g.open_all(); });
        each([&](Group& g) { g.fill(plan.whole_blocks()); });
        if (!plan.points.empty()) each([&](Group& g) { g.sum_up(plan.whole_blocks()); });
        each([&](Group& g) { g.place_all(); });
        for (const TableSum& sum : plan.sums) {
            each([&](Group& g) { g.take(sum); });
            each([&](Group& g) { g.emit(sum); });
        }
    } else {
        each([&](Group& g) {
            for (std::size_t k = 0; k < plan.points.size(); ++k)
                if (!plan.holds(plan.points[k].offset)) g.visit(k);
        });
        for (const Window& window : plan.windows) {
            each([&](Group& g) { g.open(window); });
            each([&](Group& g) { g.fill(window.blocks()); });
            each([&](Group& g) { g.sum_up(plan.summed(window)); });
            each([&](Group& g) { g.place(window); });
            const TableSum* taken = nullptr;  // whose bits are there
            for (const TableSum* sum : window.sums) {
                if (!taken || taken->back != sum->back || taken->size < sum->size) {
                    each([&](Group& g) { g.take(window, *sum); });
                    taken = sum;
                }
                each([&](Group& g) { g.emit(*sum); });
            }
        }
    }
    each([&](Group& g) { g.answer(); });
}

inline void dpf_eval(const EvalJob& job) {
    const Plan plan(job);
    Group one(job, plan), other(job, plan);
    for_keys(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t stop) {
        for (; at + W < stop; at += 2 * W) {
            one.begin(keys, at, W);
            other.begin(keys, at + W, stop - at < 2 * W ? stop - at - W : W);
            evaluate(plan, [&](auto step) { step(one), step(other); });
        }
        if (at >= stop) return;
        one.begin(keys, at, stop - at);
        evaluate(plan, [&](auto step) { step(one); });
    });
}

}  // namespace
}  // namespace roundelay
