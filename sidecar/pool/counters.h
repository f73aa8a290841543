// Plain counters and the snapshot that status and metrics are made from: values without
// behaviour beyond adding up. The loop thread owns the live ones; a Snapshot is a copy that may
// cross to the HTTP thread. Every room may include this header.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"

namespace carpool::pool {

// A client's life. Edges: see proxy/client.h.
enum class ClientState : std::uint8_t { Startup, Authenticating, Idle, Waiting, Attached, Closing };
inline constexpr std::size_t kClientStates = 6;
inline constexpr std::array<const char*, kClientStates> kClientStateNames = {
    "startup", "authenticating", "idle", "waiting", "attached", "closing"};

// A server's life, seen from its pool. Edges: see pool/slot.h.
enum class SlotState : std::uint8_t { Connecting, Idle, Leased, Resetting, Canceling, Closing };
inline constexpr std::size_t kSlotStates = 6;
inline constexpr std::array<const char*, kSlotStates> kSlotStateNames = {
    "connecting", "idle", "leased", "resetting", "canceling", "closing"};

// Why a client was refused: the `reason` label of carpool_clients_rejected_total.
enum class RejectReason : std::uint8_t {
  ClientsMax,      // listen.clientsMax reached
  WaitersMax,      // pool.waitersMax reached
  AuthFailed,      // wrong password or user
  NoDatabase,      // no entry of `databases` matches
  ProtocolError,   // broken startup or message
  Draining,        // at the drain deadline
  StartupTimeout,  // did not finish signing in
  Memory,          // the container's memory limit is near
};
inline constexpr std::size_t kRejectReasons = 8;
inline constexpr std::array<const char*, kRejectReasons> kRejectReasonNames = {
    "clients_max",    "waiters_max", "auth_failed",     "no_database",
    "protocol_error", "draining",    "startup_timeout", "memory"};

// Why a server could not be opened: the `reason` label of carpool_server_connect_errors_total.
enum class ConnectError : std::uint8_t {
  Resolve,             // the name did not resolve
  Refused,             // no answer, refused, reset
  Timeout,             // connectTimeout
  Auth,                // 28xxx
  TooManyConnections,  // 53300
  CannotConnectNow,    // 57P03
  Other,
};
inline constexpr std::size_t kConnectErrors = 7;
inline constexpr std::array<const char*, kConnectErrors> kConnectErrorNames = {
    "resolve", "refused", "timeout", "auth", "too_many_connections", "cannot_connect_now", "other"};

// Why a lease was pinned: the `cause` label of carpool_pins_total.
enum class PinCause : std::uint8_t {
  Listen,
  SqlPrepare,
  TempTable,
  HoldCursor,
  AdvisoryLock,
  Load,
  SessionParameter,
  Other,
};
inline constexpr std::size_t kPinCauses = 8;
inline constexpr std::array<const char*, kPinCauses> kPinCauseNames = {
    "listen",        "sql_prepare", "temp_table",        "hold_cursor",
    "advisory_lock", "load",        "session_parameter", "other"};

// A histogram over times, with fixed bounds from 50 us to about 100 s, a factor of 2 apart.
// Invariant: count == sum of buckets.
struct Histogram {
  static constexpr std::size_t kBuckets = 23;  // the last is +Inf
  static constexpr Micros kFirstBound_us = 50;

  std::array<std::uint64_t, kBuckets> buckets{};
  std::uint64_t count = 0;
  std::uint64_t sum_us = 0;

  // The inclusive upper bound of bucket i; only for i < kBuckets - 1.
  static constexpr Micros bound_us(std::size_t i) { return kFirstBound_us << i; }

