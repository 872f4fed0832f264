// Bindings. Arrays were checked in Python (engine/kernels/checks.py): here only pointers are taken, and the GIL is released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

#include <stdexcept>

#include "kernels.hpp"

namespace nb = nanobind;
using namespace roundelay;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <class T>
using LevelArray = nb::ndarray<T, nb::ndim<3>, nb::device::cpu>;

std::vector<const Target*> usable_targets() {
    std::vector<const Target*> found;
#if defined(ROUNDELAY_X86)
    const bool aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
                     __builtin_cpu_supports("popcnt");
    const bool wide = aes && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vnni") &&
                      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
                      __builtin_cpu_supports("avx512vpopcntdq");
#if defined(ROUNDELAY_AMX)
    if (const Target* tiles = wide ? amx_target() : nullptr) found.push_back(tiles);
#endif
    if (wide) found.push_back(&avx512_target);
    if (aes) found.push_back(&aesni_target);
#endif
    found.push_back(&portable_target);
    return found;
}

const std::vector<const Target*>& targets() {
    static const std::vector<const Target*> found = usable_targets();
    return found;
}

template <class T>
Levels<T> levels(const LevelArray<T>& cw) {
    return {cw.data(), cw.stride(0), int(cw.shape(0))};
}

// The keys that `n` instances of a gate from number `first` on use.
std::vector<HashKeys> hash_keys(const Target* target, const nb::bytes& tape, u64 gate, u64 first, std::size_t n) {
    RoundKeys round;
    target->expand_key(reinterpret_cast<const u8*>(tape.c_str()), round);
    const u64 block = first >> 16;
    std::vector<HashKeys> keys(n ? ((first + n - 1) >> 16) - block + 1 : 0);
    target->derive_keys(round, gate, block, keys.data(), keys.size());
    return keys;
}

// The functions of one target, as Python sees them.
struct Bound {
    const Target* target;

