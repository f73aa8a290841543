// The commands against a real AdminServer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "../../admin/sample.h"
#include "cli/compare.h"
#include "cli/drain.h"
#include "cli/status.h"
#include "cli/wait.h"

namespace carpool::cli {
namespace {

using admin::Control;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(server_, nullptr); }

  std::string admin() const { return "127.0.0.1:" + std::to_string(server_->port()); }
  std::string control() const { return "127.0.0.1:" + std::to_string(server_->control_port()); }
  int status(StatusOptions options) {
    out_.str("");
    err_.str("");
    options.admin = admin();
    return run_status(options, out_, err_);
  }
  int check(std::uint32_t leased) {
    proxy_.change([&](auto&, pool::Snapshot& snapshot, auto&) {
      snapshot.pools[0] = admin::sample_pool("app", leased);
    });
    StatusOptions options;
    options.form = StatusForm::Check;
    return status(options);
  }

  admin::SampleProxy proxy_;
  std::unique_ptr<admin::AdminServer> server_ = admin::start_sample(proxy_);
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(CliTest, StatusIsATableWithALineAPool) {
  EXPECT_EQ(status({}), 0);
  EXPECT_THAT(out_.str(), StartsWith("DATABASE  USER  MODE"));
  EXPECT_THAT(out_.str(), HasSubstr("app       app   transaction     4/10       3  30"));
  EXPECT_THAT(out_.str(), HasSubstr("2 pools, 63 of 1000 clients, up 60 min, carpool 1.2.3"));
  EXPECT_THAT(err_.str(), IsEmpty());
}

TEST_F(CliTest, StatusOfOneDatabaseLeavesTheOthersOut) {
  StatusOptions options;
  options.database = "jobs";
  EXPECT_EQ(status(options), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("\njobs "), Not(HasSubstr("\napp "))));
  options.database = "no such";
  EXPECT_EQ(status(options), 3);
  EXPECT_THAT(err_.str(), HasSubstr("there is no pool of no such"));
}

TEST_F(CliTest, StatusAsJsonIsWhatTheServerSays) {
  StatusOptions options;
  options.form = StatusForm::Json;
  EXPECT_EQ(status(options), 0);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["pools"][1]["database"], "jobs");
}

TEST_F(CliTest, StatusInDetailListsClientsAndServers) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) { admin::add_lists(snapshot); });
  StatusOptions options;
  options.detailed = true;
  EXPECT_EQ(status(options), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("worker-3"), HasSubstr("SELECT * FROM orders"),
                                HasSubstr("10.0.0.5:5432"), HasSubstr("4242")));
}

TEST_F(CliTest, StatusSaysWhyClientsWait) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) {
    snapshot.pools[0].clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 2;
    snapshot.pools[0].connecting_fails = true;
    snapshot.pools[0].servers = {};
    snapshot.pools[0].last_connect_error = "refused\033[2J";
  });
  EXPECT_EQ(status({}), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("2 clients of app/app wait"), HasSubstr("refused?[2J"),
                                HasSubstr("critical, cannot connect")));
}

TEST_F(CliTest, StatusBeforeTheFirstClientSaysThatThereIsNoPool) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) { snapshot.pools.clear(); });
  EXPECT_EQ(status({}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("no pool yet"));
}

TEST_F(CliTest, CheckEndsAsNagiosCounts) {
  EXPECT_EQ(check(7), 0);
  EXPECT_EQ(
      out_.str(),
      "CARPOOL OK - app/app at 70%, 0 waiting | 'app/app'=70%;80;95;0 'jobs/app'=0%;80;95;0\n");
  EXPECT_EQ(check(8), 1);
  EXPECT_THAT(out_.str(), StartsWith("CARPOOL WARNING - app/app at 80%"));
  EXPECT_EQ(check(10), 2);
  EXPECT_THAT(out_.str(), StartsWith("CARPOOL CRITICAL - "));
  proxy_.hang();
  EXPECT_EQ(check(1), 3);
  EXPECT_THAT(out_.str(), StartsWith("CARPOOL UNKNOWN - the proxy's loop did not answer"));
}

TEST_F(CliTest, CheckOfOneDatabaseIsNotTroubledByAnother) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) {
    snapshot.pools[0] = admin::sample_pool("app", 10);
  });
  StatusOptions options;
  options.form = StatusForm::Check;
  options.database = "jobs";
  EXPECT_EQ(status(options), 0);
  EXPECT_THAT(out_.str(), StartsWith("CARPOOL OK - jobs/app"));
}

TEST_F(CliTest, WatchingAsksAgainAndAgain) {
  StatusOptions options;
  options.form = StatusForm::Check;
  options.watch_seconds = 0.001;
  options.rounds_max = 3;
  EXPECT_EQ(status(options), 0);
  const std::string said = out_.str();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 3);
}

