// What becomes of a pool's servers when its settings change.
#include <gtest/gtest.h>

#include "pool/pool.h"
#include "sim.h"

namespace carpool::pool {
namespace {

config::Pool settings(std::uint32_t size) {
  config::Pool pool;
  pool.size = size;
  return pool;
}

TEST(PoolChange, AnotherLifetimeCountsForTheServersThatAreOpen) {
  config::Pool with = settings(2);
  with.max_lifetime_us = 0;
  Sim sim(with);
  sim.idle();
  sim.after(100 * kSecond);
  EXPECT_TRUE(sim.closed.empty());
  with.max_lifetime_us = 200 * kSecond;
  sim.pool.configure(with, sim.now);
  sim.after(50 * kSecond);
  EXPECT_EQ(sim.opens, 0u);
  sim.after(50 * kSecond);
  EXPECT_EQ(sim.opens, 1u) << "the one that takes its place";
}

TEST(PoolChange, DoesNotBackOffForWhatFailedBeforeItWasToRetryAtOnce) {
  Sim sim(settings(2));
  sim.want();
  sim.plan();
  ASSERT_EQ(sim.opens, 1u);
  sim.pool.open_failed(*sim.slots.back(), sim.now);
  sim.plan();
  EXPECT_EQ(sim.opens, 0u);
  sim.pool.retry_at_once();
  EXPECT_FALSE(sim.pool.failing());
  sim.plan();
  EXPECT_EQ(sim.opens, 1u);
}

TEST(PoolChange, AMoveLeavesTheServersOfTheFormerPlaceWithoutRoom) {
  Sim sim(settings(2));
  TestSlot* leased = sim.idle();
  sim.lease();
  TestSlot* lingering = sim.idle();
  sim.pool.closing(*lingering, sim.now);
  sim.pool.lingers(*lingering);
  EXPECT_EQ(sim.pool.held(), 2u);
  sim.pool.move();
  EXPECT_EQ(sim.pool.held(), 0u);
  EXPECT_EQ(sim.pool.count(SlotState::Leased), 1u);
  sim.want();
  sim.want();
  sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 2u) << "as many as the new place may have";
  sim.pool.removed(*lingering);
  EXPECT_EQ(sim.pool.held(), 2u);
  // What comes back from there is closed, lingers there, and counts no more than before.
  sim.pool.release(*leased, sim.now);
  sim.plan();
  EXPECT_EQ(sim.closed, std::vector<TestSlot*>{leased});
  EXPECT_EQ(sim.pool.held(), 2u);
}

}  // namespace
}  // namespace carpool::pool
