// The promise: in transaction mode a client's session is its own, whichever server it gets. Each
// test speaks the message shapes of real drivers, over a pool of one server that clients share.
#include <gtest/gtest.h>

#include "one_server.h"

namespace carpool::integration {
namespace {

// Execute with a row limit.
std::string execute_some(std::uint32_t rows) {
  return message('E', std::string(1, '\0') + int32_bytes(rows));
}

class Session : public OneServer {};

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

TEST_F(Session, TheUnnamedStatementOutlivesADeallocateAll) {
  // As in PostgreSQL: only those with names go.
  Wire wire = client();
  exchange(wire, parse_message("named", "deallocate all") + parse_message("", "select 7") +
                     bind_message("", "named") + execute_message("") + sync_message());
  client().query("select 'another lease'");
  EXPECT_EQ(value_of(exchange(wire, bind_message("", "") + execute_message("") + sync_message())),
            "7");
  EXPECT_EQ(sqlstate_of(exchange(wire, bind_message("", "named") + sync_message())), "26000");
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

TEST_F(Session, WhatItsRollbackTookBackIsTakenBackHereToo) {
  // A client that leaves inside its transaction: Carpool ends that, and nobody else is told what
  // the settings are then.
  const std::string show = "select coalesce(current_setting('app.tenant', true), '')";
  {
    Wire leaver = client();
    leaver.query("set app.tenant to 'red'; set timezone to 'Asia/Tokyo'");
    leaver.query("begin; reset app.tenant; reset timezone");
  }
  Wire other = client();
  EXPECT_EQ(value_of(other.query(show)), "");
  EXPECT_NE(value_of(other.query("show timezone")), "Asia/Tokyo");
  {
    Wire leaver = client();
    leaver.query("begin; set app.tenant to 'red'; set timezone to 'Asia/Tokyo'");
  }
  Wire same = client({{"options", "-c app.tenant=red -c timezone=Asia/Tokyo"}});
  EXPECT_EQ(value_of(same.query(show)), "red");
  EXPECT_EQ(value_of(same.query("show timezone")), "Asia/Tokyo");
}

TEST_F(Session, WhatAFunctionSetIsKnownWhereCarpoolEndsItsBatch) {
  {
    Wire leaver = client();
    ASSERT_TRUE(leaver.send(
        parse_message("", "do $$begin perform set_config('timezone', 'Asia/Tokyo', false); end$$") +
        bind_message("", "") + execute_message("") + message('H', "")));
    EXPECT_NE(find(leaver.read_until("C"), 'C'), nullptr);
  }
  EXPECT_NE(value_of(client().query("show timezone")), "Asia/Tokyo");
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

TEST_F(Session, AnErrorBeforePostgresDropsTheUnnamedStatementLeavesIt) {
  // No text of UTF-8: it is refused before anything is done.
  const std::string bad = "select '\xe9'";
  const std::string use = bind_message("", "") + execute_message("") + sync_message();
  Wire other = client();
  Wire wire = client();
  for (const std::string& refused : {query_message(bad), parse_message("", bad) + sync_message()}) {
    exchange(other, parse_message("", "select 'not yours'") + sync_message());
    EXPECT_EQ(sqlstate_of(exchange(wire, refused)), "22021");
    EXPECT_EQ(sqlstate_of(exchange(wire, use)), "26000");
    EXPECT_EQ(value_of(exchange(other, use)), "not yours");
    exchange(wire, parse_message("", "select 'mine'") + sync_message());
    EXPECT_EQ(sqlstate_of(exchange(wire, refused)), "22021");
    EXPECT_EQ(value_of(exchange(wire, use)), "mine");
    exchange(wire, close_message('S', "") + sync_message());
  }
}

TEST_F(Session, AnUnnamedStatementBehindOneThatFailedIsTheClients) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(parse_message("", "selec") + sync_message() +
                        parse_message("", "select 'good'") + sync_message()));
  EXPECT_EQ(types(wire.read_until("Z")), "EZ");
  EXPECT_EQ(types(wire.read_until("Z")), "1Z");
  const std::string use = bind_message("", "") + execute_message("") + sync_message();
  Wire other = client();
  EXPECT_EQ(sqlstate_of(exchange(other, use)), "26000");
  EXPECT_EQ(value_of(exchange(wire, use)), "good");
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

TEST_F(Session, AStatementBehindASetInItsPipelineIsNoOtherClients) {
  // It is read under what the SET leads to, of which nothing is known yet when it is sent.
  const std::string day = "select ('01/02/2024'::date - '2024-01-01'::date)::text";
  Wire first = client();
  Wire second = client();
  const std::string run = bind_message("", "s") + execute_message("") + sync_message();
  exchange(second, parse_message("s", day) + sync_message());
  for (const char* set :
       {"set datestyle to 'German, DMY'", "select set_config('datestyle', 'German, DMY', false)"}) {
    first.query("discard all");
    const auto answer = exchange(first, parse_message("", set) + bind_message("", "") +
                                            execute_message("") + parse_message("s", day) + run);
    EXPECT_EQ(sqlstate_of(answer), "") << set;
    EXPECT_EQ(value_of(exchange(first, run)), "31") << set;
    EXPECT_EQ(value_of(exchange(second, run)), "1") << set;
    Wire third = client();
    EXPECT_EQ(value_of(exchange(third, parse_message("s", day) + run)), "1") << set;
  }
}

// Read with escapes it listens; read by the standard the LISTEN is a part of a string.
const char* const kListensWithEscapes = R"(select '\', '; listen news; --')";

TEST_F(Session, ABackslashIsReadAsTheServerReadsIt) {
  using Pins = std::map<std::string, int>;
  {
    Wire wire = client();
    wire.query(kListensWithEscapes);
    EXPECT_EQ(pins(carpool), Pins());
    wire.query("set standard_conforming_strings to off");
    EXPECT_EQ(pins(carpool), Pins());
    wire.query(kListensWithEscapes);
    EXPECT_EQ(pins(carpool), (Pins{{"listen", 1}}));
    EXPECT_NE(find(wire.query("notify news"), 'A'), nullptr);
    wire.query("unlisten *");
    // The value of a setting, too.
    wire.query(R"(set app.path to 'a\\b')");
    Wire other = client();
    EXPECT_EQ(value_of(other.query("select coalesce(current_setting('app.path', true), '')")), "");
    EXPECT_EQ(value_of(wire.query("show app.path")), R"(a\b)");
    // In a transaction that has set it for itself, and by the extended protocol.
    wire.query("reset standard_conforming_strings");
    wire.query("begin; set local standard_conforming_strings to off");
    exchange(wire, parse_message("", R"(select set_config('app.path', 'c\\d', false))") +
                       bind_message("", "") + execute_message("") + sync_message());
    wire.query("commit");
    EXPECT_EQ(value_of(other.query("select coalesce(current_setting('app.path', true), '')")), "");
    EXPECT_EQ(value_of(wire.query("show app.path")), R"(c\d)");
    EXPECT_EQ(pins(carpool), (Pins{{"listen", 1}}));
  }
  // As the startup packet spells it.
  Wire wire = client({{"standard_conforming_strings", "false"}});
  wire.query("select 1");
  wire.query(kListensWithEscapes);
  EXPECT_EQ(pins(carpool), (Pins{{"listen", 2}}));
}

TEST_F(Session, WhereABackslashIsReadAsIsNotKnownTheTextPins) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(query_message("set standard_conforming_strings to off") +
                        query_message(kListensWithEscapes) + query_message("notify news")));
  for (int i = 0; i < 3; i++) wire.read_until("Z");
  EXPECT_EQ(pins(carpool), (std::map<std::string, int>{{"other", 1}}));
  // Nobody else has its server, and so not its LISTEN, until it gives everything up.
  Wire other = client();
  ASSERT_TRUE(other.send(query_message("select pg_listening_channels()")));
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_EQ(value_of(wire.query("select pg_listening_channels()")), "news");
  wire.query("discard all");
  EXPECT_EQ(value_of(other.read_until("Z")), "");
}

TEST_F(Session, EqualTextsThatAreReadDifferentlyAreTwoStatements) {
  Wire standard = client();
  Wire escapes = client({{"standard_conforming_strings", "off"}});
  escapes.query("select 1");
  const std::string prepare = parse_message("s", R"(select 'a\\b'::text)") + sync_message();
  const std::string use = bind_message("", "s") + execute_message("") + sync_message();
  exchange(standard, prepare);
  exchange(escapes, prepare);
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(value_of(exchange(standard, use)), R"(a\\b)");
    EXPECT_EQ(value_of(exchange(escapes, use)), R"(a\b)");
  }
}

