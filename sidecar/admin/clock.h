// The HTTP threads' monotonic clock; the loop has its own.
#pragma once

#include <chrono>

#include "base/units.h"

namespace carpool::admin {

inline Micros monotonic_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

}  // namespace carpool::admin
