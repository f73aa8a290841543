// The promise: a table may change under statements that are prepared. Who asks for the shape of the
// rows gets the new one; who goes by what it was told before hears of it as from PostgreSQL, also
// where another client or server knows the new one already.
#include "one_server.h"

namespace carpool::integration {
namespace {

// A table whose only column changes its type, and back.
class SchemaChange : public OneServer {
 protected:
  SchemaChange() { direct.query("drop table if exists changing; create table changing (n int)"); }
  void change(const std::string& type) {
    const Reply done = direct.query("truncate changing; alter table changing alter n type " + type +
                                    " using null; insert into changing values ('7')");
    EXPECT_TRUE(done.ok()) << done.message;
  }
  // The table's row, in messages of these types.
  static void expect_row(const std::vector<Message>& answer, const std::string& expected) {
    EXPECT_EQ(types(answer), expected) << sqlstate_of(answer);
    EXPECT_EQ(value_of(answer), "7");
  }

  Connection direct = postgres().connect();
  const std::string parse = parse_message("s", "select * from changing");
  const std::string prepare = parse + sync_message();
  const std::string learn = parse + describe_message('S', "s") + sync_message();
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
      expect_row(exchange(*wire, described), "2TDCZ");
    }
  }
}

TEST_F(SchemaChange, ABatchIsHealedBehindSettingsThatAreRestoredToo) {
  change("int");
  Wire first = client();
  Wire second = client({{"work_mem", "5MB"}});
  exchange(first, prepare);
  exchange(second, prepare);
  change("text");
  expect_row(exchange(first, described), "2TDCZ");
  change("int");
  expect_row(exchange(second, described), "2TDCZ");
  change("text");
  exchange(first, close_message('S', "s") + sync_message());
  expect_row(exchange(second, described), "2TDCZ");
  change("int");
  expect_row(exchange(first, parse + described), "12TDCZ");
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

TEST_F(SchemaChange, AClientThatPreparesAnewHearsNothingOfAnOldPlan) {
  // tokio-postgres: Parse, Describe, Sync for each query; the text is one that the pool knows.
  change("int");
  Wire first = client();
  Wire second = client();
  exchange(first, prepare);
  for (const char* type : {"text", "int"}) {
    change(type);
    const auto answer = exchange(second, learn);
    EXPECT_EQ(types(answer), "1tTZ") << sqlstate_of(answer);
    EXPECT_EQ(value_of(exchange(second, use)), "7");
    exchange(second, close_message('S', "s") + sync_message());
  }
}

TEST_F(SchemaChange, AClientThatPreparesAnewNeedNotAskForTheShape) {
  change("int");
  Wire first = client();
  Wire second = client();
  exchange(first, prepare);
  exchange(second, parse_message("kept", "select * from changing") + sync_message());
  change("text");
  EXPECT_EQ(types(exchange(second, parse + use)), "12DCZ");
  change("int");
  // But for a name that it has from before it is PostgreSQL's error.
  EXPECT_EQ(sqlstate_of(exchange(second, parse_message("s2", "select * from changing") +
                                             bind_message("", "kept") + execute_message("") +
                                             sync_message())),
            "0A000");
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

TEST_F(SchemaChange, WhatIsHealedIsTheBatchThatFailed) {
  // One that begins with a Parse cannot be healed. The batch before it, of another client, could
  // have been, and must not be run once more in its place.
  change("int");
  Wire first = client();
  Wire second = client();
  exchange(second, prepare);
  exchange(first, parse_message("a", "select 'of the first'") + sync_message());
  const auto before = exchange(first, bind_message("", "a") + describe_message('P', "") +
                                          execute_message("") + sync_message());
  EXPECT_EQ(value_of(before), "of the first");
  change("text");
  const auto answer = exchange(second, parse_message("b", "select 'a new one'") + described);
  EXPECT_EQ(types(answer), "1EZ");
  EXPECT_EQ(sqlstate_of(answer), "0A000");
  EXPECT_EQ(value_of(exchange(second, described)), "7");
}

// A client that reads rows as they were described to it once, on a server that has planned the
// statement since.
class KnownShape : public SchemaChange {
 protected:
  // The next lease is on a server that has nothing prepared.
  void renew_server() {
    postgres().terminate_backends();
    // Carpool has noticed: whoever gets the dead one first loses it.
    EVENTUALLY(value_of(client().query("select 1")) == "1");
  }
};

TEST_F(KnownShape, IsAskedForOnceOnEachServer) {
  change("int");
  Wire wire = client();
  exchange(wire, learn);
  for (int i = 0; i < 3; i++) {
    renew_server();
    for (int again = 0; again < 2; again++) {
      expect_row(exchange(wire, use), "2DCZ");
    }
  }
}

TEST_F(KnownShape, IsNotTheNewServersAndTheClientIsToldAsByPostgres) {
  change("int");
  Wire wire = client();
  exchange(wire, learn);
  EXPECT_EQ(value_of(exchange(wire, use)), "7");
  change("text");
  renew_server();
  for (int i = 0; i < 2; i++) {
    const auto answer = exchange(wire, use);
    ASSERT_EQ(types(answer), "EZ");
    EXPECT_EQ(sqlstate_of(answer), "0A000");
    EXPECT_EQ(find(answer, 'E')->field('M'), "cached plan must not change result type");
    // By which pgjdbc and asyncpg know that preparing again will help.
    EXPECT_EQ(find(answer, 'E')->field('R'), "RevalidateCachedQuery");
  }
  // In a transaction it fails, as PostgreSQL's own does.
  wire.query("begin");
  EXPECT_EQ(find(exchange(wire, use), 'Z')->body, "E");
  EXPECT_EQ(sqlstate_of(exchange(wire, use)), "25P02");
  wire.query("rollback");
  // One that asks in the same batch is told the new shape, and nothing is wrong.
  EXPECT_EQ(types(exchange(wire, described)), "2TDCZ");
  EXPECT_EQ(types(exchange(wire, close_message('S', "s") + learn)), "31tTZ");
  EXPECT_EQ(value_of(exchange(wire, use)), "7");
}

TEST_F(KnownShape, IsNotWhatAnotherClientHasHadPlannedSince) {
  change("int");
  Wire first = client();
  Wire second = client();
  exchange(first, learn);
  change("text");
  EXPECT_EQ(types(exchange(second, learn)), "1tTZ");
  EXPECT_EQ(value_of(exchange(second, use)), "7");
  EXPECT_EQ(sqlstate_of(exchange(first, use)), "0A000");
  EXPECT_EQ(value_of(exchange(second, use)), "7");
  exchange(first, describe_message('S', "s") + sync_message());
  EXPECT_EQ(value_of(exchange(first, use)), "7");
}

TEST_F(KnownShape, IsTheNewOneForAClientThatAsksJustBefore) {
  change("int");
  Wire first = client();
  Wire second = client();
  exchange(first, learn);
  change("text");
  exchange(second, learn);
  expect_row(exchange(first, describe_message('S', "s") + use), "tT2DCZ");
  expect_row(exchange(first, use), "2DCZ");
}

TEST_F(KnownShape, IsNotTakenForTheOneThatAClientWhichHasLeftAskedFor) {
  change("int");
  Wire wire = client();
  exchange(wire, learn);
  {
    // Answered here, and nothing behind it.
    Wire gone = client();
    ASSERT_TRUE(gone.send(parse));
    EXPECT_EQ(types(gone.read_until("1")), "1");
  }
  change("text");
  EXPECT_EQ(sqlstate_of(exchange(wire, use)), "0A000");
}

TEST_F(KnownShape, IsLearntFromAPortalToo) {
  // pgjdbc: the portal is described with the first execution, and never again.
  change("int");
  Wire wire = client();
  EXPECT_EQ(types(exchange(wire, parse + described)), "12TDCZ");
  EXPECT_EQ(value_of(exchange(wire, use)), "7");
  change("text");
  renew_server();
  EXPECT_EQ(sqlstate_of(exchange(wire, use)), "0A000");
}

TEST_F(KnownShape, IsAskedForInAPipelineAndWhatIsSkippedIsNotRun) {
  change("int");
  Wire wire = client();
  exchange(wire, learn);
  renew_server();
  const std::string bound = bind_message("", "s") + execute_message("");
  ASSERT_TRUE(wire.send(bound + bound + sync_message() + bound + sync_message()));
  EXPECT_EQ(types(wire.read_until("Z")), "2DC2DCZ");
  EXPECT_EQ(types(wire.read_until("Z")), "2DCZ");
  change("text");
  renew_server();
  direct.query("drop table if exists kept; create table kept (n int)");
  const std::string insert =
      parse_message("", "insert into kept values (1)") + bind_message("", "") + execute_message("");
  ASSERT_TRUE(wire.send(insert + bound + insert + sync_message() + insert + sync_message()));
  const auto answer = wire.read_until("Z");
  EXPECT_EQ(types(answer), "12CEZ");
  EXPECT_EQ(sqlstate_of(answer), "0A000");
  EXPECT_EQ(types(wire.read_until("Z")), "12CZ");
  EXPECT_EQ(value_of(wire.query("select count(*) from kept")), "1");
}

TEST_F(KnownShape, NoRowsIsAShapeAndNothingElseIsAsked) {
  Wire wire = client();
  exchange(wire, parse_message("s", "set local work_mem = '1MB'") + describe_message('S', "s") +
                     sync_message());
  renew_server();
  EXPECT_EQ(types(exchange(wire, use)), "2NCZ");
  EXPECT_EQ(types(exchange(wire, use)), "2NCZ");
}

TEST_F(KnownShape, ItsTableIsGone) {
  change("int");
  Wire wire = client();
  exchange(wire, learn);
  direct.query("drop table changing");
  renew_server();
  const auto answer = exchange(wire, use);
  EXPECT_EQ(types(answer), "EZ");
  EXPECT_EQ(sqlstate_of(answer), "42P01");
  EXPECT_EQ(value_of(wire.query("select 1")), "1");
}

}  // namespace
}  // namespace carpool::integration