TEST(SessionDefaults, ADatabaseThatReadsBackslashesAsEscapesIsKnown) {
  postgres().admin("drop database if exists escaped");
  postgres().admin("create database escaped owner app");
  postgres().admin("alter database escaped set standard_conforming_strings to off");
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Wire wire = carpool.raw();
  ASSERT_TRUE(wire.sign_in("app", "escaped"));
  wire.query(kListensWithEscapes);
  EXPECT_EQ(pins(carpool), (std::map<std::string, int>{{"listen", 1}}));
}

TEST_F(Session, ALockPinsFromItsYesToTheYesOfItsUnlock) {
  Connection holder = postgres().connect();
  holder.query("select pg_advisory_lock(42)");
  const auto pinned = [&] {
    return carpool.metric("carpool_pins_total", {{"cause", "advisory_lock"}}).value_or(0);
  };
  // Keys are bound, as ORMs do: they are in no text.
  Wire wire = client();
  const std::string go = execute_message("") + sync_message();
  const auto call = [&](const std::string& function, const std::string& key) {
    return value_of(exchange(
        wire, parse_message("", "select " + function + "($1)") + bind_texts("", {key}) + go));
  };
  for (int i = 0; i < 3; i++) EXPECT_EQ(call("pg_try_advisory_lock", "42"), "f");
  EXPECT_EQ(pinned(), 0);
  Wire other = client();
  EXPECT_EQ(value_of(other.query("select 'served'")), "served");
  EXPECT_EQ(call("pg_try_advisory_lock", "43"), "t");
  EXPECT_EQ(call("pg_advisory_lock", "43"), "");
  EXPECT_EQ(pinned(), 1);
  ASSERT_TRUE(other.send(query_message("select 'waited'")));
  EXPECT_EQ(call("pg_advisory_unlock", "42"), "f");  // not its own
  EXPECT_EQ(call("pg_advisory_unlock", "43"), "t");
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_EQ(value_of(wire.query("select pg_advisory_unlock(43)")), "t");
  EXPECT_EQ(value_of(other.read_until("Z")), "waited");
  // A portal that is read on calls nothing again.
  ASSERT_EQ(types(exchange(wire, parse_message("", "select pg_try_advisory_lock(43)") +
                                     bind_message("", "") + execute_some(1) + go)),
            "12DsCZ");
  EXPECT_EQ(value_of(wire.query("select pg_advisory_unlock(43)")), "t");
  EXPECT_EQ(value_of(other.query("select 'served'")), "served");
}

