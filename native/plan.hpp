// What a call visits to answer all its questions. Everything here is public.
#pragma once

#include "table_sum.hpp"

namespace roundelay {
namespace {

constexpr int LEAF_BITS = 7;

// Consecutive points x_hat - back, ... of which lookups read parts.
struct Window {
    u64 back, size;
    Array<const TableSum*> sums;
    u64 leaves() const { return (size + 126) / 128 + 1; }
};

inline u64 tree_cost(int levels, u64 leaves) {  // AES calls below the trunk
    u64 cost = leaves;
    for (int depth = 1; depth < levels; ++depth) cost += nodes_at(depth, levels, leaves);
    return cost;
}

// What to visit: chosen once per call, from public sizes.
struct Plan {
    int levels;
    u64 modulus;
    bool whole;               // expand the whole tree once, and answer everything from it
    struct Point {
        u64 offset;    // x_hat - offset is visited
        bool ordered;  // the parity before its leaf is wanted too
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

    explicit Plan(const EvalJob& job) : levels(job.cw.count), modulus(low_bits(job.m)) {
        for (const Interval& q : job.questions.intervals) intervals.push_back({point(q.e, true), point(q.f, true)});
        for (const HalfLine& q : job.questions.half_lines) half_lines.push_back(point(q.e, true));
        for (const Equal& q : job.questions.equals) equals.push_back(point(q.value, false));
        sums.reserve(job.questions.lookups.size());
        for (const Lookup& q : job.questions.lookups) place(sums.emplace_back(q, modulus));
        u64 cost = 0;
        for (const Point& p : points) cost += begins(p.offset) ? 0 : tree_cost(levels, 1);
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
    std::size_t point(u64 offset, bool ordered) {
        for (std::size_t k = 0; k < points.size(); ++k)
            if (points[k].offset == offset) {
                points[k].ordered |= ordered;
                return k;
            }
        points.push_back({offset, ordered});
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

}  // namespace
}  // namespace roundelay
