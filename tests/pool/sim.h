// Sim: a pool under a simulated clock, with the caller's part played for it: what plan() says is
// carried out at once and noted, except that servers open and close when the test says so.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "pool/pool.h"

namespace carpool::pool {

struct TestSlot final : Slot {
  explicit TestSlot(int number) : id(number) {}
  using Slot::set_affinity;
  const int id;
};
struct TestWaiter final : Waiter {
  explicit TestWaiter(int number) : id(number) {}
  using Waiter::set_affinity;
  const int id;
  TestSlot* slot = nullptr;  // what it was lent
  bool timed_out = false;
  Micros waited_us = 0;
};

inline constexpr Micros kSecond = kMicrosPerSecond;
inline constexpr Micros kMilli = kMicrosPerMilli;

class Sim {
 public:
  explicit Sim(const config::Pool& settings, std::uint64_t seed = 1) : pool(settings, seed) {}

  ~Sim() {
    for (const auto& waiter : waiters) {
      if (waiter->waiting()) pool.cancel_wait(*waiter);
    }
    for (const auto& slot : slots) {
      if (!slot->linked()) continue;
      if (slot->slot_state() != SlotState::Closing) pool.closing(*slot, now);
      pool.removed(*slot);
    }
  }

  // Lets time pass and plans.
  void after(Micros us) {
    now += us;
    plan();
  }
  // One plan(), carried out. Servers to be opened are added and stay Connecting.
  void plan() {
    granted.clear();
    closed.clear();
    timed_out.clear();
    opens = 0;
    for (const Action& action : std::vector<Action>(pool.plan(now))) {
      auto* slot = static_cast<TestSlot*>(action.slot);
      auto* waiter = static_cast<TestWaiter*>(action.waiter);
      switch (action.kind) {
        case Action::Kind::Grant:
          ASSERT_EQ(slot->slot_state(), SlotState::Leased);
          ASSERT_FALSE(waiter->waiting());
          waiter->slot = slot;
          waiter->waited_us = action.waited_us;
          granted.push_back(waiter);
          break;
        case Action::Kind::Open:
          add();
          ++opens;
          break;
        case Action::Kind::Close:
          ASSERT_EQ(slot->slot_state(), SlotState::Closing);
          reason = action.reason;
          closed.push_back(slot);
          pool.removed(*slot);
          break;
        case Action::Kind::TimeOut:
          ASSERT_FALSE(waiter->waiting());
          waiter->timed_out = true;
          waiter->waited_us = action.waited_us;
          timed_out.push_back(waiter);
          break;
      }
    }
  }
  TestSlot* add() {
    slots.push_back(std::make_unique<TestSlot>(static_cast<int>(slots.size())));
    pool.add(*slots.back(), now);
    return slots.back().get();
  }
  // An idle server, as if plan() had asked for it.
  TestSlot* idle() {
    TestSlot* slot = add();
    pool.opened(*slot, now);
    return slot;
  }
  // All that are Connecting become Idle, and plan() is asked again, until it opens no more.
  void open_all() {
    do {
      std::vector<TestSlot*> connecting = in(SlotState::Connecting);
      for (TestSlot* slot : connecting) pool.opened(*slot, now);
      plan();
    } while (pool.count(SlotState::Connecting) > 0);
  }
  std::vector<TestSlot*> in(SlotState state) const {
    std::vector<TestSlot*> found;
    pool.for_each_slot(state, [&](Slot& slot) { found.push_back(static_cast<TestSlot*>(&slot)); });
    return found;
  }
  // A client that needs a server: lent at once, queued or refused.
  TestWaiter* want(const void* affinity = nullptr) {
    waiters.push_back(std::make_unique<TestWaiter>(static_cast<int>(waiters.size())));
    TestWaiter* waiter = waiters.back().get();
    waiter->set_affinity(affinity);
    Slot* slot = nullptr;
    acquired = pool.acquire(*waiter, now, &slot);
    waiter->slot = static_cast<TestSlot*>(slot);
    EXPECT_EQ(acquired == Acquired::Granted, slot != nullptr);
    EXPECT_EQ(acquired == Acquired::Queued, waiter->waiting());
    return waiter;
  }
  void give_back(TestWaiter* waiter) {
    pool.release(*waiter->slot, now);
    waiter->slot = nullptr;
  }
  // Takes a server for as long as the test lasts.
  TestWaiter* lease(const void* affinity = nullptr) {
    TestWaiter* waiter = want(affinity);
    EXPECT_EQ(acquired, Acquired::Granted);
    return waiter;
  }
  std::uint32_t count(SlotState state) const { return pool.count(state); }

  // They outlive the pool, whose lists they are in.
  std::vector<std::unique_ptr<TestSlot>> slots;
  std::vector<std::unique_ptr<TestWaiter>> waiters;
  Pool pool;
  Micros now = 1000 * kSecond;

  // What the last plan() or want() said.
  std::vector<TestWaiter*> granted;
  std::vector<TestSlot*> closed;
  std::vector<TestWaiter*> timed_out;
  CloseReason reason = CloseReason::Idle;
  std::uint32_t opens = 0;
  Acquired acquired = Acquired::Queued;
};

}  // namespace carpool::pool
