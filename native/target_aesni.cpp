#include "isa_aesni.hpp"
#include "target.hpp"

namespace roundelay {
const Target aesni_target = make_target("aesni");
}
