// Simulated: the monotonic clock and the kernel's random numbers of this process, so that an input
// does the same each time and hours pass at once. libuv and Carpool ask the C library for both, and
// the linker gives them these. Wall time, which libFuzzer goes by, is the real one.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace carpool::fuzz {

// The clock stands still but for pass(). From here on random numbers are those of an input.
void begin_simulation();
void pass(Micros us);

}  // namespace carpool::fuzz
