#include "admin/history.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sample.h"

namespace carpool::admin {
namespace {

using nlohmann::json;

pool::Snapshot of(std::vector<pool::PoolSnapshot> pools) {
  pool::Snapshot out;
  out.pools = std::move(pools);
  return out;
}

TEST(History, KeepsTenMinutesAndNoMore) {
  History history;
  for (std::size_t i = 0; i < History::kSamples_max + 30; i++) {
    history.add(sample_snapshot(), static_cast<Micros>(i) * History::kInterval_us);
  }
  const json all = json::parse(history.json(0));
  EXPECT_EQ(all["next"], History::kSamples_max + 30);
  ASSERT_EQ(all["pools"].size(), 2u);
  EXPECT_EQ(all["pools"][0]["first"], 30);
  EXPECT_EQ(all["pools"][0]["busy"].size(), History::kSamples_max);
  EXPECT_EQ(all["pools"][0]["busy"][0], 3);
  EXPECT_LT(history.json(0).size(), 20'000u);
}

TEST(History, GivesOnlyWhatIsNew) {
  History history;
  for (int i = 0; i < 10; i++) history.add(sample_snapshot(), i * History::kInterval_us);
  const json some = json::parse(history.json(7));
  EXPECT_EQ(some["pools"][0]["first"], 7);
  EXPECT_EQ(some["pools"][0]["busy"].size(), 3u);
  EXPECT_EQ(json::parse(history.json(10))["pools"][0]["busy"].size(), 0u);
  EXPECT_EQ(json::parse(history.json(~0ull))["pools"][0]["busy"].size(), 0u);
}

TEST(History, ASampleHoldsTheRatesSinceTheOneBefore) {
  History history;
  pool::PoolSnapshot pool = sample_pool("app", 1);
  history.add(of({pool}), 0);
  pool.counters.transactions += 50;
  pool.counters.errors_by_class[0].second += 10;
  pool.counters.query.observe(2 * kMicrosPerSecond);
  history.add(of({pool}), 5 * kMicrosPerSecond);
  const json samples = json::parse(history.json(0))["pools"][0];
  EXPECT_EQ(samples["transactionsPerSecond"], json::array({0, 10}));
  EXPECT_EQ(samples["errorsPerSecond"], json::array({0, 2}));
  EXPECT_GT(samples["querySecondsP99"][1], 1.5);
}

TEST(History, TheLastMinuteIsCountedFromTheOldestMark) {
  History history;
  pool::PoolSnapshot pool = sample_pool("app", 1);
  EXPECT_FALSE(history.last_minute(pool, 0));
  for (int i = 0; i < 100; i++) {
    pool.counters.transactions += 5;
    history.add(of({pool}), i * History::kInterval_us);
  }
  pool.counters.query.observe(7);
  const auto recent = history.last_minute(pool, 99 * History::kInterval_us);
  ASSERT_TRUE(recent);
  EXPECT_DOUBLE_EQ(recent->seconds, 55);
  EXPECT_DOUBLE_EQ(recent->transactions_per_second, 1);
  EXPECT_EQ(recent->query.count, 1u);
}

TEST(History, KnowsNothingOfAPoolInItsFirstSecond) {
  History history;
  history.add(sample_snapshot(), 0);
  EXPECT_FALSE(history.last_minute(sample_pool("app", 1), kMicrosPerSecond - 1));
  EXPECT_TRUE(history.last_minute(sample_pool("app", 1), kMicrosPerSecond));
}

TEST(History, ForgetsAPoolThatIsGone) {
  History history;
  history.add(sample_snapshot(), 0);
  history.add(of({sample_pool("app", 1)}), History::kInterval_us);
  const json left = json::parse(history.json(0));
  ASSERT_EQ(left["pools"].size(), 1u);
  EXPECT_EQ(left["pools"][0]["database"], "app");
}

TEST(History, FollowsSoManyPoolsAndNoMore) {
  History history;
  std::vector<pool::PoolSnapshot> pools;
  for (std::size_t i = 0; i < History::kPools_max + 5; i++) {
    pools.push_back(sample_pool("db" + std::to_string(i), 1));
  }
  history.add(of(pools), 0);
  history.add(of(pools), History::kInterval_us);
  EXPECT_EQ(json::parse(history.json(0))["pools"].size(), History::kPools_max);
}

TEST(History, CountersThatStartAnewAreNotNegative) {
  History history;
  pool::PoolSnapshot pool = sample_pool("app", 1);
  history.add(of({pool}), 0);
  pool.counters = {};
  pool.counters.transactions = 5;
  history.add(of({pool}), 5 * kMicrosPerSecond);
  EXPECT_EQ(json::parse(history.json(0))["pools"][0]["transactionsPerSecond"][1], 1);
}

}  // namespace
}  // namespace carpool::admin
