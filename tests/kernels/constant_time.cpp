// Runs what the dealer does to secrets - Gen, Gen of arithmetic leaves, one-hot shares - on secrets drawn from a number, for
// test_constant_time.py. TARGET is the `isa_*.hpp` to compile.
//
//   run SECRET   once, between two stores to the address that it prints: another tool records all addresses
//   steps        for a few numbers, each in a child that is single-stepped: prints instructions and a hash of their addresses
#include TARGET

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "gen.hpp"
#include "streams.hpp"

using namespace roundelay;

namespace {

constexpr std::size_t N = Isa::blocks * Isa::group + 3, BUCKETS = 32;  // a whole group and a shorter one
constexpr int M = 9, POINTS = 3, WIDTH = 2;

struct Work {
    u64 alpha[N], roots[2][2 * N], payload[WIDTH * N], cw[2 * N * (M - POINTS)], leaf[N * (WIDTH << POINTS)], r[N];
    u8 sigma[N], hot[N * BUCKETS], share[N * BUCKETS];
    HashKeys keys;
};
Work work;
volatile u64 marker;

void draw(u64 secret) {
    const auto fill = [&](void* to, std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i) {
            secret = secret * 6364136223846793005u + 1442695040888963407u;
            static_cast<u8*>(to)[i] = u8(secret >> 56);
        }
    };
    fill(&work, offsetof(Work, keys));
    for (u64& a : work.alpha) a &= (u64(1) << M) - 1;
    for (u64& r : work.r) r &= BUCKETS - 1;
    const u8 key[16] = {1, 2, 3};  // public
    Isa::expand_key(key, work.keys.node);
    Isa::expand_key(key, work.keys.leaf);
}

void generate() {
    const Slice slice{0, N, &work.keys};
    const Levels<u64> bits{work.cw, 2 * N, M - 7}, words{work.cw, 2 * N, M - POINTS};
    dpf_gen({M, slice, work.alpha, work.roots[0], work.roots[1], bits, work.leaf, work.sigma});
    leaf_gen({POINTS, WIDTH, slice, work.alpha, work.payload, work.roots[0], work.roots[1], words, work.leaf});
    onehot_share(work.r, work.hot, work.share, N, BUCKETS);
}

void child(u64 secret) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    draw(secret);
    raise(SIGSTOP);
    generate();
    raise(SIGUSR1);
    _exit(0);
}

// From the child's SIGSTOP to its SIGUSR1.
bool trace(u64 secret, char (&line)[64]) {
    const pid_t pid = fork();
    if (pid == 0) child(secret);
    int status = 0;
    u64 hash = 14695981039346656037u, count = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP) return false;
    for (;; ++count) {
        user_regs_struct registers;
        if (ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr) || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) return false;
        if (WSTOPSIG(status) == SIGUSR1) break;
        if (ptrace(PTRACE_GETREGS, pid, nullptr, &registers)) return false;
        hash = (hash ^ registers.rip) * 1099511628211u;
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    std::snprintf(line, sizeof line, "%llu %llx", static_cast<unsigned long long>(count), static_cast<unsigned long long>(hash));
    return true;
}

}  // namespace

int main(int, char** arguments) {
    if (std::string_view(arguments[1]) == "run") {
        draw(std::strtoull(arguments[2], nullptr, 10));
        marker = 1;
        generate();
        marker = 2;
        std::printf("%p\n", const_cast<u64*>(&marker));
        return 0;
    }
    char lines[5][64];  // the first run is not shown: it leaves this process, which the others are copies of, as they find it
    for (u64 secret = 0; secret < 5; ++secret)
        if (!trace(secret, lines[secret])) return 1;
    for (int i = 1; i < 5; ++i) std::puts(lines[i]);
    return 0;
}
