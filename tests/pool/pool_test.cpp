#include "pool/pool.h"

#include <gtest/gtest.h>

#include "sim.h"

namespace carpool::pool {
namespace {

config::Pool settings(std::uint32_t size) {
  config::Pool pool;
  pool.size = size;
  return pool;
}

// ---- lending

TEST(Pool, LendsAnIdleServerAtOnce) {
  Sim sim(settings(2));
  TestSlot* slot = sim.idle();
  TestWaiter* client = sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Granted);
  EXPECT_EQ(client->slot, slot);
  EXPECT_EQ(slot->slot_state(), SlotState::Leased);
  EXPECT_FALSE(client->waiting());
}

TEST(Pool, LendsTheServerThatCameBackLast) {
  Sim sim(settings(3));
  for (int i = 0; i < 3; ++i) sim.idle();
  TestWaiter* first = sim.lease();
  TestWaiter* second = sim.lease();
  TestSlot* last = first->slot;
  sim.give_back(second);
  sim.give_back(first);
  EXPECT_EQ(sim.lease()->slot, last);
}

TEST(Pool, OpensWhatIsWantedThoughServersOfAnEarlierKindAreOpen) {
  Sim sim(settings(2));
  sim.idle();
  sim.lease();
  sim.pool.reconnect();
  sim.pool.set_wanted(1);
  sim.plan();
  EXPECT_EQ(sim.opens, 1U);
  sim.open_all();
  sim.pool.set_wanted(1);
  sim.plan();
  EXPECT_EQ(sim.opens, 0U);
}

TEST(Pool, PrefersAServerOfTheClientsAffinity) {
  Sim sim(settings(3));
  const int blue = 0;
  const int red = 0;
  TestSlot* first = sim.idle();
  TestSlot* middle = sim.idle();
  TestSlot* last = sim.idle();
  first->set_affinity(&blue);
  TestWaiter* client = sim.lease(&blue);
  EXPECT_EQ(client->slot, first);
  sim.give_back(client);
  EXPECT_EQ(sim.lease(&red)->slot, first) << "none is red: the one that came back last";
  EXPECT_EQ(sim.lease()->slot, middle);
  EXPECT_EQ(sim.lease()->slot, last) << "it has taken the place of the one that overtook it";
}

TEST(Pool, PrefersItAlsoForWhomHasWaited) {
  Sim sim(settings(2));
  const int blue = 0;
  TestSlot* of_blue = sim.idle();
  sim.idle();
  TestWaiter* one = sim.lease();
  TestWaiter* two = sim.lease();
  TestWaiter* client = sim.want(&blue);
  EXPECT_EQ(sim.acquired, Acquired::Queued);
  of_blue->set_affinity(&blue);
  sim.give_back(two->slot == of_blue ? two : one);
  sim.give_back(two->slot != nullptr ? two : one);
  sim.plan();
  EXPECT_EQ(client->slot, of_blue);
}

TEST(Pool, ASurplusAgesOutWhateverIsPreferred) {
  config::Pool with = settings(3);
  with.idle_timeout_us = 60 * kSecond;
  Sim sim(with);
  const int colours[3] = {};
  for (const int& colour : colours) sim.idle()->set_affinity(&colour);
  // One client at a time, of each colour in turn: one server would do.
  std::size_t most = 3;
  for (int second = 0; second < 120; ++second) {
    TestWaiter* client = sim.want(&colours[second % 3]);
    if (sim.acquired == Acquired::Queued) sim.after(0);
    ASSERT_NE(client->slot, nullptr);
    client->slot->set_affinity(&colours[second % 3]);
    sim.give_back(client);
    sim.after(kSecond);
    most = sim.in(SlotState::Idle).size();
  }
  EXPECT_EQ(most, 1U);
}

TEST(Pool, ServesWaitersInTheOrderInWhichTheyCame) {
  Sim sim(settings(1));
  sim.idle();
  TestWaiter* holder = sim.lease();
  std::vector<TestWaiter*> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(sim.want());
    EXPECT_EQ(sim.acquired, Acquired::Queued);
    sim.now += kMilli;
  }
  EXPECT_EQ(sim.pool.oldest_wait_us(sim.now), 5 * kMilli);
  for (TestWaiter* next : waiting) {
    sim.give_back(holder);
    sim.after(kMilli);
    ASSERT_EQ(sim.granted, std::vector<TestWaiter*>{next});
    holder = next;
  }
  EXPECT_EQ(sim.pool.oldest_wait_us(sim.now), 0);
}

