// Pools under random clients, servers, settings and time. After every step what Pool promises must
// hold; at the end, when all is quiet, everybody must have been served.
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "sim.h"

namespace carpool::pool {
namespace {

class RandomPool {
 public:
  explicit RandomPool(std::uint32_t seed)
      : random_(seed), settings_(some_settings()), sim_(settings_, seed) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (upto(3) == 0) {
        if (upto(4) != 0) sim_.now += upto(3) == 0 ? upto(20) * kSecond : upto(300) * kMilli;
        plan();
      }
      if (testing::Test::HasFatalFailure()) return;
    }
    settle();
  }

  std::uint32_t grants() const { return grants_; }

 private:
  Micros upto(std::uint32_t n) { return static_cast<Micros>(random_() % n); }

  config::Pool some_settings() {
    config::Pool with;
    with.size = static_cast<std::uint32_t>(1 + upto(8));
    with.min_idle = static_cast<std::uint32_t>(upto(with.size + 1));
    with.overflow = upto(2) == 0 ? 0 : static_cast<std::uint32_t>(upto(4));
    with.overflow_after_us = upto(3) * kSecond / 2;
    with.acquire_timeout_us = upto(4) == 0 ? 0 : (1 + upto(30)) * kSecond;
    with.waiters_max = static_cast<std::uint32_t>(upto(5) == 0 ? 3 : 1000);
    with.idle_timeout_us = upto(3) * 20 * kSecond;
    with.max_lifetime_us = upto(3) * 100 * kSecond;
    with.prune_interval_us = (1 + upto(10)) * kSecond;
    with.connect_concurrency = static_cast<std::uint32_t>(1 + upto(5));
    return with;
  }

  template <typename T>
  T* any_of(const std::vector<T*>& all) {
    return all.empty() ? nullptr : all[random_() % all.size()];
  }

