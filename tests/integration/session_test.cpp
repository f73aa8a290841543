// The promise: in transaction mode a client's session is its own, whichever server it gets. Each
// test speaks the message shapes of real drivers, over a pool of one server that clients share.
#include <gtest/gtest.h>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string describe_message(char kind, const std::string& name) {
  return message('D', std::string(1, kind) + name + '\0');
}

std::string close_message(char kind, const std::string& name) {
  return message('C', std::string(1, kind) + name + '\0');
}

// Execute with a row limit.
std::string execute_some(std::uint32_t rows) {
  return message('E', std::string(1, '\0') + int32_bytes(rows));
}

// A Bind to the unnamed portal whose parameters are all texts.
std::string bind_texts(const std::string& statement, const std::vector<std::string>& values) {
  std::string body = '\0' + statement + '\0' + std::string(2, '\0');
  body += '\0';
  body += static_cast<char>(values.size());
  for (const std::string& value : values) {
    body += int32_bytes(static_cast<std::uint32_t>(value.size())) + value;
  }
  return message('B', body + std::string(2, '\0'));
}

std::string types(const std::vector<Message>& messages) {
  std::string all;
  for (const Message& message : messages) all += message.type;
  return all;
}

// The first column of the first row.
std::string value_of(const std::vector<Message>& messages) {
  const Message* row = find(messages, 'D');
  return row == nullptr ? "" : row->body.substr(6);
}

std::string sqlstate_of(const std::vector<Message>& messages) {
  const Message* error = find(messages, 'E');
  return error == nullptr ? "" : error->sqlstate();
}

// One server, and the clients that share it.
class Session : public ::testing::Test {
 protected:
  Session() : carpool(postgres(), {.pool = "size: 1"}) {}

  Wire client(std::map<std::string, std::string> more = {}) {
    Wire wire = carpool.raw();
    EXPECT_TRUE(wire.sign_in("app", "app", std::move(more)));
    return wire;
  }

  static std::vector<Message> exchange(Wire& wire, const std::string& bytes) {
    EXPECT_TRUE(wire.send(bytes));
    return wire.read_until("Z");
  }

  Carpool carpool;
};

TEST_F(Session, ASettingMadeUnderARowLimitIsFollowed) {
  // asyncpg's fetchval: the answer is PortalSuspended, and no CommandComplete ever comes.
  Wire first = client();
  Wire second = client();
  const auto made =
      exchange(first, parse_message("", "select set_config('app.tenant', 'red', false)") +
                          bind_message("", "") + execute_some(1) + sync_message());
  EXPECT_EQ(types(made), "12DsZ");
  EXPECT_EQ(value_of(second.query("select coalesce(current_setting('app.tenant', true), '')")), "");
  EXPECT_EQ(value_of(first.query("show app.tenant")), "red");
  EXPECT_EQ(value_of(second.query("select coalesce(current_setting('app.tenant', true), '')")), "");
}

TEST_F(Session, TheUnnamedStatementOutlivesTheRestoringOfSettings) {
  // lib/pq: Parse, Describe, Sync, and in a lease of its own Bind, Execute, Sync. Between them the
  // server is made another client's, by a simple query of Carpool's own, which ends the unnamed
  // statement (manual, "Extended Query").
  Wire first = client();
  Wire second = client();
  first.query("set app.tenant to 'red'");
  second.query("set app.tenant to 'blue'");
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(
        sqlstate_of(exchange(first, parse_message("", "select current_setting('app.tenant')") +
                                        describe_message('S', "") + sync_message())),
        "");
    EXPECT_EQ(value_of(second.query("show app.tenant")), "blue");
    EXPECT_EQ(
        value_of(exchange(first, bind_message("", "") + execute_message("") + sync_message())),
        "red");
    // And where nothing but the settings came between.
    exchange(second, parse_message("", "select 'the other''s'") + sync_message());
    EXPECT_EQ(
        value_of(exchange(first, bind_message("", "") + execute_message("") + sync_message())),
        "red");
    EXPECT_EQ(
        value_of(exchange(second, bind_message("", "") + execute_message("") + sync_message())),
        "the other's");
  }
}

