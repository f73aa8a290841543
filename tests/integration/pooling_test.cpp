// The promise: many clients share few servers; none waits longer than its turn, none is lost.
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

TEST(Pooling, FiveHundredClientsNeverUseMoreBackendsThanSizePlusOverflow) {
  constexpr int kClients = 500;
  constexpr int kQueriesEach = 6;
  constexpr int kSize = 10;
  constexpr int kOverflow = 2;
  Carpool carpool(postgres(), {.pool = "size: 10, overflow: 2, overflowAfter: 50ms"});

  std::atomic<bool> done = false;
  std::atomic<int> backends_max = 0;
  std::thread observer([&] {
    Connection admin(postgres().direct("postgres", "postgres"));
    while (!done) {
      const Reply reply = admin.query(
          "select count(*) from pg_stat_activity where usename = 'app'"
          " and application_name <> 'direct'");
      backends_max = std::max(backends_max.load(), std::stoi(reply.value()));
    }
  });

  std::atomic<int> answered = 0;
  std::atomic<int> failed = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; i++) {
    clients.emplace_back([&, i] {
      Connection client = carpool.connect();
      for (int query = 0; query < kQueriesEach; query++) {
        const std::string expected = std::to_string(i * kQueriesEach + query);
        const Reply reply = client.query("select " + expected + " from pg_sleep(0.002)");
        (reply.value() == expected ? answered : failed)++;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  done = true;
  observer.join();
  EXPECT_EQ(answered, kClients * kQueriesEach);
  EXPECT_EQ(failed, 0);
  EXPECT_LE(backends_max, kSize + kOverflow);
  EXPECT_GE(backends_max, kSize) << "the pool was not used to its size";
}

TEST(Pooling, WaitersAreServedFirstComeFirstServed) {
  postgres().connect().query("create sequence if not exists turn; alter sequence turn restart");
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());

  constexpr int kWaiters = 30;
  std::vector<Connection> waiters;
  for (int i = 0; i < kWaiters; i++) waiters.push_back(carpool.connect());
  for (int i = 0; i < kWaiters; i++) {
    waiters[i].send("select nextval('turn')");
    // The next one queues only when this one stands in the queue.
    ASSERT_EVENTUALLY(carpool.clients("waiting") == i + 1);
  }
  EXPECT_GT(carpool.metric("carpool_pool_oldest_waiter_seconds").value_or(0), 0);
  ASSERT_TRUE(holder.query("commit").ok());
  for (int i = 0; i < kWaiters; i++) EXPECT_EQ(waiters[i].wait().value(), std::to_string(i + 1));
}

TEST(Pooling, AClientThatLeftTheQueueDoesNotHoldUpThoseBehindIt) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection leaver = carpool.connect();
  leaver.send("select 1");
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 1);
  Connection patient = carpool.connect();
  patient.send("select 2");
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 2);
  leaver.vanish();
  EVENTUALLY(carpool.clients("waiting") == 1);
  ASSERT_TRUE(holder.query("commit").ok());
  EXPECT_EQ(patient.wait().value(), "2");
}