TEST(Pool, LetsNobodyPastTheQueue) {
  Sim sim(settings(1));
  sim.idle();
  TestWaiter* holder = sim.lease();
  TestWaiter* first = sim.want();
  sim.give_back(holder);
  TestWaiter* late = sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Queued) << "a server is idle, but another waits for it";
  sim.plan();
  EXPECT_EQ(sim.granted, std::vector<TestWaiter*>{first});
  EXPECT_TRUE(late->waiting());
}

TEST(Pool, ForgetsAWaiterThatLeaves) {
  Sim sim(settings(1));
  sim.idle();
  TestWaiter* holder = sim.lease();
  TestWaiter* leaves = sim.want();
  TestWaiter* stays = sim.want();
  sim.pool.cancel_wait(*leaves);
  sim.give_back(holder);
  sim.plan();
  EXPECT_EQ(sim.granted, std::vector<TestWaiter*>{stays});
}

TEST(Pool, RefusesAtOnceAboveWaitersMax) {
  config::Pool with = settings(1);
  with.waiters_max = 2;
  Sim sim(with);
  sim.idle();
  sim.lease();
  sim.want();
  sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Queued);
  EXPECT_FALSE(sim.want()->waiting());
  EXPECT_EQ(sim.acquired, Acquired::Rejected);
  EXPECT_EQ(sim.pool.waiting(), 2u);
}

TEST(Pool, TimesOutThoseWhoHaveWaitedForAcquireTimeoutAndNoOther) {
  config::Pool with = settings(1);
  with.acquire_timeout_us = 30 * kSecond;
  Sim sim(with);
  sim.idle();
  sim.lease();
  TestWaiter* early = sim.want();
  sim.after(10 * kSecond);
  TestWaiter* later = sim.want();
  sim.after(20 * kSecond - 1);
  EXPECT_TRUE(sim.timed_out.empty());
  sim.after(1);
  EXPECT_EQ(sim.timed_out, std::vector<TestWaiter*>{early});
  EXPECT_EQ(early->waited_us, 30 * kSecond);
  EXPECT_TRUE(later->waiting());
  sim.after(10 * kSecond);
  EXPECT_EQ(sim.timed_out, std::vector<TestWaiter*>{later});
}

TEST(Pool, WaitsForEverWhereAcquireTimeoutIsZero) {
  config::Pool with = settings(1);
  with.acquire_timeout_us = 0;
  Sim sim(with);
  sim.idle();
  sim.lease();
  TestWaiter* waiter = sim.want();
  sim.after(100'000 * kSecond);
  EXPECT_TRUE(waiter->waiting());
}

// ---- opening

TEST(Pool, OpensOneServerForEachWaiterUpToItsSize) {
  config::Pool with = settings(3);
  with.connect_concurrency = 10;
  Sim sim(with);
  sim.want();
  sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 2u);
  sim.plan();
  EXPECT_EQ(sim.opens, 0u) << "two are on their way";
  for (int i = 0; i < 5; ++i) sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 1u);
  EXPECT_EQ(sim.pool.open(), 3u);
}

TEST(Pool, OpensNoMoreAtOnceThanConnectConcurrency) {
  config::Pool with = settings(20);
  with.connect_concurrency = 4;
  Sim sim(with);
  for (int i = 0; i < 20; ++i) sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 4u);
  sim.pool.opened(*sim.in(SlotState::Connecting)[0], sim.now);
  sim.plan();
  EXPECT_EQ(sim.opens, 1u);
  EXPECT_EQ(sim.granted.size(), 1u);
  sim.open_all();
  EXPECT_EQ(sim.pool.open(), 20u);
  EXPECT_EQ(sim.pool.waiting(), 0u);
}

TEST(Pool, OpensNothingWhileNobodyAsks) {
  Sim sim(settings(5));
  sim.after(100 * kSecond);
  EXPECT_EQ(sim.opens, 0u);
}

