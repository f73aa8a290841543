// What a lease depends on holds until it ends, whatever the configuration says meanwhile; and what
// cleans its server follows both.
#include "fixture.h"

namespace carpool::proxy {
namespace {

using config::PoolMode;
using pool::SlotState;

class Terms : public ProxyTest {
 protected:
  TestClient& in_a_transaction() {
    TestClient& open = client();
    open.query("BEGIN");
    EXPECT_TRUE(until([&] { return open.status() == 'T'; }));
    open.clear();
    return open;
  }
  static TestClient& parse(TestClient& client, std::string_view sql) {
    Bytes body;
    append_cstring(body, sql);
    append_u16(body, 0);
    Bytes out;
    pg::append_parse(out, "", body);
    client.say(out);
    return client;
  }
  void expect_asked(const std::string& requests) {
    EXPECT_TRUE(until([&] { return postgres_.backends[0]->asked() == requests; }))
        << postgres_.backends[0]->asked();
    EXPECT_TRUE(until([&] { return servers(SlotState::Idle) == 1; }));
    EXPECT_EQ(postgres_.greeted(), 1u) << "it was cleaned, not replaced";
  }
};

TEST_F(Terms, ATransactionGoesOnWhenTheModeBecomesStatement) {
  serve();
  TestClient& first = in_a_transaction();
  change([](config::Pool& pool) { pool.mode = PoolMode::Statement; });
  first.query("INSERT").query("COMMIT");
  ASSERT_TRUE(until([&] { return first.types == "CZCZ"; })) << first.types;
  EXPECT_EQ(first.status(), 'I');
  first.clear();
  first.query("BEGIN");
  ASSERT_TRUE(until([&] { return first.types == "EZ"; })) << first.types;
  EXPECT_EQ(first.sqlstate(), "0A000");
}

TEST_F(Terms, AServerThatServedTransactionsIsResetBeforeItServesSessions) {
  serve();
  TestClient& first = in_a_transaction();
  change([](config::Pool& pool) { pool.mode = PoolMode::Session; });
  first.query("COMMIT");
  expect_asked("Q:BEGIN Q:COMMIT Q:DISCARD ALL");
}

TEST_F(Terms, AClientThatSetsSomethingIsPinnedByEitherProtocol) {
  config_.pool.session_state = config::SessionState::Pin;
  config_.pool.size = 4;
  serve();
  TestClient& simple = client();
  TestClient& extended = client();
  TestClient& plain = client();
  simple.query("SET app.x TO 'a'");
  parse(extended, "SET app.x TO 'a'").requests("BES");
  parse(plain, "SELECT current_setting('app.x')").requests("BES");
  ASSERT_TRUE(until([&] { return simple.count('Z') + extended.count('Z') == 2; }));
  ASSERT_TRUE(until([&] { return plain.count('Z') == 1; }));
  EXPECT_EQ(clients(pool::ClientState::Attached), 2u);
  EXPECT_EQ(clients(pool::ClientState::Idle), 1u);
}

TEST_F(Terms, ATextTooLongToKeepIsRefusedByEitherProtocol) {
  config_.pool.session_state = config::SessionState::Refuse;
  serve();
  TestClient& first = client();
  const std::string text = "SELECT '" + std::string(2u << 20, 'x') + "'";
  first.query(text);
  ASSERT_TRUE(until([&] { return first.types == "EZ"; })) << first.types;
  EXPECT_EQ(first.sqlstate(), "0A000");
  first.clear();
  parse(first, text).requests("BES");
  ASSERT_TRUE(until([&] { return first.types == "EZ"; })) << first.types;
  EXPECT_EQ(first.sqlstate(), "0A000");
  settle();
  EXPECT_EQ(servers(SlotState::Idle), 1u);
  expect_still_serving();
}

TEST_F(Terms, AnIdleServerIsResetWhenItsPoolBeginsToServeSessions) {
  serve();
  TestClient& first = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  change([](config::Pool& pool) { pool.mode = PoolMode::Session; });
  TestClient& second = connect().start();
  second.query("SELECT 2");
  ASSERT_TRUE(until([&] { return second.count('C') == 1; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:SELECT 1 Q:DISCARD ALL Q:SELECT 2");
}

TEST_F(Terms, AServerThatNobodyHasUsedNeedsNoReset) {
  serve();
  client();
  change([](config::Pool& pool) { pool.mode = PoolMode::Session; });
  settle();
  EXPECT_EQ(postgres_.backends[0]->asked(), "");
}

TEST_F(Terms, AResetQueryThatGetsAValueRunsBehindTheLeaseThatBeganWithout) {
  config_.pool.mode = PoolMode::Session;
  config_.pool.reset_query = "";
  serve();
  TestClient& first = in_a_transaction();
  change([](config::Pool& pool) { pool.reset_query = "DISCARD ALL"; });
  first.query("COMMIT");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  first.vanish();
  expect_asked("Q:BEGIN Q:COMMIT Q:DISCARD ALL");
}

TEST_F(Terms, AResetQueryThatGetsAValueRunsOnServersThatIdle) {
  config_.pool.mode = PoolMode::Session;
  config_.pool.reset_query = "";
  serve();
  TestClient& first = client();
  first.query("SELECT 1").requests("X");
  expect_asked("Q:SELECT 1 f");
  change([](config::Pool& pool) { pool.reset_query = "SELECT clean()"; });
  expect_asked("Q:SELECT 1 f Q:SELECT clean()");
  change([](config::Pool& pool) { pool.size = 2; });
  settle();
  expect_asked("Q:SELECT 1 f Q:SELECT clean()");
}

TEST_F(Terms, ASessionKeepsItsServerAndItsResetWhenTheModeBecomesTransaction) {
  config_.pool.mode = PoolMode::Session;
  serve();
  TestClient& first = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  change([](config::Pool& pool) { pool.mode = PoolMode::Transaction; });
  first.query("SELECT 2");
  ASSERT_TRUE(until([&] { return first.types == "CZCZ"; }));
  EXPECT_EQ(servers(SlotState::Leased), 1u);
  first.requests("X");
  expect_asked("Q:SELECT 1 Q:SELECT 2 Q:DISCARD ALL");
}

TEST_F(Terms, AResetQueryThatIsTakenAwayStillRunsBehindTheLeaseThatBeganWithIt) {
  config_.pool.mode = PoolMode::Session;
  serve();
  TestClient& first = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  change([](config::Pool& pool) { pool.reset_query = ""; });
  first.requests("X");
  expect_asked("Q:SELECT 1 Q:DISCARD ALL");
}

TEST_F(Terms, AnIdleTransactionTimeoutIsForTheTransactionsToCome) {
  config_.pool.size = 2;
  serve();
  TestClient& before = in_a_transaction();
  change([](config::Pool& pool) { pool.idle_transaction_timeout_us = 1; });
  TestClient& after = in_a_transaction();
  ASSERT_TRUE(until([&] { return after.ended; }));
  EXPECT_EQ(after.sqlstate(), "25P03");
  before.query("COMMIT");
  ASSERT_TRUE(until([&] { return before.types == "CZ"; })) << before.types;
}

TEST_F(Terms, AQueryTimeoutIsForTheTransactionsToComeOfASessionThatGoesOn) {
  config_.pool.mode = PoolMode::Session;
  config_.pool.size = 2;
  serve();
  TestClient& before = client();
  TestClient& after = client();
  for (TestClient* each : {&before, &after}) {
    each->query("SELECT 1");
    ASSERT_TRUE(until([&] { return each->types == "CZ"; }));
  }
  postgres_.script = [](Backend&, const Message&) {};
  before.query("SELECT pg_sleep(600)");
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->requests.size() == 2; }));
  change([](config::Pool& pool) { pool.query_timeout_us = 1; });
  after.query("SELECT pg_sleep(600)");
  ASSERT_TRUE(until([&] { return postgres_.cancels().size() == 1; }));
  EXPECT_EQ(postgres_.cancels()[0]->cancel_pid, postgres_.backends[1]->pid);
}

}  // namespace
}  // namespace carpool::proxy
