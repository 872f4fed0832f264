#include "isa_portable.hpp"
#include "target.hpp"

namespace roundelay {

const Target portable_target = make_target("portable");

void expand_key(const u8 key[16], RoundKeys& out) {
    std::memcpy(out.bytes[0], key, 16);
    u8 constant = 1;
    for (int r = 1; r <= 10; ++r) {
        const u8* last = out.bytes[r - 1];
        u8 blocks[256] = {};
        for (int i = 0; i < 4; ++i) blocks[i] = last[12 + (i + 1) % 4];
        Planes q[8];
        load_blocks(blocks, q);
        sbox(q);
        store_blocks(q, blocks);
        blocks[0] ^= constant;
        for (int i = 0; i < 16; ++i) out.bytes[r][i] = last[i] ^ (i < 4 ? blocks[i] : out.bytes[r][i - 4]);
        constant = u8((constant << 1) ^ (constant & 0x80 ? 0x1b : 0));  // public
    }
}

}  // namespace roundelay