TEST(Pool, KeepsMinIdleServersWarm) {
  config::Pool with = settings(10);
  with.min_idle = 3;
  Sim sim(with);
  sim.plan();
  sim.open_all();
  EXPECT_EQ(sim.count(SlotState::Idle), 3u);
  sim.lease();
  sim.plan();
  EXPECT_EQ(sim.opens, 0u) << "they are a floor under the servers, lent or not";
}

TEST(Pool, ReplacesAWarmServerThatWasLost) {
  config::Pool with = settings(10);
  with.min_idle = 3;
  Sim sim(with);
  sim.plan();
  sim.open_all();
  ASSERT_EQ(sim.count(SlotState::Idle), 3u);
  sim.pool.closing(*sim.in(SlotState::Idle)[0], sim.now);
  sim.plan();
  sim.open_all();
  EXPECT_EQ(sim.count(SlotState::Idle), 3u);
}

TEST(Pool, WarmsMoreThanConnectConcurrencyServers) {
  config::Pool with = settings(20);
  with.min_idle = 12;
  with.connect_concurrency = 4;
  Sim sim(with);
  sim.plan();
  sim.open_all();
  EXPECT_EQ(sim.count(SlotState::Idle), 12u);
}

TEST(Pool, OpensAServerThatIsWantedWithoutAWaiter) {
  Sim sim(settings(2));
  sim.pool.set_wanted(1);
  sim.plan();
  EXPECT_EQ(sim.opens, 1u);
  sim.open_all();
  EXPECT_EQ(sim.pool.open(), 1u);
}

TEST(Pool, BacksOffAfterAFailureLongerEachTime) {
  config::Pool with = settings(10);
  with.acquire_timeout_us = 0;
  Sim sim(with);
  for (int i = 0; i < 10; ++i) sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 4u);
  for (TestSlot* slot : sim.in(SlotState::Connecting)) sim.pool.open_failed(*slot, sim.now);
  EXPECT_TRUE(sim.pool.failing());
  Micros longest = 0;
  for (int failure = 0; failure < 12; ++failure) {
    const Micros failed_at = sim.now;
    sim.plan();
    EXPECT_EQ(sim.opens, 0u) << "not at once";
    while (sim.opens == 0 && sim.now - failed_at < 100 * kSecond) sim.after(10 * kMilli);
    ASSERT_EQ(sim.opens, 1u) << "one attempt finds out whether PostgreSQL is back";
    const Micros waited = sim.now - failed_at;
    longest = std::max(longest, waited);
    EXPECT_LE(waited, 8 * kSecond) << "recovery never takes long to be noticed";
    EXPECT_GE(waited, failure > 6 ? 2 * kSecond : 50 * kMilli);
    sim.pool.open_failed(*sim.in(SlotState::Connecting)[0], sim.now);
  }
  EXPECT_EQ(sim.pool.waiting(), 10u) << "clients wait";
}

TEST(Pool, RecoversWhenPostgresqlReturns) {
  Sim sim(settings(6));
  std::vector<TestWaiter*> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(sim.want());
  sim.plan();
  for (TestSlot* slot : sim.in(SlotState::Connecting)) sim.pool.open_failed(*slot, sim.now);
  while (sim.count(SlotState::Connecting) == 0) sim.after(10 * kMilli);
  sim.pool.opened(*sim.in(SlotState::Connecting)[0], sim.now);
  EXPECT_FALSE(sim.pool.failing());
  sim.plan();
  EXPECT_EQ(sim.granted.size(), 1u);
  EXPECT_EQ(sim.opens, 4u) << "and at full speed again";
  sim.open_all();
  for (TestWaiter* client : clients) EXPECT_NE(client->slot, nullptr);
}

TEST(Pool, SpreadsRetriesOverTime) {
  std::vector<Micros> waits;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Sim sim(settings(1), seed * 7919);
    sim.want();
    sim.plan();
    sim.pool.open_failed(*sim.in(SlotState::Connecting)[0], sim.now);
    const Micros failed_at = sim.now;
    while (sim.count(SlotState::Connecting) == 0) sim.after(kMilli);
    waits.push_back(sim.now - failed_at);
  }
  std::sort(waits.begin(), waits.end());
  EXPECT_GE(waits.front(), 50 * kMilli);
  EXPECT_LE(waits.back(), 151 * kMilli);
  EXPECT_GE(waits.back() - waits.front(), 40 * kMilli);
}

// ---- overflow

