// The promise: when there are fewer servers than wishes, clients wait, and those who cannot are
// told so at once, clearly, and stay connected.
#include <gtest/gtest.h>

#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string fake_section(const FakeServer& server) {
  return "host: 127.0.0.1, port: " + std::to_string(server.port()) + ", sslMode: disable";
}

TEST(Backpressure, AcquireTimeoutIsAnErrorForThatQueryAndTheClientStays) {
  Carpool carpool(postgres(), {.pool = "size: 1, acquireTimeout: 200ms"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection client = carpool.connect();
  const Clock::time_point start = Clock::now();
  const Reply refused = client.query("select 1");
  EXPECT_EQ(refused.sqlstate, "53300");
  EXPECT_GE(since(start), 200ms);
  EXPECT_NE(refused.message.find("acquireTimeout"), std::string::npos) << refused.message;
  EXPECT_NE(refused.message.find("app"), std::string::npos) << refused.message;
  EXPECT_EQ(carpool.metric("carpool_pool_acquire_timeouts_total"), 1);
  EXPECT_TRUE(holder.query("commit").ok());
  EXPECT_EQ(client.query("select 2").value(), "2") << "on the same connection";
}

// Npgsql sends BEGIN as a simple query ahead of the first command, in one packet.
TEST(Backpressure, WhatStandsBehindABeginThatGotNoServerFailsWithIt) {
  Connection observer = postgres().connect();
  observer.query("drop table if exists ledger; create table ledger (entry int)");
  Carpool carpool(postgres(), {.pool = "size: 1, acquireTimeout: 300ms"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Wire client = carpool.raw();
  ASSERT_TRUE(client.sign_in());
  client.send(query_message("begin") + parse_message("", "insert into ledger values (1)") +
              bind_message("", "") + execute_message("") + sync_message() +
              query_message("insert into ledger values (2)") + query_message("rollback"));
  EXPECT_EQ(sqlstate_of(client.read_until("Z")), "53300");
  ASSERT_TRUE(holder.query("commit").ok());
  for (int i = 0; i < 3; i++) {
    const std::vector<Message> answer = client.read_until("Z");
    EXPECT_EQ(types(answer), "EZ");
    EXPECT_EQ(sqlstate_of(answer), "53300");
  }
  EXPECT_EQ(observer.query("select count(*) from ledger").value(), "0");
  EXPECT_EQ(value_of(client.query("select 'and goes on'")), "and goes on");
}

TEST(Backpressure, AcquireTimeoutOfAPipelineAnswersEachSync) {
  Carpool carpool(postgres(), {.pool = "size: 1, acquireTimeout: 200ms"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Wire client = carpool.raw();
  ASSERT_TRUE(client.sign_in());
  const std::string unit =
      parse_message("", "select 1") + bind_message("", "") + execute_message("") + sync_message();
  ASSERT_TRUE(client.send(unit));
  const std::vector<Message> answer = client.read_until("Z");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "53300");
  EXPECT_TRUE(holder.query("commit").ok());
  ASSERT_TRUE(client.send(unit));
  EXPECT_NE(find(client.read_until("Z"), 'C'), nullptr);
}

TEST(Backpressure, PastWaitersMaxAClientIsRefusedAtOnceAndStays) {
  Carpool carpool(postgres(), {.pool = "size: 1, waitersMax: 2, acquireTimeout: 60s"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  std::vector<Connection> waiters;
  for (int i = 0; i < 2; i++) {
    waiters.push_back(carpool.connect());
    waiters.back().send("select 1");
  }
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 2);
  Connection third = carpool.connect();
  const Reply refused = third.query("select 1");
  EXPECT_EQ(refused.sqlstate, "53300");
  EXPECT_NE(refused.message.find("waitersMax"), std::string::npos) << refused.message;
  EXPECT_EQ(carpool.metric("carpool_clients_rejected_total", {{"reason", "waiters_max"}}), 1);
  EXPECT_TRUE(holder.query("commit").ok());
  for (Connection& waiter : waiters) EXPECT_TRUE(waiter.wait().ok());
  EXPECT_EQ(third.query("select 3").value(), "3");
}

TEST(Backpressure, TooManyConnectionsAtPostgresMakesClientsWaitAndNobodySeesAnError) {
  PostgresCluster small({.connections_max = 8});  // 3 of them for the superuser
  Carpool carpool(small, {.pool = "size: 20, acquireTimeout: 60s"});
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  for (int i = 0; i < 20; i++) {
    clients.emplace_back([&] {
      Connection client = carpool.connect();
      for (int query = 0; query < 5; query++)
        if (client.query("select pg_sleep(0.02)", 60s).ok()) answered++;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered, 100);
  EXPECT_GT(
      carpool.metric("carpool_server_connect_errors_total", {{"reason", "too_many_connections"}})
          .value_or(0),
      0);
  EXPECT_EQ(carpool.get("/livez").status, 200);
}

TEST(Backpressure, APoolThatCannotGrowAtAllServesWhenPostgresHasRoomAgain) {
  PostgresCluster small({.connections_max = 6});
  Carpool carpool(small, {.pool = "size: 5, acquireTimeout: 60s"});
  std::vector<Connection> hogs;
  for (int i = 0; i < 3; i++) {
    hogs.push_back(small.connect());
    ASSERT_TRUE(hogs.back().connected()) << hogs.back().error();
  }
  std::string answer;
  std::thread waiter([&] { answer = carpool.connect().query("select 1", 60s).value(); });
  EVENTUALLY(
      carpool.metric("carpool_server_connect_errors_total", {{"reason", "too_many_connections"}})
          .value_or(0) > 0);
  hogs.clear();
  waiter.join();
  EXPECT_EQ(answer, "1");
}

TEST(Backpressure, FullPostgresPastAcquireTimeoutIs53300) {
  PostgresCluster small({.connections_max = 6});
  Carpool carpool(small, {.pool = "size: 5, acquireTimeout: 300ms"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select 1").ok());
  std::vector<Connection> hogs;
  for (int i = 0; i < 2; i++) {
    hogs.push_back(small.connect());
    ASSERT_TRUE(hogs.back().connected());
  }
  ASSERT_TRUE(client.query("begin").ok());
  EXPECT_EQ(carpool.connect().query("select 1").sqlstate, "53300");
  EXPECT_TRUE(client.query("commit").ok());
}

TEST(Backpressure, AStartingPostgresMakesClientsWait) {
  FakeServer server([](FakeSession& session, int attempt) {
    if (!session.read_startup()) return;
    if (attempt <= 3) return session.error("57P03", "the database system is starting up");
    session.behave("up");
  });
  Carpool carpool({.server = fake_section(server), .pool = "size: 2, acquireTimeout: 60s"});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query("select 1").value(), "up") << client.error();
  EXPECT_GE(
      carpool.metric("carpool_server_connect_errors_total", {{"reason", "cannot_connect_now"}})
          .value_or(0),
      3);
}

TEST(Backpressure, AttemptsToOpenBackOff) {
  FakeServer server([](FakeSession& session, int) {
    if (session.read_startup()) session.error("53300", "sorry, too many clients already");
  });
  Carpool carpool({.server = fake_section(server), .pool = "size: 10, acquireTimeout: 2s"});
  std::vector<std::thread> clients;
  for (int i = 0; i < 10; i++) clients.emplace_back([&] { carpool.connect().query("select 1"); });
  for (std::thread& client : clients) client.join();
  EXPECT_GE(server.accepted(), 2) << "it gave up";
  EXPECT_LE(server.accepted(), 100) << "it hammers a server that is full";
}

TEST(Backpressure, AFailingDatabaseDoesNotHoldUpTheOthers) {
  FakeServer server([](FakeSession& session, int) { session.hang(); });
  Carpool carpool(postgres(), {.pool = "size: 2, acquireTimeout: 60s",
                               .databases = "{name: slow, server: {" + fake_section(server) +
                                            "}}, {name: '*'}"});
  std::vector<Wire> stuck;
  for (int i = 0; i < 50; i++) {
    stuck.push_back(carpool.raw());
    stuck.back().send(startup_packet({{"user", "app"}, {"database", "slow"}}) +
                      query_message("select 1"));
  }
  Connection client = carpool.connect();
  for (int i = 0; i < 100; i++) EXPECT_TRUE(client.query("select 1").ok());
}

}  // namespace
}  // namespace carpool::integration
