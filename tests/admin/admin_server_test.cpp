#include "admin/admin_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>

#include "sample.h"

namespace carpool::admin {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(server_, nullptr); }

  httplib::Client read_only() { return httplib::Client("127.0.0.1", server_->port()); }
  httplib::Client control() { return httplib::Client("127.0.0.1", server_->control_port()); }
  int status_of(const std::string& path) {
    auto answer = read_only().Get(path);
    return answer ? answer->status : -1;
  }

  SampleProxy proxy_;
  std::unique_ptr<AdminServer> server_ = start_sample(proxy_);
};

TEST_F(AdminServerTest, IsStartedAliveAndReady) {
  EXPECT_EQ(status_of("/startupz"), 200);
  EXPECT_EQ(status_of("/livez"), 200);
  EXPECT_EQ(status_of("/readyz"), 200);
}

TEST_F(AdminServerTest, IsAliveButNotReadyWhileDraining) {
  proxy_.change([](Readiness& readiness, auto&, auto&) { readiness.draining = true; });
  EXPECT_EQ(status_of("/livez"), 200);
  EXPECT_EQ(status_of("/startupz"), 200);
  auto answer = read_only().Get("/readyz");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 503);
  EXPECT_EQ(json::parse(answer->body)["error"], "draining");
}

TEST_F(AdminServerTest, ADatabaseThatIsDownMattersOnlyWhereItIsRequired) {
  proxy_.change([](Readiness& readiness, auto&, auto&) { readiness.detail = "refused"; });
  EXPECT_EQ(status_of("/readyz"), 200);
  proxy_.change([](Readiness& readiness, auto&, auto&) { readiness.database_required = true; });
  auto answer = read_only().Get("/readyz");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 503);
  EXPECT_THAT(answer->body, HasSubstr("refused"));
  EXPECT_EQ(status_of("/livez"), 200);
  proxy_.change([](Readiness& readiness, auto&, auto&) { readiness.database_ok = true; });
  EXPECT_EQ(status_of("/readyz"), 200);
}

TEST_F(AdminServerTest, IsNotStartedBeforeTheProxySaysSo) {
  proxy_.change([](Readiness& readiness, auto&, auto&) { readiness.started = false; });
  EXPECT_EQ(status_of("/startupz"), 503);
  EXPECT_EQ(status_of("/readyz"), 503);
  EXPECT_EQ(status_of("/livez"), 200);
}

TEST_F(AdminServerTest, EverythingThatNeedsTheLoopIs503WhenTheLoopHangs) {
  proxy_.hang();
  for (const char* path : {"/startupz", "/livez", "/readyz", "/metrics", "/status", "/config"}) {
    auto answer = read_only().Get(path);
    ASSERT_TRUE(answer) << path;
    EXPECT_EQ(answer->status, 503) << path;
    EXPECT_FALSE(json::parse(answer->body)["error"].get<std::string>().empty()) << path;
  }
  EXPECT_EQ(status_of("/"), 200);
  auto drain = control().Post("/drain");
  ASSERT_TRUE(drain);
  EXPECT_EQ(drain->status, 503);
}

TEST_F(AdminServerTest, ServesMetricsInPrometheusTextFormat) {
  auto answer = read_only().Get("/metrics", {{"Accept-Encoding", "gzip, br"}});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_THAT(answer->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
  EXPECT_FALSE(answer->has_header("Content-Encoding"));
  EXPECT_THAT(answer->body, HasSubstr("carpool_pool_size{database=\"app\",user=\"app\"} 10"));
}

TEST_F(AdminServerTest, StatusCanBeAskedForOneDatabase) {
  auto answer = read_only().Get("/status?database=jobs");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  const json status = json::parse(answer->body);
  ASSERT_EQ(status["pools"].size(), 1u);
  EXPECT_EQ(status["pools"][0]["database"], "jobs");
}

TEST_F(AdminServerTest, StatusOfAnUnknownDatabaseIs404) {
  auto answer = read_only().Get("/status?database=nosuch");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 404);
  EXPECT_THAT(json::parse(answer->body)["error"].get<std::string>(), HasSubstr("nosuch"));
}

