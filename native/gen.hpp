// Key generation. No branch and no address depends on alpha, on a payload or on a seed.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

// Fills the correction words of W paths and leaves both parties' seeds at the leaf in s0, s1. With D = s0 xor s1, the same at every
// level, and h_b = H(s_b) xor a s_b: CW = h_0 xor h_1 xor D, and the next seeds are h_0 xor t(s_0) CW and that xor D. sigma is linear:
// sigma(s1) = sigma(s0) xor sigma(D), so that only s0 is followed.
inline void generate_path(
    const Isa::Keys& keys, const u64* root0, const u64* root1, const u64* index, int levels, u64* cw_out, std::ptrdiff_t stride,
    V (&s0)[G], V (&s1)[G]) {
    V path[G], delta[G], sigma[G], both[G];
    for (int line = 0; line < 2 * W; line += 8) {
        __builtin_prefetch(root0 + AHEAD + line);
        __builtin_prefetch(root1 + AHEAD + line);
    }
    load_roots(root0, 0, s0);
    load_roots(root1, 1, s1);
    load_path(index, path);
    for (int g = 0; g < G; ++g) {
        delta[g] = Isa::exclusive_or(s0[g], s1[g]);
        sigma[g] = Isa::sigma(delta[g]);
        both[g] = Isa::exclusive_or(sigma[g], delta[g]);
    }
    for (int i = 0; i < levels; ++i) {
        const V bit = path_bit(i, levels);
        for (int line = 0; line < 2 * W; line += 8) __builtin_prefetch(cw_out + i * stride + AHEAD + line, 1);
        for (int at = 0; at < G; at += C) {
            V x0[C], x1[C], last0[C], last1[C];
            for (int g = 0; g < C; ++g) {
                const V seed = s0[at + g];
                const Mask a = Isa::has(path[at + g], bit);
                x0[g] = Isa::sigma(seed);
                x1[g] = Isa::exclusive_or(x0[g], sigma[at + g]);
                last0[g] = Isa::xor_if(x0[g], a, seed);
                last1[g] = Isa::exclusive_or(last0[g], Isa::xor_if(both[at + g], a, delta[at + g]));
            }
            Isa::encrypt(keys, x0, last0);  // h_0
            Isa::encrypt(keys, x1, last1);  // h_1 xor D
            for (int g = 0; g < C; ++g) {
                const V cw = Isa::exclusive_or(x0[g], x1[g]);
                Isa::store(cw_out + i * stride + 2 * B * (at + g), cw);
                s0[at + g] = Isa::xor_if(x0[g], Isa::odd(s0[at + g]), cw);
            }
        }
    }
    for (int g = 0; g < G; ++g) s1[g] = Isa::exclusive_or(s0[g], delta[g]);
}

// One group of W instances. A shorter one is copied into arrays of W, and its correction words out of one.
struct GenGroup {
    u64 alpha[W], index[W];
    const u64 *root0, *root1;
    std::size_t at, count;

    GenGroup(const u64* a, const u64* r0, const u64* r1, int point_bits, std::size_t first, std::size_t n)
        : alpha{}, root0(r0 + 2 * first), root1(r1 + 2 * first), at(first), count(n) {
        std::memcpy(alpha, a + first, 8 * n);
        if (count < W) {
            root0 = copy(root0, roots_[0]);
            root1 = copy(root1, roots_[1]);
        }
        for (int i = 0; i < W; ++i) index[i] = alpha[i] >> point_bits;
    }
    GenGroup(const GenGroup&) = delete;

    void run(const Isa::Keys& keys, const Levels<u64>& out, V (&s0)[G], V (&s1)[G]) {
        if (count == W) return generate_path(keys, root0, root1, index, out.count, out.data + 2 * at, out.stride, s0, s1);
        Array<u64> cw(std::size_t(2 * W * out.count));
        generate_path(keys, root0, root1, index, out.count, cw.data(), 2 * W, s0, s1);
        for (int i = 0; i < out.count; ++i) std::memcpy(out.data + i * out.stride + 2 * at, cw.data() + 2 * W * i, 16 * count);
    }

private:
    u64 roots_[2][2 * W];
    const u64* copy(const u64* from, u64* to) const {
        std::memset(to, 0, 16 * W);
        std::memcpy(to, from, 16 * count);
        return to;
    }
};

