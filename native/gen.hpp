// Key generation. No branch and no address depends on alpha, on a payload or on a seed.
#pragma once

#include "tree.hpp"

namespace roundelay {
namespace {

// The inputs of W instances, and where their correction words go.
struct GenColumns {
    const u64 *alpha, *root0, *root1;
    Levels<u64> cw;
    std::ptrdiff_t ahead;  // words from here to what to prefetch, 0 for nothing

    template <int write>
    void prefetch(const u64* words) const {  // of half a group
        if (!ahead) return;
        for (int line = 0; line < 2 * B * C; line += 8) __builtin_prefetch(words + ahead + line, write);
    }
};

// The paths of W instances to alpha, whose last `point_bits` bits are a place in a leaf. With D = s0 xor s1, the same at every level,
// and h_b = H(s_b) xor a s_b: CW = h_0 xor h_1 xor D, and the next seeds are h_0 xor t(s_0) CW and that xor D. sigma is linear:
// sigma(s1) = sigma(s0) xor sigma(D), so that only s0 is followed.
struct Paths {
    V alpha[G];                    // in both words of a block
    V s0[G], delta[G], sigma[G];   // party 0's seed where the path is; D, sigma(D)

    void generate(const Isa::Keys& keys, const GenColumns& c, int point_bits) {
        for (int at = 0; at < G; at += C) {  // one half begins while the other is in its rounds
            begin(c, at);
            if (c.cw.count) step(keys, c, 0, point_bits, at);
        }
        for (int level = 1; level < c.cw.count; ++level)
            for (int at = 0; at < G; at += C) step(keys, c, level, point_bits, at);
    }
    V seed1(int g) const { return Isa::exclusive_or(s0[g], delta[g]); }

private:
    void begin(const GenColumns& c, int at) {
        c.prefetch<0>(c.root0 + 2 * B * at);
        c.prefetch<0>(c.root1 + 2 * B * at);
        for (int g = at; g < at + C; ++g) {
            const V root0 = load_root(c.root0 + 2 * B * g, 0);
            delta[g] = Isa::exclusive_or(root0, load_root(c.root1 + 2 * B * g, 1));
            sigma[g] = Isa::sigma(delta[g]);
            s0[g] = root0;
            alpha[g] = Isa::spread(c.alpha + B * g);
        }
    }

    void step(const Isa::Keys& keys, const GenColumns& c, int level, int point_bits, int at) {
        const int bit = path_bit(level, c.cw.count + point_bits);
        u64* const words = c.cw.data + level * c.cw.stride + 2 * B * at;
        V x0[C], x1[C], last0[C], last1[C];
        c.prefetch<1>(words);
        for (int g = 0; g < C; ++g) {
            const V seed = s0[at + g], d = delta[at + g], sigma_d = sigma[at + g];
            const V a = Isa::has(alpha[at + g], bit);
            x0[g] = Isa::sigma(seed);
            x1[g] = Isa::exclusive_or(x0[g], sigma_d);
            last0[g] = Isa::xor_both(x0[g], a, seed);
            last1[g] = Isa::exclusive_or(last0[g], Isa::xor_both(Isa::exclusive_or(sigma_d, d), a, d));
        }
        Isa::permute(keys, x0, last0);  // h_0
        Isa::permute(keys, x1, last1);  // h_1 xor D
        for (int g = 0; g < C; ++g) {
            const V cw = Isa::exclusive_or(x0[g], x1[g]);
            Isa::store(words + 2 * B * g, cw);
            s0[at + g] = Isa::xor_both(x0[g], Isa::controls(s0[at + g]), cw);
        }
    }
};

// One group of W instances. A shorter one is copied into arrays of W, and its correction words out of one.
template <class Job>
void generate_paths(const Isa::Keys& keys, const Job& job, int point_bits, std::size_t at, std::size_t count, Paths& paths) {
    const Levels<u64> out{job.cw.data + 2 * at, job.cw.stride, job.cw.count};
    const GenColumns here{job.alpha + at, job.root0 + 2 * at, job.root1 + 2 * at, out, AHEAD};
    if (count == W) return paths.generate(keys, here, point_bits);
    u64 alpha[W] = {}, roots[2][2 * W] = {};
    std::memcpy(alpha, here.alpha, 8 * count);
    std::memcpy(roots[0], here.root0, 16 * count);
    std::memcpy(roots[1], here.root1, 16 * count);
    Array<u64> cw(std::size_t(2 * W * out.count));
    paths.generate(keys, {alpha, roots[0], roots[1], {cw.data(), 2 * W, out.count}, 0}, point_bits);
    for (int i = 0; i < out.count; ++i) std::memcpy(out.data + i * out.stride, cw.data() + 2 * W * i, 16 * count);
}

// The correction words of a half of the leaf of a group, and party 0's bit at alpha, where that lies in this half: bit i for instance i.
inline u64 generate_half(const Isa::Keys& keys, const Paths& paths, Bits bits, int half, u64* out) {
    const V tweak = Isa::sigma(Isa::spread_low(2 * u64(half))), last = Isa::both(127), side = Isa::both(128), here = Isa::both(128 * u64(half));
    u64 met = 0;
    for (int at = 0; at < G; at += C) {
        V v0[C], v1[C], sigma0[C], sigma1[C];
        for (int g = 0; g < C; ++g) {
            v0[g] = sigma0[g] = Isa::exclusive_or(Isa::sigma(paths.s0[at + g]), tweak);
            v1[g] = sigma1[g] = Isa::exclusive_or(v0[g], paths.sigma[at + g]);
        }
        Isa::permute(keys, v0, sigma0);
        Isa::permute(keys, v1, sigma1);
        for (int g = 0; g < C; ++g) {
            const V point = paths.alpha[at + g];
            V hot = Isa::point(Isa::both_of(point, last));
            if (bits.halves == 2) hot = Isa::where_equal(Isa::both_of(point, side), here, hot);
            const V cw = Isa::exclusive_or(Isa::exclusive_or(v0[g], v1[g]), hot);
            Isa::store(out + 2 * B * (at + g), cw);
            met |= Isa::meet(Isa::xor_both(v0[g], Isa::controls(paths.s0[at + g]), cw), hot) << Isa::answers * B * (at + g);
        }
    }
    return Isa::either(met);
}

inline void dpf_gen(const GenJob& job) {
    const Bits bits(job.cw.count);
    GenJob tree = job;
    tree.cw.count = bits.levels;
    Paths paths;
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) {
        generate_paths(keys.node, tree, BLOCK_BITS + bits.halves - 1, at, count, paths);
        u64 sigma = 0;
        for (int half = 0; half < bits.halves; ++half) {
            u64 last[2 * W];
            u64* const words = (half + 1 < bits.halves ? job.cw.data + bits.levels * job.cw.stride : job.leaf) + 2 * at;
            sigma |= generate_half(keys.leaf, paths, bits, half, count == W ? words : last);
            if (count < W) std::memcpy(words, last, 16 * count);
        }
        for (std::size_t i = 0; i < count; ++i) job.sigma[at + i] = u8(sigma >> i & 1);
    });
}

