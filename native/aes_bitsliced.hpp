// AES without AES instructions and without tables: constant time, 16 blocks at once.
//
// Bit planes: word k of a state holds bit k of 64 bytes (4 blocks); a vector type holds four such words, so 16 blocks. After the
// transposition below, byte r + 4 c of block q (row r, column c) lies in bit 8 (r + 4 (c mod 2)) + 2 q + c / 2 of each plane.
// The S-box is the published 113-gate circuit of Boyar and Peralta (eprint 2011/332).
#pragma once

#include <cstring>

#include "kernels.hpp"

namespace roundelay {
namespace {

typedef u64 Planes __attribute__((vector_size(32)));

inline Planes planes(u64 x) { return Planes{x, x, x, x}; }

inline void sbox(Planes (&q)[8]) {
    const Planes x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4], x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];
    // Top linear layer.
    const Planes y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3;
    const Planes y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1;
    const Planes y6 = y15 ^ x7, y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
    const Planes y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;
    // Inversion in GF(2^8), by way of GF(2^4).
    const Planes t2 = y12 & y15, t4 = (y3 & y6) ^ t2, t6 = (y4 & x7) ^ t2, t7 = y13 & y16, t9 = (y5 & y1) ^ t7;
    const Planes t11 = (y2 & y7) ^ t7, t12 = y9 & y11, t14 = (y14 & y17) ^ t12, t16 = (y8 & y10) ^ t12;
    const Planes t21 = t4 ^ t14 ^ y20, t22 = t6 ^ t16 ^ y19, t23 = t9 ^ t14 ^ y21, t24 = t11 ^ t16 ^ y18;
    const Planes t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26, t29 = (t25 & t27) ^ t22;
    const Planes t33 = ((t22 ^ t26) & (t23 ^ t24)) ^ t24, t36 = t24 & (t27 ^ t33), t37 = t36 ^ t23 ^ t33;
    const Planes t40 = t25 ^ (t29 & (t27 ^ t36)), t41 = t40 ^ t37, t42 = t29 ^ t33, t43 = t29 ^ t40, t44 = t33 ^ t37;
    const Planes t45 = t42 ^ t41;
    const Planes z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1, z5 = t29 & y7, z6 = t42 & y11;
    const Planes z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4, z12 = t43 & y13;
    const Planes z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;
    // Bottom linear layer.
    const Planes t46 = z15 ^ z16, t48 = z5 ^ z13, t53 = z0 ^ z3, t54 = z6 ^ z7, t57 = z2 ^ z12 ^ t53, t58 = z4 ^ t46;
    const Planes t59 = z3 ^ t54, t62 = z7 ^ z8 ^ t58, t63 = z9 ^ z10 ^ t58, t64 = z4 ^ t59, t65 = z14 ^ t57 ^ t62;
    const Planes t66 = z1 ^ t63, s3 = t53 ^ t66;
    q[7] = t59 ^ t63;
    q[6] = t64 ^ ~s3;
    q[5] = z16 ^ z17 ^ ~(t64 ^ t65);
    q[4] = s3;
    q[3] = z2 ^ z5 ^ t66;
    q[2] = z10 ^ z11 ^ t65;
    q[1] = z12 ^ t48 ^ ~t62;
    q[0] = t48 ^ ~(t46 ^ t57);
}

inline void swap_bits(Planes& a, Planes& b, u64 mask, int shift) {
    const Planes x = ((a >> shift) ^ b) & planes(mask);
    a ^= x << shift;
    b ^= x;
}

// Eight words of bytes <-> eight planes of bits; its own inverse.
inline void transpose(Planes (&q)[8]) {
    for (int i = 0; i < 8; i += 2) swap_bits(q[i], q[i + 1], 0x5555555555555555, 1);
    for (int i : {0, 1, 4, 5}) swap_bits(q[i], q[i + 2], 0x3333333333333333, 2);
    for (int i = 0; i < 4; ++i) swap_bits(q[i], q[i + 4], 0x0f0f0f0f0f0f0f0f, 4);
}

inline Planes swap_halves(Planes x) { return (x >> 32) | (x << 32); }

inline Planes shift_rows(Planes x) {
    const Planes pairs = ((x >> 1) & planes(0x5555555555555555)) | ((x & planes(0x5555555555555555)) << 1);
    return (x & planes(0x000000ff000000ff)) | (pairs & planes(0x00ff000000ff0000)) |
           (swap_halves(x) & planes(0xff0000000000ff00)) | (swap_halves(pairs) & planes(0x0000ff00ff000000));
}

inline Planes next_row(Planes x) {  // row r takes row r + 1
    return ((x >> 8) & planes(0x00ffffff00ffffff)) | ((x & planes(0x000000ff000000ff)) << 24);
}

inline Planes opposite_row(Planes x) {
    return ((x >> 16) & planes(0x0000ffff0000ffff)) | ((x & planes(0x0000ffff0000ffff)) << 16);
}

// 2 (a xor a') xor a' xor (a xor a') two rows on, where a' is the next row.
inline void mix_columns(Planes (&q)[8]) {
    Planes sum[8], next[8];
    for (int k = 0; k < 8; ++k) {
        next[k] = next_row(q[k]);
        sum[k] = q[k] ^ next[k];
    }
    for (int k = 0; k < 8; ++k) {
        Planes twice = k ? sum[k - 1] : sum[7];
        if (k == 1 || k == 3 || k == 4) twice ^= sum[7];  // the field polynomial x^8 + x^4 + x^3 + x + 1
        q[k] = twice ^ next[k] ^ opposite_row(sum[k]);
    }
}

// Lane l of the vectors holds blocks 4 l to 4 l + 3.
inline void load_blocks(const u8* in, Planes (&q)[8]) {
    u64 words[32];
    std::memcpy(words, in, sizeof words);
    for (int i = 0; i < 8; ++i) q[i] = Planes{words[i], words[8 + i], words[16 + i], words[24 + i]};
    transpose(q);
}

inline void store_blocks(Planes (&q)[8], u8* out) {
    transpose(q);
    u64 words[32];
    for (int i = 0; i < 8; ++i)
        for (int lane = 0; lane < 4; ++lane) words[8 * lane + i] = q[i][lane];
    std::memcpy(out, words, sizeof words);
}

struct BitslicedKeys {
    Planes round[11][8];

    explicit BitslicedKeys(const RoundKeys& keys) {
        for (int r = 0; r < 11; ++r) {
            u8 copies[256];
            for (int i = 0; i < 16; ++i) std::memcpy(copies + 16 * i, keys.bytes[r], 16);
            load_blocks(copies, round[r]);
        }
    }
};

inline void encrypt_16_blocks(const BitslicedKeys& keys, u8* blocks) {
    Planes q[8];
    load_blocks(blocks, q);
    for (int k = 0; k < 8; ++k) q[k] ^= keys.round[0][k];
    for (int r = 1; r <= 10; ++r) {
        sbox(q);
        for (int k = 0; k < 8; ++k) q[k] = shift_rows(q[k]);
        if (r < 10) mix_columns(q);
        for (int k = 0; k < 8; ++k) q[k] ^= keys.round[r][k];
    }
    store_blocks(q, blocks);
}

}  // namespace
}  // namespace roundelay