config::Pool with_overflow() {
  config::Pool with = settings(2);
  with.overflow = 2;
  with.overflow_after_us = kSecond;
  with.connect_concurrency = 10;
  return with;
}

TEST(Pool, OpensOverflowServersOnlyForThoseWhoHaveWaited) {
  Sim sim(with_overflow());
  for (int i = 0; i < 2; ++i) sim.idle();
  sim.lease();
  sim.lease();
  TestWaiter* waiter = sim.want();
  sim.plan();
  sim.after(kSecond - 1);
  EXPECT_EQ(sim.opens, 0u);
  sim.after(1);
  EXPECT_EQ(sim.opens, 1u);
  sim.open_all();
  EXPECT_NE(waiter->slot, nullptr);
  EXPECT_EQ(sim.pool.open(), 3u);
}

TEST(Pool, HoldsNeverMoreThanSizeAndOverflow) {
  Sim sim(with_overflow());
  for (int i = 0; i < 2; ++i) sim.idle();
  sim.lease();
  sim.lease();
  for (int i = 0; i < 10; ++i) sim.want();
  sim.after(5 * kSecond);
  EXPECT_EQ(sim.opens, 2u);
  sim.open_all();
  sim.after(5 * kSecond);
  EXPECT_EQ(sim.pool.open(), 4u);
}

TEST(Pool, ClosesAnOverflowServerThatComesBackToNobody) {
  Sim sim(with_overflow());
  for (int i = 0; i < 2; ++i) sim.idle();
  sim.lease();
  sim.lease();
  TestWaiter* waiter = sim.want();
  sim.after(kSecond);
  sim.open_all();
  TestSlot* extra = waiter->slot;
  sim.give_back(waiter);
  sim.plan();
  EXPECT_EQ(sim.closed, std::vector<TestSlot*>{extra});
  EXPECT_EQ(sim.reason, CloseReason::Overflow);
  EXPECT_EQ(sim.pool.open(), 2u);
}

TEST(Pool, LendsAnOverflowServerOnToAnotherWhoHasWaitedAndToNoneWhoHasNot) {
  Sim sim(with_overflow());
  for (int i = 0; i < 2; ++i) sim.idle();
  sim.lease();
  sim.lease();
  TestWaiter* first = sim.want();
  TestWaiter* second = sim.want();
  sim.after(kSecond);
  sim.pool.opened(*sim.in(SlotState::Connecting)[0], sim.now);
  sim.plan();
  ASSERT_NE(first->slot, nullptr);
  sim.give_back(first);
  sim.plan();
  ASSERT_NE(second->slot, nullptr);
  EXPECT_TRUE(sim.closed.empty());
  // The other that was connecting comes when only a newcomer waits.
  TestWaiter* newcomer = sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Queued);
  for (TestSlot* slot : sim.in(SlotState::Connecting)) sim.pool.opened(*slot, sim.now);
  sim.give_back(second);
  sim.plan();
  EXPECT_EQ(newcomer->slot, nullptr);
  EXPECT_EQ(sim.closed.size(), 2u);
  EXPECT_EQ(sim.reason, CloseReason::Overflow);
}

// ---- ageing

TEST(Pool, ClosesServersThatIdleTooLongAtThePruneInterval) {
  config::Pool with = settings(5);
  with.idle_timeout_us = 60 * kSecond;
  with.prune_interval_us = 10 * kSecond;
  Sim sim(with);
  sim.plan();  // the first look
  for (int i = 0; i < 4; ++i) sim.idle();
  TestSlot* busy = sim.lease()->slot;
  sim.after(55 * kSecond);  // the look before they are due
  EXPECT_TRUE(sim.closed.empty());
  sim.pool.release(*busy, sim.now);
  sim.after(6 * kSecond);  // due, but not looked at
  EXPECT_TRUE(sim.closed.empty());
  sim.after(4 * kSecond);
  EXPECT_EQ(sim.closed.size(), 3u);
  EXPECT_EQ(sim.reason, CloseReason::Idle);
  EXPECT_EQ(sim.in(SlotState::Idle), std::vector<TestSlot*>{busy}) << "it idles for 10 s only";
}

