// Which of PgBouncer's settings is which of Carpool's keys, and why the others have none: tables
// only. Source: pgbouncer.org, "pgbouncer.ini", of the versions 1.18 to 1.24.
#pragma once

#include <array>
#include <string_view>

#include "cli/convert_draft.h"

namespace carpool::cli {

struct Same {
  std::string_view theirs;
  const char* ours;
  As as = As::Text;
};

struct Default {
  const char* theirs;
  const char* ours;
  const char* value;
  As as = As::Text;
};

// Those of PgBouncer's defaults that are other than ours.
inline constexpr std::array<Default, 6> kDefaults = {{
    {"pool_mode", "pool.mode", "session"},
    {"max_client_conn", "listen.clientsMax", "100"},
    {"server_idle_timeout", "pool.idleTimeout", "600", As::Seconds},
    {"query_wait_timeout", "pool.acquireTimeout", "120", As::Seconds},
    {"server_connect_timeout", "server.connectTimeout", "15", As::Seconds},
    {"reserve_pool_timeout", "pool.overflowAfter", "5", As::Seconds},
}};

// Null where there is none.
const Same* find_same(std::string_view theirs);
const Same* find_same_of_database(std::string_view theirs);

// Whether the setting is dealt with by code of its own.
bool is_converted_apart(std::string_view theirs);

// Why it has no counterpart; null where the setting is not known.
const char* why_not(std::string_view theirs);
const char* why_not_of_database(std::string_view theirs);

}  // namespace carpool::cli
