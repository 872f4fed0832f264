// Containers of one target. Their type is local to the file that includes this, so that the linker cannot replace one target's
// code by another's, compiled for instructions that this machine may lack.
#pragma once

#include <memory>
#include <vector>

#include "kernels.hpp"

namespace roundelay {
namespace {

template <class T>
struct LocalAllocator : std::allocator<T> {
    template <class U>
    struct rebind {
        using other = LocalAllocator<U>;
    };
    LocalAllocator() = default;
    template <class U>
    LocalAllocator(const LocalAllocator<U>&) {}
};

template <class T>
using Array = std::vector<T, LocalAllocator<T>>;

}  // namespace
}  // namespace roundelay
