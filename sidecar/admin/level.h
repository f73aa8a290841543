// How full a pool is, and whether that is a reason to look: the one definition that the page, the
// status, `carpool status --check` and the documentation share.
#pragma once

#include <cstdint>

#include "pool/counters.h"

namespace carpool::admin {

enum class Level : std::uint8_t { Ok, Warning, Critical };
const char* level_name(Level level);  // ok | warning | critical

inline constexpr double kWarningUtilisation = 0.80;
inline constexpr double kCriticalUtilisation = 0.95;

// Servers that cannot be lent now: leased, resetting or canceling.
std::uint32_t busy_servers(const pool::PoolSnapshot& pool);

// busy / (size + overflow). Above 1 only for a while after a shrink, until leases come back.
double utilisation(const pool::PoolSnapshot& pool);

// Critical: utilisation from 95%, or clients wait while PostgreSQL cannot be reached.
// Warning: utilisation from 80%, PostgreSQL cannot be reached, or the pool is paused.
Level level_of(const pool::PoolSnapshot& pool);

// The worst of all pools; a proxy that drains, or has anything paused, is at least at warning.
Level level_of(const pool::Snapshot& snapshot);

}  // namespace carpool::admin