TEST_F(Session, StatusSaysSinceWhenAClientIsPinned) {
  Wire wire = client();
  wire.query("listen news");
  const auto since = [&]() -> double {
    const auto status = nlohmann::json::parse(carpool.get("/status?detailed=1").body);
    for (const auto& one : status["clientList"]) {
      if (one["pinnedBy"] == "listen") return one["pinnedSeconds"].get<double>();
    }
    return -1;
  };
  EVENTUALLY(since() > 0);
  wire.query("unlisten news");
  EXPECT_EQ(since(), -1);
}

TEST_F(Session, ATextThatIsTooComplexPinsAlsoWhenItIsPrepared) {
  std::string text = "select set_config('app.a', 'x' || 1, false)";
  for (int i = 0; i < 300; i++)
    text += ", set_config('app.a" + std::to_string(i) + "', 'x', false)";
  Wire wire = client();
  exchange(wire,
           parse_message("", text) + bind_message("", "") + execute_message("") + sync_message());
  EXPECT_EQ(pins(carpool), (std::map<std::string, int>{{"other", 1}}));
  Wire other = client();
  ASSERT_TRUE(other.send(query_message("select coalesce(current_setting('app.a299', true), '')")));
  EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_EQ(value_of(wire.query("show app.a299")), "x");
  wire.query("discard all");
  EXPECT_EQ(value_of(other.read_until("Z")), "");
}

