// Units: times are whole microseconds in an int64, named `_us`, sizes are bytes.
//
// A moment is microseconds of a monotonic clock whose zero means nothing; it is always handed in
// (`now_us`), never read here, so that decisions can be tested under a simulated clock.
#pragma once

#include <cstdint>

namespace carpool {

using Micros = std::int64_t;

inline constexpr Micros kMicrosPerMilli = 1'000;
inline constexpr Micros kMicrosPerSecond = 1'000'000;

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;

inline constexpr double seconds(Micros us) {
  return static_cast<double>(us) / static_cast<double>(kMicrosPerSecond);
}

}  // namespace carpool
