// The promise: whatever bytes come, in whatever pieces, their sender gets a clear answer, memory
// stays bounded and every other client is unharmed.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>
#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using namespace std::string_literals;

constexpr std::size_t kMiB = 1024 * 1024;

PostgresCluster& postgres() {
  return shared_postgres();
}

const std::string kStartup = startup_packet({{"user", "app"}, {"database", "app"}});

// Everything of the extended protocol for one statement, without the Sync.
std::string unnamed(const std::string& sql) {
  return parse_message("", sql) + bind_message("", "") + execute_message("");
}

std::vector<std::string> values(const std::vector<Message>& messages) {
  std::vector<std::string> found;
  for (const Message& row : messages)
    if (row.type == 'D') found.push_back(row.body.substr(6));
  return found;
}

class Protocol : public ::testing::Test {
 protected:
  Protocol() : carpool(postgres(), {.pool = "size: 2"}), bystander(carpool.connect()) {
    EXPECT_TRUE(bystander.query("select 1").ok()) << bystander.error();
  }
  // Whoever misbehaved, the others are served.
  void TearDown() override { EXPECT_TRUE(bystander.query("select 1").ok()); }

  // Every server is idle, by one look at them all.
  bool at_rest() const {
    const nlohmann::json servers = carpool.status()["pools"][0]["servers"];
    return servers["idle"] == servers["total"];
  }

  // Signed in by hand.
  Wire client() {
    Wire wire = carpool.raw();
    EXPECT_TRUE(wire.sign_in());
    return wire;
  }

  Carpool carpool;
  Connection bystander;
};

TEST_F(Protocol, GarbageInsteadOfAStartupPacketIsTurnedAway) {
  std::mt19937 random(42);
  for (int round = 0; round < 100; round++) {
    Wire wire = carpool.raw();
    std::string garbage(1 + random() % 200, '\0');
    for (char& byte : garbage) byte = static_cast<char>(random());
    wire.send(garbage);
    ::shutdown(wire.fd(), SHUT_WR);
    EXPECT_TRUE(wire.ended());
  }
  EVENTUALLY(carpool.clients() == 1);
}

TEST_F(Protocol, AnHttpRequestIsTurnedAway) {
  Wire wire = carpool.raw();
  wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::optional<Message> error = wire.read();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->sqlstate(), "08P01");
  EXPECT_TRUE(wire.ended());
}

TEST_F(Protocol, AStartupPacketOfFourGigabytesIsTurnedAwayAtOnce) {
  for (const std::uint32_t length : {0xffffffffU, 0x7fffffffU, 0x80000000U, 1000000U, 0U, 3U, 7U}) {
    Wire wire = carpool.raw();
    wire.send(int32_bytes(length) + int32_bytes(kProtocol30));
    const std::optional<Message> error = wire.read();
    ASSERT_TRUE(error) << length;
    EXPECT_EQ(error->sqlstate(), "08P01") << length;
    EXPECT_TRUE(wire.ended()) << length;
  }
}

TEST_F(Protocol, AMessageOfFourGigabytesIsTurnedAwayWithAnError) {
  for (const std::uint32_t length : {0xffffffffU, 0x80000000U, 0U, 3U}) {
    Wire wire = client();
    wire.send("Q"s + int32_bytes(length) + "select 1");
    const std::vector<Message> answer = wire.read_until("E");
    const Message* error = find(answer, 'E');
    ASSERT_NE(error, nullptr) << length;
    EXPECT_EQ(error->sqlstate(), "08P01");
    EXPECT_TRUE(wire.ended()) << length;
  }
}

TEST_F(Protocol, AnUnknownMessageTypeIsTurnedAwayWithAnError) {
  Wire wire = client();
  wire.send(message('y', "what is this"));
  const std::vector<Message> answer = wire.read_until("E");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "08P01");
}

TEST_F(Protocol, AStartupAndAQueryAByteAtATimeAreServed) {
  Wire wire = carpool.raw();
  for (const char byte : kStartup) ASSERT_TRUE(wire.send(std::string(1, byte)));
  ASSERT_NE(find(wire.read_until("ZE"), 'Z'), nullptr);
  const std::string work =
      query_message("select 'slowly'") + unnamed("select 'extended'") + sync_message();
  for (const char byte : work) {
    ASSERT_TRUE(wire.send(std::string(1, byte)));
    std::this_thread::sleep_for(200us);
  }
  EXPECT_EQ(values(wire.read_until("Z")), std::vector<std::string>{"slowly"});
  EXPECT_EQ(values(wire.read_until("Z")), std::vector<std::string>{"extended"});
}