TEST_F(Session, ANameThatIsTakenIsRefusedAsPostgresDoes) {
  Wire wire = client();
  const std::string use = bind_message("", "s") + execute_message("") + sync_message();
  exchange(wire, parse_message("s", "select 1") + sync_message());
  const auto again = exchange(wire, parse_message("s", "select 2") + sync_message());
  EXPECT_EQ(sqlstate_of(again), "42P05");
  EXPECT_EQ(find(again, 'E')->field('M'), "prepared statement \"s\" already exists");
  EXPECT_EQ(find(again, 'Z')->body, "I");
  EXPECT_EQ(value_of(exchange(wire, use)), "1");
  // What is wrong with the text comes first.
  EXPECT_EQ(sqlstate_of(exchange(wire, parse_message("s", "selec") + sync_message())), "42601");
  EXPECT_EQ(
      sqlstate_of(exchange(wire, parse_message("s", "select * from nowhere") + sync_message())),
      "42P01");
  // The transaction fails with it.
  wire.query("begin");
  const auto inside = exchange(wire, parse_message("s", "select 2") + sync_message());
  EXPECT_EQ(sqlstate_of(inside), "42P05");
  EXPECT_EQ(find(inside, 'Z')->body, "E");
  EXPECT_EQ(sqlstate_of(exchange(wire, parse_message("s", "select 2") + sync_message())), "25P02");
  EXPECT_EQ(sqlstate_of(exchange(wire, parse_message("t", "select 1") + sync_message())), "25P02");
  EXPECT_EQ(sqlstate_of(exchange(wire, parse_message("t", "selec") + sync_message())), "42601");
  EXPECT_EQ(sqlstate_of(exchange(wire, parse_message("t", "rollback") + sync_message())), "");
  wire.query("rollback");
  EXPECT_EQ(value_of(exchange(wire, use)), "1");
  EXPECT_EQ(
      sqlstate_of(exchange(wire, bind_message("", "t") + execute_message("") + sync_message())),
      "");
}

TEST_F(Session, ANameWhoseParseFailedIsFreeAlsoInAPipeline) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(parse_message("s", "selec") + sync_message() +
                        parse_message("s", "select 'good'") + sync_message() +
                        bind_message("", "s") + execute_message("") + sync_message()));
  EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "42601");
  EXPECT_EQ(types(wire.read_until("Z")), "1Z");
  EXPECT_EQ(value_of(wire.read_until("Z")), "good");
  // A Close and a Parse that an error skipped have not happened.
  ASSERT_TRUE(wire.send(bind_message("", "nothing") + close_message('S', "s") +
                        parse_message("t", "select 2") + sync_message() + bind_message("", "s") +
                        execute_message("") + sync_message() + bind_message("", "t") +
                        sync_message()));
  EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "26000");
  EXPECT_EQ(value_of(wire.read_until("Z")), "good");
  EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "26000");
}

TEST_F(Session, ANamedParseFirstInALeaseThatRestoresSettingsIsServed) {
  // It waited for the end of the restoring, which ended the lease, which restored the settings...
  Wire first = client();
  Wire second = client();
  first.query("set app.tenant to 'red'");
  second.query("set app.tenant to 'blue'");
  for (int i = 0; i < 3; i++) {
    const std::string name = "s" + std::to_string(i);
    for (Wire* wire : {&first, &second}) {
      EXPECT_EQ(types(exchange(*wire, parse_message(name, "select current_setting('app.tenant')") +
                                          sync_message())),
                "1Z");
    }
    const std::string use = bind_message("", name) + execute_message("") + sync_message();
    EXPECT_EQ(value_of(exchange(first, use)), "red");
    EXPECT_EQ(value_of(exchange(second, use)), "blue");
  }
}

TEST_F(Session, AStatementWhosePreparationAnErrorSkippedIsPreparedForTheNextBatch) {
  Wire first = client();
  exchange(first, parse_message("s", "select 'good'") + sync_message());
  postgres().terminate_backends();
  // A new server, which lacks it: what prepares it there is skipped with the rest of the batch.
  const std::string failing = bind_message("", "nothing");
  const std::string use = bind_message("", "s") + execute_message("") + sync_message();
  ASSERT_TRUE(first.send(failing + use + use));
  EXPECT_EQ(sqlstate_of(first.read_until("Z")), "26000");
  EXPECT_EQ(value_of(first.read_until("Z")), "good");
}

TEST_F(Session, TheUnnamedStatementOfAnotherClientIsOutOfReach) {
  Wire first = client();
  exchange(first, parse_message("", "select 'secret'") + sync_message());
  Wire second = client();
  const std::string use = bind_message("", "") + execute_message("") + sync_message();
  EXPECT_EQ(sqlstate_of(exchange(second, use)), "26000");
  EXPECT_EQ(sqlstate_of(exchange(second, describe_message('S', "") + sync_message())), "26000");
  EXPECT_EQ(value_of(exchange(first, use)), "secret");
}

