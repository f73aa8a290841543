// Who has which server, and until when, on the wire.
#include "fixture.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::SlotState;

using Lease = ProxyTest;

TEST_F(Lease, GreetsAClientWithTheServersParametersAndAKeyOfItsOwn) {
  serve();
  TestClient& client = connect().start();
  ASSERT_TRUE(until([&] { return client.count('Z') == 1; }));
  EXPECT_EQ(client.types, "RSSKZ");
  EXPECT_EQ(client.messages[1].text(), std::string("server_version\0"
                                                   "15.4\0",
                                                   20));
  EXPECT_EQ(client.status(), 'I');
  EXPECT_NE(client.pid, postgres_.backends[0]->pid);
}

TEST_F(Lease, EndsAtReadyForQueryIdle) {
  serve();
  TestClient& first = client();
  TestClient& second = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  EXPECT_EQ(servers(SlotState::Idle), 1u);
  EXPECT_EQ(clients(ClientState::Idle), 2u);
  second.query("SELECT 2");
  ASSERT_TRUE(until([&] { return second.types == "CZ"; }));
  EXPECT_EQ(postgres_.backends.size(), 1u);
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:SELECT 1 Q:SELECT 2");
  EXPECT_EQ(pool().counters.transactions, 2u);
}

TEST_F(Lease, LastsThroughATransaction) {
  serve();
  TestClient& first = client();
  TestClient& second = client();
  first.query("BEGIN");
  ASSERT_TRUE(until([&] { return first.status() == 'T'; }));
  second.query("SELECT 2");
  settle();
  EXPECT_EQ(second.types, "");
  EXPECT_EQ(clients(ClientState::Waiting), 1u);
  first.query("COMMIT");
  ASSERT_TRUE(until([&] { return second.types == "CZ"; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:BEGIN Q:COMMIT Q:SELECT 2");
}

TEST_F(Lease, LastsUntilEveryPipelinedQueryIsAnswered) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  TestClient& first = client();
  TestClient& second = client();
  first.query("A").query("B").query("C");
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->requests.size() == 3; }));
  second.query("D");
  for (std::size_t answered = 1; answered <= 3; ++answered) {
    settle();
    EXPECT_EQ(postgres_.backends[0]->requests.size(), 3u) << "D waits";
    postgres_.backends[0]->complete("X");
    postgres_.backends[0]->ready('I');
    ASSERT_TRUE(until([&] { return first.count('Z') == answered; }));
  }
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->requests.size() == 4; }));
  EXPECT_EQ(first.types, "CZCZCZ");
  EXPECT_EQ(second.types, "");
  postgres_.backends[0]->ready('I');
  ASSERT_TRUE(until([&] { return second.types == "Z"; }));
}

TEST_F(Lease, CarriesAPipelineOfTheExtendedProtocol) {
  serve();
  TestClient& first = client();
  first.requests("PBESPBDES");
  ASSERT_TRUE(until([&] { return first.count('Z') == 2; }));
  EXPECT_EQ(first.types, "12CZ12nCZ");
  EXPECT_EQ(servers(SlotState::Idle), 1u);
}

TEST_F(Lease, WaitsForTheSyncOfAFailedPipeline) {
  serve();
  TestClient& first = client();
  TestClient& second = client();
  postgres_.script = [](Backend& backend, const Message& request) {
    if (request.type == 'P') backend.error("42601");
    if (request.type == 'S') backend.ready('I');
    if (request.type == 'Q') ScriptedPostgres::well_behaved(backend, request);
  };
  first.requests("PBEH");
  ASSERT_TRUE(until([&] { return first.sqlstate() == "42601"; }));
  second.query("SELECT 2");
  settle();
  EXPECT_EQ(second.types, "") << "the server skips everything until the Sync";
  first.requests("S");
  ASSERT_TRUE(until([&] { return second.types == "CZ"; }));
  EXPECT_EQ(first.types, "EZ");
}