// A Describe of a longer one is no message that PostgreSQL takes.
TEST_F(Session, ANameAsLongAsPostgresqlTakesItWorks) {
  const std::string name(9'990, 'n');
  const std::string other_name = name.substr(1) + "m";
  Wire first = client();
  Wire second = client();
  for (Wire* wire : {&first, &second}) {
    EXPECT_EQ(types(exchange(*wire, parse_message(name, "select 'long'") +
                                        parse_message(other_name, "select 'other'") +
                                        describe_message('S', name) + sync_message())),
              "11tTZ");
  }
  for (Wire* wire : {&first, &second}) {
    EXPECT_EQ(
        value_of(exchange(*wire, bind_message("", name) + execute_message("") + sync_message())),
        "long");
    EXPECT_EQ(value_of(exchange(
                  *wire, bind_message("", other_name) + execute_message("") + sync_message())),
              "other");
    EXPECT_EQ(types(exchange(*wire, close_message('S', name) + sync_message())), "3Z");
    const auto gone = exchange(*wire, bind_message("", name) + sync_message());
    EXPECT_EQ(sqlstate_of(gone), "26000");
    EXPECT_NE(find(gone, 'E')->field('M').find(name), std::string::npos);
  }
}

TEST_F(Session, WhatWasNeverPreparedGetsPostgresOwnError) {
  Wire owner = client();
  exchange(owner, parse_message("mine", "select 'mine'") + sync_message());
  Wire wire = client();
  Wire direct = Wire::tcp(postgres().port());
  ASSERT_TRUE(direct.sign_in());
  const std::vector<std::string> requests = {
      bind_message("", "mine") + sync_message(), bind_message("", "never") + sync_message(),
      describe_message('S', "never") + sync_message(),
      // The pool's own name for what another client has prepared.
      bind_message("", "carpool_1") + execute_message("") + sync_message(),
      describe_message('S', "carpool_1") + sync_message(),
      close_message('S', "carpool_1") + bind_message("", "carpool_1") + sync_message()};
  for (const char* status : {"I", "T"}) {
    for (const std::string& request : requests) {
      if (*status == 'T') {
        wire.query("begin");
        direct.query("begin");
      }
      const auto ours = exchange(wire, request);
      const auto theirs = exchange(direct, request);
      ASSERT_EQ(sqlstate_of(theirs), "26000");
      ASSERT_NE(find(ours, 'E'), nullptr);
      EXPECT_EQ(find(ours, 'E')->body, find(theirs, 'E')->body);
      EXPECT_EQ(types(ours), types(theirs));
      EXPECT_EQ(find(ours, 'Z')->body, find(theirs, 'Z')->body);
      if (*status == 'T') {
        wire.query("rollback");
        direct.query("rollback");
      }
      // And the other client's is as it was.
      EXPECT_EQ(value_of(exchange(owner,
                                  bind_message("", "mine") + execute_message("") + sync_message())),
                "mine");
    }
  }
}

TEST_F(Session, DistinctStatementsWithoutEndStayWithinBounds) {
  // Rounds of a pipeline each; a million by hand is in docs/transaction-mode.md.
  constexpr int kRounds = 20;
  constexpr int kEach = 500;
  const auto table = [&] {
    const auto pool = carpool.status()["pools"][0];
    return std::pair(pool["preparedStatements"].get<int>(),
                     pool["preparedStatementBytes"].get<int>());
  };
  for (const bool named : {true, false}) {
    Wire wire = client();
    for (int round = 0; round < kRounds; round++) {
      std::string bytes;
      for (int i = 0; i < kEach; i++) {
        const std::string number = std::to_string(round * kEach + i);
        const std::string name = named ? "s" + number : "";
        bytes += parse_message(name, "select " + number) + bind_message("", name) +
                 execute_message("") + close_message('S', name);
      }
      ASSERT_TRUE(wire.send(bytes + sync_message()));
      EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "");
    }
    // What the server has, and the client's none.
    const auto [count, size] = table();
    EXPECT_LE(count, 502) << named;
    EXPECT_LE(size, 502 * 512) << named;
  }
  // A client that never closes anything: each is kept for it, but no server has more than its
  // share.
  Wire wire = client();
  for (int round = 0; round < 4; round++) {
    std::string bytes;
    for (int i = 0; i < kEach; i++) {
      const std::string number = std::to_string(round * kEach + i);
      bytes += parse_message("s" + number, "select " + number);
    }
    ASSERT_TRUE(wire.send(bytes + sync_message()));
    EXPECT_EQ(sqlstate_of(wire.read_until("Z")), "");
  }
  EXPECT_GE(table().first, 4 * kEach);
  EXPECT_LE(std::stoi(value_of(
                wire.query("select count(*) from pg_prepared_statements where not from_sql"))),
            500);
  EXPECT_EQ(value_of(exchange(wire, bind_message("", "s3") + execute_message("") + sync_message())),
            "3");
  wire.close();
  EVENTUALLY(table().first <= 502);
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

TEST_F(Session, WhatIsBoundBeforeAnotherAnswerAndRunAfterItIsFollowed) {
  const std::string parse =
      parse_message("s", "select set_config('app.tenant', $1, false)") + sync_message();
  const std::string unset = "select coalesce(current_setting('app.tenant', true), '')";
  Wire second = client({{"work_mem", "5MB"}});
  {
    // A Flush in between, in a lease that restores settings.
    Wire first = client({{"work_mem", "6MB"}});
    exchange(first, parse);
    EXPECT_EQ(value_of(second.query(unset)), "");
    ASSERT_TRUE(first.send(bind_texts("s", {"flushed"}) + message('H', "")));
    EXPECT_EQ(types(first.read_until("2")), "2");
    exchange(first, execute_message("") + sync_message());
  }
  EXPECT_EQ(value_of(second.query(unset)), "");
  // A pipeline that comes in two pieces.
  Wire first = client();
  exchange(first, parse);
  ASSERT_TRUE(first.send(parse_message("", "select 'before'") + bind_message("", "") +
                         execute_message("") + sync_message() + bind_texts("s", {"pipelined"})));
  EXPECT_EQ(types(first.read_until("Z")), "12DCZ");
  exchange(first, execute_message("") + sync_message());
  EXPECT_EQ(value_of(second.query(unset)), "");
  EXPECT_EQ(value_of(first.query("show app.tenant")), "pipelined");
}

TEST_F(Session, AStatementWhoseRenewalAnErrorSkippedIsStillThere) {
  Wire wire = client();
  const std::string use = bind_message("", "kept") + execute_message("") + sync_message();
  exchange(wire, parse_message("kept", "commit") + sync_message());
  wire.query("begin");
  EXPECT_EQ(sqlstate_of(wire.query("no such")), "42601");
  // The second has the text that the server has under "kept"; the first is refused.
  EXPECT_EQ(sqlstate_of(exchange(wire, parse_message("a", "select 1") +
                                           parse_message("b", "commit") + sync_message())),
            "25P02");
  EXPECT_EQ(types(exchange(wire, use)), "2CZ");
  EXPECT_EQ(types(exchange(wire, use)), "2NCZ");  // no transaction is in progress
}

TEST_F(Session, ADeallocateThatFailsLeavesTheStatement) {
  const std::string parse = parse_message("s", "select 'here'") + sync_message();
  const std::string use = bind_message("", "s") + execute_message("") + sync_message();
  Wire wire = client();
  exchange(wire, parse);
  for (const std::string& deallocate :
       {query_message("deallocate s"), parse_message("", "deallocate s") + bind_message("", "") +
                                           execute_message("") + sync_message()}) {
    wire.query("begin");
    wire.query("no such");
    EXPECT_EQ(sqlstate_of(exchange(wire, deallocate)), "25P02");
    wire.query("rollback");
    EXPECT_EQ(value_of(exchange(wire, use)), "here");
    EXPECT_EQ(sqlstate_of(exchange(wire, deallocate)), "");
    EXPECT_EQ(sqlstate_of(exchange(wire, use)), "26000");
    EXPECT_EQ(types(exchange(wire, parse)), "1Z");
  }
}

TEST_F(Session, WhatAServerNeverHadCanBeDeallocatedThere) {
  // It cannot even be prepared there any more.
  for (const bool simple : {true, false}) {
    Wire wire = client();
    wire.query("create table short_lived (n int)");
    exchange(wire, parse_message("s", "select n from short_lived") + sync_message());
    wire.query("drop table short_lived");
    postgres().terminate_backends();
    EVENTUALLY(value_of(client().query("select 1")) == "1");
    const auto answer =
        exchange(wire, simple ? query_message("deallocate s")
                              : parse_message("", "deallocate s") + bind_message("", "") +
                                    execute_message("") + sync_message());
    EXPECT_EQ(types(answer), simple ? "CZ" : "12CZ") << sqlstate_of(answer);
    EXPECT_EQ(find(answer, 'C')->body, std::string("DEALLOCATE") + '\0');
    EXPECT_EQ(types(exchange(wire, parse_message("s", "select 1") + sync_message())), "1Z");
  }
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
