// Walks through half-trees (Guo et al., EUROCRYPT 2023, eprint 2022/1431), `Isa::group` vectors of instances in flight.
// Include after an `isa_*.hpp`.
#pragma once

#include <cstring>

#include "memory.hpp"

namespace roundelay {
namespace {

using V = Isa::V;
constexpr int G = Isa::group, B = Isa::blocks, C = Isa::chains;
constexpr int W = G * B;  // instances in flight
constexpr int MAX_LEVELS = 64;
constexpr int BLOCK_BITS = 7;  // of a place in a block of 128 bits
constexpr u64 CONTROL = u64(1) << 63;  // the control bit of a word of a seed
constexpr std::ptrdiff_t AHEAD = 2 * 6 * W;  // words from a group's key to the one to prefetch: a few groups on

// H(x) = AES_K(sigma(x) xor K_0) xor K_10 xor sigma(x), and H' likewise: K_0 and K_10 are the first and the last key of the rounds, and
// these exclusive ors with them undo those that AES begins and ends with.
struct HashPair {
    Isa::Keys node, leaf;
    explicit HashPair(const HashKeys& keys) : node(rounds(keys.node)), leaf(rounds(keys.leaf)) {}

private:
    static RoundKeys rounds(RoundKeys keys) {
        std::memset(keys.bytes[0], 0, 16);
        std::memset(keys.bytes[10], 0, 16);
        return keys;
    }
};

// h = H(s) xor t(s) CW, with a control bit for each word of CW, for half a group: while its calls are in their rounds, what comes before
// and after the rounds of the other half is done.
inline void step(const Isa::Keys& keys, const V* s, const u64* cw, V* h) {
    V x[C], last[C];
    for (int g = 0; g < C; ++g) {
        x[g] = Isa::sigma(s[g]);
        last[g] = Isa::xor_both(x[g], Isa::controls(s[g]), Isa::load(cw + 2 * B * g));
    }
    Isa::permute(keys, x, last);
    for (int g = 0; g < C; ++g) h[g] = x[g];
}

inline void step_group(const Isa::Keys& keys, const V* s, const u64* cw, V* h) {
    for (int at = 0; at < G; at += C) step(keys, s + at, cw + 2 * B * at, h + at);
}

inline void load_group(const void* from, V (&v)[G]) {
    for (int g = 0; g < G; ++g) v[g] = Isa::load(static_cast<const u8*>(from) + 16 * B * g);
}

inline void store_group(void* to, const V (&v)[G]) {
    for (int g = 0; g < G; ++g) Isa::store(static_cast<u8*>(to) + 16 * B * g, v[g]);
}

// Roots with t = party, in both words.
inline V load_root(const void* from, int party) {
    const V seed = Isa::both_of(Isa::load(from), Isa::both(CONTROL - 1));
    return party ? Isa::exclusive_or(seed, Isa::both(CONTROL)) : seed;
}

inline void load_roots(const u64* from, int party, V (&s)[G]) {
    for (int g = 0; g < G; ++g) s[g] = load_root(from + 2 * B * g, party);
}

// Leaf indices, in both words of a block.
inline void load_path(const u64* index, V (&path)[G]) {
    for (int g = 0; g < G; ++g) path[g] = Isa::spread(index + B * g);
}

// The bit of an index that says where step `level` goes.
inline int path_bit(int level, int levels) { return level < levels ? levels - 1 - level : 0; }

// Bits of a DPF in a leaf come in blocks of 128. From two correction words of a path on, the last two are those of the two blocks of a
// leaf of 256 points: where a leaf of 128 has one more level, both blocks come of the seed above it, by H'(s) and H'(s xor 2).
struct Bits {
    int levels, halves;
    explicit Bits(int words) : levels(words < 2 ? words : words - 1), halves(words < 2 ? 1 : 2) {}
};

// W consecutive instances of one party. A tail that is shorter is copied out first (see `Padded`).
struct Columns {
    const u64* root;
    Levels<const u64> cw;   // of the levels of the tree
    const u64* leaf[2];     // of the blocks of a leaf
    int halves;
    const u64* x_hat;
    std::ptrdiff_t ahead;  // words from here to the key to prefetch, 0 for none

    const u64* level(int i) const { return cw.data + i * cw.stride; }
    int depth() const { return cw.count + halves - 1; }  // bits of a block's index
    // To the second-level cache: a few groups of many levels do not fit the first.
    void prefetch(const u64* words) const {
        if (!ahead) return;
        for (int line = 0; line < 2 * W; line += 8) __builtin_prefetch(words + ahead + line, 0, 2);
    }
    void prefetch_points() const {
        if (!ahead) return;
        for (int line = 0; line < W; line += 8) __builtin_prefetch(x_hat + ahead / 2 + line, 0, 2);
    }
};

// Root seeds and their left children: what all walks and expansions of a group begin with. Without levels there are no children.
struct Trunk {
    V root[G], left[G];

