// The promise: what a client sends, in whatever order and form, is its own. It is answered as
// PostgreSQL answers it, or its connection ends; the next client of the server finds nothing of it.
// Each was found by attacking Carpool from outside.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "one_server.h"

namespace carpool::integration {
namespace {

class Apart : public OneServer {
 protected:
  // What the next client of the server sees, which has come to nothing by itself.
  void expect_untouched() {
    Wire next = client();
    for (int i = 0; i < 3; ++i) {
      const std::string mine = "mine " + std::to_string(i);
      EXPECT_EQ(value_of(next.query("select '" + mine + "'")), mine);
    }
    EXPECT_EQ(value_of(next.query("show search_path")), "\"$user\", public");
    EXPECT_EQ(value_of(next.query("select count(*) from pg_locks where locktype = 'advisory'")),
              "0");
  }
  static std::string batch(const std::string& sql) {
    return parse_message("", sql) + bind_message("", "") + execute_message("");
  }
  static std::vector<Message> until_the_end(Wire& wire) {
    std::vector<Message> all;
    while (auto next = wire.read()) all.push_back(*next);
    return all;
  }
};

TEST_F(Apart, ANameThatIsLongerThanPostgresqlTakesEndsItsClient) {
  // What is behind the part that Carpool reads would be messages of their own.
  const std::string hidden = query_message("select 'of another client'");
  for (const char type : {'D', 'C'}) {
    Wire wire = client();
    exchange(wire, parse_message("known", "select 1") + sync_message());
    std::string body = std::string("S") + "known" + '\0' + std::string(17'000, ' ');
    for (int i = 0; i < 20; ++i) body += hidden;
    wire.send(message(type, body));
    EXPECT_EQ(sqlstate_of(until_the_end(wire)), "08P01") << type;
    expect_untouched();
  }
}

TEST_F(Apart, ALongTextThatDeallocatesIsOneMessage) {
  Wire wire = client();
  exchange(wire, parse_message("known", "select 1") + sync_message());
  std::string text = "deallocate known --" + std::string(1'200'000, ' ');
  text += query_message("select 'of another client'");
  wire.send(query_message(text));
  wire.close();
  expect_untouched();
}

TEST_F(Apart, WhatNeedsNoPostgresqlIsOverAlsoWhereItsClientIsGone) {
  Wire wire = client();
  exchange(wire, parse_message("lock", "select pg_advisory_lock(42)") +
                     parse_message("other", "select 1") + sync_message());
  wire.send(describe_message('S', "lock") + close_message('S', "other") + bind_message("", "lock") +
            execute_message("") + message('X', ""));
  wire.close();
  expect_untouched();
}

TEST_F(Apart, TheEndOfACopyThatThereIsNotHidesNothing) {
  for (const char type : {'c', 'f'}) {
    Wire wire = client();
    exchange(wire, parse_message("", "set search_path to evil") + bind_message("", "") +
                       message(type, type == 'f' ? std::string(1, '\0') : "") +
                       execute_message("") + sync_message());
    expect_untouched();
    EXPECT_EQ(value_of(wire.query("show search_path")), "evil") << "it is the client's own";
  }
}

TEST_F(Apart, TheEndOfACopyIsNotThatOfTheStatementBeforeIt) {
  postgres().connect().query("drop table if exists apart; create table apart(i int)");
  const std::string all = query_message("select 1; copy apart from stdin") + message('d', "7\n") +
                          message('c', "") + sync_message();
  Wire direct = Wire::tcp(postgres().port());
  ASSERT_TRUE(direct.sign_in());
  Wire pooled = client();
  for (Wire* wire : {&direct, &pooled}) {
    wire->send(all);
    EXPECT_EQ(types(wire->read_until("Z")), "TDCGCZ");
    EXPECT_EQ(types(wire->read_until("Z")), "Z");
  }
  expect_untouched();
}

TEST_F(Apart, WhatIsSentBehindAResetHasTheSettingsOfItsStartup) {
  const std::map<std::string, std::string> tenant = {{"options", "-c search_path=tenant"}};
  for (const char* resets : {"reset search_path", "reset all", "discard all"}) {
    Wire simple = client(tenant);
    simple.send(query_message(resets) + query_message("show search_path"));
    EXPECT_EQ(sqlstate_of(simple.read_until("Z")), "") << resets;
    EXPECT_EQ(value_of(simple.read_until("Z")), "tenant") << resets;
    Wire extended = client(tenant);
    extended.send(batch(resets) + sync_message() + batch("show search_path") + sync_message());
    EXPECT_EQ(sqlstate_of(extended.read_until("Z")), "") << resets;
    EXPECT_EQ(value_of(extended.read_until("Z")), "tenant") << resets;
  }
}

TEST_F(Apart, APortalDoesWhatItDidWhereItsNameWasTakenInVain) {
  Wire wire = client();
  exchange(wire, parse_message("set", "set app.apart to 'mine'") + parse_message("no", "select 1") +
                     sync_message());
  wire.query("begin");
  exchange(wire, bind_message("p", "set") + sync_message());
  wire.query("savepoint s");
  EXPECT_EQ(sqlstate_of(exchange(wire, bind_message("p", "no") + sync_message())), "42P03");
  wire.query("rollback to s");
  EXPECT_EQ(types(exchange(wire, execute_message("p") + sync_message())), "CZ");
  wire.query("commit");
  EXPECT_EQ(value_of(client().query("select coalesce(current_setting('app.apart', true), '')")),
            "");
  EXPECT_EQ(value_of(wire.query("show app.apart")), "mine");
}

TEST_F(Apart, WhatFollowsADeallocateAllIsPreparedBehindIt) {
  Wire wire = client();
  wire.send(batch("deallocate all") + parse_message("mine", "select 'text'") +
            bind_message("", "mine") + execute_message("") + sync_message());
  EXPECT_EQ(value_of(wire.read_until("Z")), "text");
  for (int i = 0; i < 3; ++i) {
    Wire next = client();
    EXPECT_EQ(value_of(exchange(next, parse_message("theirs", "select 'text'") +
                                          bind_message("", "theirs") + execute_message("") +
                                          sync_message())),
              "text");
  }
}

TEST_F(Apart, AClientThatIdlesBehindACloseHasNoServer) {
  Wire wire = client();
  exchange(wire, parse_message("known", "select 1") + sync_message());
  wire.send(query_message("select 1") + close_message('S', "known"));
  wire.read_until("Z");
  expect_untouched();
}

TEST_F(Apart, ALongPipelineWithOneSyncIsAnswered) {
  // More than Carpool keeps account of, in bytes and in requests: PostgreSQL answers at a Sync, or
  // where it is asked to.
  std::string texts;
  for (int i = 0; i < 300; ++i) texts += batch("set app.x to '" + std::string(4000, 'x') + "'");
  Wire wire = client();
  EXPECT_EQ(exchange(wire, texts + sync_message()).size(), 901u);
  std::string many = parse_message("", "select 1");
  for (int i = 0; i < 9000; ++i) many += bind_message("", "") + execute_message("");
  EXPECT_EQ(exchange(wire, many + sync_message()).size(), 1 + 3 * 9000u + 1);
}

TEST_F(Apart, WhatComesBehindACopyWithoutASyncIsAnswered) {
  postgres().connect().query("drop table if exists apart; create table apart(i int)");
  Wire wire = client();
  wire.send(batch("copy apart from stdin") + sync_message());
  ASSERT_NE(find(wire.read_until("G"), 'G'), nullptr);
  wire.send(message('d', "7\n") + message('c', "") + batch("select 8") + sync_message());
  EXPECT_EQ(types(wire.read_until("Z")), "C12DCZ");
  expect_untouched();
}

TEST_F(Apart, TheRestOfARowIsNeverReadAsARequest) {
  // The COPY has failed with a Sync under way, so that Carpool has something to ask for itself.
  postgres().connect().query("drop table if exists apart; create table apart(i int)");
  Wire wire = client();
  wire.send(batch("copy apart from stdin") + sync_message());
  ASSERT_NE(find(wire.read_until("G"), 'G'), nullptr);
  const std::string row =
      message('d', query_message("insert into apart values (1)") + std::string(50'000, ' '));
  wire.send(message('d', "no number\n") + row.substr(0, 5));
  EXPECT_EQ(sqlstate_of(wire.read_until("E")), "22P02");
  wire.send(row.substr(5) + message('c', "") + sync_message());
  EXPECT_EQ(types(wire.read_until("Z")), "Z");
  EXPECT_EQ(postgres().connect().query("select count(*) from apart").value(), "0");
  expect_untouched();
}

TEST_F(Apart, AnErrorBehindADiscardAllDoesNotTakeItBack) {
  Wire first = client();
  Wire second = client();
  for (Wire* wire : {&first, &second}) wire->query("set app.apart to 'same'");
  EXPECT_EQ(
      sqlstate_of(exchange(first, batch("discard all") + batch("select 1/0") + sync_message())),
      "22012");
  EXPECT_EQ(value_of(second.query("show app.apart")), "same");
  EXPECT_EQ(value_of(first.query("select coalesce(current_setting('app.apart', true), '')")), "");
}

TEST_F(Apart, AServerThatSkipsToASyncIsNotLent) {
  Wire wire = client();
  wire.send(batch("select no_such_column") + query_message("select 1"));
  wire.reset();
  expect_untouched();
}

TEST_F(Apart, AQueryInACopyEndsItsClientAsPostgresqlDoes) {
  postgres().connect().query("drop table if exists apart; create table apart(i int)");
  Wire wire = client();
  wire.send(query_message("copy apart from stdin"));
  ASSERT_NE(find(wire.read_until("G"), 'G'), nullptr);
  wire.send(query_message("rollback"));
  EXPECT_EQ(sqlstate_of(until_the_end(wire)), "08P01");
  expect_untouched();
}

TEST_F(Apart, AFlushWithABodyEndsItsClient) {
  Wire wire = client();
  wire.send(batch("select 1") + message('H', "body") + batch("set search_path to evil") +
            query_message("select 2") + sync_message());
  EXPECT_EQ(sqlstate_of(until_the_end(wire)), "08P01");
  expect_untouched();
}

TEST_F(Apart, ABatchBehindACopyThatMayHaveFailedBeforeItsSyncEndsItsClient) {
  postgres().connect().query(
      "drop table if exists apart; create table apart(i int);"
      " create or replace function apart_refuses() returns trigger language plpgsql as"
      " $$ begin raise 'refused'; end $$;"
      " create trigger refuse before insert on apart for each statement"
      " execute function apart_refuses()");
  Wire wire = client();
  wire.send(batch("copy apart from stdin") + sync_message() + message('c', "") +
            batch("set search_path to evil") + sync_message());
  EXPECT_EQ(sqlstate_of(until_the_end(wire)), "P0001") << "first what PostgreSQL has said";
  expect_untouched();
}

TEST_F(Apart, TwoOfDifferentSettingsThatWaitForOneServerAreBothServed) {
  Wire holds = client();
  Wire one = client();
  Wire other = client();
  one.query("set app.apart to 'one'");
  other.query("set app.apart to 'other'");
  holds.send(query_message("select pg_sleep(0.3)"));
  one.send(query_message("show app.apart"));
  other.send(query_message("show app.apart"));
  EXPECT_EQ(value_of(one.read_until("Z")), "one");
  EXPECT_EQ(value_of(other.read_until("Z")), "other");
}

TEST_F(Apart, ASessionThatIdlesTooLongByItsOwnSettingEndsAndNoOther) {
  Wire other = client();
  Wire wire = client();
  wire.query("set idle_session_timeout to '300ms'");
  EXPECT_EQ(value_of(other.query("select 'other'")), "other");
  EXPECT_EQ(sqlstate_of(until_the_end(wire)), "57P05");
  EXPECT_EQ(value_of(other.query("select 'other'")), "other");
}

TEST(ApartByRefusal, WhatCarpoolRefusesInABatchOrATransactionFailsIt) {
  postgres().connect().query("drop table if exists apart; create table apart(i int)");
  Carpool carpool(postgres(), {.pool = "size: 1, sessionState: refuse"});
  const auto batch = [](const std::string& sql) {
    return parse_message("", sql) + bind_message("", "") + execute_message("");
  };
  Wire wire = carpool.raw();
  ASSERT_TRUE(wire.sign_in());
  wire.send(batch("insert into apart values (1)") + batch("listen apart") + sync_message());
  EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "0A000");
  EXPECT_EQ(value_of(wire.query("select count(*) from apart")), "0");
  wire.query("begin; insert into apart values (2)");
  const auto refused = wire.query("listen apart");
  EXPECT_EQ(sqlstate_of(refused), "0A000");
  EXPECT_EQ(find(refused, 'Z')->body, "E");
  EXPECT_EQ(sqlstate_of(wire.query("select 1")), "25P02");
  wire.query("commit");
  EXPECT_EQ(value_of(wire.query("select count(*) from apart")), "0");
}

TEST(ApartByTime, AQueryIsNotJudgedByTheTimeOfOneThatNeededNoPostgresql) {
  Carpool carpool(postgres(), {.pool = "size: 1, mode: session, queryTimeout: 1s"});
  Wire wire = carpool.raw();
  ASSERT_TRUE(wire.sign_in());
  const std::string text = "select pg_sleep(0.4)";
  wire.send(parse_message("first", text) + sync_message());
  EXPECT_EQ(types(wire.read_until("Z")), "1Z");
  // The server has it already, so that Carpool answers.
  wire.send(parse_message("second", text) + message('H', ""));
  EXPECT_EQ(types(wire.read_until("1")), "1");
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  wire.send(bind_message("", "second") + execute_message("") + sync_message());
  EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "");
}

TEST(ApartByTime, WhoStandsInTheMidstOfARowKeepsNoServer) {
  postgres().connect().query("drop table if exists apart; create table apart(i int)");
  Carpool carpool(postgres(), {.pool = "size: 1, idleTransactionTimeout: 1s"});
  Wire wire = carpool.raw();
  ASSERT_TRUE(wire.sign_in());
  wire.send(query_message("copy apart from stdin"));
  ASSERT_NE(find(wire.read_until("G"), 'G'), nullptr);
  wire.send(message('d', "no number\n"));
  ASSERT_NE(find(wire.read_until("Z"), 'Z'), nullptr);
  wire.send(message('d', std::string(100'000, 'x')).substr(0, 50'000));
  Wire next = carpool.raw();
  ASSERT_TRUE(next.sign_in());
  EXPECT_EQ(value_of(next.query("select 'served'")), "served");
}

}  // namespace
}  // namespace carpool::integration
