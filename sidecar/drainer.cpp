#include "drainer.h"

#include "exit_codes.h"
#include "proxy/log.h"

namespace carpool {

namespace log = proxy::log;

void Drainer::drain(const char* why, bool wait_min_delay) {
  waits_min_delay_ = wait_min_delay && (waits_min_delay_ || !since_us_);
  if (since_us_) return;
  since_us_ = loop_.now_us();
  log::info("draining", {{"why", why}, {"clients", proxy_.client_count()}});
  proxy_.begin_drain();
  timer_.start(loop_, 0, kTick_us, [this] { tick(); });
}

void Drainer::end_now() {
  end_(proxy_.busy_clients() > 0 ? kExitCut : kExitClean);
}

void Drainer::tick() {
  const Micros drained_us = loop_.now_us() - *since_us_;
  const Micros min_us = waits_min_delay_ ? proxy_.config().drain.min_delay_us : 0;
  const Micros timeout_us = proxy_.config().drain.timeout_us;
  if (proxy_.client_count() == 0 && drained_us >= min_us) return end_(kExitClean);
  if (drained_us < timeout_us) return;
  if (!proxy_.ending_clients()) {
    log::warn("drain.timeout is over: closing clients at the end of their transactions",
              {{"clients", proxy_.client_count()}, {"busy", proxy_.busy_clients()}});
    proxy_.end_clients();
  }
  if (drained_us < timeout_us + kLastTransactions_us) return;
  log::error("clients cut inside a transaction", {{"clients", proxy_.busy_clients()}});
  end_(kExitCut);
}

}  // namespace carpool