    Trunk(const HashPair& keys, const Columns& c, int party) {
        c.prefetch(c.root);
        c.prefetch_points();
        for (int h = 0; h < c.halves; ++h) c.prefetch(c.leaf[h]);
        load_roots(c.root, party, root);
        if (c.cw.count == 0) return;
        c.prefetch(c.level(0));
        step_group(keys.node, root, c.level(0), left);
    }
};

// Which half of a leaf is wanted, all ones for the second one, and its correction word.
struct HalfLeaf {
    V second[C], cw[C];
    HalfLeaf(const V* which, const u64* low, const u64* high) {
        for (int g = 0; g < C; ++g) {
            second[g] = which[g];
            cw[g] = Isa::choose(which[g], Isa::load(high + 2 * B * g), Isa::load(low + 2 * B * g));
        }
    }
};

// Half a group of blocks of leaves with the seeds s.
inline void leaf_block(const Isa::Keys& keys, const V* s, const HalfLeaf& half, V* block) {
    const V tweak = Isa::sigma(Isa::spread_low(2));
    V x[C], last[C];
    for (int g = 0; g < C; ++g) {
        x[g] = Isa::xor_both(Isa::sigma(s[g]), half.second[g], tweak);
        last[g] = Isa::xor_both(x[g], Isa::controls(s[g]), half.cw[g]);
    }
    Isa::permute(keys, x, last);
    for (int g = 0; g < C; ++g) block[g] = x[g];
}

// The root's first child wanted: the left one, or the right one.
inline V trunk_child(const Trunk& trunk, int g, V right) { return Isa::xor_both(trunk.left[g], right, trunk.root[g]); }

struct Place {
    V block[G];   // the block of each instance
    V before[G];  // whose parity is that of all bits before it
};

// One level of half a walk: s becomes the child on its path, and `before`, where it is wanted (`ordered`), takes in what the path turns from.
template <bool ordered>
void walk_level(const Isa::Keys& keys, const u64* cw, const V* path, int bit, V* s, V* before) {
    V x[C], last[C];
    V right[C];
    for (int g = 0; g < C; ++g) {
        right[g] = Isa::has(path[g], bit);
        x[g] = Isa::sigma(s[g]);
        last[g] = Isa::xor_both(Isa::xor_both(x[g], Isa::controls(s[g]), Isa::load(cw + 2 * B * g)), right[g], s[g]);
    }
    Isa::permute(keys, x, last);
    for (int g = 0; g < C; ++g) {
        if constexpr (ordered) before[g] = Isa::xor_both(before[g], right[g], Isa::exclusive_or(s[g], x[g]));
        s[g] = x[g];
    }
}

// The blocks of half a walk that ended in the leaves s, which have two each, and what lies before them: control bits so far, and before
// a second half what the first one takes in. Shares of whether alpha is in the leaf and of whether it is in this half make a share of
// whether it is in the other, so that the other is not made.
template <bool ordered>
void walk_leaf(const Isa::Keys& keys, const u64* low, const u64* high, const V* path, const V* s, V* block, V* before) {
    V second[C];
    for (int g = 0; g < C; ++g) second[g] = Isa::has(path[g], 0);
    leaf_block(keys, s, HalfLeaf(second, low, high), block);
    if constexpr (ordered)
        for (int g = 0; g < C; ++g) {
            const V leaves = Isa::both_of(Isa::xor_both(before[g], second[g], s[g]), Isa::spread_low(CONTROL));
            before[g] = Isa::xor_both(leaves, second[g], block[g]);
        }
}

// Where the compiler has to look for a value: what is used once a level is not worth a register.
inline V* in_memory(V* p) {
    asm("" : "+r"(p) : : "memory");
    return p;
}

// One walk per instance, to block `index`: one AES a level, no memory but the correction words. `ordered`: whether `before` is wanted.
// Its own function, so that others' values do not take the registers.
template <bool ordered>
[[gnu::noinline]] void walk(const HashPair& keys, const Columns& c, const Trunk& trunk, const u64* index, Place& place) {
    const int levels = c.cw.count, depth = c.depth();
    V s[G], paths[G];
    load_path(index, paths);
    const V* const path = in_memory(paths);
    V* const before = in_memory(place.before);
    for (int g = 0; g < G; ++g) {
        const V right = Isa::has(path[g], path_bit(0, depth));
        s[g] = levels ? trunk_child(trunk, g, right) : trunk.root[g];
        if constexpr (ordered) before[g] = levels ? Isa::both_of(trunk.left[g], right) : Isa::zero();
    }
    for (int i = 1; i < levels; ++i) {
        c.prefetch(c.level(i));
        for (int at = 0; at < G; at += C) walk_level<ordered>(keys.node, c.level(i) + 2 * B * at, path + at, path_bit(i, depth), s + at, before + at);
    }
    if (c.halves == 2) {
        for (int at = 0; at < G; at += C)
            walk_leaf<ordered>(keys.leaf, c.leaf[0] + 2 * B * at, c.leaf[1] + 2 * B * at, path + at, s + at, place.block + at, before + at);
        return;
    }
    step_group(keys.leaf, s, c.leaf[0], place.block);
    if constexpr (ordered)
        for (int g = 0; g < G; ++g) before[g] = Isa::both_of(before[g], Isa::spread_low(CONTROL));
}

// Nodes at `depth` that can lie above `count` consecutive ones of 2^levels, wherever those begin.
inline u64 nodes_at(int depth, int levels, u64 count) {
    if (count == 1 || depth == 0) return 1;
    const u64 spread = ((count - 2) >> (levels - depth)) + 2;
    return depth < 63 && spread > (u64(1) << depth) ? u64(1) << depth : spread;
}

// Seeds of consecutive nodes of a level, from the first one wanted on.
struct Nodes {
    Array<V> now, next;  // [node][group]
    explicit Nodes(u64 leaves) : now((leaves + 4) * G), next((leaves + 4) * G) {}
};

// One level down for half a group: of `parents` nodes in order, `wanted` children from the first on, or, where the path turns `right`,
// from the second on; past the last node of a whole level comes its first. Correction words stay in registers. `before`, where it is
// wanted (`ordered`), takes in the first child where the path turns from it.
template <bool ordered, class Parent>
void expand_level(const Isa::Keys& keys, const u64* cw_words, const V* right, u64 parents, u64 wanted, Parent parent, V* out, V* before) {
    V cw[C], seed[C], x[C], second[C];
    for (int g = 0; g < C; ++g) cw[g] = Isa::load(cw_words + 2 * B * g);
    const auto call = [&](u64 i) {
        V last[C];
        for (int g = 0; g < C; ++g) {
            seed[g] = parent(i, g);
            x[g] = Isa::sigma(seed[g]);
            last[g] = Isa::xor_both(x[g], Isa::controls(seed[g]), cw[g]);
        }
        Isa::permute(keys, x, last);
    };
    const auto emit = [&](u64 i) {
        if (2 * i < wanted)
            for (int g = 0; g < C; ++g) out[2 * i * G + u64(g)] = Isa::xor_both(x[g], right[g], seed[g]);
        for (int g = 0; g < C; ++g) second[g] = Isa::exclusive_or(x[g], seed[g]);
    };
    call(0);
    if constexpr (ordered)
        for (int g = 0; g < C; ++g) before[g] = Isa::xor_both(before[g], right[g], x[g]);
    emit(0);
    for (u64 i = 1; i < parents; ++i) {
        call(i);
        for (int g = 0; g < C; ++g) out[(2 * i - 1) * G + u64(g)] = Isa::choose(right[g], x[g], second[g]);
        emit(i);
    }
    if (wanted < 2 * parents) return;
    V* const end = out + (2 * parents - 1) * G;
    for (int g = 0; g < C; ++g) end[g] = Isa::choose(right[g], Isa::xor_both(out[g], right[g], parent(0, g)), second[g]);
}

// Seeds of the leaves that hold the blocks start, start + 1, ... (modulo their number) of each instance; where it is asked for
// (`ordered`), the control bit of `before` is the parity of the control bits of all leaves before those.
template <bool ordered>
void expand(const HashPair& keys, const Columns& c, const Trunk& trunk, const u64* start, u64 blocks, Nodes& nodes, V (&before)[G]) {
    const int levels = c.cw.count, depth = c.depth();
    V path[G];
    V turn[G];  // at the root
    load_path(start, path);
    for (int g = 0; g < G; ++g) {
        turn[g] = Isa::has(path[g], path_bit(0, depth));
        if constexpr (ordered) before[g] = levels ? Isa::both_of(trunk.left[g], turn[g]) : Isa::zero();
    }
    const auto child = [&](u64 i, int g) {  // of the root, from the first one wanted on
        const V first = trunk_child(trunk, g, turn[g]);
        return i ? Isa::exclusive_or(first, trunk.root[g]) : first;
    };
    if (levels < 2) {
        for (u64 i = 0; i < nodes_at(levels, depth, blocks); ++i)
            for (int g = 0; g < G; ++g) nodes.now[i * G + u64(g)] = levels ? child(i, g) : trunk.root[g];
        return;
    }
    for (int level = 1; level < levels; ++level) {
        c.prefetch(c.level(level));
        const u64 parents = nodes_at(level, depth, blocks), wanted = nodes_at(level + 1, depth, blocks);
        const int bit = path_bit(level, depth);
        for (int half = 0; half < G; half += C) {
            V right[C];
            for (int g = 0; g < C; ++g) right[g] = Isa::has(path[half + g], bit);
            const u64* const cw = c.level(level) + 2 * B * half;
            const auto go = [&](auto parent) {
                expand_level<ordered>(keys.node, cw, right, parents, wanted, parent, nodes.next.data() + half, before + half);
            };
            if (level == 1) go([&](u64 i, int g) { return child(i, half + g); });
            else go([in = nodes.now.data() + half](u64 i, int g) { return in[i * G + u64(g)]; });
        }
        nodes.now.swap(nodes.next);
    }
}

// A group of fewer than W instances, copied into arrays of W.
struct Padded {
    Array<u64> words;
    Padded(const Columns& c, std::size_t count) : words((2 * MAX_LEVELS + 7) * W), columns(c) {
        at = words.data();
        columns.root = copy(c.root, 2, count);
        for (int h = 0; h < c.halves; ++h) columns.leaf[h] = copy(c.leaf[h], 2, count);
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