  void observe(Micros us) {
    std::uint64_t value = us < 0 ? 0 : static_cast<std::uint64_t>(us);
    // Bucket i holds bound(i-1) < value <= bound(i): the bit width of (value-1)/50 is i.
    std::size_t i = value == 0 ? 0
                               : static_cast<std::size_t>(std::bit_width(
                                     (value - 1) / static_cast<std::uint64_t>(kFirstBound_us)));
    if (i >= kBuckets) i = kBuckets - 1;
    buckets[i]++;
    count++;
    sum_us += value;
  }
};

// What one pool has counted since it was made. Counters only grow.
struct PoolCounters {
  std::uint64_t queries = 0;       // simple queries and Syncs answered
  std::uint64_t transactions = 0;  // leases that ended at ReadyForQuery `I`
  std::uint64_t acquire_timeouts = 0;
  std::uint64_t waits = 0;  // leases that had to queue
  std::uint64_t server_connects = 0;
  std::array<std::uint64_t, kConnectErrors> connect_errors{};
  std::array<std::uint64_t, kRejectReasons> clients_rejected{};  // those known to belong here
  std::array<std::uint64_t, kPinCauses> pins{};
  // ErrorResponses passed to clients, by SQLSTATE class ("22"), at most a few dozen.
  std::vector<std::pair<std::string, std::uint64_t>> errors_by_class;
  std::uint64_t bytes_from_clients = 0;
  std::uint64_t bytes_to_clients = 0;
  std::uint64_t prepares_forwarded = 0;  // Parse sent to a server
  std::uint64_t prepares_reused = 0;     // Parse answered without one
  std::uint64_t restores = 0;  // leases or transactions before which settings were restored
  Histogram wait;              // from needing a server to having one
  Histogram query;             // from the message forwarded to ReadyForQuery
  Histogram transaction;       // a lease
  Histogram server_connect;    // from the attempt to ready
};

// One pool as it stands.
struct PoolSnapshot {
  std::string database;  // client-facing
  std::string user;
  std::string mode;  // session | transaction | statement
  std::uint32_t size = 0;
  std::uint32_t min_idle = 0;
  std::uint32_t overflow = 0;
  std::array<std::uint32_t, kSlotStates> servers{};
  std::array<std::uint32_t, kClientStates> clients{};
  Micros oldest_waiter_us = 0;  // how long the first in the queue has waited; 0: none waits
  bool paused = false;
  bool connecting_fails = false;          // the last attempt to open a server failed
  std::string last_connect_error;         // and why; empty after a success
  std::uint64_t prepared_statements = 0;  // entries of the pool's table
  std::uint64_t prepared_statement_bytes = 0;
  PoolCounters counters;
};

// One client or server, for `carpool status --detailed`. Only made when asked for.
struct ClientSnapshot {
  std::uint64_t id = 0;
  std::string database, user, application_name, address;
  std::string state;       // of ClientState; idle on a server: idle_in_transaction or _session
  Micros in_state_us = 0;  // while a query runs, since it was sent
  Micros age_us = 0;       // since it was accepted
  std::string pinned_by;   // empty: not pinned
  Micros pinned_us = 0;
  std::string query;  // the last one, masked as log.queryText says
};
struct ServerSnapshot {
  std::uint64_t id = 0;
  std::string database, user, address;
  std::int32_t backend_pid = 0;
  std::string state;
  Micros in_state_us = 0;
  Micros age_us = 0;
  std::uint64_t client_id = 0;  // 0: not lent
};

// The whole proxy as it stands.
struct Snapshot {
  std::vector<PoolSnapshot> pools;
  std::uint32_t clients = 0;  // connected, in any state
  std::uint32_t clients_max = 0;
  std::array<std::uint64_t, kRejectReasons> clients_rejected{};  // all, pool known or not
  std::uint64_t memory_used_bytes = 0;   // as the container's limit counts it
  std::uint64_t memory_limit_bytes = 0;  // 0: none
  std::uint64_t client_connects = 0;
  std::uint64_t accept_paused = 0;  // times that accepting stopped for want of descriptors
  std::uint32_t cancels = 0;        // under way to PostgreSQL, of servers that are gone too
  bool draining = false;
  bool paused = false;                        // all databases, but for those of resumed_databases
  std::vector<std::string> paused_databases;  // by name, whether they have a pool or not
  std::vector<std::string> resumed_databases;
  Micros uptime_us = 0;
  std::vector<ClientSnapshot> client_list;  // only when asked for
  std::vector<ServerSnapshot> server_list;

  bool is_paused(const std::string& database) const {
    const std::vector<std::string>& told_apart = paused ? resumed_databases : paused_databases;
    const bool apart =
        std::find(told_apart.begin(), told_apart.end(), database) != told_apart.end();
    return paused != apart;
  }
  bool anything_paused() const { return paused || !paused_databases.empty(); }
};

}  // namespace carpool::pool
