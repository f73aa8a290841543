// Turns of a loop until something holds, for tests. The deadline is there only so that a test that
// has failed ends.
#pragma once

#include <gtest/gtest.h>

#include "net/loop.h"
#include "net/timer.h"

namespace carpool::net {

template <typename Condition>
testing::AssertionResult run_until(Loop& loop, Condition&& condition) {
  constexpr Micros kDeadline_us = 20 * kMicrosPerSecond;
  const Micros end = Loop::clock_us() + kDeadline_us;
  Timer awake;
  awake.start(loop, kMicrosPerMilli, kMicrosPerMilli, [] {});
  while (!condition()) {
    if (Loop::clock_us() > end) return testing::AssertionFailure() << "it never came to be";
    loop.run_once();
  }
  return testing::AssertionSuccess();
}

// Enough turns for whatever is ready to have been dealt with.
inline void run_turns(Loop& loop, int turns = 20) {
  Timer awake;
  awake.start(loop, kMicrosPerMilli, kMicrosPerMilli, [] {});
  for (int i = 0; i < turns; ++i) loop.run_once();
}

}  // namespace carpool::net