TEST(Pool, KeepsMinIdleServersHoweverLongTheyIdle) {
  config::Pool with = settings(5);
  with.min_idle = 2;
  with.idle_timeout_us = 60 * kSecond;
  Sim sim(with);
  for (int i = 0; i < 5; ++i) sim.idle();
  sim.after(1000 * kSecond);
  EXPECT_EQ(sim.closed.size(), 3u);
  sim.after(1000 * kSecond);
  EXPECT_EQ(sim.count(SlotState::Idle), 2u);
}

TEST(Pool, KeepsIdleServersForEverWhereIdleTimeoutIsZero) {
  config::Pool with = settings(5);
  with.idle_timeout_us = 0;
  with.max_lifetime_us = 0;
  Sim sim(with);
  for (int i = 0; i < 5; ++i) sim.idle();
  sim.after(1'000'000 * kSecond);
  EXPECT_TRUE(sim.closed.empty());
}

TEST(Pool, LetsASurplusAgeOutUnderALightLoad) {
  config::Pool with = settings(10);
  with.idle_timeout_us = 60 * kSecond;
  Sim sim(with);
  for (int i = 0; i < 10; ++i) sim.idle();
  for (int i = 0; i < 100; ++i) {
    TestWaiter* client = sim.lease();
    sim.after(kSecond / 2);
    sim.give_back(client);
    sim.after(kSecond / 2);
  }
  EXPECT_EQ(sim.pool.open(), 1u) << "last in, first out leaves the others idle";
}

TEST(Pool, ClosesServersAtTheEndOfTheirLifeWithATenthOfJitter) {
  config::Pool with = settings(100);
  with.idle_timeout_us = 0;
  with.max_lifetime_us = 1000 * kSecond;
  Sim sim(with);
  for (int i = 0; i < 100; ++i) sim.idle();
  const Micros opened = sim.now;
  std::vector<std::size_t> closed_in_second(1100);
  for (std::size_t second = 0; second < closed_in_second.size(); ++second) {
    sim.after(kSecond);
    closed_in_second[second] = sim.closed.size();
    if (!sim.closed.empty()) {
      EXPECT_EQ(sim.reason, CloseReason::Lifetime);
      EXPECT_GE(sim.now - opened, 900 * kSecond);
      EXPECT_LE(sim.now - opened, 1011 * kSecond) << "with the prune interval on top";
    }
  }
  EXPECT_EQ(sim.count(SlotState::Idle), 1u) << "the last goes when its successor is there";
  const TestSlot* last = sim.in(SlotState::Idle).front();
  sim.open_all();
  EXPECT_EQ(sim.count(SlotState::Idle), 1u);
  EXPECT_NE(sim.in(SlotState::Idle).front(), last);
  EXPECT_LT(*std::max_element(closed_in_second.begin(), closed_in_second.end()), 40u)
      << "a fleet does not reconnect at once";
}

TEST(Pool, ReplacesAnExpiredServerInsteadOfLendingItToAWaiter) {
  config::Pool with = settings(1);
  with.max_lifetime_us = 100 * kSecond;
  with.acquire_timeout_us = 0;
  Sim sim(with);
  sim.idle();
  TestWaiter* holder = sim.lease();
  TestWaiter* waiter = sim.want();
  sim.now += 200 * kSecond;
  sim.give_back(holder);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 1u);
  EXPECT_EQ(sim.reason, CloseReason::Lifetime);
  EXPECT_EQ(sim.opens, 1u);
  sim.open_all();
  EXPECT_NE(waiter->slot, nullptr);
}

// As after a password was rotated to a wrong one.
TEST(Pool, KeepsServersPastTheirLifeWhilePostgresLetsNoneIn) {
  config::Pool with = settings(3);
  with.idle_timeout_us = 0;
  with.max_lifetime_us = 100 * kSecond;
  Sim sim(with);
  for (int i = 0; i < 2; ++i) sim.idle();
  TestWaiter* one = sim.lease();
  TestWaiter* two = sim.lease();
  TestWaiter* third = sim.want();
  sim.plan();
  ASSERT_EQ(sim.opens, 1u);
  const auto fail = [&sim] {
    TestSlot* slot = sim.in(SlotState::Connecting).front();
    sim.pool.open_failed(*slot, sim.now);
    sim.pool.removed(*slot);
  };
  fail();
  sim.give_back(one);
  sim.give_back(two);
  sim.plan();
  ASSERT_EQ(sim.granted.size(), 1u);
  // Attempts go on, which is what finds out.
  int attempts = 0;
  for (int i = 0; i < 50; ++i) {
    sim.after(10 * kSecond);
    EXPECT_TRUE(sim.closed.empty());
    sim.give_back(sim.lease());
    if (sim.count(SlotState::Connecting) == 0) continue;
    ++attempts;
    fail();
  }
  EXPECT_GE(attempts, 40);
  sim.after(10 * kSecond);
  TestSlot* fresh = sim.in(SlotState::Connecting).front();
  sim.pool.opened(*fresh, sim.now);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 1u) << "the idle one";
  EXPECT_EQ(sim.reason, CloseReason::Lifetime);
  sim.give_back(third);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 1u) << "the lent one, as it comes back";
  ASSERT_EQ(sim.count(SlotState::Idle), 1u);
  EXPECT_EQ(sim.in(SlotState::Idle).front(), fresh);
}