TEST_F(Protocol, EverythingInOneSegmentIsServedInOrder) {
  Wire wire = carpool.raw();
  std::string all = kStartup;
  for (int i = 0; i < 50; i++) all += query_message("select " + std::to_string(i));
  ASSERT_TRUE(wire.send(all));
  ASSERT_NE(find(wire.read_until("ZE"), 'Z'), nullptr);
  for (int i = 0; i < 50; i++)
    ASSERT_EQ(values(wire.read_until("Z")), std::vector<std::string>{std::to_string(i)});
}

TEST_F(Protocol, WhatWasAskedBeforeATerminateIsAnsweredAsPostgresDoes) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(query_message("select 1") + query_message("select 2") + message('X', "")));
  EXPECT_EQ(values(wire.read_until("Z")), std::vector<std::string>{"1"});
  EXPECT_EQ(values(wire.read_until("Z")), std::vector<std::string>{"2"});
  EXPECT_TRUE(wire.ended());
}

TEST_F(Protocol, ManyClientsThatDripDoNotSlowTheOthers) {
  std::vector<Wire> drips;
  for (int i = 0; i < 200; i++) {
    drips.push_back(carpool.raw());
    drips.back().send(kStartup.substr(0, static_cast<std::size_t>(i) % (kStartup.size() - 1)));
  }
  for (int i = 0; i < 100; i++) EXPECT_TRUE(bystander.query("select 1").ok());
  for (Wire& drip : drips) drip.reset();
  EVENTUALLY(carpool.clients() == 1);
}

TEST_F(Protocol, SslAndGssRequestsAreAnsweredNoAndTheStartupGoesOn) {
  Wire wire = carpool.raw();
  wire.send(untyped(kGssRequestCode));
  EXPECT_EQ(wire.read_bytes(1), "N");
  wire.send(untyped(kSslRequestCode));
  EXPECT_EQ(wire.read_bytes(1), "N");
  EXPECT_TRUE(wire.sign_in());
  EXPECT_EQ(values(wire.query("select 1")), std::vector<std::string>{"1"});
}

TEST_F(Protocol, SslRequestsWithoutEndAreTurnedAway) {
  Wire wire = carpool.raw();
  bool closed = false;
  for (int i = 0; i < 1000 && !closed; i++) {
    wire.send(untyped(kSslRequestCode));
    closed = wire.read_bytes(1) != "N";
  }
  EXPECT_TRUE(closed);
}

TEST_F(Protocol, TlsBytesToAPlainPortAreTurnedAway) {
  Wire wire = carpool.raw();
  wire.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s + std::string(506, 'r'));
  EXPECT_TRUE(wire.ended());
}

TEST_F(Protocol, AClientThatInsistsOnTlsIsToldByItsOwnLibrary) {
  Connection strict(carpool.conninfo() + " sslmode=require");
  EXPECT_FALSE(strict.connected());
  EXPECT_NE(strict.error().find("does not support SSL"), std::string::npos) << strict.error();
}

TEST_F(Protocol, AnUnknownProtocolVersionIsAnErrorThatSaysSo) {
  for (const std::uint32_t version : {2U << 16U, 4U << 16U}) {
    Wire wire = carpool.raw();
    wire.send(startup_packet({{"user", "app"}, {"database", "app"}}, version));
    // A client of protocol 2 gets an error that it cannot read, and the end; others can read it.
    EXPECT_TRUE(wire.ended()) << version;
  }
}

TEST_F(Protocol, AStartupWithoutAUserIsAnError) {
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"database", "app"}}));
  const std::vector<Message> answer = wire.read_until("EZ");
  ASSERT_NE(find(answer, 'E'), nullptr);
  const std::string sqlstate = find(answer, 'E')->sqlstate();
  EXPECT_TRUE(sqlstate == "28000" || sqlstate == "08P01") << sqlstate;
  EXPECT_TRUE(wire.ended());
}

TEST_F(Protocol, TheDatabaseDefaultsToTheUser) {
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"user", "app"}}));
  ASSERT_NE(find(wire.read_until("ZE"), 'Z'), nullptr);
  EXPECT_EQ(values(wire.query("select current_database()")), std::vector<std::string>{"app"});
}

