// The promise: a cancel ends the query it was meant for, and never anybody else's.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

bool sleeping(const std::string& seconds) {
  return postgres().backends_where("state = 'active' and query like '%pg_sleep(" + seconds +
                                   ")%'") == 1;
}

TEST(Cancel, EndsTheRunningQueryOfItsClient) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Connection target = carpool.connect();
  Connection bystander = carpool.connect();
  target.send("select pg_sleep(600)");
  bystander.send("select pg_sleep(1)");
  ASSERT_EVENTUALLY(sleeping("600") && sleeping("1"));
  EXPECT_TRUE(target.cancel());
  EXPECT_EQ(target.wait().sqlstate, "57014");
  EXPECT_TRUE(bystander.wait().ok());
  EXPECT_EQ(target.query("select 1").value(), "1");
}

TEST(Cancel, InsideATransactionLeavesItFailedOnTheSameServer) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  const int pid = client.backend_pid();
  client.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(sleeping("600"));
  EXPECT_TRUE(client.cancel());
  EXPECT_EQ(client.wait().sqlstate, "57014");
  EXPECT_EQ(client.transaction_status(), PQTRANS_INERROR);
  EXPECT_TRUE(client.query("rollback").ok());
  EXPECT_EQ(client.backend_pid(), pid);
}

TEST(Cancel, TheKeysAreCarpoolsOwnAndDifferForEveryClient) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection first = carpool.connect();
  Connection second = carpool.connect();
  Wire third = carpool.raw();
  third.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  const std::vector<Message> greeting = third.read_until("Z");
  const Message* key = find(greeting, 'K');
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(key->body.size(), 8U);
  EXPECT_NE(first.key_pid(), second.key_pid());
  EXPECT_NE(first.key_pid(), first.backend_pid());
}

TEST(Cancel, OfAnIdleClientHitsNothingAndIsClosedWithoutAWord) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection idle = carpool.connect();
  ASSERT_TRUE(idle.query("select 1").ok());
  Connection busy = carpool.connect();
  busy.send("select pg_sleep(0.5)");
  ASSERT_EVENTUALLY(sleeping("0.5"));
  EXPECT_TRUE(idle.cancel());
  EXPECT_TRUE(busy.wait().ok());
  EXPECT_TRUE(idle.query("select 1").ok());
}

TEST(Cancel, WithAWrongKeyHitsNothing) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection busy = carpool.connect();
  busy.send("select pg_sleep(0.5)");
  ASSERT_EVENTUALLY(sleeping("0.5"));
  for (std::uint32_t secret = 0; secret < 50; secret++) {
    Wire forger = carpool.raw();
    forger.send(
        untyped(kCancelRequestCode,
                int32_bytes(static_cast<std::uint32_t>(busy.key_pid())) + int32_bytes(secret)));
    EXPECT_TRUE(forger.ended());
  }
  EXPECT_TRUE(busy.wait().ok());
}

// Its key is 36 bytes, and a part of it, or more than it, is no key.
TEST(Cancel, OfAClientOfProtocol32NeedsTheWholeLongKey) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Wire client = carpool.raw();
  client.send(startup_packet({{"user", "app"}, {"database", "app"}}, (3u << 16) + 2));
  const std::vector<Message> greeting = client.read_until("Z");
  const Message* found = find(greeting, 'K');
  ASSERT_NE(found, nullptr);
  const std::string key = found->body;
  ASSERT_EQ(key.size(), 4U + 4 + 32);
  client.send(query_message("select pg_sleep(600)"));
  ASSERT_EVENTUALLY(sleeping("600"));
  for (const std::string& wrong :
       {key.substr(0, 8), key.substr(0, 39), key + "x", key.substr(0, 8) + std::string(32, 'x')}) {
    Wire forger = carpool.raw();
    forger.send(untyped(kCancelRequestCode, wrong));
    EXPECT_TRUE(forger.ended());
  }
  EXPECT_TRUE(sleeping("600"));
  Wire canceler = carpool.raw();
  canceler.send(untyped(kCancelRequestCode, key));
  EXPECT_TRUE(canceler.ended());
  const std::vector<Message> answer = client.read_until("Z");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "57014");
}

TEST(Cancel, OfAWrongLengthIsTurnedAway) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  for (const std::string& rest : {std::string(), std::string(3, 'x'), std::string(400, 'x')}) {
    Wire forger = carpool.raw();
    forger.send(untyped(kCancelRequestCode, rest));
    EXPECT_TRUE(forger.ended()) << rest.size();
  }
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
}

TEST(Cancel, OfAClientThatWaitsForAServerEndsItsWait) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection waiter = carpool.connect();
  waiter.send("select 1");
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_TRUE(waiter.cancel());
  EXPECT_EQ(waiter.wait().sqlstate, "57014");
  EXPECT_EQ(carpool.clients("waiting"), 0);
  EXPECT_TRUE(holder.query("commit").ok());
  EXPECT_EQ(waiter.query("select 2").value(), "2");
}

TEST(Cancel, NeverHitsTheNextLeaseOfTheServer) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  std::atomic<bool> done = false;
  std::atomic<int> victim_errors = 0;
  std::atomic<int> victim_queries = 0;
  std::thread victim([&] {
    Connection client = carpool.connect();
    while (!done) {
      const Reply reply = client.query("select pg_sleep(0.002)");
      victim_queries++;
      if (!reply.ok()) victim_errors++;
    }
  });
  Connection canceller = carpool.connect();
  std::mt19937 random(20261121);
  int cancelled = 0;
  for (int round = 0; round < 300; round++) {
    // Short and long by turns, so that the cancel comes before, at and after its end.
    canceller.send("select pg_sleep(0.00" + std::to_string(random() % 5) + ")");
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 6000));
    ASSERT_TRUE(canceller.cancel());
    const Reply reply = canceller.wait();
    ASSERT_TRUE(reply.ok() || reply.sqlstate == "57014") << reply.message;
    if (!reply.ok()) cancelled++;
  }
  done = true;
  victim.join();
  EXPECT_EQ(victim_errors, 0) << "of " << victim_queries;
  EXPECT_GT(victim_queries, 0);
  EXPECT_GT(cancelled, 0) << "no cancel ever hit";
}

TEST(Cancel, WorksWhenPostgresIsReachedByItsUnixSocket) {
  Carpool carpool(postgres(), {.server = "host: " + postgres().socket_dir() +
                                         ", port: " + std::to_string(postgres().port()),
                               .pool = "size: 1"});
  Connection client = carpool.connect();
  client.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(sleeping("600"));
  EXPECT_TRUE(client.cancel());
  EXPECT_EQ(client.wait().sqlstate, "57014");
}

TEST(Cancel, ManyAtOnceAreAllAnswered) {
  Carpool carpool(postgres(), {.pool = "size: 8"});
  std::vector<Connection> clients;
  for (int i = 0; i < 8; i++) {
    clients.push_back(carpool.connect());
    clients.back().send("select pg_sleep(600)");
  }
  ASSERT_EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%'") == 8);
  std::vector<std::thread> threads;
  for (Connection& client : clients) threads.emplace_back([&client] { client.cancel(); });
  for (std::thread& thread : threads) thread.join();
  for (Connection& client : clients) EXPECT_EQ(client.wait().sqlstate, "57014");
  for (Connection& client : clients) EXPECT_EQ(client.query("select 1").value(), "1");
}

}  // namespace
}  // namespace carpool::integration