TEST(Pool, ReplacesItsLastServerBeforeThatIsClosedForItsAge) {
  config::Pool with = settings(2);
  with.max_lifetime_us = 100 * kSecond;
  with.idle_timeout_us = 0;
  Sim sim(with);
  TestSlot* old = sim.idle();
  sim.after(200 * kSecond);
  EXPECT_TRUE(sim.closed.empty());
  EXPECT_EQ(sim.opens, 1u);
  EXPECT_EQ(sim.lease()->slot, old) << "it serves meanwhile";
  sim.give_back(sim.waiters.back().get());
  sim.open_all();
  ASSERT_EQ(sim.count(SlotState::Idle), 1u);
  EXPECT_NE(sim.in(SlotState::Idle).front(), old);
}

TEST(Pool, ThatDrainsReplacesNothing) {
  config::Pool with = settings(2);
  with.max_lifetime_us = 100 * kSecond;
  Sim sim(with);
  sim.idle();
  sim.lease();
  sim.pool.set_draining(true);
  sim.after(200 * kSecond);
  EXPECT_EQ(sim.opens, 0u);
}

TEST(Pool, NeverClosesALeasedServerForItsAge) {
  config::Pool with = settings(1);
  with.max_lifetime_us = 10 * kSecond;
  with.idle_timeout_us = 10 * kSecond;
  Sim sim(with);
  sim.idle();
  TestWaiter* holder = sim.lease();
  sim.after(1000 * kSecond);
  EXPECT_TRUE(sim.closed.empty());
  sim.give_back(holder);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 1u);
}

// ---- live settings

TEST(Pool, ServesItsWaitersAtOnceWhenItGrows) {
  config::Pool with = settings(2);
  with.connect_concurrency = 10;
  Sim sim(with);
  for (int i = 0; i < 2; ++i) sim.idle();
  sim.lease();
  sim.lease();
  for (int i = 0; i < 5; ++i) sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 0u);
  with.size = 6;
  sim.pool.configure(with, sim.now);
  sim.plan();
  EXPECT_EQ(sim.opens, 4u);
  sim.open_all();
  EXPECT_EQ(sim.pool.waiting(), 1u);
}

TEST(Pool, ClosesIdleServersAtOnceWhenItShrinksAndLeasedOnesAsTheyComeBack) {
  Sim sim(settings(6));
  for (int i = 0; i < 6; ++i) sim.idle();
  std::vector<TestWaiter*> holders;
  for (int i = 0; i < 4; ++i) holders.push_back(sim.lease());
  sim.pool.configure(settings(2), sim.now);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 2u);
  EXPECT_EQ(sim.reason, CloseReason::Shrunk);
  EXPECT_EQ(sim.count(SlotState::Leased), 4u) << "no transaction is cut";
  for (std::size_t i = 0; i < 2; ++i) {
    sim.give_back(holders[i]);
    sim.plan();
    EXPECT_EQ(sim.closed.size(), 1u);
  }
  for (std::size_t i = 2; i < 4; ++i) {
    sim.give_back(holders[i]);
    sim.plan();
    EXPECT_TRUE(sim.closed.empty());
  }
  EXPECT_EQ(sim.count(SlotState::Idle), 2u);
}

