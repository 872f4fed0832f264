// Evaluation: all questions of a key, W instances at a time. x_hat is public, so indices may depend on it; seeds decide nothing but data.
#pragma once

#include <cstdlib>

#include "tree.hpp"

namespace roundelay {
namespace {

constexpr int LEAF_BITS = 7;

// A table as signed bytes: entry = sum of 256^plane byte, modulo 2^64. Back to front, in the order of the points that its entries
// multiply, with zeros on both sides, so that whole chunks of 64 are read; once for each of the eight places that the first point may
// have in a byte of bits, so that every chunk is aligned. Planes whose sum cannot leave 32 bits are added up together.
struct TableSum {
    u64 back, size;  // the lowest point is x_hat - back
    u64* out;

    TableSum(const Lookup& q, u64 modulus)
        : back((q.first + q.size - 1) & modulus), size(q.size), out(q.out), chunks_((size + 7 + 63) / 64) {
        Array<i64> rest(q.table, q.table + q.size);
        for (bool more = true; more && planes_ < 8; ++planes_) more = peel(rest);
        if (fits(q)) together_ = planes_;
        else if (size < 1 << 15) together_ = 2;
        for (int p = 0; p < planes_; p += together_) add_part(p, planes_ - p < together_ ? planes_ - p : together_);
    }
    // out[i] = sum of table[size - 1 - k] over the set bits `from[i] + k` of bits + i stride
    void operator()(const u8* bits, std::size_t stride, const u64* from, std::size_t count, u64* totals) const {
        for (std::size_t i = 0; i < count; ++i) totals[i] = 0;
        for (const Part& part : parts_) {
            const auto run = [&](auto sums) {
                alignas(64) Isa::Lanes lanes[W] = {};
                alignas(64) i32 sum[W];
                for (std::size_t i = 0; i < count; ++i)
                    lanes[i] = sums(bits + i * stride + from[i] / 8, part.copies[from[i] % 8], chunks_);
                Isa::totals(lanes, sum);
                for (std::size_t i = 0; i < count; ++i) totals[i] += u64(i64(sum[i])) << (8 * part.plane);
            };
            if (part.planes == 1) run(Isa::lane_sums<1>);
            else if (part.planes == 2) run(Isa::lane_sums<2>);
            else if (part.planes == 3) run(Isa::lane_sums<3>);
            else run(Isa::lane_sums<4>);
        }
    }

private:
    struct Part {
        int plane, planes;
        Array<i8> bytes;  // [copy][chunk][plane][64]
        const i8* copies[8];
    };
    std::size_t chunks_;
    int planes_ = 0, together_ = 1;
    Array<i8> reversed_;  // [plane][entry]
    Array<Part> parts_;

    static bool fits(const Lookup& q) {  // whether every sum is below 2^31
        u64 total = 0;
        for (u64 j = 0; j < q.size && total >> 31 == 0; ++j) {
            const u64 magnitude = q.table[j] < 0 ? u64(0) - u64(q.table[j]) : u64(q.table[j]);
            total += magnitude >> 31 ? u64(1) << 31 : magnitude;
        }
        return total >> 31 == 0;
    }
    bool peel(Array<i64>& rest) {  // the lowest bytes into a new plane; whether anything is left
        i64 left = 0;
        reversed_.resize(reversed_.size() + size);
        for (u64 j = 0; j < size; ++j) {
            const i8 byte = i8(rest[j]);
            reversed_[reversed_.size() - 1 - j] = byte;
            rest[j] = i64(u64(rest[j]) - u64(i64(byte))) >> 8;
            left |= rest[j];
        }
        return left != 0;
    }
    void add_part(int plane, int planes) {
        const std::size_t width = 64 * std::size_t(planes);
        parts_.push_back({plane, planes, Array<i8>(8 * chunks_ * width + 64), {}});
        Part& part = parts_.back();
        for (std::size_t lead = 0; lead < 8; ++lead) {
            i8* copy = part.bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(part.bytes.data()) % 64) + lead * chunks_ * width;
            part.copies[lead] = copy;
            for (std::size_t p = 0; p < std::size_t(planes); ++p)
                for (std::size_t j = 0; j < size; ++j)
                    copy[(j + lead) / 64 * width + 64 * p + (j + lead) % 64] = reversed_[(std::size_t(plane) + p) * size + j];
        }
    }
};

// Consecutive points x_hat - back, ... of which lookups read parts.
struct Window {
    u64 back, size;
    Array<const TableSum*> sums;
    u64 leaves() const { return (size + 126) / 128 + 1; }
};

inline u64 tree_cost(int levels, u64 leaves) {  // AES calls
    u64 cost = leaves;
    for (int depth = 0; depth < levels; ++depth) cost += nodes_at(depth, levels, leaves);
    return cost;
}

// What to visit: chosen once per call, from public sizes.
struct Plan {
    int levels;
    u64 modulus;
    bool whole;               // expand the whole tree once, and answer everything from it
    Array<u64> points;  // x_hat - points[k] are visited
    Array<TableSum> sums;
    Array<Window> windows;
    struct Pair {
        std::size_t e, f;
    };
    Array<Pair> intervals;
    Array<std::size_t> equals;

