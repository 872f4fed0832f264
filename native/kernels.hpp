// What every target (portable, AES-NI, AVX-512, AMX) implements. Sizes are checked in Python before these are called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace roundelay {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

struct RoundKeys {
    alignas(64) u8 bytes[11][16];
};

struct HashKeys {
    RoundKeys node, leaf;  // of H and H'
};

// The public inputs of a slice of DPF instances: one pair of keys for each 2^16 instances, counted from `first`.
struct Slice {
    u64 first;
    std::size_t n;
    const HashKeys* keys;
};

// Correction words [level][instance], 16 bytes each; `stride` counts words from one level to the next.
template <class Word>
struct Levels {
    Word* data;
    std::ptrdiff_t stride;
    int count;
};

struct Interval {
    u64 e, f;  // x_hat - e and x_hat - f are the thresholds
    u8* out;
};

// [x >= lo] in one walk: e wrapped only where it is at most `up` or more than `down`.
struct HalfLine {
    u64 e, up, down;
    bool turned;  // [x < lo]
    u8* out;
};

struct Equal {
    u64 value;
    u8* out;
};

struct Lookup {
    u64 first;
    const i64* table;
    u64 size;
    u64* out;
};

struct Questions {
    std::vector<Interval> intervals;
    std::vector<HalfLine> half_lines;
    std::vector<Equal> equals;
    std::vector<Lookup> lookups;
};

struct GenJob {
    int m;
    Slice slice;
    const u64 *alpha, *root0, *root1;
    Levels<u64> cw;
    u64* leaf;
    u8* sigma;
};

struct EvalJob {
    int party, m;
    Slice slice;
    const u64* root;
    Levels<const u64> cw;
    const u64 *leaf, *x_hat;
    Questions questions;
};

struct LeafGenJob {
    int points, width;  // a leaf holds 2^points points of `width` words
    Slice slice;
    const u64 *alpha, *payload, *root0, *root1;
    Levels<u64> cw;
    u64* leaf;
};

struct LeafEvalJob {
    int party, m, points;
    Slice slice;
    const u64* root;
    Levels<const u64> cw;
    const u64 *leaf, *x_hat, *d_hat;  // d_hat is null without a slope
    u64 first;
    const i64 *value, *slope;
    u64 size;
    int width;  // of the ring of `out`
    u64* out;
};

// Element i of an operand: e = source[i / repeat mod size], then ((e + add mod 2^bits) >> drop xor flip) << shift. The source is
// words, or bytes (`width` an element), or, where both are null, a keystream.
struct Operand {
    const u64* words;
    const u8* bytes;
    int width;
    RoundKeys keys;
    u64 offset, size, repeat, add, flip;
    int bits, drop, shift;
};

struct Term {
    u64 coefficient;
    std::vector<u32> factors;
};

struct MatmulShape {
    std::size_t batch, m, k, n;
};

// One implementation of everything, compiled for one instruction set.
struct Target {
    const char* name;
    void (*expand_key)(const u8 key[16], RoundKeys& out);  // the AES-128 key schedule
    void (*derive_keys)(const RoundKeys& tape, u64 gate, u64 block, HashKeys* out, std::size_t count);  // of 2^16 instances each
    void (*ctr)(const RoundKeys&, u64 offset, u64* out, std::size_t n);
    void (*pack)(const u64* values, int w, u8* out, std::size_t n);
    void (*unpack)(const u8* data, int w, u64* out, std::size_t n);
    void (*mask)(const RoundKeys&, u64 offset, const u64* values, int w, u8* out, std::size_t n);
    void (*combine)(const u8* own, const u8* peer, int w, int drop, u64* out, std::size_t n);
    void (*poly)(const std::vector<Operand>& operands, const std::vector<Term>& terms, int w, u64* out, std::size_t n);
    void (*matmul_u64)(const u64* a, const u64* b, int w, u64* out, MatmulShape);
    void (*matmul_i16)(const u64* a, const i16* b, int w, u64* out, MatmulShape);
    void (*matmul_i32)(const u64* a, const i32* b, int w, u64* out, MatmulShape);
    void (*dpf_gen)(const GenJob&);
    void (*dpf_eval)(const EvalJob&);
    void (*leaf_gen)(const LeafGenJob&);
    void (*leaf_eval)(const LeafEvalJob&);
    void (*onehot_share_u8)(const u64* r, const u8* hot0, u8* out, std::size_t n, std::size_t buckets);
    void (*onehot_share_u16)(const u64* r, const u16* hot0, u16* out, std::size_t n, std::size_t buckets);
    void (*onehot_counts_u8)(const u8* hot, const u64* t_hat, u8* out, std::size_t rows, std::size_t length, std::size_t b);
    void (*onehot_counts_u16)(const u16* hot, const u64* t_hat, u16* out, std::size_t rows, std::size_t length, std::size_t b);
};

extern const Target portable_target;
#if defined(ROUNDELAY_X86)
extern const Target aesni_target, avx512_target;
#endif
#if defined(ROUNDELAY_AMX)
const Target* amx_target();  // for a machine that has avx512_target; null where it has no tiles or the system refuses them
#endif

inline u64 low_bits(int w) { return w >= 64 ? ~u64(0) : (u64(1) << w) - 1; }

}  // namespace roundelay
