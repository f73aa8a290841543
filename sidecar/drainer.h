// Drainer: the end of a run. It has the proxy send its clients home in good time, and says with
// which exit code the process ends; it closes nothing by itself and knows no signal.
//
//   drain() -> each tick: nobody there and drain.minDelay over?          0
//                         drain.timeout over: clients end at their transaction's end
//                         and kLastTransactions_us later: the rest are cut  3
#pragma once

#include <functional>
#include <optional>

#include "net/loop.h"
#include "net/timer.h"
#include "proxy/proxy.h"

namespace carpool {

class Drainer {
 public:
  // After drain.timeout, how long transactions may still take to end. The kubelet's default grace
  // period is 30 s, drain.timeout's default 25 s.
  static constexpr Micros kLastTransactions_us = 2 * kMicrosPerSecond;
  static constexpr Micros kTick_us = 50 * kMicrosPerMilli;

  // `end` is called with the exit code when nobody needs to be waited for any more. All must
  // outlive it.
  Drainer(net::Loop& loop, proxy::Proxy& proxy, std::function<void(int exit_code)> end)
      : loop_(loop), proxy_(proxy), end_(std::move(end)) {}

  // Begins, or no longer waits for drain.minDelay. `why` is for the log.
  void drain(const char* why, bool wait_min_delay);
  bool draining() const { return since_us_.has_value(); }
  // Ends at once, whoever is there.
  void end_now();
  void stop() { timer_.stop(); }

 private:
  void tick();

  net::Loop& loop_;
  proxy::Proxy& proxy_;
  std::function<void(int exit_code)> end_;
  net::Timer timer_;
  std::optional<Micros> since_us_;
  bool waits_min_delay_ = false;  // as long as it is configured now
};

}  // namespace carpool
