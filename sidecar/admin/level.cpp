#include "admin/level.h"

#include <algorithm>

namespace carpool::admin {

using pool::ClientState;
using pool::SlotState;

const char* level_name(Level level) {
  switch (level) {
    case Level::Ok:
      return "ok";
    case Level::Warning:
      return "warning";
    case Level::Critical:
      return "critical";
  }
  return "critical";
}

std::uint32_t busy_servers(const pool::PoolSnapshot& pool) {
  const auto in = [&](SlotState state) { return pool.servers[static_cast<std::size_t>(state)]; };
  return in(SlotState::Leased) + in(SlotState::Resetting) + in(SlotState::Canceling);
}

double utilisation(const pool::PoolSnapshot& pool) {
  const double capacity = static_cast<double>(pool.size) + pool.overflow;
  const double busy = busy_servers(pool);
  if (capacity > 0) return busy / capacity;
  return busy > 0 ? 1 : 0;
}

Level level_of(const pool::PoolSnapshot& pool) {
  const double full = utilisation(pool);
  const bool waiting = pool.clients[static_cast<std::size_t>(ClientState::Waiting)] > 0;
  if (full >= kCriticalUtilisation || (pool.connecting_fails && waiting)) return Level::Critical;
  if (full >= kWarningUtilisation || pool.connecting_fails || pool.paused) return Level::Warning;
  return Level::Ok;
}

Level level_of(const pool::Snapshot& snapshot) {
  Level worst = snapshot.draining || snapshot.anything_paused() ? Level::Warning : Level::Ok;
  for (const pool::PoolSnapshot& pool : snapshot.pools) worst = std::max(worst, level_of(pool));
  return worst;
}

}  // namespace carpool::admin