TEST_F(Lease, PassesOnNoticesAndParametersAsTheyCome) {
  serve();
  TestClient& first = client();
  postgres_.script = [](Backend& backend, const Message&) {
    backend.error("00000", pg::Severity::Notice);
    Bytes out;
    pg::append_parameter_status(out, "application_name", "x");
    backend.say(out);
    backend.complete("X");
    backend.ready('I');
  };
  first.query("A");
  ASSERT_TRUE(until([&] { return first.count('Z') == 1; }));
  EXPECT_EQ(first.types, "NSCZ");
}

TEST_F(Lease, ServesThoseWhoWaitInTheirOrder) {
  serve();
  TestClient& holder = client();
  holder.query("BEGIN");
  ASSERT_TRUE(until([&] { return holder.status() == 'T'; }));
  std::vector<TestClient*> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(&client());
    waiting.back()->query("W" + std::to_string(i));
    ASSERT_TRUE(until([&] { return pool().clients[3] == static_cast<std::uint32_t>(i + 1); }));
  }
  holder.query("COMMIT");
  ASSERT_TRUE(until([&] { return waiting.back()->count('Z') == 1; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:BEGIN Q:COMMIT Q:W0 Q:W1 Q:W2 Q:W3 Q:W4");
}

TEST_F(Lease, FailsTheQueryAndKeepsTheClientAfterAcquireTimeout) {
  config_.pool.acquire_timeout_us = 300 * kMicrosPerMilli;
  serve();
  TestClient& holder = client();
  TestClient& waits = client();
  holder.query("BEGIN");
  ASSERT_TRUE(until([&] { return holder.status() == 'T'; }));
  waits.requests("PBDES");
  ASSERT_TRUE(until([&] { return waits.count('Z') == 1; }));
  EXPECT_EQ(waits.types, "EZ");
  EXPECT_EQ(waits.sqlstate(), "53300");
  waits.clear();
  holder.query("COMMIT");
  ASSERT_TRUE(until([&] { return holder.status() == 'I'; }));
  waits.query("SELECT 1");
  ASSERT_TRUE(until([&] { return waits.types == "CZ"; }));
}

TEST_F(Lease, LastsAsLongAsTheClientInSessionModeAndIsResetAfterwards) {
  config_.pool.mode = config::PoolMode::Session;
  serve();
  TestClient& first = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  EXPECT_EQ(servers(SlotState::Leased), 1u);
  TestClient& second = client();
  second.query("SELECT 2");
  settle();
  EXPECT_EQ(second.types, "");
  first.requests("X");
  ASSERT_TRUE(until([&] { return second.types == "CZ"; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:SELECT 1 Q:DISCARD ALL Q:SELECT 2");
}

TEST_F(Lease, RefusesATransactionOfSeveralStatementsInStatementMode) {
  config_.pool.mode = config::PoolMode::Statement;
  serve();
  postgres_.script = [](Backend& backend, const Message& request) {
    const bool refused = std::string(request.text().c_str()).starts_with("EXECUTE");
    refused ? backend.error("26000") : backend.complete("SELECT");
    backend.ready('I');
  };
  TestClient& first = client();
  first.query("SELECT 1").query("BEGIN").query("SELECT 2");
  ASSERT_TRUE(until([&] { return first.count('Z') == 3; })) << first.types;
  EXPECT_EQ(first.types, "CZEZCZ");
  EXPECT_EQ(first.sqlstate(), "0A000");
  // In its place PostgreSQL refuses something else: so it fails what that would have failed.
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:SELECT 1 Q:EXECUTE \"carpool: refused\" Q:SELECT 2");
}

TEST_F(Lease, EndsAClientInStatementModeThatIsInATransactionAllTheSame) {
  config_.pool.mode = config::PoolMode::Statement;
  serve();
  postgres_.script = [](Backend& backend, const Message& request) {
    const bool hidden = std::string(request.text().c_str()) == "CALL hidden()";
    backend.complete("CALL");
    backend.ready(hidden ? 'T' : 'I');
  };
  TestClient& first = client();
  first.query("CALL hidden()");
  ASSERT_TRUE(until([&] { return first.ended; }));
  EXPECT_EQ(first.sqlstate(), "0A000");
  ASSERT_TRUE(until([&] { return servers(SlotState::Idle) == 1; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:CALL hidden() Q:ROLLBACK");
}

}  // namespace
}  // namespace carpool::proxy
