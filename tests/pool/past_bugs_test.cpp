// Tests that fail against sidecar/pool/pool.cpp as of commit 507517f, to be moved to
// tests/pool/pool_test.cpp.
#include <gtest/gtest.h>

#include "sim.h"
namespace carpool::pool {
namespace {
config::Pool settings(std::uint32_t size) {
  config::Pool pool;
  pool.size = size;
  return pool;
}
TEST(Pool, ClosesEveryServerFromBeforeAReconnectThatComesBackInTheSameTurn) {
  Sim sim(settings(4));
  for (int i = 0; i < 2; ++i) sim.idle();
  TestWaiter* old = sim.lease();
  sim.lease();
  sim.pool.reconnect();
  sim.plan();
  sim.idle();
  TestWaiter* fresh = sim.lease();
  sim.idle();
  sim.plan();
  // idle: one new at the back; then an old, then a new one come back before the next plan.
  sim.give_back(old);
  sim.give_back(fresh);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 1u);
}
}  // namespace
}  // namespace carpool::pool