TEST_F(AdminServerTest, StatusListsClientsAndServersOnlyWhenAskedInDetail) {
  proxy_.change([](auto&, pool::Snapshot& snapshot, auto&) { add_lists(snapshot); });
  auto brief = read_only().Get("/status");
  auto detailed = read_only().Get("/status?detailed=1&database=app");
  ASSERT_TRUE(brief && detailed);
  EXPECT_FALSE(json::parse(brief->body).contains("clientList"));
  const json status = json::parse(detailed->body);
  EXPECT_EQ(status["clientList"][0]["applicationName"], "worker-3");
  EXPECT_EQ(status["serverList"][0]["backendPid"], 4242);
}

TEST_F(AdminServerTest, ConfigSaysWhatWasRejectedAndWhatWaitsForARestart) {
  auto answer = read_only().Get("/config");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  const json config = json::parse(answer->body);
  EXPECT_EQ(config["lastResult"], "rejected");
  EXPECT_EQ(config["needsRestart"], json::array({"listen.port"}));
  EXPECT_EQ(config["effective"]["pool"]["size"], 10);
  EXPECT_EQ(config["reloads"]["unchanged"], 4);
}

TEST_F(AdminServerTest, AnUnknownPathIs404AndAWrongMethod405) {
  auto missing = read_only().Get("/nosuch");
  ASSERT_TRUE(missing);
  EXPECT_EQ(missing->status, 404);
  EXPECT_THAT(json::parse(missing->body)["error"].get<std::string>(), HasSubstr("/nosuch"));
  auto wrong = read_only().Post("/status");
  ASSERT_TRUE(wrong);
  EXPECT_EQ(wrong->status, 405);
  EXPECT_EQ(wrong->get_header_value("Allow"), "GET, HEAD");
  auto also_wrong = control().Get("/drain");
  ASSERT_TRUE(also_wrong);
  EXPECT_EQ(also_wrong->status, 405);
  EXPECT_EQ(also_wrong->get_header_value("Allow"), "POST");
}

TEST_F(AdminServerTest, AControlCallOnTheReadOnlyPortIs403AndDoesNothing) {
  for (const char* path : {"/drain", "/quitquitquit", "/pause", "/resume", "/reconnect"}) {
    auto answer = read_only().Post(path);
    ASSERT_TRUE(answer) << path;
    EXPECT_EQ(answer->status, 403) << path;
    EXPECT_TRUE(json::parse(answer->body).contains("error")) << path;
  }
  EXPECT_TRUE(proxy_.controls().empty());
}

TEST_F(AdminServerTest, ControlCallsReachTheLoop) {
  EXPECT_EQ(control().Post("/drain")->status, 200);
  EXPECT_EQ(control().Post("/quitquitquit")->status, 200);
  EXPECT_EQ(control().Post("/pause?database=app")->status, 200);
  EXPECT_EQ(control().Post("/resume?database=app%20two")->status, 200);
  auto last = control().Post("/reconnect");
  EXPECT_EQ(json::parse(last->body)["done"], "as you wish");
  EXPECT_THAT(
      proxy_.controls(),
      ElementsAre(Pair(Control::Drain, ""), Pair(Control::Quit, ""), Pair(Control::Pause, "app"),
                  Pair(Control::Resume, "app two"), Pair(Control::Reconnect, "")));
}

TEST_F(AdminServerTest, AControlCallThatTheLoopRefusesIs409WithItsReason) {
  auto answer = control().Post("/pause?database=nosuch");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 409);
  EXPECT_EQ(json::parse(answer->body)["error"], "there is no database nosuch");
}

TEST_F(AdminServerTest, TheControlPortServesTheProbesToo) {
  EXPECT_EQ(control().Get("/livez")->status, 200);
  EXPECT_EQ(control().Get("/status")->status, 200);
}

