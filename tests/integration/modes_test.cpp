// The promise: a lease lasts as long as the mode says, and leaves nothing behind.
#include <gtest/gtest.h>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

TEST(SessionMode, AClientKeepsItsServerUntilItLeaves) {
  Carpool carpool(postgres(), {.pool = "mode: session, size: 1"});
  Connection first = carpool.connect();
  const int pid = first.backend_pid();
  ASSERT_TRUE(first.query("set work_mem to '7MB'").ok());
  Connection second = carpool.connect();
  second.send("select pg_backend_pid()");
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_EQ(first.query("show work_mem").value(), "7MB");
  EXPECT_FALSE(second.answered());
  first.close();
  EXPECT_EQ(second.wait().value(), std::to_string(pid));
}

TEST(SessionMode, TheResetQueryRunsBeforeTheNextClient) {
  Carpool carpool(postgres(), {.pool = "mode: session, size: 1"});
  Connection first = carpool.connect();
  const int pid = first.backend_pid();
  ASSERT_TRUE(first.query("set work_mem to '7MB'").ok());
  ASSERT_TRUE(first.query("create temp table scratch (n int)").ok());
  ASSERT_TRUE(first.query("prepare mine as select 1").ok());
  ASSERT_TRUE(first.query("listen news").ok());
  first.close();
  Connection second = carpool.connect();
  EXPECT_EQ(second.backend_pid(), pid);
  EXPECT_EQ(second.query("show work_mem").value(), "4MB");
  EXPECT_EQ(second.query("select * from scratch").sqlstate, "42P01");
  EXPECT_EQ(second.query("execute mine").sqlstate, "26000");
  EXPECT_EQ(second.query("select count(*) from pg_listening_channels()").value(), "0");
}

TEST(SessionMode, AResetQueryOfOnesOwnRunsOnceALease) {
  postgres().connect().query("drop table if exists resets; create table resets (n serial)");
  Carpool carpool(postgres(), {.pool = "mode: session, size: 1, resetQuery: "
                                       "'insert into resets default values'"});
  for (int i = 0; i < 3; i++) {
    Connection client = carpool.connect();
    ASSERT_TRUE(client.query("select 1").ok());
  }
  Connection observer = postgres().connect();
  EVENTUALLY(observer.query("select count(*) from resets").value() == "3");
}

TEST(SessionMode, AResetQueryThatFailsCostsTheServerAndHarmsNoClient) {
  Carpool carpool(postgres(),
                  {.pool = "mode: session, size: 1, resetQuery: 'select no_such_column'"});
  Connection first = carpool.connect();
  const int pid = first.backend_pid();
  first.close();
  Connection second = carpool.connect();
  EXPECT_NE(second.backend_pid(), pid);
  EXPECT_TRUE(second.query("select 1").ok());
}

TEST(SessionMode, AnOpenTransactionIsRolledBackWhenItsClientLeaves) {
  postgres().connect().query("drop table if exists ledger; create table ledger (entry int)");
  Carpool carpool(postgres(), {.pool = "mode: session, size: 1"});
  Connection first = carpool.connect();
  ASSERT_TRUE(first.query("begin").ok());
  ASSERT_TRUE(first.query("insert into ledger values (1)").ok());
  first.vanish();
  Connection second = carpool.connect();
  EXPECT_EQ(second.query("select count(*) from ledger").value(), "0");
}

TEST(TransactionMode, TwoClientsTakeTurnsOnOneServer) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection first = carpool.connect();
  Connection second = carpool.connect();
  const int pid = first.backend_pid();
  for (int i = 0; i < 20; i++) {
    EXPECT_EQ(first.backend_pid(), pid);
    EXPECT_EQ(second.backend_pid(), pid);
  }
  EXPECT_EQ(postgres().backends(), 1);
}

TEST(TransactionMode, ATransactionKeepsItsServerUntilItsEnd) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection first = carpool.connect();
  Connection second = carpool.connect();
  for (const char* end : {"commit", "rollback"}) {
    ASSERT_TRUE(first.query("begin").ok());
    ASSERT_TRUE(first.query("select 1").ok());
    second.send("select 2");
    EVENTUALLY(carpool.clients("waiting") == 1);
    EXPECT_TRUE(first.query("savepoint here").ok());
    EXPECT_FALSE(second.answered());
    EXPECT_TRUE(first.query(end).ok());
    EXPECT_EQ(second.wait().value(), "2");
  }
}