TEST_F(Session, AnUnnamedStatementThatAnErrorSkippedIsNotThere) {
  Wire first = client();
  Wire second = client();
  exchange(first, parse_message("", "select 'mine'") + sync_message());
  exchange(second, parse_message("", "select 'theirs'") + sync_message());
  ASSERT_TRUE(first.send(bind_message("", "nothing") + parse_message("", "select 'skipped'") +
                         sync_message() + bind_message("", "") + execute_message("") +
                         sync_message()));
  EXPECT_EQ(sqlstate_of(first.read_until("Z")), "26000");
  EXPECT_EQ(value_of(first.read_until("Z")), "mine");
}

TEST_F(Session, TheSameTextUnderAnotherSearchPathIsAnotherStatement) {
  postgres().connect().query(
      "create schema if not exists other; drop table if exists shape, other.shape;"
      " create table shape as select 1 as n; create table other.shape as select 'x'::text as t");
  Wire first = client();
  Wire second = client();
  second.query("set search_path to other");
  const std::string prepare = parse_message("s", "select * from shape") + sync_message();
  const std::string use = bind_message("", "s") + execute_message("") + sync_message();
  exchange(first, prepare);
  exchange(second, prepare);
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(value_of(exchange(first, use)), "1");
    EXPECT_EQ(value_of(exchange(second, use)), "x");
  }
}

// A table whose only column changes its type, and back.
class SchemaChange : public Session {
 protected:
  SchemaChange() { direct.query("drop table if exists changing; create table changing (n int)"); }
  void change(const std::string& type) {
    const Reply done = direct.query("truncate changing; alter table changing alter n type " + type +
                                    " using null; insert into changing values ('7')");
    EXPECT_TRUE(done.ok()) << done.message;
  }

  Connection direct = postgres().connect();
  const std::string prepare = parse_message("s", "select * from changing") + sync_message();
  const std::string use = bind_message("", "s") + execute_message("") + sync_message();
  const std::string described =
      bind_message("", "s") + describe_message('P', "") + execute_message("") + sync_message();
};

TEST_F(SchemaChange, ABatchThatAsksForTheShapeIsHealed) {
  // libpq, psycopg and node-postgres: Bind, Describe, Execute, Sync.
  change("int");
  Wire first = client();
  Wire second = client();
  exchange(first, prepare);
  exchange(second, prepare);
  for (const char* type : {"text", "int", "text"}) {
    change(type);
    for (Wire* wire : {&first, &second, &first}) {
      const auto answer = exchange(*wire, described);
      EXPECT_EQ(types(answer), "2TDCZ") << sqlstate_of(answer);
      EXPECT_EQ(value_of(answer), "7");
    }
  }
}

TEST_F(SchemaChange, AClientThatReliesOnTheOldShapeIsToldAsByPostgres) {
  // asyncpg and tokio-postgres: Bind, Execute, Sync, and rows are read as they were described once.
  change("int");
  Wire wire = client();
  exchange(wire, prepare);
  EXPECT_EQ(value_of(exchange(wire, use)), "7");
  change("text");
  EXPECT_EQ(sqlstate_of(exchange(wire, use)), "0A000");
  // Preparing it again, under this name or another, is the cure.
  EXPECT_EQ(types(exchange(wire, close_message('S', "s") + prepare)), "31Z");
  EXPECT_EQ(value_of(exchange(wire, use)), "7");
}

TEST_F(SchemaChange, InATransactionTheErrorIsTheClients) {
  change("int");
  Wire wire = client();
  exchange(wire, prepare);
  wire.query("begin");
  change("text");
  const auto answer = exchange(wire, described);
  EXPECT_EQ(sqlstate_of(answer), "0A000");
  EXPECT_EQ(find(answer, 'Z')->body, "E");
  wire.query("rollback");
  EXPECT_EQ(value_of(exchange(wire, described)), "7");
}

