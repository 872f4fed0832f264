#include "isa_portable.hpp"
#include "target.hpp"

namespace roundelay {
const Target portable_target = make_target("portable");
}