TEST_F(CliTest, TopShowsWhoHoldsWhichBackendLongestFirst) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) {
    admin::add_lists(snapshot);
    pool::ClientSnapshot client = snapshot.client_list[0];
    client.id = 8;
    client.application_name = "older";
    client.in_state_us = 60 * kMicrosPerSecond;
    snapshot.client_list.push_back(client);
    client.state = "idle";
    client.application_name = "sleeper";
    snapshot.client_list.push_back(client);
  });
  StatusOptions options;
  options.form = StatusForm::Top;
  EXPECT_EQ(status(options), 0);
  const std::string said = out_.str();
  EXPECT_LT(said.find("older"), said.find("worker-3"));
  EXPECT_THAT(said, AllOf(HasSubstr("4242"), Not(HasSubstr("sleeper"))));
  options.all = true;
  options.rows_max = 1;
  EXPECT_EQ(status(options), 0);
  EXPECT_THAT(out_.str(), HasSubstr("and 2 more"));
}

TEST_F(CliTest, WhatIsNotCarpoolIsNamedSo) {
  httplib::Server other;
  other.Get("/status", [](const httplib::Request&, httplib::Response& out) {
    out.set_content(R"({"pools":[{"database":7}]})", "application/json");
  });
  const int port = other.bind_to_any_port("127.0.0.1");
  std::thread serving([&] { other.listen_after_bind(); });
  StatusOptions options;
  options.admin = "127.0.0.1:" + std::to_string(port);
  EXPECT_EQ(run_status(options, out_, err_), 3);
  EXPECT_THAT(err_.str(), HasSubstr("is not carpool"));
  other.stop();
  serving.join();
}

TEST_F(CliTest, WaitEndsOnceItHasStarted) {
  proxy_.change([](admin::Readiness& readiness, auto&, auto&) { readiness.started = false; });
  std::thread starts([this] {
    proxy_.change([](admin::Readiness& readiness, auto&, auto&) { readiness.started = true; });
  });
  WaitOptions options;
  options.admin = admin();
  options.pause_us = 1000;
  EXPECT_EQ(run_wait(options, err_), 0);
  starts.join();
}

TEST_F(CliTest, WaitForReadinessGivesUpWithTheReason) {
  proxy_.change([](admin::Readiness& readiness, auto&, auto&) { readiness.draining = true; });
  WaitOptions options;
  options.admin = admin();
  options.timeout_us = 1;
  EXPECT_EQ(run_wait(options, err_), 0);
  options.ready = true;
  EXPECT_EQ(run_wait(options, err_), 1);
  EXPECT_THAT(err_.str(), HasSubstr("draining"));
}

TEST_F(CliTest, ControlCallsReachTheControlPort) {
  ControlOptions options;
  options.control = control();
  EXPECT_EQ(run_control(options, out_, err_), 0);
  EXPECT_EQ(out_.str(), "as you wish\n");
  options.call = "pause";
  options.database = "a&b";
  EXPECT_EQ(run_control(options, out_, err_), 0);
  EXPECT_THAT(proxy_.controls(),
              ElementsAre(Pair(Control::Drain, ""), Pair(Control::Pause, "a&b")));
}

TEST_F(CliTest, AControlCallThatIsRefusedIs1WithTheReason) {
  ControlOptions options;
  options.control = control();
  options.call = "pause";
  options.database = "nosuch";
  EXPECT_EQ(run_control(options, out_, err_), 1);
  EXPECT_THAT(err_.str(), HasSubstr("there is no database nosuch"));
  options.control = admin();
  EXPECT_EQ(run_control(options, out_, err_), 1);
  EXPECT_THAT(err_.str(), HasSubstr("control port only"));
}

TEST_F(CliTest, CompareTellsWhatAppliesLiveAndWhatWaitsForARestart) {
  const config::Environment nothing = [](const std::string&) { return std::nullopt; };
  const auto loaded = config::load_text("server: {host: db}\npool: {size: 10}\n", nothing);
  ASSERT_TRUE(loaded.config);
  proxy_.change([&](auto&, auto&, admin::ConfigView& view) {
    view.effective_json = config::masked_json(*loaded.config);
  });
  const std::string file = ::testing::TempDir() + "compare.yaml";
  const auto compare = [&](const std::string& yaml) {
    std::ofstream(file) << yaml;
    out_.str("");
    return run_compare(file, nothing, admin(), out_, err_);
  };
  EXPECT_EQ(compare("pool: {size: 10}\nserver: {host: db}\n"), 0);
  EXPECT_THAT(out_.str(), HasSubstr("no difference"));
  EXPECT_EQ(compare("server: {host: db}\npool: {size: 12}\nadmin: {port: 9940}\n"), 0);
  EXPECT_THAT(out_.str(), ::testing::ContainsRegex("pool.size +10 +12 +applies live"));
  EXPECT_THAT(out_.str(), ::testing::ContainsRegex("admin.port +9930 +9940 +waits for a restart"));
  EXPECT_THAT(out_.str(), ::testing::Not(HasSubstr("rejected")));
  // What comes live would meet the port that stays.
  EXPECT_EQ(compare("server: {host: db}\nadmin: {port: 9940}\nlisten: {port: 9930}\n"), 0);
  EXPECT_THAT(out_.str(), HasSubstr("it would be rejected, and nothing of it applied"));
  EXPECT_THAT(out_.str(), HasSubstr("listen.port: cannot come without `admin.port` (9930)"));
  EXPECT_THAT(out_.str(), ::testing::Not(HasSubstr("applies live")));
}