TEST_F(Session, AStatementThatPostgresHasLostIsPreparedAgain) {
  Wire wire = client();
  const std::string lose =
      "do $$ begin execute 'deal' || 'locate all'; end $$";  // nothing that a text shows
  exchange(wire, parse_message("s", "select 'found', $1::text") + sync_message());
  for (const std::string& describe : {std::string(), describe_message('P', "")}) {
    EXPECT_EQ(sqlstate_of(wire.query(lose)), "");
    const auto answer =
        exchange(wire, bind_texts("s", {"x"}) + describe + execute_message("") + sync_message());
    EXPECT_EQ(sqlstate_of(answer), "");
    EXPECT_EQ(value_of(answer).substr(0, 5), "found");
  }
  EXPECT_EQ(sqlstate_of(exchange(wire, bind_message("", "nothing") + sync_message())), "26000");
}

// What the server says a parameter is, last of all.
std::string reported(const std::vector<Message>& messages, const std::string& name) {
  std::string value = "(nothing)";
  for (const Message& message : messages) {
    if (message.type == 'S' && message.body.c_str() == name) {
      value = message.body.c_str() + name.size() + 1;
    }
  }
  return value;
}

TEST_F(Session, ResetLeadsToTheValuesOfTheStartupPacket) {
  Wire wire = client({{"TimeZone", "Asia/Tokyo"}, {"options", "-c app.tenant=begun"}});
  Wire other = client();
  const std::vector<std::string> resets = {"reset TimeZone",      "set TimeZone to default",
                                           "set time zone local", "reset all",
                                           "discard all",         "reset TimeZone; select 1"};
  for (const std::string& reset : resets) {
    wire.query("set TimeZone to 'America/Lima'");
    const auto answer = wire.query(reset);
    EXPECT_EQ(sqlstate_of(answer), "") << reset;
    EXPECT_EQ(reported(answer, "TimeZone"), "Asia/Tokyo") << reset;
    EXPECT_EQ(value_of(wire.query("show TimeZone")), "Asia/Tokyo") << reset;
    EXPECT_EQ(value_of(wire.query("show app.tenant")), "begun") << reset;
    EXPECT_NE(value_of(other.query("show TimeZone")), "Asia/Tokyo") << reset;
  }
}

TEST_F(Session, ResetLeadsThereInsideATransactionToo) {
  Wire wire = client({{"TimeZone", "Asia/Tokyo"}});
  for (const char* end : {"commit", "rollback"}) {
    wire.query("set TimeZone to 'America/Lima'");
    wire.query("begin");
    const auto answer = exchange(wire, parse_message("", "reset TimeZone") + bind_message("", "") +
                                           execute_message("") + sync_message());
    EXPECT_EQ(types(answer).back(), 'Z');
    EXPECT_EQ(find(answer, 'Z')->body, "T");
    EXPECT_EQ(value_of(wire.query("show TimeZone")), "Asia/Tokyo");
    wire.query(end);
    EXPECT_EQ(value_of(wire.query("show TimeZone")),
              end == std::string("commit") ? "Asia/Tokyo" : "America/Lima");
  }
  // What comes behind it in a pipeline is told apart from what restores the settings.
  ASSERT_TRUE(wire.send(query_message("begin") + query_message("reset TimeZone") +
                        query_message("select 'behind'") + query_message("commit")));
  for (const char* expected : {"", "", "behind", ""}) {
    EXPECT_EQ(value_of(wire.read_until("Z")), expected);
  }
  EXPECT_EQ(value_of(wire.query("show TimeZone")), "Asia/Tokyo");
}

TEST_F(Session, SetConfigWithBoundValuesIsFollowed) {
  Wire first = client();
  Wire second = client();
  const std::string go = execute_message("") + sync_message();
  exchange(first,
           parse_message("s", "select set_config('app.tenant', $1, false)") + sync_message());
  exchange(first, bind_texts("s", {"red"}) + go);
  EXPECT_EQ(value_of(second.query("select coalesce(current_setting('app.tenant', true), '')")), "");
  EXPECT_EQ(value_of(first.query("show app.tenant")), "red");
  exchange(first, parse_message("", "select set_config($1, $2, $3)") +
                      bind_texts("", {"app.tenant", "it's", "false"}) + go);
  EXPECT_EQ(value_of(second.query("select coalesce(current_setting('app.tenant', true), '')")), "");
  EXPECT_EQ(value_of(first.query("show app.tenant")), "it's");
  exchange(first, parse_message("", "select set_config($1, $2, $3)") +
                      bind_texts("", {"app.tenant", "local", "true"}) + go);
  EXPECT_EQ(value_of(first.query("show app.tenant")), "it's");
}

