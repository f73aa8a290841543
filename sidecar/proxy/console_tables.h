// What PgBouncer's SHOW commands show, made of Carpool's own figures: a snapshot and a
// configuration in, a table out, with the columns of PgBouncer 1.18. It touches neither the loop
// nor a pool.
//
// Source: pgbouncer.org, "Usage", "SHOW commands".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"
#include "config/config.h"
#include "pg/result_table.h"
#include "pool/counters.h"

namespace carpool::proxy {

// The figures of one database, all users together; they only grow.
struct ConsoleTotals {
  std::uint64_t transactions = 0;
  std::uint64_t queries = 0;
  std::uint64_t received = 0;  // bytes, from clients
  std::uint64_t sent = 0;      // bytes, to clients
  std::uint64_t transaction_us = 0;
  std::uint64_t query_us = 0;
  std::uint64_t wait_us = 0;
};
using TotalsByDatabase = std::map<std::string, ConsoleTotals>;

TotalsByDatabase totals_of(const pool::Snapshot& snapshot);

// The averages of the last whole period, and until there was one, since the start.
// Invariant: from_us_ < to_us_ once there was a period.
class ConsoleAverages {
 public:
  // PgBouncer's stats_period.
  static constexpr Micros kPeriod_us = 60 * kMicrosPerSecond;

  bool is_due(Micros now) const { return now - to_us_ >= kPeriod_us; }
  void begin(Micros now) { from_us_ = to_us_ = now; }
  void end_period(TotalsByDatabase totals, Micros now);
  // Per second, or per transaction, query and wait.
  ConsoleTotals of(const std::string& database, const ConsoleTotals& total, Micros now) const;

 private:
  TotalsByDatabase from_;
  TotalsByDatabase to_;
  Micros from_us_ = 0;
  Micros to_us_ = 0;
};

// What the tables are made from; all must outlive it.
struct ConsoleView {
  const pool::Snapshot& snapshot;  // with its lists of clients and servers
  const config::Config& config;
  const ConsoleAverages& averages;
  Micros now = 0;            // of the loop
  double unix_seconds = 0;   // the same instant
  std::string_view version;  // Carpool's
};

// "pools", "stats", ...: in lower case. Nullopt where there is none of that name.
std::optional<pg::ResultTable> console_table(std::string_view name, const ConsoleView& view);

// What SHOW HELP says.
std::string_view console_help();

// "PgBouncer 1.18.0 (Carpool 0.1.0)": exporters look for the first two words.
std::string console_version(std::string_view version);

}  // namespace carpool::proxy
