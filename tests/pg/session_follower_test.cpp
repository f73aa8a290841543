#include "pg/session_follower.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "pg/sql_scan.h"

namespace carpool::pg {
namespace {

class SessionFollowerTest : public testing::Test {
 protected:
  // One simple Query that succeeds and leaves the session in this transaction status.
  void run(std::string_view sql, char status) {
    for (const SessionEffect& effect : scan(sql).effects) session_.apply(effect);
    session_.on_ready(status);
  }
  // One whose last statement fails.
  void run_failing(std::string_view sql, char status) {
    for (const SessionEffect& effect : scan(sql).effects) session_.apply(effect);
    session_.on_error();
    session_.on_ready(status);
  }
  std::string value(std::string_view name) const {
    const std::string* sql = session_.current() ? session_.current()->find(name) : nullptr;
    return sql == nullptr ? "" : *sql;
  }
  void report(std::string_view name, std::string_view text) {
    if (!session_.expects(name, text, defaults_)) session_.learn(name, text, defaults_);
  }
  StatePtr start(std::vector<Parameter> parameters) { return table_.make(std::move(parameters)); }

  StateTable table_;
  SessionFollower session_{table_, nullptr};
  ReportedValues defaults_;
};

TEST_F(SessionFollowerTest, HasNothingAtTheStart) {
  EXPECT_EQ(session_.current(), nullptr);
  EXPECT_EQ(session_.committed(), nullptr);
  EXPECT_FALSE(session_.lost());
}

TEST_F(SessionFollowerTest, FollowsASetOutsideATransactionAtOnce) {
  run("SET a TO 1", 'I');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
  EXPECT_EQ(session_.committed(), session_.current());
  run("RESET a", 'I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, FollowsASetInATransactionFromItsCommitOn) {
  run("BEGIN", 'T');
  run("SET a TO 1", 'T');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
  EXPECT_EQ(session_.committed(), nullptr);
  run("COMMIT", 'I');
  EXPECT_EQ(session_.committed(), session_.current());
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
}

TEST_F(SessionFollowerTest, ForgetsASetThatWasRolledBack) {
  run("SET a TO 0", 'I');
  run("BEGIN", 'T');
  run("SET a TO 1; SET b TO 2", 'T');
  run("ROLLBACK", 'I');
  EXPECT_EQ(value("a"), "SET \"a\" TO 0");
  EXPECT_EQ(value("b"), "");
}

TEST_F(SessionFollowerTest, ForgetsASetWhoseTransactionFailedBeforeItsCommit) {
  run("BEGIN; SET a TO 1", 'T');
  run_failing("SELECT 1/0", 'E');
  EXPECT_EQ(value("a"), "");  // PostgreSQL takes it back at the error
  run("COMMIT", 'I');         // which answers ROLLBACK
  EXPECT_EQ(value("a"), "");
}

TEST_F(SessionFollowerTest, ForgetsASetWhoseCommitFails) {
  run("BEGIN; SET a TO 1", 'T');
  session_.on_error();  // a deferred constraint, say
  session_.on_ready('I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, ForgetsASetOfAQueryThatFailsLater) {
  run_failing("SET a TO 1; SELECT 1/0", 'I');
  EXPECT_EQ(value("a"), "");
}

TEST_F(SessionFollowerTest, KeepsWhatACommitInsideTheQueryHasSaved) {
  run_failing("BEGIN; SET a TO 1; COMMIT; SET b TO 1; SELECT 1/0", 'I');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
  EXPECT_EQ(value("b"), "");
}

TEST_F(SessionFollowerTest, CountsWhatStoodBeforeBeginInTheSameQueryToTheTransaction) {
  run("SET a TO 1; BEGIN; SET b TO 1", 'T');
  run("ROLLBACK", 'I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, GoesBackToASavepoint) {
  run("BEGIN; SET a TO 1; SAVEPOINT s; SET a TO 2; SET b TO 2", 'T');
  run("ROLLBACK TO s", 'T');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
  EXPECT_EQ(value("b"), "");
  run("SET b TO 3; ROLLBACK TO s; SET c TO 3; COMMIT", 'I');
  EXPECT_EQ(value("b"), "");
  EXPECT_EQ(value("c"), "SET \"c\" TO 3");
}

TEST_F(SessionFollowerTest, GoesBackToTheInnerOfTwoSavepointsOfOneName) {
  run("BEGIN; SET a TO 1; SAVEPOINT s; SET a TO 2; SAVEPOINT s; SET a TO 3", 'T');
  run("ROLLBACK TO s", 'T');
  EXPECT_EQ(value("a"), "SET \"a\" TO 2");
  run("RELEASE s; ROLLBACK TO s", 'T');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
}

TEST_F(SessionFollowerTest, RecoversFromAnErrorByRollingBackToASavepoint) {
  run("BEGIN; SET a TO 1; SAVEPOINT s; SET a TO 2", 'T');
  run_failing("SELECT 1/0", 'E');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
  run("ROLLBACK TO s", 'T');
  run("COMMIT", 'I');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
}

TEST_F(SessionFollowerTest, KeepsASetOfAReleasedSavepoint) {
  run("BEGIN; SAVEPOINT s; SET a TO 1; RELEASE s; COMMIT", 'I');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
}

TEST_F(SessionFollowerTest, BeginsAnewWithAndChain) {
  run("BEGIN; SET a TO 1; COMMIT AND CHAIN; SET b TO 1", 'T');
  run("ROLLBACK AND CHAIN", 'T');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
  EXPECT_EQ(value("b"), "");
  run("SET b TO 2; ROLLBACK", 'I');
  EXPECT_EQ(value("b"), "");
}

TEST_F(SessionFollowerTest, KeepsSettingsOverPrepareTransaction) {
  run("BEGIN; SET a TO 1; PREPARE TRANSACTION 'x'", 'I');
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");
}

TEST_F(SessionFollowerTest, DoesNotFollowSetLocal) {
  run("BEGIN; SET LOCAL a TO 1; COMMIT", 'I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, BelievesTheReadyForQueryWhereNoStatementSaidBegin) {
  session_.on_ready('T');  // a procedure or a text that was not scanned
  run("SET a TO 1", 'T');
  EXPECT_EQ(session_.committed(), nullptr);
  run_failing("SELECT 1/0", 'E');
  session_.on_ready('I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, ResetsToTheClientsOwnStartupPacket) {
  const StatePtr initial = start({{"application_name", "SET \"application_name\" TO 'app'"}});
  session_ = SessionFollower(table_, initial);
  EXPECT_EQ(session_.current(), initial);
  run("SET application_name TO 'x'; SET a TO 1", 'I');
  run("RESET application_name", 'I');
  EXPECT_EQ(value("application_name"), "SET \"application_name\" TO 'app'");
  run("SET application_name TO 'y'; RESET ALL", 'I');
  EXPECT_EQ(session_.current(), initial);
  run("SET application_name TO 'y'; DISCARD ALL", 'I');
  EXPECT_EQ(session_.current(), initial);
}

TEST_F(SessionFollowerTest, KeepsTheRoleOverResetAllButNotOverDiscardAll) {
  run("SET ROLE alice; SET a TO 1", 'I');
  run("RESET ALL", 'I');
  EXPECT_EQ(value("role"), "SET ROLE 'alice'");
  EXPECT_EQ(value("a"), "");
  run("DISCARD ALL", 'I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, LosesTheRoleWithTheSessionsUser) {
  run("SET ROLE alice; SET SESSION AUTHORIZATION bob", 'I');
  EXPECT_EQ(value("role"), "");
  run("SET ROLE alice; RESET SESSION AUTHORIZATION", 'I');
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, LearnsFromAParameterStatusWhatAFunctionHasSet) {
  defaults_.set("TimeZone", "UTC");
  report("TimeZone", "Europe/Berlin");
  EXPECT_EQ(value("timezone"), "SET \"timezone\" TO 'Europe/Berlin'");
  report("TimeZone", "UTC");
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, TakesTheServersWordForHowAValueIsSpelled) {
  defaults_.set("DateStyle", "ISO, MDY");
  for (const SessionEffect& effect : scan("SET datestyle TO german").effects) {
    session_.apply(effect);
  }
  report("DateStyle", "German, DMY");
  session_.on_ready('I');
  EXPECT_EQ(value("datestyle"), "SET \"datestyle\" TO 'German, DMY'");
  EXPECT_TRUE(session_.expects("DateStyle", "German, DMY", defaults_));
  EXPECT_FALSE(session_.expects("DateStyle", "ISO, MDY", defaults_));
}

TEST_F(SessionFollowerTest, TakesTheServersWordForATextThatMeansSomethingElseElsewhere) {
  // The server had 'ISO, DMY' when the client said "iso", and so reports no change.
  ReportedValues now;
  now.set("DateStyle", "ISO, DMY");
  for (const SessionEffect& effect : scan("SET datestyle TO iso").effects) session_.apply(effect);
  session_.settle(now);
  session_.on_ready('I');
  EXPECT_EQ(value("datestyle"), "SET \"datestyle\" TO 'ISO, DMY'");
}

TEST_F(SessionFollowerTest, SettlesNothingThatWasTakenBackOrIsNotReported) {
  ReportedValues now;
  now.set("TimeZone", "UTC");
  const StatePtr tokyo = start({{"timezone", "SET \"timezone\" TO 'Asia/Tokyo'"}});
  session_ = SessionFollower(table_, tokyo);
  for (const SessionEffect& effect :
       scan("SET timezone TO 'Europe/Berlin'; RESET timezone; SET a TO 1").effects) {
    session_.apply(effect);
  }
  session_.settle(now);
  session_.on_ready('I');
  EXPECT_EQ(value("timezone"), "SET \"timezone\" TO 'Asia/Tokyo'");
  EXPECT_EQ(value("a"), "SET \"a\" TO 1");

  // Even where what was set is the client's own default, which the server does not have.
  for (const SessionEffect& effect : scan("SET timezone TO 'Asia/Tokyo'; RESET timezone").effects) {
    session_.apply(effect);
  }
  session_.settle(now);
  session_.on_ready('I');
  EXPECT_EQ(value("timezone"), "SET \"timezone\" TO 'Asia/Tokyo'");
}

TEST_F(SessionFollowerTest, ForgetsALocalValueThatWasReportedOnceTheServerTakesItBack) {
  defaults_.set("TimeZone", "UTC");
  run("BEGIN; SET LOCAL timezone TO 'Asia/Tokyo'", 'T');
  report("TimeZone", "Asia/Tokyo");
  EXPECT_EQ(value("timezone"), "SET \"timezone\" TO 'Asia/Tokyo'");
  for (const SessionEffect& effect : scan("COMMIT").effects) session_.apply(effect);
  report("TimeZone", "UTC");
  session_.on_ready('I');
  EXPECT_EQ(session_.current(), nullptr);
  EXPECT_EQ(session_.committed(), nullptr);
}

TEST_F(SessionFollowerTest, ExpectsTheReportThatFollowsARollback) {
  defaults_.set("TimeZone", "UTC");
  run("BEGIN; SET timezone TO 'Asia/Tokyo'", 'T');
  report("TimeZone", "Asia/Tokyo");
  for (const SessionEffect& effect : scan("ROLLBACK").effects) session_.apply(effect);
  EXPECT_TRUE(session_.expects("TimeZone", "UTC", defaults_));
}

TEST_F(SessionFollowerTest, KeepsTheClientsOwnDefaultWhereTheServerResetsToItsOwn) {
  // The client's startup packet said Tokyo; RESET makes it Tokyo again, though the server, which
  // knows nothing of that packet, reports UTC.
  defaults_.set("TimeZone", "UTC");
  const StatePtr tokyo = start({{"timezone", "SET \"timezone\" TO 'Asia/Tokyo'"}});
  SessionFollower client(table_, tokyo);
  SessionFollower& server = session_;
  server.replayed(tokyo);
  for (SessionFollower* each : {&client, &server}) {
    for (const SessionEffect& effect : scan("RESET timezone").effects) each->apply(effect);
  }
  ASSERT_TRUE(server.expects("TimeZone", "UTC", defaults_));
  client.on_ready('I');
  server.on_ready('I');
  EXPECT_EQ(client.current(), tokyo);
  EXPECT_EQ(server.current(), nullptr);
  EXPECT_EQ(replay(server.current(), client.current()).size(), 1u);
}

TEST_F(SessionFollowerTest, LearnsNothingFromWhatNoSessionCanSet) {
  report("is_superuser", "on");
  report("server_version", "15.1");
  report("in_hot_standby", "off");
  EXPECT_EQ(session_.current(), nullptr);
}

TEST_F(SessionFollowerTest, SaysSoWhenItHasLostTrack) {
  for (std::size_t i = 0; i <= kSessionParametersMax; ++i) {
    EXPECT_FALSE(session_.lost());
    run("SET my.a" + std::to_string(i) + " TO 1", 'I');
  }
  EXPECT_TRUE(session_.lost());
  run("DISCARD ALL", 'I');
  EXPECT_FALSE(session_.lost());

  session_.on_ready('T');
  const Scan savepoint = scan("SAVEPOINT s");
  for (std::size_t i = 0; i < kSavepointsMax; ++i) session_.apply(savepoint.effects[0]);
  EXPECT_FALSE(session_.lost());
  session_.apply(savepoint.effects[0]);
  EXPECT_TRUE(session_.lost());
}

TEST_F(SessionFollowerTest, AgreesWithAModelThatKeepsACopyForEachSavepoint) {
  using Values = std::map<std::string, std::string>;
  std::mt19937 random(20240104);
  Values current;
  Values committed;
  std::vector<std::pair<std::string, Values>> savepoints;
  bool block = false;
  bool failed = false;
  const auto effect = [&](SessionEffect::Kind kind, std::string name = {}, std::string sql = {}) {
    session_.apply({.kind = kind, .name = std::move(name), .sql = std::move(sql)});
  };
  using Kind = SessionEffect::Kind;
  for (int step = 0; step < 50'000; ++step) {
    const std::string name(1, static_cast<char>('a' + random() % 3));
    const unsigned choice = random() % 12;
    if (failed && choice != 0 && choice != 1 && choice != 5) continue;
    switch (choice) {
      case 0:
        if (!block) break;
        effect(Kind::Commit);
        if (failed) current = committed;
        committed = current;
        block = failed = false;
        savepoints.clear();
        break;
      case 1:
        if (!block) break;
        effect(Kind::Rollback);
        current = committed;
        block = failed = false;
        savepoints.clear();
        break;
      case 2:
        effect(Kind::Begin);
        block = true;
        break;
      case 3:
      case 4:
        if (!block) break;
        effect(Kind::Savepoint, name);
        savepoints.emplace_back(name, current);
        break;
      case 5:
      case 6: {
        auto at = savepoints.rbegin();
        while (at != savepoints.rend() && at->first != name) ++at;
        if (at == savepoints.rend()) break;
        if (choice == 5) {
          effect(Kind::RollbackTo, name);
          current = at->second;
          savepoints.erase(at.base(), savepoints.end());
          failed = false;
        } else {
          effect(Kind::Release, name);
          savepoints.erase(at.base() - 1, savepoints.end());
        }
        break;
      }
      case 7:
        effect(Kind::Reset, name);
        current.erase(name);
        break;
      case 8:
        session_.on_error();
        if (block) failed = true;
        current = savepoints.empty() ? committed : savepoints.back().second;
        break;
      default: {
        const std::string sql = "SET " + name + " TO " + std::to_string(random() % 4);
        effect(Kind::Set, name, sql);
        current[name] = sql;
      }
    }
    session_.on_ready(failed ? 'E' : block ? 'T' : 'I');
    if (!block) committed = current;
    std::vector<Parameter> expected;
    for (const auto& [key, sql] : current) expected.push_back({key, sql});
    ASSERT_EQ(session_.current(), table_.make(expected)) << "step " << step;
    if (savepoints.size() > 200) {
      effect(Kind::Rollback);
      current = committed;
      savepoints.clear();
      block = failed = false;
    }
  }
}

TEST_F(SessionFollowerTest, KeepsWhatItBeganWithUnlessItHasGivenAnother) {
  run("SET datestyle TO 'SQL'", 'I');
  session_.keep("datestyle", "ISO, MDY");
  session_.keep("timezone", "UTC");
  EXPECT_EQ(value("datestyle"), "SET \"datestyle\" TO 'SQL'");
  EXPECT_EQ(value("timezone"), "SET \"timezone\" TO 'UTC'");
  EXPECT_EQ(session_.committed(), session_.current());
  run("RESET datestyle; SET timezone TO 'Asia/Tokyo'", 'I');
  EXPECT_EQ(value("datestyle"), "SET \"datestyle\" TO 'ISO, MDY'");
  run("DISCARD ALL", 'I');
  EXPECT_EQ(value("timezone"), "SET \"timezone\" TO 'UTC'");
}

TEST_F(SessionFollowerTest, SaysSoWhenTheEncodingOfAValueIsNotTheSessionsAnyMore) {
  run("SET NAMES 'LATIN1'; SET my.a TO '\xe9'; SET NAMES 'latin-1'", 'I');
  EXPECT_FALSE(session_.lost());
  run("BEGIN", 'T');
  run("RESET client_encoding", 'T');
  EXPECT_TRUE(session_.lost());
  run("ROLLBACK", 'I');
  run("DISCARD ALL", 'I');
  EXPECT_FALSE(session_.lost());
  // By a function, and for a transaction.
  run("SET my.a TO '\xe9'", 'I');
  report("client_encoding", "WIN1251");
  EXPECT_TRUE(session_.lost());
  run("DISCARD ALL", 'I');
  run("SET my.a TO 'plain'; SET NAMES 'WIN1251'", 'I');
  EXPECT_FALSE(session_.lost());
}

}  // namespace
}  // namespace carpool::pg