TEST(Pool, ShrinksWithWaitersInTheQueueAndGoesOnServingThem) {
  Sim sim(settings(3));
  for (int i = 0; i < 3; ++i) sim.idle();
  std::vector<TestWaiter*> holders;
  for (int i = 0; i < 3; ++i) holders.push_back(sim.lease());
  TestWaiter* waiter = sim.want();
  sim.pool.configure(settings(1), sim.now);
  for (std::size_t i = 0; i < 2; ++i) {
    sim.give_back(holders[i]);
    sim.plan();
    EXPECT_EQ(sim.closed.size(), 1u);
    EXPECT_EQ(waiter->slot, nullptr);
  }
  sim.give_back(holders[2]);
  sim.plan();
  EXPECT_NE(waiter->slot, nullptr);
  EXPECT_EQ(sim.pool.open(), 1u);
}

TEST(Pool, LendsNothingAboveAShrunkSizeEvenBeforeThePlan) {
  Sim sim(settings(2));
  for (int i = 0; i < 2; ++i) sim.idle();
  sim.lease();
  sim.pool.configure(settings(1), sim.now);
  TestWaiter* client = sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Queued);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 1u);
  EXPECT_TRUE(client->waiting());
}

TEST(Pool, LooksAgainAtOnceWhenThePruneIntervalIsShortened) {
  config::Pool with = settings(2);
  with.idle_timeout_us = kSecond;
  with.prune_interval_us = 1000 * kSecond;
  Sim sim(with);
  sim.plan();
  sim.idle();
  sim.after(5 * kSecond);
  EXPECT_TRUE(sim.closed.empty());
  with.prune_interval_us = kSecond;
  sim.pool.configure(with, sim.now);
  sim.after(kSecond);
  EXPECT_EQ(sim.closed.size(), 1u);
}

// ---- pause, reconnect, drain

TEST(Pool, LendsAndOpensNothingWhilePaused) {
  Sim sim(settings(2));
  sim.idle();
  sim.pool.set_paused(true);
  TestWaiter* client = sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Queued);
  sim.want();
  sim.after(kSecond);
  EXPECT_TRUE(sim.granted.empty());
  EXPECT_EQ(sim.opens, 0u);
  sim.pool.set_paused(false);
  sim.plan();
  EXPECT_EQ(sim.granted, std::vector<TestWaiter*>{client});
  EXPECT_EQ(sim.opens, 1u);
}

TEST(Pool, TimesOutItsWaitersWhilePausedToo) {
  Sim sim(settings(2));
  sim.pool.set_paused(true);
  TestWaiter* client = sim.want();
  sim.after(30 * kSecond);
  EXPECT_EQ(sim.timed_out, std::vector<TestWaiter*>{client});
}

TEST(Pool, ReplacesEveryServerOnReconnect) {
  Sim sim(settings(4));
  for (int i = 0; i < 3; ++i) sim.idle();
  TestSlot* connecting = sim.add();
  TestWaiter* holder = sim.lease();
  TestSlot* leased = holder->slot;
  sim.pool.reconnect();
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 2u) << "idle ones at once";
  EXPECT_EQ(sim.reason, CloseReason::Reconnect);
  sim.pool.opened(*connecting, sim.now);
  sim.plan();
  EXPECT_EQ(sim.closed, std::vector<TestSlot*>{connecting});
  sim.give_back(holder);
  sim.plan();
  EXPECT_EQ(sim.closed, std::vector<TestSlot*>{leased});
  EXPECT_EQ(sim.pool.open(), 0u);
}

TEST(Pool, ClosesAnOutdatedServerAsItComesBackAndNoOther) {
  Sim sim(settings(3));
  for (int i = 0; i < 3; ++i) sim.idle();
  TestWaiter* holder = sim.lease();
  TestSlot* lent = holder->slot;
  TestWaiter* other = sim.lease();
  TestSlot* idle = other->slot;
  sim.give_back(other);
  sim.pool.outdate(*lent);
  sim.pool.outdate(*idle);
  sim.plan();
  EXPECT_EQ(idle->slot_state(), SlotState::Closing) << "at once where nobody has it";
  EXPECT_EQ(lent->slot_state(), SlotState::Leased) << "no transaction is cut";
  sim.give_back(holder);
  sim.plan();
  EXPECT_EQ(lent->slot_state(), SlotState::Closing);
  EXPECT_EQ(sim.pool.count(SlotState::Idle), 1U);
  sim.pool.reconnect();
  EXPECT_NE(lent->slot_state(), SlotState::Idle);
}

