#include "admin/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sample.h"

namespace carpool::admin {
namespace {

using pool::ClientSnapshot;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Ten servers, all lent, and three clients in the queue.
class Diagnose : public ::testing::Test {
 protected:
  Diagnose() {
    pool_ = sample_pool("app", 10);
    pool_.clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 3;
    pool_.oldest_waiter_us = 4'200'000;
  }

  void holders(int count, std::string_view state, Micros in_state_us, const char* pinned_by = "") {
    for (int i = 0; i < count; i++) {
      ClientSnapshot client;
      client.database = "app";
      client.user = "app";
      client.application_name = "worker-3";
      client.state = std::string(state);
      client.in_state_us = in_state_us;
      client.pinned_by = pinned_by;
      client.pinned_us = *pinned_by == '\0' ? 0 : in_state_us;
      client.query = "SELECT pg_sleep(?)";
      snapshot_.client_list.push_back(client);
    }
  }
  Diagnosis why() { return diagnose(pool_, snapshot_); }

  pool::PoolSnapshot pool_;
  pool::Snapshot snapshot_;
};

TEST_F(Diagnose, SaysNothingWhileNobodyWaits) {
  EXPECT_EQ(diagnose(sample_pool("app", 10), snapshot_).cause, "");
  EXPECT_EQ(diagnose(sample_pool("app", 10), snapshot_).sentence, "");
}

TEST_F(Diagnose, NamesTransactionsInWhichNothingRuns) {
  holders(8, kIdleInTransaction, 35 * kMicrosPerSecond);
  holders(2, kAttached, 1000);
  EXPECT_EQ(why().cause, "idle_in_transaction");
  EXPECT_EQ(why().setting, "pool.idleTransactionTimeout");
  EXPECT_THAT(why().sentence,
              AllOf(HasSubstr("3 clients of app/app wait (the first for 4.2 s)"),
                    HasSubstr("10 servers lent, 8 are held"), HasSubstr("35 s by \"worker-3\""),
                    HasSubstr("pool.idleTransactionTimeout")));
}

TEST_F(Diagnose, NamesLongQueries) {
  holders(6, kAttached, 12 * kMicrosPerSecond);
  holders(2, kIdleInTransaction, 2 * kMicrosPerSecond);
  EXPECT_EQ(why().cause, "slow_query");
  EXPECT_THAT(why().sentence, AllOf(HasSubstr("6 run long queries, the longest for 12 s"),
                                    HasSubstr("SELECT pg_sleep(?)")));
}

TEST_F(Diagnose, NamesPinsAndTheirCauses) {
  holders(5, kAttached, 60 * kMicrosPerSecond, "listen");
  holders(1, kAttached, 90 * kMicrosPerSecond, "temp_table");
  EXPECT_EQ(why().cause, "pinned");
  EXPECT_EQ(why().setting, "pool.mode");
  EXPECT_THAT(why().sentence, HasSubstr("5 by listen, 1 by temp_table"));
}

TEST_F(Diagnose, NamesSessionsThatKeepTheirServerAndRunNothing) {
  holders(9, kIdleInSession, 60 * kMicrosPerSecond);
  holders(1, kAttached, 2000);
  EXPECT_EQ(why().cause, "idle_in_session");
  EXPECT_EQ(why().setting, "pool.size");
  EXPECT_THAT(why().sentence, AllOf(HasSubstr("9 are held by sessions that run nothing"),
                                    HasSubstr("pool.mode transaction")));
}

TEST_F(Diagnose, MentionsWhatElseHoldsServers) {
  holders(6, kAttached, 12 * kMicrosPerSecond);
  holders(2, kIdleInTransaction, 2 * kMicrosPerSecond);
  holders(1, kAttached, 2 * kMicrosPerSecond, "listen");
  EXPECT_THAT(why().sentence,
              HasSubstr("(besides, 1 is pinned, 2 are idle in a transaction). pool.queryTimeout"));
}

TEST_F(Diagnose, CallsAPoolTooSmallWhenTheWorkIsShort) {
  holders(10, kAttached, 3000);
  EXPECT_EQ(why().cause, "pool_too_small");
  EXPECT_EQ(why().setting, "pool.size");
  EXPECT_THAT(why().sentence, HasSubstr("pool.size (now 10)"));
}

TEST_F(Diagnose, AFewLongHoldersAmongManyShortOnesAreNotTheReason) {
  holders(2, kIdleInTransaction, 60 * kMicrosPerSecond);
  holders(8, kAttached, 3000);
  EXPECT_EQ(why().cause, "pool_too_small");
}

TEST_F(Diagnose, ClientsOfOtherPoolsDoNotCount) {
  holders(9, kAttached, 60 * kMicrosPerSecond);
  for (ClientSnapshot& client : snapshot_.client_list) client.database = "other";
  EXPECT_EQ(why().cause, "pool_too_small");
}

TEST_F(Diagnose, NamesADatabaseThatIsDown) {
  pool_.servers = {};
  pool_.connecting_fails = true;
  pool_.last_connect_error = "Connection refused\n\tIs the server running?";
  EXPECT_EQ(why().cause, "database_unreachable");
  EXPECT_THAT(why().sentence, HasSubstr("Connection refused. Carpool tries"));
}

TEST_F(Diagnose, NamesADatabaseThatIsDownBeforeAnybodyWaits) {
  pool::PoolSnapshot pool = sample_pool("app", 0);
  pool.connecting_fails = true;
  EXPECT_EQ(diagnose(pool, snapshot_).cause, "database_unreachable");
}

TEST_F(Diagnose, NamesAPostgresThatTakesNoMoreConnections) {
  pool_ = sample_pool("app", 4);
  pool_.clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 3;
  pool_.servers[static_cast<std::size_t>(pool::SlotState::Idle)] = 0;
  pool_.connecting_fails = true;
  pool_.last_connect_error = "sorry, too many clients already";
  EXPECT_EQ(why().cause, "cannot_open_more");
  EXPECT_THAT(why().sentence, AllOf(HasSubstr("4 of 10"), HasSubstr("max_connections")));
}

TEST_F(Diagnose, NamesAPauseBeforeAllElse) {
  pool_.paused = true;
  pool_.connecting_fails = true;
  EXPECT_EQ(why().cause, "paused");
}

TEST_F(Diagnose, NamesServersThatAreBeingOpened) {
  pool_ = sample_pool("app", 2);
  pool_.clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 1;
  pool_.servers[static_cast<std::size_t>(pool::SlotState::Connecting)] = 4;
  EXPECT_EQ(why().cause, "opening_servers");
  EXPECT_THAT(why().sentence, HasSubstr("1 client of app/app waits"));
}

TEST_F(Diagnose, CutsALongStatement) {
  holders(10, kAttached, 60 * kMicrosPerSecond);
  for (ClientSnapshot& client : snapshot_.client_list) client.query = std::string(5000, 'x');
  EXPECT_LT(why().sentence.size(), 500u);
}

}  // namespace
}  // namespace carpool::admin
