// Walks through half-trees (Guo et al., EUROCRYPT 2023, eprint 2022/1431), `Isa::group` vectors of instances in flight.
// Include after an `isa_*.hpp`.
#pragma once

#include <cstring>

#include "memory.hpp"

namespace roundelay {
namespace {

using V = Isa::V;
using Mask = Isa::Mask;
constexpr int G = Isa::group, B = Isa::blocks;
constexpr int W = G * B;  // instances in flight
constexpr int MAX_LEVELS = 64;
constexpr std::ptrdiff_t AHEAD = 2 * 3 * W;  // words from a group's key to the one to prefetch: a few groups on

struct HashPair {
    Isa::Keys node, leaf;
    explicit HashPair(const HashKeys& keys) : node(keys.node), leaf(keys.leaf) {}
};

// h = H(s) xor after = AES(sigma(s)) xor sigma(s) xor after
inline void hash(const Isa::Keys& keys, const V (&s)[G], const V (&after)[G], V (&h)[G]) {
    V last[G];
    for (int g = 0; g < G; ++g) {
        h[g] = Isa::sigma(s[g]);
        last[g] = Isa::exclusive_or(h[g], after[g]);
    }
    Isa::encrypt(keys, h, last);
}

inline void hash(const Isa::Keys& keys, const V (&s)[G], V (&h)[G]) {
    V sigma[G];
    for (int g = 0; g < G; ++g) h[g] = sigma[g] = Isa::sigma(s[g]);
    Isa::encrypt(keys, h, sigma);
}

// h = H(s) xor t(s) CW
inline void stepped(const Isa::Keys& keys, const V (&s)[G], const V (&cw)[G], V (&h)[G]) {
    V last[G];
    for (int g = 0; g < G; ++g) {
        h[g] = Isa::sigma(s[g]);
        last[g] = Isa::xor_if(h[g], Isa::odd(s[g]), cw[g]);
    }
    Isa::encrypt(keys, h, last);
}

inline void load_group(const void* from, V (&v)[G]) {
    for (int g = 0; g < G; ++g) v[g] = Isa::load(static_cast<const u8*>(from) + 16 * B * g);
}

inline void store_group(void* to, const V (&v)[G]) {
    for (int g = 0; g < G; ++g) Isa::store(static_cast<u8*>(to) + 16 * B * g, v[g]);
}

// Roots with t = party.
inline void load_roots(const u64* from, int party, V (&s)[G]) {
    load_group(from, s);
    const V one = Isa::spread_low(1);
    for (int g = 0; g < G; ++g) {
        s[g] = Isa::xor_if(s[g], Isa::odd(s[g]), one);
        if (party) s[g] = Isa::exclusive_or(s[g], one);
    }
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
    void prefetch(const u64* words) const {
        if (!ahead) return;
        for (int line = 0; line < 2 * W; line += 8) __builtin_prefetch(words + ahead + line);
    }
};

struct Place {
    alignas(64) u8 block[16 * W];  // the leaf block of each instance
    u64 before[W];                 // bit 0: parity of the control bits of all leaves before it
};

// One walk per instance, to leaf `index`: one AES a level, no memory but the correction words.
inline void walk(const HashPair& keys, const Columns& c, int party, const u64* index, Place& place) {
    V s[G], h[G], cw[G], path[G], before[G];
    c.prefetch(c.root);
    c.prefetch(c.leaf);
    load_roots(c.root, party, s);
    load_path(index, path);
    for (int g = 0; g < G; ++g) before[g] = Isa::zero();
    for (int i = 0; i < c.cw.count; ++i) {
        c.prefetch(c.level(i));
        load_group(c.level(i), cw);
        const V bit = path_bit(i, c.cw.count);
        V last[G];
        for (int g = 0; g < G; ++g) {
            h[g] = Isa::sigma(s[g]);
            last[g] = Isa::xor_if(Isa::xor_if(h[g], Isa::odd(s[g]), cw[g]), Isa::has(path[g], bit), s[g]);
        }
        Isa::encrypt(keys.node, h, last);
        for (int g = 0; g < G; ++g) {
            before[g] = Isa::xor_if(before[g], Isa::has(path[g], bit), Isa::exclusive_or(s[g], h[g]));
            s[g] = h[g];
        }
    }
    load_group(c.leaf, cw);
    stepped(keys.leaf, s, cw, h);
    store_group(place.block, h);
    for (int g = 0; g < G; ++g) Isa::store_low(place.before + B * g, before[g]);
}

// Nodes at `depth` that can lie above `leaves` consecutive leaves, wherever those begin.
inline u64 nodes_at(int depth, int levels, u64 leaves) {
    if (leaves == 1 || depth == 0) return 1;
    const u64 spread = ((leaves - 2) >> (levels - depth)) + 2;
    return depth < 63 && spread > (u64(1) << depth) ? u64(1) << depth : spread;
}

struct Nodes {
    Array<V> now, next;  // [node][group]
    explicit Nodes(u64 leaves) : now((leaves + 1) * G), next((leaves + 1) * G) {}
};

// One level down. With index a of a node's first child among the wanted ones (0 or 1, public), child j of the next level is the
// right or left child of parent (j + a) / 2; past the last parent of a whole level comes its first.
inline void expand_level(const Isa::Keys& keys, const u64* cw_words, const V (&path)[G], V bit, Nodes& nodes, u64 parents,
                         u64 children) {
    V s[G], left[G], right[G], last_right[G], first_left[G], cw[G];
    load_group(cw_words, cw);
    for (int g = 0; g < G; ++g) last_right[g] = first_left[g] = Isa::zero();
    V* out = nodes.next.data();
    for (u64 i = 0; i < parents; ++i) {
        for (int g = 0; g < G; ++g) s[g] = nodes.now[i * G + g];
        stepped(keys, s, cw, left);
        for (int g = 0; g < G; ++g) {
            right[g] = Isa::exclusive_or(left[g], s[g]);
            const Mask a = Isa::has(path[g], bit);
            if (i == 0) first_left[g] = left[g];
            if (i > 0 && 2 * i - 1 < children) out[(2 * i - 1) * G + g] = Isa::select(a, left[g], last_right[g]);
            if (2 * i < children) out[2 * i * G + g] = Isa::select(a, right[g], left[g]);
            last_right[g] = right[g];
        }
    }
    if (children == 2 * parents)
        for (int g = 0; g < G; ++g) out[(children - 1) * G + g] = Isa::select(Isa::has(path[g], bit), first_left[g], last_right[g]);
    nodes.now.swap(nodes.next);
}

// Seeds of the leaves start, start + 1, ... (modulo their number) of each instance, in nodes.now; `before` as a walk to `start` has it.
inline void expand(const HashPair& keys, const Columns& c, int party, const u64* start, u64 leaves, Nodes& nodes, V (&before)[G]) {
    V s[G], path[G];
    const int levels = c.cw.count;
    c.prefetch(c.root);
    c.prefetch(c.leaf);
    load_roots(c.root, party, s);
    load_path(start, path);
    for (int g = 0; g < G; ++g) {
        nodes.now[g] = s[g];
        before[g] = Isa::zero();
    }
    for (int i = 0; i < levels; ++i) {
        const V bit = path_bit(i, levels);
        c.prefetch(c.level(i));
        expand_level(keys.node, c.level(i), path, bit, nodes, nodes_at(i, levels, leaves), nodes_at(i + 1, levels, leaves));
        for (int g = 0; g < G; ++g) {
            before[g] = Isa::xor_if(before[g], Isa::has(path[g], bit), Isa::exclusive_or(s[g], nodes.now[g]));
            s[g] = nodes.now[g];
        }
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

// Calls run(keys, first instance, count <= W) for groups that share a key.
template <class Run>
void for_groups(const Slice& slice, Run run) {
    constexpr u64 per_key = u64(1) << 16;
    std::size_t start = 0;
    for (const HashKeys* keys = slice.keys; start < slice.n; ++keys) {
        const u64 left = per_key - ((slice.first + start) & (per_key - 1));
        const std::size_t stop = slice.n - start < left ? slice.n : start + left;
        const HashPair pair(*keys);
        for (; start < stop; start += W) run(pair, start, stop - start < W ? stop - start : W);
        start = stop;
    }
}

}  // namespace
}  // namespace roundelay