TEST_F(Protocol, TheGreetingCarriesPostgressParametersAndAKey) {
  Wire wire = carpool.raw();
  wire.send(kStartup);
  const std::vector<Message> greeting = wire.read_until("ZE");
  ASSERT_NE(find(greeting, 'K'), nullptr);
  const std::string version = postgres().connect().query("show server_version").value();
  bool has_version = false;
  bool has_encoding = false;
  for (const Message& message : greeting) {
    if (message.type != 'S') continue;
    has_version = has_version || message.body == "server_version\0"s + version + '\0';
    has_encoding = has_encoding || message.body == "client_encoding\0UTF8\0"s;
  }
  EXPECT_TRUE(has_version);
  EXPECT_TRUE(has_encoding);
  EXPECT_EQ(greeting.back().body, "I");
}

TEST_F(Protocol, ADatabaseWithoutAnEntryIsAnErrorThatNamesIt) {
  Carpool strict(postgres(), {.databases = "{name: app}"});
  Wire wire = strict.raw();
  wire.send(startup_packet({{"user", "app"}, {"database", "nowhere"}}));
  const std::vector<Message> answer = wire.read_until("EZ");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "3D000");
  EXPECT_NE(find(answer, 'E')->field('M').find("nowhere"), std::string::npos);
  EXPECT_TRUE(wire.ended());
  EXPECT_EQ(strict.metric("carpool_clients_rejected_total", {{"reason", "no_database"}}), 1);
}

TEST_F(Protocol, AReplicationConnectionWorksOrIsRefusedClearly) {
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"user", "app"}, {"database", "app"}, {"replication", "database"}}));
  const std::vector<Message> greeting = wire.read_until("ZE");
  if (find(greeting, 'Z') != nullptr) {
    // It must be a walsender then, and nothing that only looks like one.
    EXPECT_NE(find(wire.query("IDENTIFY_SYSTEM"), 'D'), nullptr);
  } else {
    ASSERT_NE(find(greeting, 'E'), nullptr);
    EXPECT_EQ(find(greeting, 'E')->sqlstate(), "0A000");
    EXPECT_NE(find(greeting, 'E')->field('M').find("replication"), std::string::npos);
    EXPECT_TRUE(wire.ended());
  }
}

TEST_F(Protocol, APipelineIsAnsweredInOrder) {
  Wire wire = client();
  std::string pipeline;
  for (int i = 0; i < 100; i++) pipeline += unnamed("select " + std::to_string(i)) + sync_message();
  ASSERT_TRUE(wire.send(pipeline));
  for (int i = 0; i < 100; i++)
    EXPECT_EQ(values(wire.read_until("Z")), std::vector<std::string>{std::to_string(i)});
}

TEST_F(Protocol, AnErrorInAPipelineSkipsToItsSyncAndNoFurther) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(unnamed("select 1") + unnamed("select 1/0") + unnamed("select 2") +
                        sync_message() + unnamed("select 3") + sync_message()));
  const std::vector<Message> first = wire.read_until("Z");
  EXPECT_EQ(values(first), std::vector<std::string>{"1"});
  ASSERT_NE(find(first, 'E'), nullptr);
  EXPECT_EQ(find(first, 'E')->sqlstate(), "22012");
  EXPECT_EQ(values(wire.read_until("Z")), std::vector<std::string>{"3"});
}

TEST_F(Protocol, AFlushIsAnsweredBeforeTheSync) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(unnamed("select 1") + message('H', "")));
  EXPECT_EQ(values(wire.read_until("CE")), std::vector<std::string>{"1"});
  ASSERT_TRUE(wire.send(sync_message()));
  EXPECT_EQ(types(wire.read_until("Z")), "Z");
}

TEST_F(Protocol, ASyncByItselfIsAnswered) {
  Wire wire = client();
  for (int i = 0; i < 3; i++) {
    ASSERT_TRUE(wire.send(sync_message()));
    EXPECT_EQ(types(wire.read_until("Z")), "Z");
  }
}

TEST_F(Protocol, APortalIsReadInPieces) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(parse_message("", "select generate_series(1, 5)") + bind_message("", "") +
                        message('E', "\0"s + int32_bytes(2)) + message('H', "")));
  EXPECT_EQ(values(wire.read_until("sCE")), (std::vector<std::string>{"1", "2"}));
  ASSERT_TRUE(wire.send(message('E', "\0"s + int32_bytes(0)) + sync_message()));
  EXPECT_EQ(values(wire.read_until("Z")), (std::vector<std::string>{"3", "4", "5"}));
}

