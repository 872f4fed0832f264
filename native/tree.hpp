// Walks through half-trees (Guo et al., EUROCRYPT 2023, eprint 2022/1431), `Isa::group` vectors of instances in flight.
// Include after an `isa_*.hpp`.
#pragma once

#include <cstring>

#include "memory.hpp"

namespace roundelay {
namespace {

using V = Isa::V;
using Mask = Isa::Mask;
constexpr int G = Isa::group, B = Isa::blocks, C = Isa::chains;
constexpr int W = G * B;  // instances in flight
constexpr int MAX_LEVELS = 64;
constexpr std::ptrdiff_t AHEAD = 2 * 3 * W;  // words from a group's key to the one to prefetch: a few groups on

struct HashPair {
    Isa::Keys node, leaf;
    explicit HashPair(const HashKeys& keys) : node(keys.node), leaf(keys.leaf) {}
};

// h = H(s) xor t(s) CW xor also(g, s[g]), for all vectors of a group, `Isa::chains` at once: while one half is in its rounds, what
// comes after and before the rounds of the other is done.
template <class Also>
void stepped(const Isa::Keys& keys, const V* s, const V* cw, V* h, Also also) {
    for (int at = 0; at < G; at += C) {
        V x[C], last[C];
        for (int g = 0; g < C; ++g) {
            const V seed = s[at + g];
            x[g] = Isa::sigma(seed);
            last[g] = also(at + g, seed, Isa::xor_if(x[g], Isa::odd(seed), cw[at + g]));
        }
        Isa::encrypt(keys, x, last);
        for (int g = 0; g < C; ++g) h[at + g] = x[g];
    }
}

inline void stepped(const Isa::Keys& keys, const V* s, const V* cw, V* h) {
    stepped(keys, s, cw, h, [](int, V, V last) { return last; });
}

// h = H(s)
inline void hash(const Isa::Keys& keys, const V* s, V* h) {
    for (int at = 0; at < G; at += C) {
        V x[C], sigma[C];
        for (int g = 0; g < C; ++g) x[g] = sigma[g] = Isa::sigma(s[at + g]);
        Isa::encrypt(keys, x, sigma);
        for (int g = 0; g < C; ++g) h[at + g] = x[g];
    }
}

inline void load_group(const void* from, V (&v)[G]) {
    for (int g = 0; g < G; ++g) v[g] = Isa::load(static_cast<const u8*>(from) + 16 * B * g);
}

inline void store_group(void* to, const V (&v)[G]) {
    for (int g = 0; g < G; ++g) Isa::store(static_cast<u8*>(to) + 16 * B * g, v[g]);
}

// Roots with t = party.
inline V load_root(const void* from, int party) {
    const V seed = Isa::load(from), one = Isa::spread_low(1), zero_bit = Isa::xor_if(seed, Isa::odd(seed), one);
    return party ? Isa::exclusive_or(zero_bit, one) : zero_bit;
}

inline void load_roots(const u64* from, int party, V (&s)[G]) {
    for (int g = 0; g < G; ++g) s[g] = load_root(from + 2 * B * g, party);
}

// Leaf indices, in both words of a block.
inline void load_path(const u64* index, V (&path)[G]) {
    for (int g = 0; g < G; ++g) path[g] = Isa::spread(index + B * g);
}

// The bit of a leaf index that says where step `level` goes.
inline V path_bit(int level, int levels) { return Isa::both(u64(1) << (levels - 1 - level)); }

// W consecutive instances of one party. A tail that is shorter is copied out first (see `Padded`).
struct Columns {
    const u64* root;
    Levels<const u64> cw;
    const u64 *leaf, *x_hat;
    std::ptrdiff_t ahead;  // words from here to the key to prefetch, 0 for none

    const u64* level(int i) const { return cw.data + i * cw.stride; }
    // To the second-level cache: a few groups of many levels do not fit the first.
    void prefetch(const u64* words) const {
        if (!ahead) return;
        for (int line = 0; line < 2 * W; line += 8) __builtin_prefetch(words + ahead + line, 0, 2);
    }
};

// Root seeds and their left children: what all walks and expansions of a group begin with. Without levels there are no children.
struct Trunk {
    V root[G], left[G];

