#include "isa_avx512.hpp"
#include "target.hpp"

namespace roundelay {
const Target avx512_target = make_target("avx512");
}
