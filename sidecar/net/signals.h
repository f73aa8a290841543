// Signals: delivers SIGTERM, SIGINT and SIGHUP on the loop.
#pragma once

#include <array>
#include <functional>

#include "net/loop.h"

namespace carpool::net {

class Signals {
 public:
  Signals(Loop& loop, std::function<void(int signal)> on_signal);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  struct State;
  State* state_;
};

}  // namespace carpool::net
