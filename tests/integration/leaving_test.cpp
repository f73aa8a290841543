// The promise: however a client leaves, and whatever is under way then, nothing of it reaches the
// next one, nothing is committed that PostgreSQL would not have committed, and the server is free
// again. One server, seen from outside: each row of the table of endings (proxy/lease_end.h).
#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

enum class Way { Terminate, Close, Reset, Refused, Canceled, Reload, ServerLost };
constexpr Way kWays[] = {Way::Terminate, Way::Close,  Way::Reset,     Way::Refused,
                         Way::Canceled,  Way::Reload, Way::ServerLost};
constexpr const char* kWayNames[] = {
    "Terminate",
    "close",
    "reset",
    "something that no client sends",
    "cancel and close",
    "a reload to another mode and Terminate",
    "the server is lost",
};
constexpr const char* kModes[] = {"transaction", "session", "statement"};

void leave(Wire& client, Way how) {
  if (how == Way::Terminate || how == Way::Reload) client.send(message('X', ""));
  if (how == Way::Refused) client.send(message('?', ""));
  how == Way::Reset ? client.reset() : client.close();
}

std::string insert_batch(const std::string& end) {
  return parse_message("", "insert into left_rows values (1)") + bind_message("", "") +
         execute_message("") + end;
}

std::string copy_batch(const std::string& table) {
  return parse_message("", "copy " + table + " from stdin") + bind_message("", "") +
         execute_message("");
}

const std::string kFlush = message('H', "");

struct UnderWay {
  const char* name;
  std::string bytes;
  const char* until;  // what the client waits for before it leaves; empty: nothing
  // Rows that PostgreSQL commits where the client has said Terminate; at most so many otherwise.
  int committed = 0;
  bool in_statement_mode = true;
  std::map<std::string, std::string> startup = {};
};

std::vector<UnderWay> all_under_way() {
  const std::string query = query_message("insert into left_rows values (1)");
  return {
      {"nothing", query, "Z", 1},
      {"an open transaction", query_message("begin; insert into left_rows values (1)"), "Z", 0,
       false},
      {"a failed transaction", query_message("begin; select 1/0"), "Z", 0, false},
      {"a query that has just been sent", query, "", 1},
      {"a lock that has just been asked for", query_message("select pg_advisory_lock(42)"), ""},
      {"a LISTEN that has just been sent", query_message("listen left_behind"), ""},
      {"a PREPARE that has just been sent", query_message("prepare left_behind as select 1"), ""},
      {"a temporary table that has just been asked for",
       query_message("create temp table left_behind(i int)"), ""},
      {"a setting that has just been sent", query_message("set app.left_behind = 'mine'"), ""},
      {"a query that is waited for", query_message("select pg_sleep(0.3)"), ""},
      {"a batch without its Sync, answered", insert_batch(kFlush), "C"},
      {"a batch without its Sync, not even flushed", insert_batch(""), ""},
      {"a batch without its Sync that runs",
       parse_message("", "select pg_sleep(0.3)") + bind_message("", "") + execute_message("") +
           kFlush,
       "2"},
      {"a batch without its Sync in an open transaction",
       query_message("begin") + insert_batch(kFlush), "C", 0, false},
      {"a batch that has failed and has no Sync",
       parse_message("", "select 1/0") + bind_message("", "") + execute_message("") + kFlush, "E"},
      {"a batch that will fail, and a query that it skips",
       parse_message("", "select 1 / (select 0 * count(*) from left_rows) from pg_sleep(0.3)") +
           bind_message("", "") + execute_message("") + query,
       ""},
      {"a whole batch, and half a one behind it", insert_batch(sync_message()) + insert_batch(""),
       "Z", 1},
      {"COPY in, before it has begun", query_message("copy left_rows from stdin"), ""},
      {"COPY in", query_message("copy left_rows from stdin"), "G"},
      {"COPY in with rows", query_message("copy left_rows from stdin") + message('d', "1\n"), "G"},
      {"COPY in, extended", copy_batch("left_rows") + kFlush, "G"},
      {"COPY in, extended, that has passed over its Sync", copy_batch("left_rows") + sync_message(),
       "G"},
      {"COPY in that fails at once, with Syncs behind it",
       copy_batch("refuses") + sync_message() + message('d', "1\n") + message('c', "") +
           sync_message(),
       ""},
      {"COPY out", query_message("copy (select generate_series(1, 3000000)) to stdout"), "H"},
      {.name = "a query whose settings are being restored",
       .bytes = query,
       .until = "",
       .committed = 1,
       .startup = {{"options", "-c app.left_behind=mine"}}},
      {"half a message", query + std::string("Q\0\0\1\0sel", 8), "Z", 1},
  };
}

class Leaving : public ::testing::TestWithParam<const char*> {
 protected:
  static PostgresCluster& postgres() { return shared_postgres(); }
  static void SetUpTestSuite() {
    postgres().connect().query(
        "drop table if exists left_rows, refuses cascade; create table left_rows(i int);"
        " create table refuses(i int);"
        " create or replace function refuse() returns trigger language plpgsql as"
        " $$ begin raise 'refused'; end $$;"
        " create trigger refuse before insert on refuses for each statement"
        " execute function refuse()");
  }

  static std::string observed(const std::string& sql) {
    return postgres().connect().query(sql).value();
  }

  // What the next client of the server finds that is not its own.
  static std::string found_by(Wire& next) {
    return value_of(next.query(
        "select concat_ws(' ', nullif(current_setting('app.left_behind', true), ''),"
        " (select 'lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),"
        " (select 'listen' from pg_listening_channels()),"
        " (select 'prepared' from pg_prepared_statements where name = 'left_behind'),"
        " (select 'table' where to_regclass('pg_temp.left_behind') is not null),"
        " (select 'fence' from pg_prepared_statements where name like '%fence%'))"));
  }
};