TEST(Pool, LendsNoServerFromBeforeAReconnect) {
  Sim sim(settings(1));
  TestSlot* old = sim.idle();
  sim.pool.reconnect();
  TestWaiter* client = sim.want();
  EXPECT_EQ(sim.acquired, Acquired::Queued);
  sim.plan();
  EXPECT_EQ(sim.closed, std::vector<TestSlot*>{old});
  EXPECT_EQ(sim.opens, 1u);
  sim.open_all();
  EXPECT_NE(client->slot, nullptr);
  EXPECT_NE(client->slot, old);
}

TEST(Pool, KeepsNoServerWhileDrainingButServesItsWaiters) {
  config::Pool with = settings(4);
  with.min_idle = 2;
  Sim sim(with);
  for (int i = 0; i < 3; ++i) sim.idle();
  TestWaiter* holder = sim.lease();
  sim.pool.set_draining(true);
  sim.plan();
  EXPECT_EQ(sim.closed.size(), 2u);
  EXPECT_EQ(sim.reason, CloseReason::Drained);
  TestWaiter* client = sim.want();
  sim.plan();
  EXPECT_EQ(sim.opens, 1u) << "the application is draining too and has work left";
  sim.open_all();
  EXPECT_NE(client->slot, nullptr);
  sim.give_back(holder);
  sim.give_back(client);
  sim.plan();
  EXPECT_EQ(sim.pool.open(), 0u) << "none is kept warm";
  sim.after(100 * kSecond);
  EXPECT_EQ(sim.opens, 0u);
}

TEST(Pool, OpensAServerThatASigningInClientWantsWhileDraining) {
  Sim sim(settings(2));
  sim.pool.set_draining(true);
  sim.pool.set_wanted(1);
  sim.plan();
  EXPECT_EQ(sim.opens, 1u) << "drain goes on accepting: a first client of a pool must be greeted";
}

// ---- cleaning

TEST(Pool, LendsAServerAgainOnlyWhenItIsCleanAndItsCancelHasLanded) {
  Sim sim(settings(1));
  sim.idle();
  TestWaiter* holder = sim.lease();
  TestSlot* slot = holder->slot;
  TestWaiter* client = sim.want();
  sim.pool.set_canceling(*slot, sim.now);
  sim.after(kMilli);
  EXPECT_TRUE(client->waiting());
  sim.pool.set_resetting(*slot, sim.now);
  sim.after(kMilli);
  EXPECT_TRUE(client->waiting());
  EXPECT_EQ(sim.opens, 0u) << "it counts towards the size";
  sim.pool.release(*slot, sim.now);
  sim.plan();
  EXPECT_EQ(client->slot, slot);
}

TEST(Pool, ReplacesALostServer) {
  Sim sim(settings(1));
  sim.idle();
  TestWaiter* holder = sim.lease();
  TestWaiter* client = sim.want();
  sim.pool.closing(*holder->slot, sim.now);
  sim.plan();
  EXPECT_EQ(sim.opens, 1u) << "what is Closing does not count";
  sim.open_all();
  EXPECT_NE(client->slot, nullptr);
  sim.pool.removed(*holder->slot);
  EXPECT_EQ(sim.count(SlotState::Closing), 0u);
}

TEST(Pool, StampsEachChangeOfState) {
  Sim sim(settings(1));
  TestSlot* slot = sim.idle();
  EXPECT_EQ(slot->opened_us(), sim.now);
  sim.now += 5 * kSecond;
  sim.lease();
  EXPECT_EQ(slot->in_state_since_us(), sim.now);
  EXPECT_EQ(slot->opened_us(), sim.now - 5 * kSecond);
}

TEST(PoolDeathTest, RefusesAnEdgeThatIsNotInTheTable) {
  testing::FLAGS_gtest_death_test_style = "fast";
  Sim sim(settings(2));
  TestSlot* slot = sim.idle();
  EXPECT_DEATH(sim.pool.set_canceling(*slot, sim.now), "CHECK failed");
  EXPECT_DEATH(sim.pool.removed(*slot), "CHECK failed");
  EXPECT_DEATH(sim.pool.release(*slot, sim.now), "CHECK failed");
}

}  // namespace
}  // namespace carpool::pool