    void ctr(const nb::bytes& seed, u64 offset, Out<u64> out) const {
        RoundKeys keys;
        target->expand_key(reinterpret_cast<const u8*>(seed.c_str()), keys);
        nb::gil_scoped_release release;
        target->ctr(keys, offset, out.data(), out.size());
    }
    void pack(In<u64> values, int w, Out<u8> out) const {
        nb::gil_scoped_release release;
        target->pack(values.data(), w, out.data(), values.size());
    }
    void unpack(In<u8> data, int w, Out<u64> out) const {
        nb::gil_scoped_release release;
        target->unpack(data.data(), w, out.data(), out.size());
    }
    void mask(In<u64> values, const nb::bytes& seed, u64 offset, int w, Out<u8> out) const {
        RoundKeys keys;
        target->expand_key(reinterpret_cast<const u8*>(seed.c_str()), keys);
        nb::gil_scoped_release release;
        target->mask(keys, offset, values.data(), w, out.data(), values.size());
    }
    void combine(In<u8> own, In<u8> peer, int w, Out<u64> out, int drop) const {
        nb::gil_scoped_release release;
        target->combine(own.data(), peer.data(), w, drop, out.data(), out.size());
    }
    // (source, keystream offset, size, bits, repeat, add, drop, flip, shift); the source is words, bytes, or a seed. The caller's
    // sequence keeps the arrays alive.
    Operand operand(nb::handle from) const {
        Operand o{};
        o.offset = nb::cast<u64>(from[1]), o.size = nb::cast<u64>(from[2]), o.bits = nb::cast<int>(from[3]);
        o.repeat = nb::cast<u64>(from[4]), o.add = nb::cast<u64>(from[5]), o.drop = nb::cast<int>(from[6]);
        o.flip = nb::cast<u64>(from[7]), o.shift = nb::cast<int>(from[8]), o.width = (o.bits + 7) / 8;
        const nb::object source = from[0];
        if (nb::isinstance<nb::bytes>(source)) {
            target->expand_key(reinterpret_cast<const u8*>(nb::borrow<nb::bytes>(source).c_str()), o.keys);
            return o;
        }
        const auto array = nb::cast<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>>(source);
        if (array.dtype() == nb::dtype<u8>()) o.bytes = static_cast<const u8*>(array.data());
        else o.words = static_cast<const u64*>(array.data());
        return o;
    }
    void poly(nb::sequence operands, nb::sequence terms, int w, Out<u64> out) const {
        std::vector<Operand> read;
        std::vector<Term> list;
        for (nb::handle from : operands) read.push_back(operand(from));
        for (nb::handle term : terms) {
            Term& t = list.emplace_back(Term{nb::cast<u64>(term[0]), {}});
            for (nb::handle factor : term[1]) t.factors.push_back(nb::cast<u32>(factor));
        }
        nb::gil_scoped_release release;
        target->poly(read, list, w, out.data(), out.size());
    }
    template <class Entry>
    void matmul(In<u64> a, In<Entry> b, int w, Out<u64> out) const {
        const MatmulShape shape{a.shape(0), a.shape(1), a.shape(2), b.shape(2)};
        nb::gil_scoped_release release;
        if constexpr (std::is_same_v<Entry, u64>) target->matmul_u64(a.data(), b.data(), w, out.data(), shape);
        else if constexpr (std::is_same_v<Entry, i16>) target->matmul_i16(a.data(), b.data(), w, out.data(), shape);
        else target->matmul_i32(a.data(), b.data(), w, out.data(), shape);
    }
    void dpf_gen(int m, In<u64> alpha, In<u64> root0, In<u64> root1, nb::bytes tape, u64 gate, u64 first, LevelArray<u64> cw,
                 Out<u64> leaf, Out<u8> sigma) const {
        const std::vector<HashKeys> keys = hash_keys(target, tape, gate, first, alpha.size());
        const GenJob job{m, {first, alpha.size(), keys.data()}, alpha.data(), root0.data(), root1.data(), levels(cw), leaf.data(),
                         sigma.data()};
        nb::gil_scoped_release release;
        target->dpf_gen(job);
    }
    // questions: ("interval", e, f, out), ("half_line", e, (up, down, turned), out), ("equal", value, 0, out) or ("lookup", first, table, out).
    void dpf_eval(int party, int m, In<u64> root, LevelArray<const u64> cw, In<u64> leaf, nb::bytes tape, u64 gate, u64 first,
                  In<u64> x_hat, nb::sequence questions) const {
        const std::vector<HashKeys> keys = hash_keys(target, tape, gate, first, x_hat.size());
        EvalJob job{party, m, {first, x_hat.size(), keys.data()}, root.data(), levels(cw), leaf.data(), x_hat.data(), {}};
        for (nb::handle q : questions) {
            const char* kind = nb::borrow<nb::str>(q[0]).c_str();
            const u64 number = nb::cast<u64>(q[1]);
            if (kind[0] == 'i')
                job.questions.intervals.push_back({number, nb::cast<u64>(q[2]), nb::cast<Out<u8>>(q[3]).data()});
            else if (kind[0] == 'h') {
                const auto [up, down, turned] = nb::cast<std::tuple<u64, u64, bool>>(q[2]);
                job.questions.half_lines.push_back({number, up, down, turned, nb::cast<Out<u8>>(q[3]).data()});
            } else if (kind[0] == 'e')
                job.questions.equals.push_back({number, nb::cast<Out<u8>>(q[3]).data()});
            else {
                const auto table = nb::cast<In<i64>>(q[2]);
                job.questions.lookups.push_back({number, table.data(), table.size(), nb::cast<Out<u64>>(q[3]).data()});
            }
        }
        nb::gil_scoped_release release;
        target->dpf_eval(job);
    }
    void leaf_gen(int points, In<u64> alpha, In<u64> payload, In<u64> root0, In<u64> root1, nb::bytes tape, u64 gate, u64 first,
                  LevelArray<u64> cw, Out<u64> leaf) const {
        const std::vector<HashKeys> keys = hash_keys(target, tape, gate, first, alpha.size());
        const LeafGenJob job{points, int(payload.shape(1)), {first, alpha.size(), keys.data()}, alpha.data(), payload.data(),
                             root0.data(), root1.data(), levels(cw), leaf.data()};
        nb::gil_scoped_release release;
        target->leaf_gen(job);
    }
    void leaf_eval(int party, int m, int points, In<u64> root, LevelArray<const u64> cw, In<u64> leaf, nb::bytes tape, u64 gate,
                   u64 first_instance, In<u64> x_hat, nb::object d_hat, u64 first, In<i64> value, nb::object slope, int width,
                   Out<u64> out) const {
        const std::vector<HashKeys> keys = hash_keys(target, tape, gate, first_instance, x_hat.size());
        const bool sloped = !slope.is_none();
        const LeafEvalJob job{party, m, points, {first_instance, x_hat.size(), keys.data()}, root.data(), levels(cw), leaf.data(),
                              x_hat.data(), sloped ? nb::cast<In<u64>>(d_hat).data() : nullptr, first, value.data(),
                              sloped ? nb::cast<In<i64>>(slope).data() : nullptr, value.size(), width, out.data()};
        nb::gil_scoped_release release;
        target->leaf_eval(job);
    }
    template <class Count>
    void onehot_share(In<u64> r, In<Count> hot0, Out<Count> out) const {
        nb::gil_scoped_release release;
        if constexpr (sizeof(Count) == 1) target->onehot_share_u8(r.data(), hot0.data(), out.data(), r.size(), out.shape(1));
        else target->onehot_share_u16(r.data(), hot0.data(), out.data(), r.size(), out.shape(1));
    }
    template <class Count>
    void onehot_counts(In<Count> hot, In<u64> t_hat, Out<Count> out) const {
        nb::gil_scoped_release release;
        const std::size_t rows = hot.shape(0), length = hot.shape(1), buckets = hot.shape(2);
        if constexpr (sizeof(Count) == 1) target->onehot_counts_u8(hot.data(), t_hat.data(), out.data(), rows, length, buckets);
        else target->onehot_counts_u16(hot.data(), t_hat.data(), out.data(), rows, length, buckets);
    }
};

