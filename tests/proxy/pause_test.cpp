// PAUSE, RESUME and KILL are about databases: the pools that they have, and those to come.
#include "fixture.h"
#include "proxy/pauses.h"

namespace carpool::proxy {
namespace {

using pool::SlotState;

TEST(Pauses, AWordAboutOneDatabaseHoldsAfterAWordAboutAll) {
  Pauses pauses;
  EXPECT_FALSE(pauses.paused("app"));
  ASSERT_TRUE(pauses.pause("app"));
  EXPECT_TRUE(pauses.paused("app"));
  EXPECT_FALSE(pauses.paused("other"));
  ASSERT_TRUE(pauses.pause(""));
  EXPECT_TRUE(pauses.paused("app"));
  EXPECT_TRUE(pauses.paused("other"));
  ASSERT_TRUE(pauses.resume("app"));
  EXPECT_FALSE(pauses.paused("app"));
  EXPECT_TRUE(pauses.paused("other"));
  ASSERT_TRUE(pauses.pause("app"));
  EXPECT_TRUE(pauses.paused("app"));
  ASSERT_TRUE(pauses.resume(""));
  EXPECT_FALSE(pauses.paused("app"));
  EXPECT_FALSE(pauses.paused("other"));
}

TEST(Pauses, KeepABoundedNumberOfNames) {
  Pauses pauses;
  for (std::size_t i = 0; i < Pauses::kNamesMax; ++i) {
    ASSERT_TRUE(pauses.pause("db" + std::to_string(i)));
  }
  const Status refused = pauses.pause("one more");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "1000 databases are paused by name already: pause all of them first");
  EXPECT_FALSE(pauses.paused("one more"));
  EXPECT_TRUE(pauses.pause("db7")) << "it is paused already";
  EXPECT_TRUE(pauses.resume("db7"));
  EXPECT_TRUE(pauses.pause("one more"));
  pauses.keep([](const std::string& name) { return name == "db8"; });
  EXPECT_EQ(pauses.exceptions(), std::set<std::string>{"db8"});
}

class Pause : public ProxyTest {
 protected:
  TestClient& operate(const std::string& command) {
    TestClient& console = connect().start("pgbouncer");
    EXPECT_TRUE(until([&] { return console.count('Z') == 1; }));
    console.clear();
    return console.query(command);
  }
  void serve() {
    config_.admin.users = {"alice"};
    ProxyTest::serve();
  }
};

TEST_F(Pause, HoldsForAUserWhoWasNotThereBefore) {
  serve();
  ASSERT_TRUE(proxy_->pause("app"));
  TestClient& newcomer = connect().start("app", "bob");
  TestClient& elsewhere = connect().start("other", "bob");
  ASSERT_TRUE(until([&] { return elsewhere.count('Z') == 1; }));
  EXPECT_EQ(newcomer.types, "");
  ASSERT_TRUE(proxy_->resume("app"));
  ASSERT_TRUE(until([&] { return newcomer.count('Z') == 1; }));
}

TEST_F(Pause, OfAllIsOverForADatabaseThatIsResumed) {
  serve();
  ASSERT_TRUE(proxy_->pause(""));
  TestClient& waits = connect().start("other");
  ASSERT_TRUE(proxy_->resume("app"));
  TestClient& goes_on = connect().start("app");
  ASSERT_TRUE(until([&] { return goes_on.count('Z') == 1; }));
  EXPECT_EQ(waits.types, "");
  const pool::Snapshot all = proxy_->snapshot(false);
  EXPECT_TRUE(all.paused);
  EXPECT_EQ(all.resumed_databases, std::vector<std::string>{"app"});
  EXPECT_TRUE(all.is_paused("other"));
  EXPECT_FALSE(all.is_paused("app"));
}

TEST_F(Pause, AtTheConsoleWaitsForTheServersOfWhatIsPausedOnly) {
  config_.pool.size = 2;
  serve();
  TestClient& app = client();
  TestClient& other = connect().start("other");
  ASSERT_TRUE(until([&] { return other.count('Z') == 1; }));
  for (TestClient* each : {&app, &other}) {
    each->clear();
    each->query("BEGIN");
    ASSERT_TRUE(until([&] { return each->status() == 'T'; }));
  }
  TestClient& paused = operate("PAUSE");
  settle();
  EXPECT_EQ(paused.types, "");
  ASSERT_TRUE(proxy_->resume("app"));
  other.query("COMMIT");
  ASSERT_TRUE(until([&] { return paused.types == "CZ"; })) << paused.types;
  EXPECT_EQ(app.status(), 'T') << "which is not paused";
}

TEST_F(Pause, AndKillKnowEachDatabaseOfTheConfigurationAndNoOther) {
  config_.admin.users = {"alice"};
  config_.databases = {{"app", config_.server, config_.pool}};
  proxy_ = std::make_unique<Proxy>(loop_, config_, cgroups_);
  ASSERT_TRUE(proxy_->listen());
  for (const std::string command : {"PAUSE", "RESUME", "KILL", "RECONNECT"}) {
    TestClient& unknown = operate(command + " nosuch");
    ASSERT_TRUE(until([&] { return unknown.types == "EZ"; })) << command;
    EXPECT_EQ(unknown.sqlstate(), "3D000");
    TestClient& known = operate(command + " app");
    ASSERT_TRUE(until([&] { return known.types == "CZ"; })) << command << ", without a pool";
  }
  EXPECT_EQ(proxy_->snapshot(false).paused_databases, std::vector<std::string>{"app"});
  TestClient& newcomer = connect().start("app");
  settle();
  EXPECT_EQ(newcomer.types, "") << "a killed database is paused";
  ASSERT_TRUE(proxy_->resume("app"));
  ASSERT_TRUE(until([&] { return newcomer.count('Z') == 1; }));
}

TEST_F(Pause, OfADatabaseThatIsNoneAnyMoreIsForgotten) {
  config_.databases = {{"app", config_.server, config_.pool},
                       {"old", config_.server, config_.pool}};
  proxy_ = std::make_unique<Proxy>(loop_, config_, cgroups_);
  ASSERT_TRUE(proxy_->listen());
  ASSERT_TRUE(proxy_->pause("old"));
  ASSERT_TRUE(proxy_->pause("app"));
  config_.databases.pop_back();
  EXPECT_TRUE(proxy_->apply(config_));
  EXPECT_EQ(proxy_->snapshot(false).paused_databases, std::vector<std::string>{"app"});
}

TEST_F(Pause, TakesNoNameThatIsNoDatabasesWhereAnyIsMeant) {
  serve();
  EXPECT_TRUE(proxy_->pause(std::string(63, 'x')));
  EXPECT_FALSE(proxy_->pause(std::string(64, 'x')));
  const Status every = proxy_->pause("*");
  ASSERT_FALSE(every) << "it would pause nobody";
  EXPECT_EQ(every.error().message, "`*` is no database's name: name one, or none for all of them");
}

}  // namespace
}  // namespace carpool::proxy