TEST(Pooling, OverflowIsLentOnlyAfterOverflowAfterAndClosedWhenItComesBackIdle) {
  Carpool carpool(postgres(), {.pool = "size: 1, overflow: 1, overflowAfter: 300ms"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection client = carpool.connect();
  const Clock::time_point start = Clock::now();
  const Reply reply = client.query("select 1");
  EXPECT_TRUE(reply.ok()) << reply.message;
  EXPECT_GE(since(start), 300ms) << "the overflow server was lent too early";
  EVENTUALLY(postgres().backends() == 1);
  EVENTUALLY(carpool.servers() == 1);
  EXPECT_TRUE(holder.query("commit").ok());
}

TEST(Pooling, MinIdleServersAreKeptWarmAndReplaced) {
  Carpool carpool(postgres(), {.pool = "size: 5, minIdle: 3"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select 1").ok());
  ASSERT_EVENTUALLY(postgres().backends() == 3);
  EXPECT_TRUE(throughout([&] { return postgres().backends() == 3; }, 300ms));
  postgres().terminate_backends();
  EVENTUALLY(postgres().backends() == 3);
  EVENTUALLY(carpool.servers("idle") == 3);
}

TEST(Pooling, MinIdleServersStayWhileLeasesComeOnTop) {
  Carpool carpool(postgres(), {.pool = "size: 4, minIdle: 2"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  EVENTUALLY(carpool.servers("leased") == 1 && carpool.servers("idle") >= 1);
  EXPECT_LE(postgres().backends(), 4);
}

TEST(Pooling, IdleServersAreClosedAfterIdleTimeout) {
  Carpool carpool(postgres(),
                  {.pool = "size: 4, minIdle: 1, idleTimeout: 200ms, pruneInterval: 50ms"});
  std::vector<Connection> clients;
  for (int i = 0; i < 4; i++) {
    clients.push_back(carpool.connect());
    ASSERT_TRUE(clients.back().query("begin").ok());
  }
  ASSERT_EQ(postgres().backends(), 4);
  for (Connection& client : clients) ASSERT_TRUE(client.query("commit").ok());
  EVENTUALLY(postgres().backends() == 1);
  EXPECT_TRUE(clients[0].query("select 1").ok());
}

TEST(Pooling, ALeaseLongerThanMaxLifetimeIsNotCutButItsServerIsReplacedAfterwards) {
  Carpool carpool(postgres(), {.pool = "size: 1, maxLifetime: 1s, pruneInterval: 100ms"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  const int first = client.backend_pid();
  ASSERT_TRUE(client.query("select pg_sleep(1.5)").ok());
  EXPECT_EQ(client.backend_pid(), first) << "a transaction was moved to another server";
  ASSERT_TRUE(client.query("commit").ok());
  EVENTUALLY(client.backend_pid() != first);
}

TEST(Pooling, IdleServersAreLentLastInFirstOut) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  std::vector<Connection> clients;
  std::vector<int> pids;
  for (int i = 0; i < 3; i++) {
    clients.push_back(carpool.connect());
    ASSERT_TRUE(clients.back().query("begin").ok());
    pids.push_back(clients.back().backend_pid());
  }
  for (const int i : {1, 0, 2}) ASSERT_TRUE(clients[i].query("commit").ok());
  Connection next = carpool.connect();
  ASSERT_TRUE(next.query("begin").ok());
  EXPECT_EQ(next.backend_pid(), pids[2]);
  Connection after = carpool.connect();
  ASSERT_TRUE(after.query("begin").ok());
  EXPECT_EQ(after.backend_pid(), pids[0]);
}

TEST(Pooling, EachPairOfDatabaseAndUserHasAPoolOfItsOwn) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection app = carpool.connect("app", "app");
  Connection app_other = carpool.connect("app", "other");
  Connection other = carpool.connect("other", "app");
  for (Connection* client : {&app, &app_other, &other}) ASSERT_TRUE(client->query("begin").ok());
  const std::string who = "select current_user || '@' || current_database()";
  EXPECT_EQ(app.query(who).value(), "app@app");
  EXPECT_EQ(app_other.query(who).value(), "app@other");
  EXPECT_EQ(other.query(who).value(), "other@app");
  const Labels labels = {{"database", "other"}, {"user", "app"}, {"state", "leased"}};
  EXPECT_EQ(carpool.metric("carpool_pool_servers", labels), 1);
}

TEST(Pooling, ADatabaseEntryChoosesServerDatabaseUserAndPool) {
  Carpool carpool(postgres(), {.pool = "size: 7",
                               .databases = "{name: jobs, server: {database: other, user: other},"
                                            " pool: {size: 2}}, {name: '*'}"});
  Connection jobs = carpool.connect("app", "jobs");
  EXPECT_EQ(jobs.query("select current_user || '@' || current_database()").value(), "other@other");
  EXPECT_EQ(carpool.metric("carpool_pool_size", {{"database", "jobs"}}), 2);
  Connection plain = carpool.connect("app", "app");
  EXPECT_EQ(plain.query("select current_user || '@' || current_database()").value(), "app@app");
  EXPECT_EQ(carpool.metric("carpool_pool_size", {{"database", "app"}}), 7);
}

TEST(Pooling, AClientThatDiesInsideATransactionCostsARollbackNotAConnection) {
  postgres().connect().query("drop table if exists ledger; create table ledger (entry int)");
  Carpool carpool(postgres(), {.pool = "size: 1"});
  int before = 0;
  {
    Connection doomed = carpool.connect();
    ASSERT_TRUE(doomed.query("begin").ok());
    ASSERT_TRUE(doomed.query("insert into ledger values (1)").ok());
    before = doomed.backend_pid();
    doomed.vanish();
  }
  Connection next = carpool.connect();
  EXPECT_EQ(next.query("select count(*) from ledger").value(), "0");
  EXPECT_EQ(next.transaction_status(), PQTRANS_IDLE);
  EXPECT_EQ(next.backend_pid(), before);
}

TEST(Pooling, AClientThatDiesInsideAFailedTransactionCostsARollbackNotAConnection) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection doomed = carpool.connect();
  ASSERT_TRUE(doomed.query("begin").ok());
  const int before = doomed.backend_pid();
  ASSERT_EQ(doomed.query("select 1/0").sqlstate, "22012");
  doomed.close();
  Connection next = carpool.connect();
  EXPECT_EQ(next.backend_pid(), before);
  EXPECT_EQ(next.query("select 1").value(), "1");
}

TEST(Pooling, AClientThatDiesInsideARunningQueryHasItCancelledAndTheServerIsKept) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection doomed = carpool.connect();
  ASSERT_TRUE(doomed.query("begin").ok());
  const int before = doomed.backend_pid();
  doomed.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(
      postgres().backends_where("query like '%pg_sleep(600)%' and state = 'active'") == 1);
  doomed.vanish();
  Connection next = carpool.connect();
  EXPECT_EQ(next.query("select 1").value(), "1");
  EXPECT_EQ(next.backend_pid(), before);
  EXPECT_EQ(postgres().backends(), 1);
}

// A cancel that overtakes its query hits an idle backend, which ignores it: asked once, it leaves
// the query running for as long as it likes.
TEST(Pooling, ClientsThatDieTheMomentTheyHaveAskedBlockNobody) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection next = carpool.connect();
  for (int round = 0; round < 100; round++) {
    Wire doomed = carpool.raw();
    ASSERT_TRUE(doomed.sign_in());
    ASSERT_TRUE(doomed.send(query_message("select pg_sleep(600)")));
    round % 2 == 0 ? doomed.reset() : doomed.close();
    ASSERT_EQ(next.query("select 1").value(), "1") << "round " << round;
  }
}

TEST(Pooling, PauseHoldsQueriesAndResumeLetsThemGo) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Connection busy = carpool.connect();
  ASSERT_TRUE(busy.query("begin").ok());
  ASSERT_EQ(carpool.post_control("/pause").status, 200);
  Connection client = carpool.connect();
  client.send("select 7");
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_FALSE(client.answered());
  // A transaction that has begun goes on to its end.
  EXPECT_TRUE(busy.query("select 1").ok());
  EXPECT_TRUE(busy.query("commit").ok());
  EXPECT_TRUE(throughout([&] { return !client.answered(); }, 200ms));
  ASSERT_EQ(carpool.post_control("/resume").status, 200);
  EXPECT_EQ(client.wait().value(), "7");
}

TEST(Pooling, PauseOfOneDatabaseLeavesTheOthersAlone) {
  Carpool carpool(postgres(), {});
  Connection app = carpool.connect("app", "app");
  Connection other = carpool.connect("app", "other");
  ASSERT_TRUE(app.query("select 1").ok());
  ASSERT_TRUE(other.query("select 1").ok());
  ASSERT_EQ(carpool.post_control("/pause?database=other").status, 200);
  other.send("select 2");
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_TRUE(app.query("select 1").ok());
  EXPECT_FALSE(other.answered());
  ASSERT_EQ(carpool.post_control("/resume?database=other").status, 200);
  EXPECT_EQ(other.wait().value(), "2");
  // `databases` takes any name, so that a pool of this one may come; but for no longer name.
  EXPECT_EQ(carpool.post_control("/pause?database=later").status, 200);
  const std::string never(64, 'n');
  const HttpReply unknown = carpool.post_control("/pause?database=" + never);
  EXPECT_EQ(unknown.status, 409);
  EXPECT_NE(unknown.body.find(never), std::string::npos) << unknown.body;
}

// What one client asked is never answered to another, whatever happens around it.
TEST(Pooling, AmongClientsThatComeDieCancelAndFailEveryAnswerIsOnesOwn) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  std::atomic<int> wrong = 0;
  std::atomic<int> right = 0;
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&, i] {
      Connection client = carpool.connect();
      for (int n = 0; !done; n++) {
        const std::string mine = std::to_string(i) + ":" + std::to_string(n);
        const Reply reply = n % 3 == 0   ? client.query_params("select $1::text", {mine})
                            : n % 3 == 1 ? client.query("select '" + mine + "'")
                                         : client.query("begin; select 1; commit; select '" + mine +
                                                        "' from pg_sleep(0.001)");
        (reply.value() == mine ? right : wrong)++;
        if (n % 7 == 0 && client.query("select 1/0").sqlstate != "22012") wrong++;
      }
    });
  }
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&, i] {
      for (int n = 0; !done; n++) {
        Connection doomed = carpool.connect();
        if ((n + i) % 2 == 0) doomed.query("begin");
        doomed.send("select repeat('not yours', 10000), pg_sleep(0.01)");
        if (n % 3 == 0) doomed.cancel();
        if (n % 3 == 1) std::this_thread::sleep_for(5ms);
        doomed.vanish();
      }
    });
  }
  EVENTUALLY(right > 1000);
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0) << "of " << right + wrong;
  EVENTUALLY(carpool.servers("leased") == 0);
  EXPECT_LE(postgres().backends(), 3);
}

