#include "pool/counters.h"

#include <gtest/gtest.h>

#include <numeric>

namespace carpool::pool {
namespace {

TEST(Histogram, PutsATimeUnderTheFirstBoundThatIsNotBelowIt) {
  for (std::size_t i = 0; i + 1 < Histogram::kBuckets; ++i) {
    for (const Micros us : {Histogram::bound_us(i) - 1, Histogram::bound_us(i)}) {
      Histogram histogram;
      histogram.observe(us);
      EXPECT_EQ(histogram.buckets[i], 1u) << us << " us, bound " << Histogram::bound_us(i);
    }
    Histogram above;
    above.observe(Histogram::bound_us(i) + 1);
    EXPECT_EQ(above.buckets[i + 1], 1u) << i;
  }
}

TEST(Histogram, CountsWhatIsBeyondEveryBoundInTheLast) {
  Histogram histogram;
  histogram.observe(INT64_MAX);
  histogram.observe(Histogram::bound_us(Histogram::kBuckets - 2) + 1);
  EXPECT_EQ(histogram.buckets.back(), 2u);
}

TEST(Histogram, TakesATimeThatRunsBackwardsForZero) {
  Histogram histogram;
  histogram.observe(-5);
  histogram.observe(0);
  EXPECT_EQ(histogram.buckets[0], 2u);
  EXPECT_EQ(histogram.sum_us, 0u);
}

TEST(Histogram, HasAsManyInItsBucketsAsItCounts) {
  Histogram histogram;
  std::uint64_t sum = 0;
  for (Micros us = 0; us < 300'000'000; us = us * 5 / 4 + 1) {
    histogram.observe(us);
    sum += static_cast<std::uint64_t>(us);
  }
  EXPECT_EQ(std::accumulate(histogram.buckets.begin(), histogram.buckets.end(), std::uint64_t{0}),
            histogram.count);
  EXPECT_EQ(histogram.sum_us, sum);
}

TEST(Histogram, ReachesFromFiftyMicrosecondsToMinutes) {
  EXPECT_EQ(Histogram::bound_us(0), 50);
  EXPECT_GT(Histogram::bound_us(Histogram::kBuckets - 2), 100 * kMicrosPerSecond);
}

}  // namespace
}  // namespace carpool::pool
