// Runs what dealer and parties do to secrets - Gen, Gen of arithmetic leaves, one-hot shares; evaluation of both kinds of keys at public
// points, openings, polynomials - on secrets drawn from a number, for test_constant_time.py. TARGET is the `isa_*.hpp` to compile.
//
//   run SECRET   once, between two stores to the address that it prints: another tool records all addresses
//   steps        for a few numbers, each in a child that is single-stepped: prints what it did, its instructions and a hash of their addresses
#include TARGET

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "eval.hpp"
#include "gen.hpp"
#include "leaf_eval.hpp"
#include "openings.hpp"
#include "polynomial.hpp"
#include "streams.hpp"

using namespace roundelay;

namespace {

constexpr std::size_t N = Isa::blocks * Isa::group + 3, BUCKETS = 32;  // a whole group and a shorter one
constexpr int M = 9, POINTS = 3, WIDTH = 2;
constexpr int DEEP = M - POINTS + BLOCK_BITS;  // as many levels as there is room for
constexpr std::size_t ENTRIES = 40;

struct Work {
    u64 alpha[N], roots[2][2 * N], payload[WIDTH * N], cw[2 * N * (M - POINTS)], leaf[N * (WIDTH << POINTS)], r[N];
    u8 sigma[N], hot[N * BUCKETS], share[N * BUCKETS], message[8 * N], peer[8 * N];
    HashKeys keys;
};
Work work;
volatile u64 marker;

struct Public {
    u64 x_hat[N], d_hat[N];
    i64 table[ENTRIES], slope[ENTRIES];
    Public() {
        for (std::size_t i = 0; i < N; ++i) x_hat[i] = i * 237 & low_bits(DEEP), d_hat[i] = i * 77;
        for (std::size_t i = 0; i < ENTRIES; ++i) table[i] = i64(i) * 12345 - 999999, slope[i] = i64(i) - 60;
    }
};
const Public known;
struct Results {
    u64 words[3][N];
    u8 bits[3][N];
};
Results results;

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

void evaluate_keys(int m) {
    u64 x_hat[N];
    for (std::size_t i = 0; i < N; ++i) x_hat[i] = known.x_hat[i] & low_bits(m);
    EvalJob job{1, m, {0, W, &work.keys}, work.roots[1], {work.cw, 2 * N, m - BLOCK_BITS}, work.leaf, x_hat, {}};
    job.questions.intervals = {{5, 50, results.bits[0]}};
    job.questions.half_lines = {{3, 100, low_bits(m) - 100, false, results.bits[1]}};
    job.questions.equals = {{9, results.bits[2]}};
    job.questions.lookups = {{20, known.table, ENTRIES, results.words[0]}, {30, known.table, 9, results.words[1]}};
    dpf_eval(job);
}

void evaluate() {
    evaluate_keys(BLOCK_BITS + 1);  // a block a leaf
    evaluate_keys(M);
    evaluate_keys(DEEP);
    const Levels<const u64> words{work.cw, 2 * N, M - POINTS};
    u64 x_hat[N];
    for (std::size_t i = 0; i < N; ++i) x_hat[i] = known.x_hat[i] & low_bits(M);
    leaf_eval({1, M, POINTS, {0, B, &work.keys}, work.roots[1], words, work.leaf, x_hat, known.d_hat, 20, known.table, known.slope, 9, 46, results.words[2]});
}

void open_and_combine() {
    mask(work.keys.node, 0, work.r, 41, work.message, N);
    combine(work.message, work.peer, 41, 12, results.words[0], N);
    const auto operand = [](const u64* words) { return Operand{words, nullptr, 8, {}, 0, N, 1, 0, 0, 64, 0, 0}; };
    poly({operand(work.alpha), operand(work.r)}, {{3, {0, 1}}, {5, {1}}}, 50, results.words[1], N);
}

using Part = void (*)();

void use_keys() {
    evaluate();
    open_and_combine();
}

void child(Part part, u64 secret) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    draw(secret);
    raise(SIGSTOP);
    part();
    raise(SIGUSR1);
    _exit(0);
}

// From the child's SIGSTOP to its SIGUSR1.
bool trace(Part part, u64 secret, char (&line)[64]) {
    const pid_t pid = fork();
    if (pid == 0) child(part, secret);
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

// The first run is not kept: it leaves this process, which the others are copies of, as they find it.
bool trace_all(Part part, int secrets, char (*lines)[64]) {
    char first[64];
    if (!trace(part, 0, first)) return false;
    for (int i = 0; i < secrets; ++i)
        if (!trace(part, u64(i) + 1, lines[i])) return false;
    return true;
}

}  // namespace

int main(int, char** arguments) {
    if (std::string_view(arguments[1]) == "run") {
        draw(std::strtoull(arguments[2], nullptr, 10));
        marker = 1;
        generate();
        use_keys();
        marker = 2;
        std::printf("%p\n", const_cast<u64*>(&marker));
        return 0;
    }
    char gen[4][64], eval[2][64];  // printed at the end: printing takes memory
    if (!trace_all(generate, 4, gen) || !trace_all(use_keys, 2, eval)) return 1;
    for (const auto& line : gen) std::printf("gen %s\n", line);
    for (const auto& line : eval) std::printf("eval %s\n", line);
    return 0;
}