  void step() {
    switch (upto(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return want();
      case 4:
      case 5:
      case 6:
        if (TestSlot* slot = any_of(sim_.in(SlotState::Leased))) sim_.pool.release(*slot, sim_.now);
        return;
      case 7:
        if (TestSlot* slot = any_of(sim_.in(SlotState::Connecting))) {
          if (upto(4) == 0) {
            sim_.pool.open_failed(*slot, sim_.now);
            failing_ = true;
          } else {
            open(slot);
          }
        }
        return;
      case 8:
        for (TestSlot* slot : sim_.in(SlotState::Connecting)) open(slot);
        return;
      case 9:
        clean(any_of(sim_.in(SlotState::Leased)));
        return clean(any_of(sim_.in(SlotState::Resetting)));
      case 10:
        if (TestSlot* slot = any_of(sim_.in(static_cast<SlotState>(upto(5))))) {
          sim_.pool.closing(*slot, sim_.now);
        }
        for (TestSlot* slot : sim_.in(SlotState::Closing)) sim_.pool.removed(*slot);
        return;
      case 11:
        if (!queue_.empty() && upto(2) == 0) {
          const auto leaves =
              queue_.begin() + static_cast<std::ptrdiff_t>(random_() % queue_.size());
          sim_.pool.cancel_wait(**leaves);
          queue_.erase(leaves);
        }
        return;
      case 12:
        if (upto(6) == 0) {
          settings_ = some_settings();
          sim_.pool.configure(settings_, sim_.now);
        }
        return;
      default:
        if (upto(8) == 0) sim_.pool.reconnect();
        if (upto(6) == 0) sim_.pool.set_paused(upto(3) == 0);
        if (upto(6) == 0) sim_.pool.set_draining(draining_ = upto(4) == 0);
        return;
    }
  }

  void want() {
    const bool alone = queue_.empty();
    const std::uint32_t idle = sim_.count(SlotState::Idle);
    TestWaiter* client = sim_.want();
    switch (sim_.acquired) {
      case Acquired::Granted:
        ASSERT_TRUE(alone) << "nobody is let past the queue";
        ASSERT_FALSE(sim_.pool.paused());
        ASSERT_EQ(sim_.count(SlotState::Idle), idle - 1);
        ASSERT_LE(sim_.pool.open(), settings_.size);
        ++grants_;
        break;
      case Acquired::Queued:
        queue_.push_back(client);
        ASSERT_LE(queue_.size(), settings_.waiters_max);
        break;
      case Acquired::Rejected:
        ASSERT_GE(queue_.size(), settings_.waiters_max);
        break;
    }
  }

  void open(TestSlot* slot) {
    sim_.pool.opened(*slot, sim_.now);
    failing_ = false;
  }

  // One step of cleaning, or back to Idle.
  void clean(TestSlot* slot) {
    if (slot == nullptr) return;
    if (upto(2) == 0) {
      sim_.pool.set_canceling(*slot, sim_.now);
      if (upto(2) == 0) sim_.pool.set_resetting(*slot, sim_.now);
    }
    if (upto(2) == 0) sim_.pool.release(*slot, sim_.now);
  }

  void plan() {
    const std::uint32_t connecting = sim_.count(SlotState::Connecting);
    const std::uint32_t before = sim_.pool.open();
    sim_.plan();
    const std::uint32_t open = sim_.pool.open();
    const std::uint32_t idle = sim_.count(SlotState::Idle);

    ASSERT_EQ(sim_.pool.failing(), failing_);
    for (TestWaiter* served : sim_.granted) {
      ASSERT_EQ(served, queue_.front()) << "first come, first served";
      queue_.pop_front();
      ++grants_;
      if (open - sim_.opens > settings_.size) {
        ASSERT_GE(served->waited_us, settings_.overflow_after_us) << "overflow is for who waited";
      }
    }
    for (TestWaiter* late : sim_.timed_out) {
      ASSERT_EQ(late, queue_.front()) << "the oldest first";
      ASSERT_GE(late->waited_us, settings_.acquire_timeout_us);
      ASSERT_GT(settings_.acquire_timeout_us, 0);
      queue_.pop_front();
    }
    ASSERT_EQ(sim_.pool.waiting(), queue_.size());
    if (settings_.acquire_timeout_us > 0) {
      ASSERT_LT(sim_.pool.oldest_wait_us(sim_.now), settings_.acquire_timeout_us);
    }
    if (sim_.opens > 0) {
      ASSERT_LE(open, settings_.size + settings_.overflow) << "never more than size + overflow";
      const std::uint32_t at_once = failing_ ? 1 : settings_.connect_concurrency;
      ASSERT_LE(connecting + sim_.opens, std::max(connecting, at_once));
    }
    ASSERT_LE(open, std::max(before, settings_.size + settings_.overflow));
    if (sim_.pool.paused()) {
      ASSERT_TRUE(sim_.granted.empty());
      ASSERT_EQ(sim_.opens, 0u);
    } else {
      ASSERT_TRUE(queue_.empty() || idle == 0) << "nobody waits while a server is idle";
    }
    if (open > settings_.size) {
      ASSERT_EQ(idle, 0u) << "what is above the size is not kept";
    }
    if (draining_ && (queue_.empty() || sim_.pool.paused())) {
      ASSERT_EQ(idle, 0u) << "nothing is kept while draining";
    }
  }

  // Everything works from now on, and nobody comes any more.
  void settle() {
    sim_.pool.set_paused(false);
    sim_.pool.set_draining(draining_ = false);
    for (int round = 0; round < 3000; ++round) {
      for (const SlotState state :
           {SlotState::Leased, SlotState::Resetting, SlotState::Canceling}) {
        for (TestSlot* slot : sim_.in(state)) sim_.pool.release(*slot, sim_.now);
      }
      for (TestSlot* slot : sim_.in(SlotState::Connecting)) open(slot);
      for (TestSlot* slot : sim_.in(SlotState::Closing)) sim_.pool.removed(*slot);
      sim_.now += 50 * kMilli;
      plan();
      if (testing::Test::HasFatalFailure()) return;
      const bool busy = sim_.pool.open() != sim_.count(SlotState::Idle);
      if (queue_.empty() && !busy) break;
    }
    ASSERT_TRUE(queue_.empty()) << "everybody is served, or told";
    ASSERT_LE(sim_.pool.open(), settings_.size);
  }

  std::mt19937 random_;
  config::Pool settings_;
  Sim sim_;
  std::deque<TestWaiter*> queue_;  // what the pool's must be
  std::uint32_t grants_ = 0;
  bool failing_ = false;
  bool draining_ = false;
};

TEST(Pool, KeepsItsPromisesOverThousandsOfRandomSteps) {
  std::uint32_t grants = 0;
  for (std::uint32_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(seed);
    RandomPool pool(seed);
    pool.run(400);
    if (HasFatalFailure()) return;
    grants += pool.grants();
  }
  EXPECT_GT(grants, 5000u) << "or this tests nothing";
}

}  // namespace
}  // namespace carpool::pool