inline void dpf_gen(const GenJob& job) {
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) {
        GenGroup group(job.alpha, job.root0, job.root1, 7, at, count);
        V s0[G], s1[G], v0[G], v1[G];
        group.run(keys.node, job.cw, s0, s1);
        u64 hot[2 * W], leaf[2 * W], value[2 * W];
        for (int i = 0; i < W; ++i) {
            const u64 bit = u64(1) << (group.alpha[i] & 63), high = u64(0) - ((group.alpha[i] >> 6) & 1);
            hot[2 * i] = bit & ~high;
            hot[2 * i + 1] = bit & high;
        }
        hash(keys.leaf, s0, v0);
        hash(keys.leaf, s1, v1);
        for (int g = 0; g < G; ++g) {
            const V cw = Isa::exclusive_or(Isa::exclusive_or(v0[g], v1[g]), Isa::load(hot + 2 * B * g));
            Isa::store(leaf + 2 * B * g, cw);
            Isa::store(value + 2 * B * g, Isa::xor_if(v0[g], Isa::odd(s0[g]), cw));
        }
        std::memcpy(job.leaf + 2 * at, leaf, 16 * count);
        for (std::size_t i = 0; i < count; ++i)
            job.sigma[at + i] = u8(Isa::parity((value[2 * i] & hot[2 * i]) ^ (value[2 * i + 1] & hot[2 * i + 1])));
    });
}

// Block i, counted from 0, of convert(s): H'(s xor 2 (i + 1)), i < 2^62.
inline void convert(const Isa::Keys& keys, const V* s, u64 i, V* out) {
    V tweaked[G];
    for (int g = 0; g < G; ++g) tweaked[g] = Isa::exclusive_or(s[g], Isa::spread_low((i + 1) << 1));
    hash(keys, tweaked, out);
}

// Payloads of a group as blocks: [i mod width][instance] are the components that belong to the words of block i of a leaf.
inline Array<V> payload_blocks(const LeafGenJob& job, std::size_t at, std::size_t count) {
    const u64 width = u64(job.width);
    Array<V> blocks(width * G);
    for (u64 j = 0; j < width; ++j)
        for (std::size_t i = 0; i < count; ++i) {
            const u64 words[2] = {job.payload[(at + i) * width + 2 * j % width], job.payload[(at + i) * width + (2 * j + 1) % width]};
            std::memcpy(reinterpret_cast<u8*>(blocks.data() + j * G) + 16 * i, words, 16);
        }
    return blocks;
}

inline void leaf_gen(const LeafGenJob& job) {
    const u64 points = u64(1) << job.points, width = u64(job.width), words = points * width, blocks = (words + 1) / 2;
    Array<u64> rows(2 * blocks * W);  // [instance][word]
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) {
        GenGroup group(job.alpha, job.root0, job.root1, job.points, at, count);
        V s0[G], s1[G], h0[G], h1[G], place[G];
        group.run(keys.node, job.cw, s0, s1);
        const Array<V> payload = payload_blocks(job, at, count);
        for (int g = 0; g < G; ++g) place[g] = Isa::both_of(Isa::spread(group.alpha + B * g), Isa::both(points - 1));
        for (u64 k = 0; k < blocks; ++k) {
            convert(keys.leaf, s0, k, h0);
            convert(keys.leaf, s1, k, h1);
            const V here = Isa::block_of(2 * k / width, (2 * k + 1) / width);
            for (int g = 0; g < G; ++g) {
                const V target = Isa::where_equal(place[g], here, payload[k % width * G + std::size_t(g)]), minus = Isa::all_if(Isa::odd(s1[g]));
                const V word = Isa::add(Isa::subtract(target, h0[g]), h1[g]);
                Isa::scatter(reinterpret_cast<u8*>(rows.data() + 2 * blocks * u64(B * g) + 2 * k), std::ptrdiff_t(16 * blocks),
                             Isa::subtract(Isa::exclusive_or(word, minus), minus));
            }
        }
        for (std::size_t i = 0; i < count; ++i) std::memcpy(job.leaf + (at + i) * words, rows.data() + 2 * blocks * i, 8 * words);
    });
}

}  // namespace
}  // namespace roundelay