TEST(TransactionMode, AFailedTransactionKeepsItsServerUntilItsRollback) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection first = carpool.connect();
  Connection second = carpool.connect();
  ASSERT_TRUE(first.query("begin").ok());
  ASSERT_EQ(first.query("select 1/0").sqlstate, "22012");
  EXPECT_EQ(first.transaction_status(), PQTRANS_INERROR);
  second.send("select 2");
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_EQ(first.query("select 1").sqlstate, "25P02");
  EXPECT_FALSE(second.answered());
  EXPECT_TRUE(first.query("rollback").ok());
  EXPECT_EQ(second.wait().value(), "2");
}

TEST(TransactionMode, SetLocalEndsWithTheTransaction) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin; set local work_mem to '7MB'").ok());
  EXPECT_EQ(client.query("show work_mem").value(), "7MB");
  ASSERT_TRUE(client.query("commit").ok());
  Connection other = carpool.connect();
  EXPECT_EQ(other.query("show work_mem").value(), "4MB");
}

TEST(TransactionMode, ATransactionOfTheExtendedProtocolIsOneLease) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query_params("begin", {}).ok());
  const std::string pid = client.query_params("select pg_backend_pid()", {}).value();
  for (int i = 0; i < 5; i++)
    EXPECT_EQ(client.query_params("select pg_backend_pid()", {}).value(), pid);
  EXPECT_EQ(client.query_params("select $1::int + $2::int", {"3", "4"}).value(), "7");
  ASSERT_TRUE(client.query_params("commit", {}).ok());
  EVENTUALLY(carpool.servers("leased") == 0);
}

TEST(TransactionMode, SeveralStatementsInOneQueryAreOneLease) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query("begin; select 1; commit; select 2").value(), "2");
  EVENTUALLY(carpool.servers("leased") == 0);
  EXPECT_EQ(client.query("select 1; begin").tag, "BEGIN");
  EXPECT_EQ(carpool.servers("leased"), 1);
  EXPECT_TRUE(client.query("rollback").ok());
}

TEST(TransactionMode, AnEmptyQueryIsAnswered) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query("").status, PGRES_EMPTY_QUERY);
  EXPECT_EQ(client.query(" ; ").status, PGRES_EMPTY_QUERY);
  EXPECT_EQ(client.query("select 1").value(), "1");
}

TEST(StatementMode, SingleStatementsShareOneServer) {
  Carpool carpool(postgres(), {.pool = "mode: statement, size: 1"});
  Connection first = carpool.connect();
  Connection second = carpool.connect();
  EXPECT_EQ(first.backend_pid(), second.backend_pid());
  EXPECT_EQ(first.query("select 1; select 2").value(), "2");
  EXPECT_EQ(second.query_params("select $1::text", {"x"}).value(), "x");
}

TEST(StatementMode, ATransactionOfSeveralStatementsIsRefusedAndLeavesNothingOpen) {
  postgres().connect().query("drop table if exists ledger; create table ledger (entry int)");
  Carpool carpool(postgres(), {.pool = "mode: statement, size: 1"});
  for (const char* begin : {"begin", "start transaction", "begin; insert into ledger values (1)"}) {
    Connection client = carpool.connect();
    const Reply refused = client.query(begin);
    EXPECT_FALSE(refused.ok()) << begin;
    EXPECT_NE(refused.message.find("statement"), std::string::npos) << refused.message;
    Connection other = carpool.connect();
    EXPECT_EQ(other.query("select count(*) from ledger").value(), "0");
    EXPECT_EQ(other.transaction_status(), PQTRANS_IDLE);
    EVENTUALLY(carpool.servers("leased") == 0);
    EXPECT_EQ(postgres().backends_where("state like 'idle in transaction%'"), 0);
  }
}

TEST(Modes, DatabasesOfDifferentModesLiveSideBySide) {
  Carpool carpool(postgres(),
                  {.pool = "size: 1",
                   .databases = "{name: sticky, server: {database: app}, pool: {mode: session}},"
                                " {name: app}"});
  Connection sticky = carpool.connect("app", "sticky");
  ASSERT_TRUE(sticky.query("select 1").ok());
  Connection loose = carpool.connect("app", "app");
  ASSERT_TRUE(loose.query("select 1").ok());
  EVENTUALLY(carpool.metric("carpool_pool_servers", {{"database", "app"}, {"state", "idle"}}) == 1);
  EXPECT_EQ(carpool.metric("carpool_pool_servers", {{"database", "sticky"}, {"state", "leased"}}),
            1);
  sticky.close();
  EVENTUALLY(carpool.metric("carpool_pool_servers", {{"database", "sticky"}, {"state", "idle"}}) ==
             1);
}

}  // namespace
}  // namespace carpool::integration