    Trunk(const HashPair& keys, const Columns& c, int party) {
        c.prefetch(c.root);
        c.prefetch(c.leaf);
        load_roots(c.root, party, root);
        if (c.cw.count == 0) return;
        V cw[G];
        c.prefetch(c.level(0));
        load_group(c.level(0), cw);
        stepped(keys.node, root, cw, left);
    }
};

struct Place {
    V block[G];   // the leaf block of each instance
    V before[G];  // bit 0: parity of the control bits of all leaves before it
};

// One walk per instance, to leaf `index`: one AES a level, no memory but the correction words. `ordered`: whether `before` is wanted.
template <bool ordered>
void walk(const HashPair& keys, const Columns& c, const Trunk& trunk, const u64* index, Place& place) {
    V s[G], h[G], cw[G], path[G], before[G];
    const int levels = c.cw.count;
    load_path(index, path);
    for (int g = 0; g < G; ++g) {
        before[g] = Isa::zero();
        s[g] = trunk.root[g];
    }
    for (int i = 0; i < levels; ++i) {
        const V bit = path_bit(i, levels);
        const auto turn = [&](int g, V seed, V left) { return Isa::xor_if(left, Isa::has(path[g], bit), seed); };
        if (i == 0)
            for (int g = 0; g < G; ++g) h[g] = turn(g, s[g], trunk.left[g]);
        else {
            c.prefetch(c.level(i));
            load_group(c.level(i), cw);
            stepped(keys.node, s, cw, h, turn);
        }
        for (int g = 0; g < G; ++g) {
            if constexpr (ordered) before[g] = Isa::xor_if(before[g], Isa::has(path[g], bit), Isa::exclusive_or(s[g], h[g]));
            s[g] = h[g];
        }
    }
    load_group(c.leaf, cw);
    stepped(keys.leaf, s, cw, place.block);
    for (int g = 0; g < G; ++g) place.before[g] = before[g];
}

// Nodes at `depth` that can lie above `leaves` consecutive leaves, wherever those begin.
inline u64 nodes_at(int depth, int levels, u64 leaves) {
    if (leaves == 1 || depth == 0) return 1;
    const u64 spread = ((leaves - 2) >> (levels - depth)) + 2;
    return depth < 63 && spread > (u64(1) << depth) ? u64(1) << depth : spread;
}

struct Nodes {
    Array<V> now, next;  // [node][group]; a level's last parent may have two children that nobody wants
    explicit Nodes(u64 leaves) : now((leaves + 3) * G), next((leaves + 3) * G) {}
};

// The children of a node s: the one on the path's side (`right`: all ones where that is the right one) in at[0], the other in at[1].
// That side of the parent before it ends where this one begins: its other child is wanted on the left of ours, or ours is.
template <bool first>
void expand_node(const Isa::Keys& keys, const V (&cw)[G], const V (&right)[G], const V* __restrict s, V* __restrict at) {
    for (int half = 0; half < G; half += C) {
        V x[C], last[C];
        for (int g = 0; g < C; ++g) {
            const V seed = s[half + g];
            x[g] = Isa::sigma(seed);
            last[g] = Isa::xor_both(Isa::xor_if(x[g], Isa::odd(seed), cw[half + g]), right[half + g], seed);
        }
        Isa::encrypt(keys, x, last);
        V* to = at + half;
        for (int g = 0; g < C; ++g) {
            const V other = Isa::exclusive_or(x[g], s[half + g]);
            to[g] = x[g];
            to[G + g] = other;
            if constexpr (!first) to[g - G] = Isa::choose(right[half + g], other, to[g - G]);
        }
    }
}

// One level down: the wanted nodes are consecutive, and begin with the child of the first parent that lies on the path.
inline void expand_level(const Isa::Keys& keys, const u64* cw_words, const V (&right)[G], Nodes& nodes, u64 parents, u64 children) {
    V cw[G];
    load_group(cw_words, cw);
    V* const out = nodes.next.data();
    const V* const in = nodes.now.data();
    expand_node<true>(keys, cw, right, in, out);
    if (children == 2 * parents)  // a whole level: past its last node comes its first
        for (int g = 0; g < G; ++g) out[children * G + g] = out[G + g];
    for (u64 i = 1; i < parents; ++i) expand_node<false>(keys, cw, right, in + i * G, out + 2 * i * G);
    if (children == 2 * parents)
        for (int g = 0; g < G; ++g) out[(children - 1) * G + g] = Isa::choose(right[g], out[children * G + g], out[(children - 1) * G + g]);
    nodes.now.swap(nodes.next);
}

// Seeds of the leaves start, start + 1, ... (modulo their number) of each instance, in nodes.now; `before` as a walk to `start` has it.
inline void expand(const HashPair& keys, const Columns& c, const Trunk& trunk, const u64* start, u64 leaves, Nodes& nodes, V (&before)[G]) {
    V path[G], right[G];
    const int levels = c.cw.count;
    load_path(start, path);
    for (int g = 0; g < G; ++g) {
        before[g] = Isa::zero();
        nodes.now[g] = trunk.root[g];
    }
    for (int i = 0; i < levels; ++i) {
        const V bit = path_bit(i, levels);
        for (int g = 0; g < G; ++g) right[g] = Isa::all_if(Isa::has(path[g], bit));
        if (i == 0) {
            nodes.now.swap(nodes.next);
            for (int g = 0; g < G; ++g) {
                nodes.now[g] = Isa::xor_both(trunk.left[g], right[g], trunk.root[g]);
                nodes.now[G + g] = Isa::exclusive_or(nodes.now[g], trunk.root[g]);
            }
        } else {
            c.prefetch(c.level(i));
            expand_level(keys.node, c.level(i), right, nodes, nodes_at(i, levels, leaves), nodes_at(i + 1, levels, leaves));
        }
        const V* parent = nodes.next.data();  // where the level above is left
        for (int g = 0; g < G; ++g) before[g] = Isa::xor_both(before[g], right[g], Isa::exclusive_or(parent[g], nodes.now[g]));
    }
}

// A group of fewer than W instances, copied into arrays of W.
struct Padded {
    Array<u64> words;
    Padded(const Columns& c, std::size_t count, std::size_t leaf_words) : words((2 * MAX_LEVELS + 3 + leaf_words) * W) {
        at = words.data();
        columns.root = copy(c.root, 2, count);
        columns.leaf = copy(c.leaf, leaf_words, count);
        columns.x_hat = copy(c.x_hat, 1, count);
        columns.cw = {at, 2 * W, c.cw.count};
        columns.ahead = 0;
        for (int i = 0; i < c.cw.count; ++i) copy(c.level(i), 2, count);
    }
    Padded(const Padded&) = delete;
    Columns columns;

private:
    u64* at;
    u64* copy(const u64* from, std::size_t each, std::size_t count) {
        u64* to = at;
        std::memcpy(to, from, count * each * sizeof(u64));
        at += each * W;
        return to;
    }
};

// Calls run(keys, first instance, one past the last) for all instances that share a key.
template <class Run>
void for_keys(const Slice& slice, Run run) {
    constexpr u64 per_key = u64(1) << 16;
    std::size_t start = 0;
    for (const HashKeys* keys = slice.keys; start < slice.n; ++keys) {
        const u64 left = per_key - ((slice.first + start) & (per_key - 1));
        const std::size_t stop = slice.n - start < left ? slice.n : start + left;
        run(HashPair(*keys), start, stop);
        start = stop;
    }
}

// Calls run(keys, first instance, count <= W) for groups that share a key.
template <class Run>
void for_groups(const Slice& slice, Run run) {
    for_keys(slice, [&](const HashPair& keys, std::size_t start, std::size_t stop) {
        for (; start < stop; start += W) run(keys, start, stop - start < W ? stop - start : W);
    });
}

}  // namespace
}  // namespace roundelay