TEST_F(AdminServerTest, TheControlPortRefusesAForeignHostOrOrigin) {
  for (const httplib::Headers& headers :
       {httplib::Headers{{"Host", "evil.example"}}, httplib::Headers{{"Host", "evil.example:9931"}},
        httplib::Headers{{"Host", "localhost.evil.example"}},
        httplib::Headers{{"Host", "127.0.0.1.evil.example"}},
        httplib::Headers{{"Host", "128.0.0.1"}}, httplib::Headers{{"Host", "10.0.0.1:9931"}},
        httplib::Headers{{"Host", "::1"}}, httplib::Headers{{"Host", "[127.0.0.1]"}},
        httplib::Headers{{"Host", "[::2]:9931"}},
        httplib::Headers{{"Origin", "http://evil.example"}}, httplib::Headers{{"Origin", "null"}},
        httplib::Headers{{"Origin", "http://[::1]evil"}}}) {
    auto answer = control().Post("/drain", headers, "", "text/plain");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 403) << headers.begin()->second;
    auto get = control().Get("/status", headers);
    ASSERT_TRUE(get);
    EXPECT_EQ(get->status, 403) << headers.begin()->second;
  }
  EXPECT_TRUE(proxy_.controls().empty());
}

TEST_F(AdminServerTest, TheControlPortAcceptsEveryNameOfThisMachine) {
  for (const httplib::Headers& headers :
       {httplib::Headers{{"Host", "localhost"}}, httplib::Headers{{"Host", "localhost:1"}},
        httplib::Headers{{"Host", "127.0.0.1:9931"}}, httplib::Headers{{"Host", "[::1]:9931"}},
        httplib::Headers{{"Host", "[::1]"}}, httplib::Headers{{"Host", "127.0.0.2:9931"}},
        httplib::Headers{{"Host", "127.255.3.4"}},
        httplib::Headers{{"Host", "[::ffff:127.0.0.2]:1"}},
        httplib::Headers{{"Origin", "http://localhost:9930"}}}) {
    auto answer = control().Post("/resume", headers, "", "text/plain");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200) << headers.begin()->second;
  }
}

TEST_F(AdminServerTest, HeadAnswersWithoutABody) {
  auto answer = read_only().Head("/livez");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_TRUE(answer->body.empty());
}

TEST(AdminServer, RefusesAControlAddressThatOthersCanReach) {
  SampleProxy proxy;
  Options options;
  options.address = "127.0.0.1";
  options.port = 0;
  options.control_address = "0.0.0.0";
  options.control_port = 0;
  auto server = AdminServer::start(options, proxy.source());
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message, HasSubstr("loopback"));
}

TEST(AdminServer, IsControlledOnAnyLoopbackAddress) {
  for (const char* address : {"127.0.0.1", "127.0.0.2", "127.8.9.10"}) {
    SampleProxy proxy;
    Options options;
    options.address = "127.0.0.1";
    options.port = 0;
    options.control_address = address;
    options.control_port = 0;
    auto server = AdminServer::start(options, proxy.source());
    ASSERT_TRUE(server) << server.error().message;
    // With the Host that a client makes of the address.
    auto answer = httplib::Client(address, (*server)->control_port()).Post("/resume");
    ASSERT_TRUE(answer) << address;
    EXPECT_EQ(answer->status, 200) << address;
  }
}

TEST(AdminServer, SaysWhichPortIsInUse) {
  SampleProxy proxy;
  auto first = start_sample(proxy);
  ASSERT_NE(first, nullptr);
  Options options;
  options.address = "127.0.0.1";
  options.port = first->port();
  options.control_port = 0;
  auto second = AdminServer::start(options, proxy.source());
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("127.0.0.1:" + std::to_string(first->port())));
  EXPECT_THAT(second.error().message, HasSubstr("in use"));
}

}  // namespace
}  // namespace carpool::admin