    explicit Plan(const EvalJob& job) : levels(job.cw.count), modulus(low_bits(job.m)) {
        for (const Interval& q : job.questions.intervals) intervals.push_back({point(q.e), point(q.f)});
        for (const Equal& q : job.questions.equals) equals.push_back(point(q.value));
        sums.reserve(job.questions.lookups.size());
        for (const Lookup& q : job.questions.lookups) place(sums.emplace_back(q, modulus));
        u64 cost = 0;
        for (const u64 offset : points) cost += begins(offset) ? 0 : u64(levels + 1);
        bool wraps = false;
        for (const Window& window : windows) {
            wraps = wraps || (levels < 60 && window.leaves() >= (u64(1) << levels));
            if (!wraps) cost += tree_cost(levels, window.leaves());
        }
        whole = wraps || (levels <= 12 && cost >= tree_cost(levels, u64(1) << levels));
    }
    u64 whole_leaves() const { return u64(1) << levels; }

    // Whether a window begins at a point, whose leaf is then visited in any case: the usual end of a table.
    bool begins(u64 offset) const {
        for (const Window& window : windows)
            if (window.back == offset) return true;
        return false;
    }

private:
    std::size_t point(u64 offset) {
        for (std::size_t k = 0; k < points.size(); ++k)
            if (points[k] == offset) return k;
        points.push_back(offset);
        return points.size() - 1;
    }