Bound select(const char* name) {
    for (const Target* target : targets())
        if (!*name || std::string_view(name) == target->name) return {target};
    throw std::invalid_argument("this machine has no such kernel target");
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // kernels are kept for the life of the process
    m.doc() = "C++ kernels behind engine.kernels.native_kernels";
    m.def("targets", [] {
        nb::list names;
        for (const Target* target : targets()) names.append(target->name);
        return names;
    });
    nb::class_<Bound>(m, "Target")
        .def("__init__", [](Bound* self, const char* name) { new (self) Bound(select(name)); })
        .def_prop_ro("name", [](const Bound& b) { return b.target->name; })
        .def("ctr", &Bound::ctr)
        .def("pack", &Bound::pack)
        .def("unpack", &Bound::unpack)
        .def("mask", &Bound::mask)
        .def("combine", &Bound::combine)
        .def("poly", &Bound::poly)
        .def("matmul", &Bound::matmul<u64>)
        .def("matmul", &Bound::matmul<i16>)
        .def("matmul", &Bound::matmul<i32>)
        .def("dpf_gen", &Bound::dpf_gen)
        .def("dpf_eval", &Bound::dpf_eval)
        .def("leaf_gen", &Bound::leaf_gen)
        .def("leaf_eval", &Bound::leaf_eval, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
             nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg())
        .def("onehot_share", &Bound::onehot_share<u8>)
        .def("onehot_share", &Bound::onehot_share<u16>)
        .def("onehot_counts", &Bound::onehot_counts<u8>)
        .def("onehot_counts", &Bound::onehot_counts<u16>);
}