TEST_F(Protocol, LibpqsPipelineModeWorks) {
  Connection pipelined = carpool.connect();
  PGconn* conn = pipelined.raw();
  ASSERT_EQ(PQenterPipelineMode(conn), 1);
  for (int i = 0; i < 20; i++) {
    const std::string sql = i == 10 ? "select 1/0" : "select " + std::to_string(i);
    ASSERT_EQ(PQsendQueryParams(conn, sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0), 1);
    ASSERT_EQ(PQpipelineSync(conn), 1);
  }
  for (int i = 0; i < 20; i++) {
    PGresult* result = PQgetResult(conn);
    if (i == 10) {
      EXPECT_STREQ(PQresultErrorField(result, PG_DIAG_SQLSTATE), "22012");
    } else {
      EXPECT_STREQ(PQgetvalue(result, 0, 0), std::to_string(i).c_str());
    }
    PQclear(result);
    EXPECT_EQ(PQgetResult(conn), nullptr);
    result = PQgetResult(conn);
    EXPECT_EQ(PQresultStatus(result), PGRES_PIPELINE_SYNC);
    PQclear(result);
  }
  EXPECT_EQ(PQexitPipelineMode(conn), 1);
  EXPECT_EQ(pipelined.query("select 'after'").value(), "after");
}

TEST_F(Protocol, NoticesReachTheirClient) {
  Wire wire = client();
  const std::vector<Message> answer = wire.query("do $$ begin raise notice 'mind the gap'; end $$");
  ASSERT_NE(find(answer, 'N'), nullptr);
  EXPECT_EQ(find(answer, 'N')->field('M'), "mind the gap");
}

TEST_F(Protocol, ParameterStatusReachesItsClient) {
  Connection setter = carpool.connect();
  ASSERT_TRUE(setter.query("begin; set local application_name to 'renamed'").ok());
  EXPECT_STREQ(PQparameterStatus(setter.raw(), "application_name"), "renamed");
  ASSERT_TRUE(setter.query("commit").ok());
}

TEST_F(Protocol, AFunctionCallIsPassedOn) {
  const std::string oid =
      postgres().connect().query("select 'abs(int)'::regprocedure::oid").value();
  Wire wire = client();
  // No argument formats, so text; one argument; a text result.
  ASSERT_TRUE(wire.send(message('F', int32_bytes(static_cast<std::uint32_t>(std::stoul(oid))) +
                                         "\0\0\0\1"s + int32_bytes(2) + "-7" + "\0\0"s)));
  const std::vector<Message> answer = wire.read_until("Z");
  ASSERT_NE(find(answer, 'V'), nullptr);
  EXPECT_EQ(find(answer, 'V')->body.substr(4), "7");
}

TEST_F(Protocol, AQueryOfTwentyMegabytesArrivesWhole) {
  const std::string text(20 * kMiB, 'q');
  const std::string before = std::to_string(text.size());
  EXPECT_EQ(bystander.query("select length('" + text + "')").value(), before);
  EXPECT_EQ(bystander.query_params("select length($1::text)", {text}).value(), before);
}

TEST_F(Protocol, ARowOfFiftyMegabytesArrivesWholeAndIsNotHeld) {
  const std::size_t before = resident_bytes(carpool.pid());
  const Reply reply = bystander.query("select repeat('row', 17476267)", 60s);
  EXPECT_EQ(reply.value().size(), 3U * 17476267U);
  EXPECT_EQ(reply.value().find_first_not_of("row"), std::string::npos);
  EXPECT_LT(resident_bytes(carpool.pid()), before + 32 * kMiB);
}

TEST_F(Protocol, AClientThatNeverReadsCostsNoMemoryAndHoldsNobodyUp) {
  Wire lazy = client();
  const std::size_t before = resident_bytes(carpool.pid());
  lazy.send(query_message("select repeat('x', 1000), generate_series(1, 500000)"));
  ASSERT_EVENTUALLY(postgres().backends_where("wait_event = 'ClientWrite'") == 1);
  EXPECT_TRUE(
      throughout([&] { return resident_bytes(carpool.pid()) < before + 32 * kMiB; }, 500ms));
  for (int i = 0; i < 20; i++) EXPECT_TRUE(bystander.query("select 1").ok());
  lazy.reset();
  EVENTUALLY(postgres().backends_where("wait_event = 'ClientWrite'") == 0);
}

TEST_F(Protocol, AClientThatSendsAndNeverReadsCostsNoMemory) {
  Wire lazy = client();
  const std::size_t before = resident_bytes(carpool.pid());
  const std::string work = query_message("select repeat('x', 10000)");
  std::string block;
  for (int i = 0; i < 1000; i++) block += work;
  std::string rest;
  std::size_t sent = 0;
  // Until nothing is taken any more: the proxy has stopped reading.
  EXPECT_TRUE(eventually([&] {
    for (int i = 0; i < 100; i++) {
      if (rest.empty()) rest = block;
      const std::size_t taken = lazy.send_some(rest);
      if (taken == 0 || taken == std::string::npos) {
        std::this_thread::sleep_for(50ms);
        return lazy.send_some(rest) == 0;
      }
      rest.erase(0, taken);
      sent += taken;
    }
    return false;
  }));
  EXPECT_LT(sent, 64 * kMiB);
  EXPECT_LT(resident_bytes(carpool.pid()), before + 32 * kMiB);
  for (int i = 0; i < 20; i++) EXPECT_TRUE(bystander.query("select 1").ok());
}