TEST_P(Leaving, LeavesNothingForTheNextClientAndNothingThatPostgresqlWouldNotHaveCommitted) {
  const std::string mode = GetParam();
  const auto settings = [](const std::string& pool_mode) {
    return Settings{.pool = "size: 1, acquireTimeout: 10s, mode: " + pool_mode};
  };
  Carpool carpool(postgres(), settings(mode));
  for (const UnderWay& under_way : all_under_way()) {
    if (mode == "statement" && !under_way.in_statement_mode) continue;
    for (const Way way : kWays) {
      SCOPED_TRACE(std::string(under_way.name) + ", then " + kWayNames[static_cast<int>(way)]);
      postgres().connect().query("truncate left_rows");
      Wire client = carpool.raw();
      ASSERT_TRUE(client.sign_in("app", "app", under_way.startup));
      ASSERT_TRUE(client.send(under_way.bytes));
      if (*under_way.until != '\0') {
        ASSERT_NE(find(client.read_until(under_way.until), *under_way.until), nullptr);
      }
      if (way == Way::Canceled)
        carpool.raw().send(untyped(kCancelRequestCode, client.cancel_key()));
      if (way == Way::Reload) {
        carpool.reload(settings(mode == "transaction" ? "session" : "transaction"));
      }
      if (way == Way::ServerLost) postgres().terminate_backends();
      leave(client, way);
      Wire next = carpool.raw();
      ASSERT_TRUE(next.sign_in());
      EXPECT_EQ(value_of(next.query("select 'served'")), "served");
      EXPECT_EQ(found_by(next), "");
      const int rows = std::stoi(observed("select count(*) from left_rows"));
      if (way == Way::Terminate) {
        EXPECT_EQ(rows, under_way.committed);
      } else {
        EXPECT_LE(rows, under_way.committed);
      }
      next.send(message('X', ""));
      next.close();
      EVENTUALLY(carpool.clients() == 0);
      EVENTUALLY(postgres().backends_where("state <> 'idle' and application_name = ''") <= 1);
      if (way == Way::Reload) carpool.reload(settings(mode));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EachMode, Leaving, ::testing::ValuesIn(kModes),
                         [](const auto& mode) { return std::string(mode.param); });

// All at once, each on a server of its own.
std::vector<Wire> all_at_once(const Carpool& carpool, int* committed) {
  std::vector<Wire> clients;
  for (const UnderWay& under_way : all_under_way()) {
    clients.push_back(carpool.raw());
    Wire& client = clients.back();
    EXPECT_TRUE(client.sign_in("app", "app", under_way.startup));
    EXPECT_TRUE(client.send(under_way.bytes));
    if (*under_way.until != '\0') {
      EXPECT_NE(find(client.read_until(under_way.until), *under_way.until), nullptr)
          << under_way.name;
    }
    *committed += under_way.committed;
  }
  return clients;
}

void expect_nothing_left(int committed) {
  const auto observed = [](const std::string& sql) { return shared_postgres().admin(sql).value(); };
  EVENTUALLY(shared_postgres().backends() == 0);
  EXPECT_EQ(observed("select count(*) from pg_locks where locktype = 'advisory'"), "0");
  EXPECT_EQ(observed("select count(*) from pg_prepared_xacts"), "0");
  EXPECT_LE(std::stoi(shared_postgres().connect().query("select count(*) from left_rows").value()),
            committed);
}

class LeavingTogether : public Leaving {};

TEST_P(LeavingTogether, ByADrainLeavesNothing) {
  postgres().connect().query("truncate left_rows");
  Carpool carpool(postgres(), {.pool = "size: 30, mode: " + std::string(GetParam()),
                               .drain = "timeout: 500ms"});
  int committed = 0;
  const std::vector<Wire> clients = all_at_once(carpool, &committed);
  carpool.signal(SIGTERM);
  EXPECT_TRUE(carpool.wait_exit());
  expect_nothing_left(committed);
}

TEST_P(LeavingTogether, ADatabaseThatIsGoneLeavesNothing) {
  postgres().connect().query("truncate left_rows");
  const std::string pool = "size: 30, mode: " + std::string(GetParam());
  Carpool carpool(postgres(), {.pool = pool});
  int committed = 0;
  std::vector<Wire> clients = all_at_once(carpool, &committed);
  carpool.reload({.pool = pool, .databases = "{name: another}"});
  int turn = 0;
  for (Wire& client : clients) leave(client, kWays[turn++ % 3]);
  expect_nothing_left(committed);
  EVENTUALLY(carpool.servers() == 0 && carpool.clients() == 0);
}

INSTANTIATE_TEST_SUITE_P(InTransactionAndSessionMode, LeavingTogether,
                         ::testing::Values("transaction", "session"),
                         [](const auto& mode) { return std::string(mode.param); });

TEST(LeavingAReplication, FreesItsSlotAtOnceAfterTerminate) {
  // The server is the client's alone, and whoever waits for it waits for PostgreSQL.
  Carpool carpool(shared_postgres(), {.pool = "size: 2"});
  Wire client = carpool.raw();
  if (!client.sign_in("postgres", "app", {{"replication", "database"}})) {
    FAIL() << "a superuser may replicate";
  }
  ASSERT_NE(find(client.query("IDENTIFY_SYSTEM"), 'Z'), nullptr);
  leave(client, Way::Terminate);
  EVENTUALLY(shared_postgres().admin("select count(*) from pg_stat_replication").value() == "0");
  EVENTUALLY(carpool.servers() == 0);
}

}  // namespace
}  // namespace carpool::integration