TEST(Pooling, ReconnectReplacesEveryServerWithoutCuttingATransaction) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Connection busy = carpool.connect();
  ASSERT_TRUE(busy.query("begin").ok());
  const int busy_pid = busy.backend_pid();
  Connection client = carpool.connect();
  const int idle_pid = client.backend_pid();
  ASSERT_EQ(carpool.post_control("/reconnect").status, 200);
  EXPECT_EQ(busy.backend_pid(), busy_pid);
  ASSERT_TRUE(busy.query("commit").ok());
  EVENTUALLY(postgres().backends_where("pid in (" + std::to_string(busy_pid) + "," +
                                       std::to_string(idle_pid) + ")") == 0);
  EXPECT_TRUE(client.query("select 1").ok());
  EXPECT_TRUE(busy.query("select 1").ok());
}

TEST(Pooling, ServersAreOpenedByAtMostConnectConcurrencyAtOnce) {
  std::atomic<int> signing_in = 0;
  std::atomic<int> signing_in_max = 0;
  FakeServer server([&](FakeSession& session, int) {
    if (!session.read_startup()) return;
    const int now = ++signing_in;
    int seen = signing_in_max;
    while (now > seen && !signing_in_max.compare_exchange_weak(seen, now)) {
    }
    std::this_thread::sleep_for(50ms);  // a slow sign-in, so that attempts would pile up
    signing_in--;
    session.accept();
    while (session.wire.read(60s)) {
      std::this_thread::sleep_for(1s);  // and slow answers, so that every client needs its own
      session.answer("1");
    }
  });
  Carpool carpool(
      {.server = "host: 127.0.0.1, port: " + std::to_string(server.port()) + ", sslMode: disable",
       .pool = "size: 12, connectConcurrency: 3"});
  std::vector<Connection> clients;
  for (int i = 0; i < 12; i++) clients.push_back(carpool.connect());
  for (Connection& client : clients) client.send("select 1");
  for (Connection& client : clients) EXPECT_EQ(client.wait().value(), "1");
  EXPECT_LE(signing_in_max, 3);
  EXPECT_GE(signing_in_max, 2) << "attempts one after the other make a ramp slow";
}

