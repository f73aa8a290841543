// Timer: calls back at an interval on the loop, until it is closed or destroyed.
#pragma once

#include <functional>

#include "net/loop.h"

namespace carpool::net {

class Timer {
 public:
  Timer() = default;
  ~Timer() { stop(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // First after `delay_us`, then each `repeat_us`; 0: once. Replaces what was set before.
  void start(Loop& loop, Micros delay_us, Micros repeat_us, std::function<void()> fn);
  void stop();
  bool running() const { return state_ != nullptr; }

 private:
  struct State;
  State* state_ = nullptr;
};

}  // namespace carpool::net
