// Why do clients of a pool wait? One sentence, for the person who looks at the page: which pool,
// full of what, and which setting would help. Decided purely from a detailed snapshot.
//
// It reads these states of pool::ClientSnapshot: "attached" (a query runs),
// "idle_in_transaction" (a server is held by an open transaction and no query runs) and
// "idle_in_session" (by a session outside of a transaction), all with in_state_us, and pinned_by.
#pragma once

#include <string>
#include <string_view>

#include "base/units.h"
#include "pool/counters.h"

namespace carpool::admin {

inline constexpr std::string_view kIdleInTransaction = "idle_in_transaction";
inline constexpr std::string_view kIdleInSession = "idle_in_session";
inline constexpr std::string_view kAttached = "attached";

// A query or a pause inside a transaction is long from here on.
inline constexpr Micros kLong_us = kMicrosPerSecond;

struct Diagnosis {
  // "" (nothing is wrong) | paused | database_unreachable | cannot_open_more | opening_servers |
  // pinned | idle_in_transaction | idle_in_session | slow_query | pool_too_small
  std::string cause;
  std::string sentence;
  std::string setting;  // the key to change; empty where none would help
};

// Of a pool in which nobody waits, the cause is empty unless PostgreSQL cannot be reached or it is
// paused. `snapshot` lists at least the clients that hold servers of pools in which somebody waits;
// without them, long holders cannot be told from many short ones.
Diagnosis diagnose(const pool::PoolSnapshot& pool, const pool::Snapshot& snapshot);

}  // namespace carpool::admin
