#include "admin/status_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "admin/level.h"
#include "admin/percentile.h"
#include "sample.h"

namespace carpool::admin {
namespace {

using nlohmann::json;
using pool::Histogram;

TEST(StatusJson, TellsWhatAPoolHoldsAndHowFullItIs) {
  const json status = json::parse(status_json(sample_snapshot(), "1.2.3"));
  EXPECT_EQ(status["version"], "1.2.3");
  EXPECT_EQ(status["uptimeSeconds"], 3600);
  EXPECT_EQ(status["clients"]["connected"], 63);
  EXPECT_EQ(status["clients"]["rejected"]["auth_failed"], 5);
  const json& pool = status["pools"][0];
  EXPECT_EQ(pool["servers"]["leased"], 3);
  EXPECT_EQ(pool["servers"]["total"], 4);
  EXPECT_EQ(pool["clients"]["idle"], 30);
  EXPECT_EQ(pool["busy"], 3);
  EXPECT_EQ(pool["utilisation"], 0.3);
  EXPECT_EQ(pool["level"], "ok");
  EXPECT_EQ(pool["counters"]["errors"], 5);
  EXPECT_EQ(pool["counters"]["errorsBySqlstateClass"]["22"], 4);
  EXPECT_EQ(pool["counters"]["pins"]["listen"], 3);
  EXPECT_EQ(status["totals"]["pools"], 2);
  EXPECT_EQ(status["totals"]["transactions"], 2000);
}

TEST(StatusJson, TimesArePercentilesInSeconds) {
  const json pool = json::parse(status_json(sample_snapshot(), ""))["pools"][0];
  EXPECT_NEAR(pool["querySeconds"]["p50"].get<double>(), 0.5, 0.01);
  EXPECT_NEAR(pool["querySeconds"]["p95"].get<double>(), 0.95, 0.6);
  EXPECT_NEAR(pool["querySeconds"]["mean"].get<double>(), 0.5005, 1e-6);
  EXPECT_EQ(pool["querySeconds"]["count"], 1000);
  EXPECT_LE(pool["waitSeconds"]["p99"], 0.00005);
}

TEST(StatusJson, IsValidWhateverBytesANameHolds) {
  pool::Snapshot snapshot;
  snapshot.pools = {sample_pool("a\"\xff\x01", 1)};
  EXPECT_FALSE(json::parse(status_json(snapshot, ""), nullptr, false).is_discarded());
}

TEST(StatusJson, ABrokenConfigViewStillMakesJson) {
  ConfigView view;
  view.effective_json = "{not json";
  view.errors = {"\xff"};
  const json config = json::parse(config_json(view), nullptr, false);
  ASSERT_FALSE(config.is_discarded());
  EXPECT_TRUE(config["effective"].empty());
}

TEST(Level, TurnsToWarningAt80PercentAndToCriticalAt95) {
  pool::PoolSnapshot pool = sample_pool("app", 7);
  EXPECT_EQ(level_of(pool), Level::Ok);
  pool = sample_pool("app", 8);
  EXPECT_EQ(level_of(pool), Level::Warning);
  pool = sample_pool("app", 9);
  EXPECT_EQ(level_of(pool), Level::Warning);
  pool = sample_pool("app", 10);
  EXPECT_EQ(level_of(pool), Level::Critical);
}

TEST(Level, CountsOverflowAsRoomAndResettingServersAsBusy) {
  pool::PoolSnapshot pool = sample_pool("app", 8);
  pool.overflow = 10;
  EXPECT_DOUBLE_EQ(utilisation(pool), 0.4);
  pool.servers[static_cast<std::size_t>(pool::SlotState::Resetting)] = 2;
  pool.servers[static_cast<std::size_t>(pool::SlotState::Canceling)] = 2;
  EXPECT_DOUBLE_EQ(utilisation(pool), 0.6);
}

TEST(Level, APoolThatShrankBelowItsLeasesIsMoreThanFull) {
  pool::PoolSnapshot pool = sample_pool("app", 10);
  pool.size = 5;
  EXPECT_DOUBLE_EQ(utilisation(pool), 2.0);
  EXPECT_EQ(level_of(pool), Level::Critical);
}

TEST(Level, ADatabaseThatIsDownIsAWarningUntilSomebodyWaits) {
  pool::PoolSnapshot pool = sample_pool("app", 0);
  pool.connecting_fails = true;
  EXPECT_EQ(level_of(pool), Level::Warning);
  pool.clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 1;
  EXPECT_EQ(level_of(pool), Level::Critical);
}

TEST(Level, OfTheWholeIsTheWorstOfItsPools) {
  pool::Snapshot snapshot = sample_snapshot();
  EXPECT_EQ(level_of(snapshot), Level::Ok);
  snapshot.draining = true;
  EXPECT_EQ(level_of(snapshot), Level::Warning);
  snapshot.pools.push_back(sample_pool("full", 10));
  EXPECT_EQ(level_of(snapshot), Level::Critical);
}

TEST(Level, APauseIsAWarningAlsoWhereThereIsNoPool) {
  pool::Snapshot snapshot;
  EXPECT_EQ(level_of(snapshot), Level::Ok);
  snapshot.paused_databases = {"app"};
  EXPECT_EQ(level_of(snapshot), Level::Warning);
  const json status = json::parse(status_json(snapshot, "1", {}));
  EXPECT_EQ(status["level"], "warning");
  EXPECT_EQ(status["pausedDatabases"], json::array({"app"}));
}

TEST(Percentile, OfNothingIsZero) {
  EXPECT_EQ(percentile_seconds({}, 0.99), 0);
}

TEST(Percentile, InterpolatesInsideABucket) {
  Histogram histogram;
  for (int i = 0; i < 4; i++) histogram.observe(100);  // the bucket from 50 to 100 us
  EXPECT_DOUBLE_EQ(percentile_seconds(histogram, 0.5), 75e-6);
  EXPECT_DOUBLE_EQ(percentile_seconds(histogram, 1.0), 100e-6);
}

TEST(Percentile, SkipsEmptyBuckets) {
  Histogram histogram;
  histogram.observe(10);
  histogram.observe(10 * kMicrosPerSecond);
  EXPECT_LE(percentile_seconds(histogram, 0.5), 50e-6);
  EXPECT_GT(percentile_seconds(histogram, 0.51), 5);
}

TEST(Percentile, IsTheLastFiniteBoundForWhatLiesBeyond) {
  Histogram histogram;
  histogram.observe(3600 * kMicrosPerSecond);
  EXPECT_DOUBLE_EQ(percentile_seconds(histogram, 0.5),
                   seconds(Histogram::bound_us(Histogram::kBuckets - 2)));
}

TEST(Percentile, SinceAnEarlierCopyIsWhatCameAfterIt) {
  Histogram earlier;
  earlier.observe(100);
  Histogram later = earlier;
  later.observe(1'000'000);
  const Histogram between = since(earlier, later);
  EXPECT_EQ(between.count, 1u);
  EXPECT_EQ(between.sum_us, 1'000'000u);
  EXPECT_GT(percentile_seconds(between, 0.01), 0.5);
}

TEST(Percentile, SinceACounterThatRanBackwardsIsAllOfTheNew) {
  Histogram earlier;
  for (int i = 0; i < 5; i++) earlier.observe(100);
  Histogram fresh;
  fresh.observe(7);
  EXPECT_EQ(since(earlier, fresh).count, 1u);
}

}  // namespace
}  // namespace carpool::admin
