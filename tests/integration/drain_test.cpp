// The promise: SIGTERM lets the application finish, and the exit code tells whether it could.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

TEST(Drain, WithoutClientsExitsCleanlyAtOnceAndClosesItsServers) {
  Carpool carpool(postgres(), {.pool = "minIdle: 2", .drain = "timeout: 60s"});
  ASSERT_TRUE(carpool.connect().query("select 1").ok());
  carpool.signal(SIGTERM);
  EXPECT_EQ(carpool.wait_exit(), 0);
  EVENTUALLY(postgres().backends() == 0);
}

TEST(Drain, LetsATransactionFinishAndExitsWhenTheLastClientIsGone) {
  Carpool carpool(postgres(), {.pool = "size: 2", .drain = "timeout: 60s"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  const int pid = client.backend_pid();
  EXPECT_EQ(carpool.get("/readyz").status, 200);
  carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  EXPECT_EQ(carpool.get("/livez").status, 200);
  EXPECT_EQ(carpool.status()["draining"], true);
  EXPECT_EQ(client.backend_pid(), pid);
  EXPECT_EQ(client.query("commit").tag, "COMMIT");
  EXPECT_TRUE(client.query("select 1").ok()) << "the application still works";
  EXPECT_TRUE(carpool.running());
  client.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, KeepsAcceptingAsLongAsClientsCome) {
  Carpool carpool(postgres(), {.drain = "timeout: 60s"});
  Connection first = carpool.connect();
  ASSERT_TRUE(first.query("select 1").ok());
  carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  Connection second = carpool.connect();
  EXPECT_TRUE(second.query("select 1").ok()) << second.error();
  first.close();
  EXPECT_TRUE(second.query("select 2").ok());
  second.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, WhoIsCutInTheMidstOfARowIsToldNothingInIt) {
  constexpr std::size_t kRow = 200000;
  FakeServer server([](FakeSession& session, int) {
    if (!session.read_startup()) return;
    session.accept();
    if (!session.wire.read()) return;
    const std::string row =
        message('D', std::string("\0\1", 2) + int32_bytes(kRow) + std::string(kRow, 'x'));
    session.wire.send(row.substr(0, kRow / 2));
    session.hang();
  });
  Carpool carpool(
      {.server = "host: 127.0.0.1, port: " + std::to_string(server.port()) + ", sslMode: disable",
       .drain = "timeout: 0s"});
  Wire client = carpool.raw();
  ASSERT_TRUE(client.sign_in());
  client.send(query_message("select half a row"));
  constexpr std::size_t kHead = 11;
  const std::string half = client.read_bytes(kRow / 2);
  ASSERT_EQ(half.size(), kRow / 2);
  EXPECT_EQ(half.find_first_not_of('x', kHead), std::string::npos);
  carpool.signal(SIGTERM);
  EXPECT_EQ(client.read_bytes(kRow), "") << "it would be a part of the row";
  EXPECT_EQ(carpool.wait_exit(), 3);
}

TEST(Drain, StaysForMinDelayEvenWithoutClients) {
  Carpool carpool(postgres(), {.drain = "minDelay: 1s, timeout: 60s"});
  const Clock::time_point start = Clock::now();
  carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  Connection late = carpool.connect();
  EXPECT_TRUE(late.query("select 1").ok());
  late.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
  EXPECT_GE(since(start), 1s);
}

TEST(Drain, GoesByTheMinDelayThatIsInForce) {
  Carpool carpool(postgres(), {.drain = "minDelay: 50s, timeout: 60s"});
  carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  carpool.swap({.drain = "minDelay: 0s, timeout: 60s"});
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, ClosesTheServersOfIdleClients) {
  Carpool carpool(postgres(), {.pool = "size: 4, minIdle: 3", .drain = "timeout: 60s"});
  Connection idle = carpool.connect();
  ASSERT_TRUE(idle.query("select 1").ok());
  ASSERT_EVENTUALLY(postgres().backends() == 3);
  carpool.signal(SIGTERM);
  EVENTUALLY(postgres().backends() == 0);
  EXPECT_TRUE(idle.query("select 1").ok());
  idle.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
}

// A client that is told at its transaction boundary was not cut: the exit code is clean.
TEST(Drain, AtItsTimeoutIdleClientsAreToldAndTheExitIsClean) {
  Carpool carpool(postgres(), {.drain = "timeout: 300ms"});
  Wire client = carpool.raw();
  ASSERT_TRUE(client.sign_in());
  ASSERT_NE(find(client.query("select 1"), 'C'), nullptr);
  carpool.signal(SIGTERM);
  const std::vector<Message> last = client.read_until("E");
  const Message* error = find(last, 'E');
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->sqlstate(), "57P01");
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, AtItsTimeoutATransactionIsEndedAtItsBoundaryNotBefore) {
  postgres().connect().query("drop table if exists ledger; create table ledger (entry int)");
  Carpool carpool(postgres(), {.drain = "timeout: 300ms"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  ASSERT_TRUE(client.query("insert into ledger values (1)").ok());
  carpool.signal(SIGTERM);
  // Well past the timeout, the query is still answered and the commit counts.
  EXPECT_TRUE(client.query("select pg_sleep(0.8)").ok());
  EXPECT_EQ(client.query("commit").tag, "COMMIT");
  EXPECT_FALSE(client.query("select 1").ok());
  EXPECT_EQ(carpool.wait_exit(), 0);
  EXPECT_EQ(postgres().connect().query("select count(*) from ledger").value(), "1");
}

TEST(Drain, AtItsTimeoutAnIdleClientOfSessionModeIsToldAndItsServerGoes) {
  Carpool carpool(postgres(), {.pool = "mode: session, size: 1", .drain = "timeout: 300ms"});
  Wire client = carpool.raw();
  ASSERT_TRUE(client.sign_in());
  ASSERT_NE(find(client.query("select 1"), 'C'), nullptr);
  carpool.signal(SIGTERM);
  const std::vector<Message> last = client.read_until("E");
  ASSERT_NE(find(last, 'E'), nullptr);
  EXPECT_EQ(find(last, 'E')->sqlstate(), "57P01");
  EXPECT_EQ(carpool.wait_exit(), 0);
  EVENTUALLY(postgres().backends() == 0);
}

TEST(Drain, ACancelStillWorks) {
  Carpool carpool(postgres(), {.pool = "size: 1", .drain = "timeout: 60s"});
  Connection client = carpool.connect();
  client.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%'") == 1);
  carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  EXPECT_TRUE(client.cancel());
  EXPECT_EQ(client.wait().sqlstate, "57014");
  client.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, ASecondSigtermChangesNothing) {
  Carpool carpool(postgres(), {.drain = "timeout: 60s"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  for (int i = 0; i < 5; i++) carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  EXPECT_EQ(client.query("commit").tag, "COMMIT");
  client.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, EndsEvenWhenATransactionNeverDoes) {
  Carpool carpool(postgres(), {.drain = "timeout: 300ms"});
  Connection forgotten = carpool.connect();
  ASSERT_TRUE(forgotten.query("begin").ok());
  carpool.signal(SIGTERM);
  EXPECT_EQ(carpool.wait_exit(60s), 3);
  EVENTUALLY(postgres().backends() == 0);
}

TEST(Drain, AClientInTheQueueIsServedBeforeTheEnd) {
  Carpool carpool(postgres(), {.pool = "size: 1", .drain = "timeout: 60s"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection waiter = carpool.connect();
  waiter.send("select 5");
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 1);
  carpool.signal(SIGTERM);
  EVENTUALLY(carpool.get("/readyz").status == 503);
  EXPECT_TRUE(holder.query("commit").ok());
  EXPECT_EQ(waiter.wait().value(), "5");
  holder.close();
  waiter.close();
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, UnderLoadNoTransactionIsCut) {
  Carpool carpool(postgres(), {.pool = "size: 4", .drain = "timeout: 60s"});
  std::atomic<int> failures = 0;
  std::atomic<int> transactions = 0;
  std::atomic<bool> leave = false;
  std::vector<std::thread> clients;
  for (int i = 0; i < 16; i++) {
    clients.emplace_back([&] {
      Connection client = carpool.connect();
      while (!leave) {
        const bool ok = client.query("begin").ok() && client.query("select pg_sleep(0.002)").ok() &&
                        client.query("commit").ok();
        transactions++;
        if (!ok) failures++;
      }
    });
  }
  EVENTUALLY(transactions > 100);
  carpool.signal(SIGTERM);
  const int before = transactions;
  EVENTUALLY(transactions > before + 100);
  leave = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(carpool.wait_exit(), 0);
  EXPECT_EQ(failures, 0);
}

TEST(Drain, SigintEndsAsWell) {
  Carpool carpool(postgres(), {});
  carpool.signal(SIGINT);
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST(Drain, TheControlPortDrainsAndQuits) {
  for (const char* call : {"/drain", "/quitquitquit"}) {
    Carpool carpool(postgres(), {.drain = "timeout: 60s"});
    Connection client = carpool.connect();
    ASSERT_TRUE(client.query("select 1").ok());
    EXPECT_EQ(carpool.post_control(call).status, 200) << call;
    EVENTUALLY(carpool.get("/readyz").status == 503);
    EXPECT_TRUE(client.query("select 1").ok());
    client.close();
    if (std::string(call) == "/quitquitquit") {
      EXPECT_EQ(carpool.wait_exit(), 0);
    }
  }
}

TEST(Drain, WhoTellsAnIdleSidecarToQuitGetsItsAnswer) {
  for (int i = 0; i < 10; i++) {
    Carpool carpool(postgres(), {});
    EXPECT_EQ(carpool.post_control("/quitquitquit").status, 200);
    EXPECT_EQ(carpool.wait_exit(), 0);
  }
}

TEST(Drain, TheReadOnlyPortDoesNotDrain) {
  Carpool carpool(postgres(), {});
  EXPECT_EQ(carpool.post("/drain").status, 403);
  EXPECT_EQ(carpool.get("/readyz").status, 200);
}

}  // namespace
}  // namespace carpool::integration