TEST(Pooling, TheFiguresOfAPoolAddUp) {
  Carpool carpool(postgres(), {.pool = "size: 3, minIdle: 0"});
  Connection client = carpool.connect();
  for (int i = 0; i < 10; i++) ASSERT_TRUE(client.query("select 1").ok());
  ASSERT_EQ(client.query("select 1/0").sqlstate, "22012");
  const Labels labels = {{"database", "app"}, {"user", "app"}};
  EXPECT_EQ(carpool.metric("carpool_pool_size", labels), 3);
  EXPECT_EQ(carpool.metric("carpool_query_seconds_count", labels), 11);
  EXPECT_EQ(carpool.metric("carpool_transaction_seconds_count", labels), 11);
  EXPECT_EQ(carpool.metric("carpool_server_connects_total", labels), 1);
  EXPECT_EQ(carpool.metric("carpool_server_connect_seconds_count", labels), 1);
  EXPECT_EQ(carpool.metric("carpool_errors_total", {{"sqlstate_class", "22"}}), 1);
  EXPECT_GT(carpool.metric("carpool_bytes_total").value_or(0), 0);
  EXPECT_EQ(carpool.clients("idle"), 1);
  EXPECT_EQ(carpool.servers("idle"), 1);
}

}  // namespace
}  // namespace carpool::integration
