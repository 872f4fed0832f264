// The extension module: argument checks and bindings.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_native, m) {
    m.doc() = "C++ kernels behind engine.kernels.native_kernels";
    m.def("instruction_sets", [] {
        nb::list found;
#if defined(__x86_64__)
        if (__builtin_cpu_supports("aes")) found.append("aes");
        if (__builtin_cpu_supports("vaes")) found.append("vaes");
        if (__builtin_cpu_supports("avx512dq")) found.append("avx512dq");
        if (__builtin_cpu_supports("avx512ifma")) found.append("avx512ifma");
#endif
        return found;
    });
}
