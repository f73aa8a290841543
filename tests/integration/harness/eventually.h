// Waiting for conditions: the only way in which the integration tests let time pass. A deadline is
// generous because it is only reached when the promise is broken.
#pragma once

#include <chrono>
#include <string>
#include <thread>

namespace carpool::integration {

using Clock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;
using namespace std::chrono_literals;

inline constexpr Millis kDeadline = 40s;

// True as soon as `condition()` is; false when it was not within `deadline`.
template <typename Condition>
bool eventually(Condition&& condition, Millis deadline = kDeadline) {
  const Clock::time_point end = Clock::now() + deadline;
  while (true) {
    if (condition()) return true;
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(5ms);
  }
}

// True when `condition()` stayed true for all of `span`: for what must not happen.
template <typename Condition>
bool throughout(Condition&& condition, Millis span) {
  return !eventually([&] { return !condition(); }, span);
}

inline Millis since(Clock::time_point start) {
  return std::chrono::duration_cast<Millis>(Clock::now() - start);
}

}  // namespace carpool::integration

#define EVENTUALLY(...) \
  EXPECT_TRUE(::carpool::integration::eventually([&] { return (__VA_ARGS__); })) << #__VA_ARGS__
#define ASSERT_EVENTUALLY(...) \
  ASSERT_TRUE(::carpool::integration::eventually([&] { return (__VA_ARGS__); })) << #__VA_ARGS__
