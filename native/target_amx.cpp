// The AVX-512 target with matrix products on AMX tiles, which Linux gives to a process that asks.
#include "matmul_amx.hpp"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace roundelay {
namespace {

bool has_tiles() {
    unsigned a, b, c, d;
    constexpr unsigned tile = 1u << 24, int8 = 1u << 25;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tile) && (d & int8);
}

bool may_use_tiles() {
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

// Fewer rows do not repay the packing of b, of whose words there are more planes; a depth of half a tile or less, neither.
template <class Entry>
constexpr std::size_t few_rows = sizeof(Entry) == sizeof(u64) ? 32 : 8;

template <class Entry, auto vectors>
void product(const u64* a, const Entry* b, int w, u64* out, MatmulShape s) {
    if (s.m < few_rows<Entry> || s.k <= TILE_DEPTH / 2) (avx512_target.*vectors)(a, b, w, out, s);
    else matmul(a, b, w, out, s);
}

}  // namespace

const Target* amx_target() {
    static const Target target = [] {
        Target t = avx512_target;
        t.name = "amx";
        t.matmul_u64 = product<u64, &Target::matmul_u64>;
        t.matmul_i16 = product<i16, &Target::matmul_i16>;
        t.matmul_i32 = product<i32, &Target::matmul_i32>;
        return t;
    }();
    return has_tiles() && may_use_tiles() ? &target : nullptr;
}

}  // namespace roundelay