// What the words of arithmetic leaves have to add up to at alpha, for a group.
class Payloads {
public:
    explicit Payloads(const LeafGenJob& job) : job_(job), width_(std::size_t(job.width)), blocks_(width_ * G) {}

    void take(std::size_t at, std::size_t count) {
        const u64* const payload = job_.payload + at * width_;
        for (std::size_t j = 0; j < width_; ++j) {
            const std::size_t low = 2 * j % width_, high = (2 * j + 1) % width_;
            u64* to = reinterpret_cast<u64*>(blocks_.data() + j * G);
            for (std::size_t i = 0; i < count; ++i, to += 2) to[0] = payload[i * width_ + low], to[1] = payload[i * width_ + high];
        }
    }
    const V* block(u64 k) const { return blocks_.data() + k % width_ * G; }  // of the words 2 k and 2 k + 1 of a leaf

private:
    const LeafGenJob& job_;
    std::size_t width_;
    Array<V> blocks_;  // [k mod width][instance]
};

// Correction words of the arithmetic leaves of a group, `pitch` bytes from one instance to the next. Block k of convert(s) is
// H'(s xor 2 (k + 1)), k < 2^62. With h_b the shares of a word and y its payload at alpha: CW = (-1)^t1 (y - h_0 + h_1).
inline void generate_words(const LeafGenJob& job, const Isa::Keys& keys, const Paths& paths, const Payloads& payloads, u8* rows,
                           std::size_t pitch) {
    const u64 width = u64(job.width), blocks = ((width << job.points) + 1) / 2;
    const V last_point = Isa::both(low_bits(job.points));
    for (int at = 0; at < G; at += C) {
        V sigma0[C], sigma1[C], place[C], minus[C];
        for (int g = 0; g < C; ++g) {
            sigma0[g] = Isa::sigma(paths.s0[at + g]);
            sigma1[g] = Isa::exclusive_or(sigma0[g], paths.sigma[at + g]);
            place[g] = Isa::both_of(paths.alpha[at + g], last_point);
            minus[g] = Isa::controls(paths.seed1(at + g));
        }
        for (u64 k = 0; k < blocks; ++k) {
            const V tweak = Isa::sigma(Isa::spread_low((k + 1) << 1)), here = Isa::block_of(2 * k / width, (2 * k + 1) / width);
            const V* const payload = payloads.block(k) + at;
            V h0[C], h1[C], last0[C], last1[C];
            for (int g = 0; g < C; ++g) {
                h0[g] = last0[g] = Isa::exclusive_or(sigma0[g], tweak);
                h1[g] = last1[g] = Isa::exclusive_or(sigma1[g], tweak);
            }
            Isa::permute(keys, h0, last0);
            Isa::permute(keys, h1, last1);
            for (int g = 0; g < C; ++g) {
                const V word = Isa::add(Isa::subtract(Isa::where_equal(place[g], here, payload[g]), h0[g]), h1[g]);
                Isa::scatter(rows + std::size_t(B * (at + g)) * pitch + 16 * k, std::ptrdiff_t(pitch),
                             Isa::subtract(Isa::exclusive_or(word, minus[g]), minus[g]));
            }
        }
    }
}

inline void leaf_gen(const LeafGenJob& job) {
    const std::size_t words = std::size_t(job.width) << job.points, pitch = (words + 1) / 2 * 16;
    Paths paths;
    Payloads payloads(job);
    Array<u8> rows;  // where the leaves are not whole blocks, or too few
    for_groups(job.slice, [&](const HashPair& keys, std::size_t at, std::size_t count) {
        generate_paths(keys.node, job, job.points, at, count, paths);
        payloads.take(at, count);
        u64* const leaf = job.leaf + at * words;
        if (count == W && words % 2 == 0) return generate_words(job, keys.leaf, paths, payloads, reinterpret_cast<u8*>(leaf), pitch);
        rows.resize(W * pitch);
        generate_words(job, keys.leaf, paths, payloads, rows.data(), pitch);
        for (std::size_t i = 0; i < count; ++i) std::memcpy(leaf + i * words, rows.data() + i * pitch, 8 * words);
    });
}

}  // namespace
}  // namespace roundelay