// What a client had done when it was gone.
struct Vanishing {
  const char* state;
  std::string bytes;  // sent before it goes; the startup packet first, where it is signed in
  bool signed_in;
};

TEST_F(Protocol, AClientMayVanishInAnyState) {
  const std::vector<Vanishing> all = {
      {"before a word", "", false},
      {"half a startup packet", kStartup.substr(0, 9), false},
      {"after SSLRequest", untyped(kSslRequestCode), false},
      {"while signing in", kStartup, false},
      {"idle", "", true},
      {"half a message", query_message("select 1").substr(0, 7), true},
      {"half a large message", message('Q', std::string(1 << 20, ' ')).substr(0, 1 << 19), true},
      {"a running query", query_message("select pg_sleep(600)"), true},
      {"a transaction", query_message("begin"), true},
      {"a failed transaction", query_message("begin") + query_message("select 1/0"), true},
      {"an unfinished extended query", unnamed("select 1"), true},
      {"a flushed extended query", unnamed("select 1") + message('H', ""), true},
      {"an unfinished error", unnamed("select 1/0") + message('H', ""), true},
      {"a long pipeline",
       [] {
         std::string work;
         for (int i = 0; i < 500; i++) work += unnamed("select 1") + sync_message();
         return work;
       }(),
       true},
      {"a large result", query_message("select repeat('x', 1000), generate_series(1, 1000000)"),
       true},
      {"copy in",
       query_message("begin; create temp table t (n int) on commit drop; "
                     "copy t from stdin") +
           message('d', "1\n"),
       true},
      {"copy out", query_message("copy (select generate_series(1, 10000000)) to stdout"), true},
  };
  for (const Vanishing& vanishing : all) {
    for (const bool abruptly : {false, true}) {
      for (const bool at_once : {false, true}) {
        SCOPED_TRACE(std::string(vanishing.state) + (abruptly ? ", by reset" : ", by close") +
                     (at_once ? ", at once" : ", a little later"));
        Wire wire = carpool.raw();
        if (vanishing.signed_in) {
          ASSERT_TRUE(wire.sign_in());
        }
        ASSERT_TRUE(wire.send(vanishing.bytes));
        if (!at_once) std::this_thread::sleep_for(10ms);
        abruptly ? wire.reset() : wire.close();
        ASSERT_TRUE(bystander.query("select 1").ok());
        ASSERT_EVENTUALLY(carpool.clients() == 1);
        ASSERT_EVENTUALLY(at_rest());
        ASSERT_EVENTUALLY(postgres().backends_where("state <> 'idle'") == 0);
        ASSERT_LE(postgres().backends(), 2);
      }
    }
  }
}

TEST_F(Protocol, ATerminateInsideATransactionRollsItBack) {
  Wire wire = client();
  wire.query("begin");
  wire.send(message('X', ""));
  EXPECT_TRUE(wire.ended());
  EVENTUALLY(postgres().backends_where("state like 'idle in transaction%'") == 0);
}

TEST_F(Protocol, ALongApplicationNameAndManyParametersWork) {
  Wire wire = carpool.raw();
  EXPECT_TRUE(wire.sign_in("app", "app",
                           {{"application_name", std::string(2000, 'n')},
                            {"client_encoding", "UTF8"},
                            {"DateStyle", "ISO"},
                            {"TimeZone", "Europe/Berlin"}}));
  EXPECT_EQ(values(wire.query("select 1")), std::vector<std::string>{"1"});
}

TEST_F(Protocol, RandomBytesAfterSignInHarmNobody) {
  std::mt19937 random(4711);
  for (int round = 0; round < 60; round++) {
    Wire wire = client();
    std::string garbage(1 + random() % 500, '\0');
    for (char& byte : garbage) byte = static_cast<char>(random());
    wire.send(garbage);
    std::this_thread::sleep_for(1ms);
    wire.reset();
  }
  EVENTUALLY(carpool.clients() == 1);
  EXPECT_TRUE(carpool.running());
}

}  // namespace
}  // namespace carpool::integration