    // Into a window that it overlaps or nearly so, where one expansion costs less than two.
    void place(const TableSum& sum) {
        for (Window& window : windows) {
            const u64 after = (window.back - sum.back) & modulus, ahead = (sum.back - window.back) & modulus;
            Window joined = window;
            if (after <= ahead) joined.size = after + sum.size > window.size ? after + sum.size : window.size;
            else joined = {sum.back, ahead + window.size > sum.size ? ahead + window.size : sum.size, window.sums};
            const Window alone{sum.back, sum.size, {}};
            if (joined.size <= modulus &&
                tree_cost(levels, joined.leaves()) <= tree_cost(levels, window.leaves()) + tree_cost(levels, alone.leaves())) {
                joined.sums.push_back(&sum);
                window = joined;
                return;
            }
        }
        windows.push_back({sum.back, sum.size, {&sum}});
    }
};

inline u64 bit_of(const u8* block, u64 p) { return (block[p / 8] >> (p % 8)) & 1; }

// below[p + 64], below[p]: the bits below p in the two words of a block. A branch on p would often be mispredicted.
struct Below {
    u64 words[192];
    constexpr Below() : words{} {
        for (int i = 0; i < 192; ++i) words[i] = i < 64 ? 0 : i < 128 ? (u64(1) << (i - 64)) - 1 : ~u64(0);
    }
};
constexpr Below below_bits;

inline u64 parity_below(const u8* block, u64 p) {
    u64 word[2];
    std::memcpy(word, block, 16);
    return Isa::parity((word[0] & below_bits.words[p + 64]) ^ (word[1] & below_bits.words[p]));
}

class Evaluator {
public:
    explicit Evaluator(const EvalJob& job)
        : job_(job), plan_(job), places_(plan_.points.size()), bit_stride_(16 * (most_blocks() + 2)), nodes_(most_leaves()),
          bits_(W * bit_stride_), before_(plan_.whole ? plan_.whole_leaves() * W : 0) {
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
    std::size_t at_ = 0, count_ = 0;
    u64 repeated_ = 0;  // bytes at the start of a whole tree that follow it once more, so that no table wraps

    u64 most_leaves() const {
        if (plan_.whole) return plan_.whole_leaves();
        u64 most = 1;
        for (const Window& window : plan_.windows) most = window.leaves() > most ? window.leaves() : most;
        return most;
    }
    u64 most_blocks() const { return plan_.whole ? 2 * plan_.whole_leaves() + 1 : most_leaves(); }

    void run(const HashPair& keys, Columns c) {
        if (plan_.whole) whole(keys, c);
        else parts(keys, c);
        answer_points(c.x_hat);
    }

    void parts(const HashPair& keys, Columns c) {
        u64 index[W];
        for (std::size_t k = 0; k < places_.size(); ++k) {
            if (plan_.begins(plan_.points[k])) continue;
            for (int i = 0; i < W; ++i) index[i] = ((c.x_hat[i] - plan_.points[k]) & plan_.modulus) >> LEAF_BITS;
            walk(keys, c, job_.party, index, places_[k]);
            c.ahead = 0;
        }
        for (const Window& window : plan_.windows) {
            u64 lowest[W];
            for (int i = 0; i < W; ++i) {
                lowest[i] = (c.x_hat[i] - window.back) & plan_.modulus;
                index[i] = lowest[i] >> LEAF_BITS;
            }
            V before[G];
            expand(keys, c, job_.party, index, window.leaves(), nodes_, before);
            c.ahead = 0;
            leaf_blocks(keys, c, window.leaves());
            for (std::size_t k = 0; k < places_.size(); ++k)
                if (plan_.points[k] == window.back) take_first(places_[k], before);
            for (const TableSum* sum : window.sums)
                emit(*sum, [&](std::size_t i) { return (lowest[i] & 127) + ((window.back - sum->back) & plan_.modulus); });
        }
    }

    void take_first(Place& place, const V (&before)[G]) const {
        for (int i = 0; i < W; ++i) std::memcpy(place.block + 16 * i, bits_.data() + i * bit_stride_, 16);
        for (int g = 0; g < G; ++g) Isa::store_low(place.before + B * g, before[g]);
    }

    void whole(const HashPair& keys, const Columns& c) {
        static const u64 zeros[W] = {};
        const u64 leaves = plan_.whole_leaves();
        V before[G];
        expand(keys, c, job_.party, zeros, leaves, nodes_, before);
        if (!places_.empty()) sum_controls(leaves);
        leaf_blocks(keys, c, leaves);
        for (std::size_t k = 0; k < places_.size(); ++k)
            for (int i = 0; i < W; ++i) {
                const u64 q = ((c.x_hat[i] - plan_.points[k]) & plan_.modulus) >> LEAF_BITS;
                std::memcpy(places_[k].block + 16 * i, bits_.data() + i * bit_stride_ + 16 * q, 16);
                places_[k].before[i] = before_[q * W + i];
            }
        if (plan_.sums.empty()) return;
        for (std::size_t i = 0; i < count_; ++i) repeat(bits_.data() + i * bit_stride_);
        for (const TableSum& sum : plan_.sums) emit(sum, [&](std::size_t i) { return (c.x_hat[i] - sum.back) & plan_.modulus; });
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
        V s[G], v[G], cw[G];
        load_group(c.leaf, cw);
        for (u64 q = 0; q < leaves; ++q) {
            for (int g = 0; g < G; ++g) s[g] = nodes_.now[q * G + g];
            stepped(keys.leaf, s, cw, v);
            for (int g = 0; g < G; ++g) Isa::scatter(bits_.data() + B * g * bit_stride_ + 16 * q, std::ptrdiff_t(bit_stride_), v[g]);
        }
    }

    template <class From>
    void emit(const TableSum& sum, From from) const {
        u64 at[W], total[W];
        for (std::size_t i = 0; i < count_; ++i) at[i] = from(i);
        sum(bits_.data(), bit_stride_, at, count_, total);
        for (std::size_t i = 0; i < count_; ++i) sum.out[at_ + i] = job_.party ? u64(0) - total[i] : total[i];
    }

    void answer_points(const u64* x_hat) const {
        const auto at = [&](std::size_t k, std::size_t i) { return (x_hat[i] - plan_.points[k]) & plan_.modulus; };
        const auto below = [&](std::size_t k, std::size_t i) {
            return (places_[k].before[i] & 1) ^ parity_below(places_[k].block + 16 * i, at(k, i) & 127);
        };
        for (std::size_t k = 0; k < plan_.intervals.size(); ++k) {
            const Plan::Pair& q = plan_.intervals[k];
            for (std::size_t i = 0; i < count_; ++i) {
                const u64 wraps = job_.party ? 0 : at(q.f, i) > at(q.e, i);
                job_.questions.intervals[k].out[at_ + i] = u8(below(q.e, i) ^ below(q.f, i) ^ wraps);
            }
        }
        for (std::size_t k = 0; k < plan_.equals.size(); ++k)
            for (std::size_t i = 0; i < count_; ++i)
                job_.questions.equals[k].out[at_ + i] = u8(bit_of(places_[plan_.equals[k]].block + 16 * i, at(plan_.equals[k], i) & 127));
    }
};

inline void dpf_eval(const EvalJob& job) {
    Evaluator evaluator(job);
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) { evaluator.group(keys, at, count); });
}

}  // namespace
}  // namespace roundelay
