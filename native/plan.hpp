// What a call visits to answer all its questions. Everything here is public.
#pragma once

#include "table_sum.hpp"

namespace roundelay {
namespace {

// Consecutive points x_hat - back, ... of which lookups read parts, and in whose blocks thresholds may lie.
struct Window {
    u64 back, size;
    Array<const TableSum*> sums;
    u64 blocks() const { return (size + 126) / 128 + 1; }
    bool holds(u64 offset, u64 modulus) const { return ((back - offset) & modulus) < size; }
};

inline u64 tree_cost(Bits bits, u64 blocks) {  // AES calls below the trunk
    u64 cost = blocks;
    for (int at = 1; at < bits.levels; ++at) cost += nodes_at(at, bits.levels + bits.halves - 1, blocks);
    return cost;
}

// What to visit: chosen once per call, from public sizes.
struct Plan {
    Bits bits;
    u64 modulus;
    bool whole;               // expand the whole tree once, and answer everything from it
    struct Point {
        u64 offset;    // x_hat - offset is visited
        bool ordered;  // the parity before its block is wanted too
    };
    Array<Point> points;
    Array<TableSum> sums;
    Array<Window> windows;
    struct Pair {
        std::size_t e, f;
    };
    Array<Pair> intervals;
    Array<std::size_t> half_lines;
    Array<std::size_t> equals;

    explicit Plan(const EvalJob& job) : bits(job.cw.count), modulus(low_bits(job.m)) {
        for (const Interval& q : job.questions.intervals) intervals.push_back({point(q.e, true), point(q.f, true)});
        for (const HalfLine& q : job.questions.half_lines) half_lines.push_back(point(q.e, true));
        for (const Equal& q : job.questions.equals) equals.push_back(point(q.value, false));
        sums.reserve(job.questions.lookups.size());
        for (const Lookup& q : job.questions.lookups) {
            const TableSum& sum = sums.emplace_back(q, modulus);
            if (Window* window = joined({sum.back, sum.size, {}})) window->sums.push_back(&sum);
            else windows.push_back({sum.back, sum.size, {&sum}});
        }
        u64 cost = 0;
        for (const Point& p : points) cost += joined({p.offset, 1, {}}) ? 0 : tree_cost(bits, 1);
        bool wraps = false;
        for (const Window& window : windows) {
            wraps = wraps || (depth() < 60 && window.blocks() >= whole_blocks());
            if (!wraps) cost += tree_cost(bits, window.blocks());
        }
        whole = wraps || (depth() <= 12 && cost >= tree_cost(bits, whole_blocks()));
    }
    int depth() const { return bits.levels + bits.halves - 1; }  // bits of a block's index
    u64 whole_blocks() const { return u64(1) << depth(); }

    u64 most_blocks() const {  // that are open at once
        if (whole) return whole_blocks();
        u64 most = 1;
        for (const Window& window : windows) most = window.blocks() > most ? window.blocks() : most;
        return most;
    }

    // Whether a point lies in a window, so that its block is visited in any case: at the end of a table, or in it.
    bool holds(u64 offset) const {
        for (const Window& window : windows)
            if (window.holds(offset, modulus)) return true;
        return false;
    }

    // Of how many blocks of a window somebody wants to know what lies before: none, the first or all.
    u64 summed(const Window& window) const {
        u64 blocks = 0;
        for (const Point& p : points)
            if (window.holds(p.offset, modulus)) blocks = p.offset == window.back && blocks < 2 ? 1 : window.blocks();
        return blocks;
    }

private:
    std::size_t point(u64 offset, bool ordered) {
        for (std::size_t k = 0; k < points.size(); ++k)
            if (points[k].offset == offset) {
                points[k].ordered |= ordered;
                return k;
            }
        points.push_back({offset, ordered});
        return points.size() - 1;
    }

    // The window that takes in another which it overlaps or nearly so, where one expansion costs less than two.
    Window* joined(const Window& other) {
        for (Window& window : windows) {
            const u64 after = (window.back - other.back) & modulus, ahead = (other.back - window.back) & modulus;
            const u64 back = after <= ahead ? window.back : other.back;
            const u64 size = after <= ahead ? (after + other.size > window.size ? after + other.size : window.size)
                                            : (ahead + window.size > other.size ? ahead + window.size : other.size);
            const Window both{back, size, {}};
            if (size > modulus || tree_cost(bits, both.blocks()) > tree_cost(bits, window.blocks()) + tree_cost(bits, other.blocks()))
                continue;
            window.back = back;
            window.size = size;
            return &window;
        }
        return nullptr;
    }
};

}  // namespace
}  // namespace roundelay
