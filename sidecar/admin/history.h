// The last ten minutes of every pool, so that a page opened after the trouble still shows it, and
// the last minute as rates and percentiles, since those of a pool's whole life say little.
//
// Made from snapshots that somebody hands in each kInterval_us; it asks nobody. A pool that is
// missing from a snapshot is forgotten.
//
// Invariants: at most kPools_max pools, kSamples_max samples and kMarks_max marks each. All
// methods may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "pool/counters.h"

namespace carpool::admin {

// What a pool did over a time not long ago.
struct Recent {
  double seconds = 0;  // how long that time was
  double transactions_per_second = 0;
  double queries_per_second = 0;
  double errors_per_second = 0;
  pool::Histogram wait;
  pool::Histogram query;
  pool::Histogram transaction;
};

class History {
 public:
  static constexpr Micros kInterval_us = 5 * kMicrosPerSecond;
  static constexpr std::size_t kSamples_max = 120;  // ten minutes
  static constexpr std::size_t kMarks_max = 12;     // a minute
  static constexpr std::size_t kPools_max = 32;     // the first that appear

  void add(const pool::Snapshot& snapshot, Micros now_us);

  // From the oldest mark of the last minute until `pool`, which is a snapshot taken now. Empty
  // until a pool has been known for a second.
  std::optional<Recent> last_minute(const pool::PoolSnapshot& pool, Micros now_us) const;

  // Samples numbered `since` and later, as JSON; "next" is the number to ask for the next time.
  std::string json(std::uint64_t since) const;

 private:
  // A pool's counters as they stood at one moment.
  struct Mark {
    Micros at_us = 0;
    std::uint64_t transactions = 0;
    std::uint64_t queries = 0;
    std::uint64_t errors = 0;
    pool::Histogram wait;
    pool::Histogram query;
    pool::Histogram transaction;
  };
  // One point of the charts: what stood at its end, and what happened since the one before.
  struct Sample {
    float capacity, busy, waiting, oldest_waiter_seconds;
    float transactions_per_second, errors_per_second;
    float query_p50, query_p99, wait_p99;
  };
  struct Track {
    std::string database;
    std::string user;
    std::uint64_t first = 0;  // the number of samples.front()
    std::uint64_t seen = 0;   // the number of the last snapshot that had it
    std::deque<Sample> samples;
    std::deque<Mark> marks;
  };

  static Mark mark_of(const pool::PoolSnapshot& pool, Micros now_us);
  static Recent between(const Mark& earlier, const Mark& later);
  Track* track_of(const pool::PoolSnapshot& pool);

  mutable std::mutex mutex_;  // guards all below
  std::uint64_t next_ = 0;    // the number of the next sample
  std::vector<Track> tracks_;
};

}  // namespace carpool::admin