TEST_F(Session, AValueThatIsComputedPinsUntilEverythingIsReset) {
  for (const char* reset : {"reset all", "discard all"}) {
    Wire first = client();
    Wire second = client();
    first.query("select set_config('app.tenant', 'computed' || 1, false)");
    ASSERT_TRUE(second.send(query_message("select 'second'")));
    EVENTUALLY(carpool.clients("waiting") == 1);
    EXPECT_EQ(value_of(first.query("show app.tenant")), "computed1");
    first.query(reset);
    EXPECT_EQ(value_of(second.read_until("Z")), "second");
  }
}

TEST_F(Session, ValuesOfTheStartupOptionsAreReportedAtSignIn) {
  Wire wire = carpool.raw();
  wire.send(startup_packet(
      {{"user", "app"},
       {"database", "app"},
       {"options", "-c timezone=Asia/Tokyo --application-name=a\\ b -c work_mem=2MB"}}));
  const auto greeting = wire.read_until("Z");
  EXPECT_EQ(reported(greeting, "TimeZone"), "Asia/Tokyo");
  EXPECT_EQ(reported(greeting, "application_name"), "a b");
  EXPECT_EQ(value_of(wire.query("show work_mem")), "2MB");
}

TEST_F(Session, OptionsThatAreNoSettingsChooseServersOfTheirOwn) {
  Wire plain = client();
  Wire switched = client({{"options", "-S 5000"}});
  Wire same = client({{"options", "-S 5000"}, {"TimeZone", "Asia/Tokyo"}});
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(value_of(plain.query("show work_mem")), "4MB");
    EXPECT_EQ(value_of(switched.query("show work_mem")), "5000kB");
    EXPECT_EQ(value_of(same.query("show work_mem")), "5000kB");
    EXPECT_EQ(value_of(same.query("show TimeZone")), "Asia/Tokyo");
  }
  EXPECT_EQ(value_of(switched.query("select pg_backend_pid()")),
            value_of(same.query("select pg_backend_pid()")));
  // What PostgreSQL does not take it refuses itself, at once.
  Wire wrong = carpool.raw();
  wrong.send(startup_packet({{"user", "app"}, {"database", "app"}, {"options", "--no-such"}}));
  EXPECT_EQ(sqlstate_of(wrong.read_until("EZ")), "42601");
}

TEST_F(Session, ReplicationIsASessionOfItsOwn) {
  for (const char* kind : {"database", "true"}) {
    Wire wire = carpool.raw();
    ASSERT_TRUE(wire.sign_in("postgres", "postgres",
                             {{"replication", kind}, {"application_name", "a receiver"}}));
    const auto identified = wire.query("IDENTIFY_SYSTEM");
    const Message* row = find(identified, 'D');
    ASSERT_NE(row, nullptr) << sqlstate_of(identified);
    // The third column is where the WAL ends.
    std::size_t at = 2;
    for (int i = 0; i < 2; i++) at += 4 + int32_at(row->body, at);
    const std::string position = row->body.substr(at + 4, int32_at(row->body, at));
    ASSERT_TRUE(wire.send(query_message("START_REPLICATION PHYSICAL " + position)));
    ASSERT_NE(find(wire.read_until("WE"), 'W'), nullptr);
    EXPECT_EQ(postgres()
                  .admin("select count(*) from pg_stat_replication where "
                         "application_name = 'a receiver'")
                  .value(),
              "1");
    // Both directions at once, for as long as it likes.
    for (int i = 0; i < 3; i++) {
      postgres().connect().query("drop table if exists logged; create table logged (n int)");
      EXPECT_NE(find(wire.read_until("dE"), 'd'), nullptr);
      std::string status = "r" + std::string(24, '\0') + std::string(8, '\0') + '\1';
      ASSERT_TRUE(wire.send(message('d', status)));
      EXPECT_NE(find(wire.read_until("dE"), 'd'), nullptr);
    }
    ASSERT_TRUE(wire.send(message('c', "")));
    EXPECT_NE(find(wire.read_until("Z"), 'Z'), nullptr);
    EXPECT_NE(find(wire.query("IDENTIFY_SYSTEM"), 'D'), nullptr);
    wire.close();
    EVENTUALLY(postgres().admin("select count(*) from pg_stat_replication").value() == "0");
  }
  EXPECT_EQ(value_of(client().query("select 'others are served'")), "others are served");
}

TEST_F(Session, AClientWithoutAnApplicationNameHasNone) {
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  EXPECT_EQ(reported(wire.read_until("Z"), "application_name"), "");
  EXPECT_EQ(value_of(wire.query("show application_name")), "");
}

}  // namespace
}  // namespace carpool::integration