TEST_F(CliTest, CompareTellsWhatWouldChangeForEachPoolThatExists) {
  const config::Environment nothing = [](const std::string&) { return std::nullopt; };
  const std::string running = "server: {host: db}\ndatabases:\n- {name: app}\n- {name: \"*\"}\n";
  const auto loaded = config::load_text(running, nothing);
  ASSERT_TRUE(loaded.config);
  proxy_.change([&](auto&, auto&, admin::ConfigView& view) {
    view.effective_json = config::masked_json(*loaded.config);
  });
  const std::string file = ::testing::TempDir() + "compare_pools.yaml";
  std::ofstream(file) << "server: {host: db}\ndatabases:\n- {name: \"*\", pool: {mode: session}}\n"
                         "- {name: app}\n";
  EXPECT_EQ(run_compare(file, nothing, admin(), out_, err_), 0);
  EXPECT_THAT(out_.str(),
              ::testing::ContainsRegex("databases +.\"app\",\"\\*\". +.\"\\*\",\"app\"."));
  EXPECT_THAT(out_.str(),
              ::testing::ContainsRegex("app .app. +databases +\"app\" +\"\\*\" +goes by"));
  EXPECT_THAT(out_.str(), ::testing::ContainsRegex(
                              "app .app. +pool.mode +\"transaction\" +\"session\" +applies live, "
                              "from the next lease"));
}

TEST_F(CliTest, APauseIsAWarningAlsoWhereThereIsNoPool) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) {
    snapshot.pools.clear();
    snapshot.paused_databases = {"later"};
  });
  StatusOptions options;
  options.form = StatusForm::Check;
  EXPECT_EQ(status(options), 1);
  EXPECT_EQ(out_.str(), "CARPOOL WARNING - paused: later\n");
  options.database = "later";
  EXPECT_EQ(status(options), 1);
  options.database = "other";
  EXPECT_EQ(status(options), 3) << "there is no pool of it";
  options.database.clear();
  options.form = StatusForm::Table;
  EXPECT_EQ(status(options), 0);
  EXPECT_THAT(out_.str(), HasSubstr(", paused: later\n"));
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) {
    snapshot.paused = true;
    snapshot.paused_databases.clear();
    snapshot.resumed_databases = {"app", "b", "c", "d", "e", "f"};
  });
  options.form = StatusForm::Check;
  EXPECT_EQ(status(options), 1);
  EXPECT_EQ(out_.str(), "CARPOOL WARNING - all paused but app, b, c, d, e and 1 more\n");
}

TEST(Compare, ADatabaseThatComesOrGoesIsOneLine) {
  const std::string one = R"({"databases":[{"name":"a","pool":{"size":1,"mode":"session"}}]})";
  const std::string two =
      R"({"databases":[{"name":"a","pool":{"size":2,"mode":"session"}},{"name":"b","pool":{"size":1,"mode":"session"}}]})";
  EXPECT_THAT(differences(one, two),
              ElementsAre(Difference{"databases[a].pool.size", "1", "2", true},
                          Difference{"databases[b]", "", "there", true}));
  EXPECT_THAT(differences(two, one),
              ElementsAre(Difference{"databases[a].pool.size", "2", "1", true},
                          Difference{"databases[b]", "there", "", true}));
  EXPECT_THAT(differences(two, two), IsEmpty());
}

TEST(Compare, WhatADatabaseInheritsIsNotRepeated) {
  const auto with = [](int size, int of_a) {
    return nlohmann::json{{"pool", {{"size", size}}},
                          {"databases",
                           {{{"name", "a"}, {"pool", {{"size", of_a}}}},
                            {{"name", "b"}, {"pool", {{"size", size}}}}}}}
        .dump();
  };
  EXPECT_THAT(differences(with(5, 5), with(7, 6)),
              UnorderedElementsAre(Difference{"pool.size", "5", "7", true},
                                   Difference{"databases[a].pool.size", "5", "6", true}));
}

}  // namespace
}  // namespace carpool::cli
