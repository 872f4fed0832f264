// Sums of a public table over secret bits: `Rows` holds the bits of W instances, `TableSum` adds up.
#pragma once

#if defined(__AVX512VBMI__)
#include "table_nibbles.hpp"
#else
#include "table_planes.hpp"
#endif
