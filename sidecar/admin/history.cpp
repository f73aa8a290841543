#include "admin/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "admin/level.h"
#include "admin/percentile.h"

namespace carpool::admin {
namespace {

using Json = nlohmann::ordered_json;
using pool::PoolSnapshot;

double rate(std::uint64_t earlier, std::uint64_t later, double seconds) {
  const std::uint64_t done = later >= earlier ? later - earlier : later;
  return seconds > 0 ? static_cast<double>(done) / seconds : 0;
}

// Three digits are all that a chart shows.
Json short_number(float value) {
  const double rounded = std::strtod(fmt::format("{:.3g}", value).c_str(), nullptr);
  if (rounded == std::floor(rounded) && rounded < 1e15) return static_cast<std::uint64_t>(rounded);
  return rounded;
}

}  // namespace

History::Mark History::mark_of(const PoolSnapshot& pool, Micros now_us) {
  Mark out;
  out.at_us = now_us;
  out.transactions = pool.counters.transactions;
  out.queries = pool.counters.queries;
  for (const auto& [sqlstate_class, count] : pool.counters.errors_by_class) out.errors += count;
  out.wait = pool.counters.wait;
  out.query = pool.counters.query;
  out.transaction = pool.counters.transaction;
  return out;
}

Recent History::between(const Mark& earlier, const Mark& later) {
  Recent out;
  out.seconds = seconds(later.at_us - earlier.at_us);
  out.transactions_per_second = rate(earlier.transactions, later.transactions, out.seconds);
  out.queries_per_second = rate(earlier.queries, later.queries, out.seconds);
  out.errors_per_second = rate(earlier.errors, later.errors, out.seconds);
  out.wait = since(earlier.wait, later.wait);
  out.query = since(earlier.query, later.query);
  out.transaction = since(earlier.transaction, later.transaction);
  return out;
}

History::Track* History::track_of(const PoolSnapshot& pool) {
  const auto found = std::find_if(tracks_.begin(), tracks_.end(), [&](const Track& track) {
    return track.database == pool.database && track.user == pool.user;
  });
  if (found != tracks_.end()) return &*found;
  if (tracks_.size() == kPools_max) return nullptr;
  Track& track = tracks_.emplace_back();
  track.database = pool.database;
  track.user = pool.user;
  track.first = next_;
  return &track;
}

void History::add(const pool::Snapshot& snapshot, Micros now_us) {
  std::lock_guard lock(mutex_);
  for (const PoolSnapshot& pool : snapshot.pools) {
    Track* track = track_of(pool);
    if (track == nullptr) continue;
    Mark mark = mark_of(pool, now_us);
    const Recent recent = track->marks.empty() ? Recent{} : between(track->marks.back(), mark);
    Sample sample{};
    sample.capacity = static_cast<float>(pool.size + pool.overflow);
    sample.busy = static_cast<float>(busy_servers(pool));
    sample.waiting =
        static_cast<float>(pool.clients[static_cast<std::size_t>(pool::ClientState::Waiting)]);
    sample.oldest_waiter_seconds = static_cast<float>(seconds(pool.oldest_waiter_us));
    sample.transactions_per_second = static_cast<float>(recent.transactions_per_second);
    sample.errors_per_second = static_cast<float>(recent.errors_per_second);
    sample.query_p50 = static_cast<float>(percentile_seconds(recent.query, 0.50));
    sample.query_p99 = static_cast<float>(percentile_seconds(recent.query, 0.99));
    sample.wait_p99 = static_cast<float>(percentile_seconds(recent.wait, 0.99));
    track->samples.push_back(sample);
    track->marks.push_back(mark);
    track->seen = next_;
    if (track->marks.size() > kMarks_max) track->marks.pop_front();
    if (track->samples.size() > kSamples_max) {
      track->samples.pop_front();
      track->first++;
    }
  }
  std::erase_if(tracks_, [this](const Track& track) { return track.seen != next_; });
  next_++;
}

std::optional<Recent> History::last_minute(const PoolSnapshot& pool, Micros now_us) const {
  std::lock_guard lock(mutex_);
  for (const Track& track : tracks_) {
    if (track.database != pool.database || track.user != pool.user) continue;
    if (track.marks.empty() || now_us - track.marks.front().at_us < kMicrosPerSecond) break;
    return between(track.marks.front(), mark_of(pool, now_us));
  }
  return std::nullopt;
}

std::string History::json(std::uint64_t since) const {
  std::lock_guard lock(mutex_);
  Json pools = Json::array();
  for (const Track& track : tracks_) {
    const std::size_t skip =
        since <= track.first ? 0 : std::min<std::size_t>(since - track.first, track.samples.size());
    const auto series = [&](float Sample::*member) {
      Json out = Json::array();
      for (std::size_t i = skip; i < track.samples.size(); i++) {
        out.push_back(short_number(track.samples[i].*member));
      }
      return out;
    };
    pools.push_back({{"database", track.database},
                     {"user", track.user},
                     {"first", track.first + skip},
                     {"capacity", series(&Sample::capacity)},
                     {"busy", series(&Sample::busy)},
                     {"waiting", series(&Sample::waiting)},
                     {"oldestWaiterSeconds", series(&Sample::oldest_waiter_seconds)},
                     {"transactionsPerSecond", series(&Sample::transactions_per_second)},
                     {"errorsPerSecond", series(&Sample::errors_per_second)},
                     {"querySecondsP50", series(&Sample::query_p50)},
                     {"querySecondsP99", series(&Sample::query_p99)},
                     {"waitSecondsP99", series(&Sample::wait_p99)}});
  }
  return Json{{"intervalSeconds", seconds(kInterval_us)},
              {"samplesMax", kSamples_max},
              {"next", next_},
              {"pools", std::move(pools)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace carpool::admin
