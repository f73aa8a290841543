// The promise: whoever looks sees what is so: probes, metrics, status, configuration and log.
#include <gtest/gtest.h>

#include <set>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using nlohmann::json;

PostgresCluster& postgres() {
  return shared_postgres();
}

// The first line of the log with that message, as soon as there is one.
json logged_line(const Carpool& carpool, const std::string& message) {
  json found;
  eventually([&] {
    for (json& line : carpool.log_lines()) {
      if (line.value("msg", "") == message) found = std::move(line);
    }
    return !found.is_null();
  });
  return found;
}

TEST(Observe, TheProbesAnswerOnceItListens) {
  Carpool carpool(postgres(), {});
  for (const char* probe : {"/startupz", "/livez", "/readyz"})
    EXPECT_EQ(carpool.get(probe).status, 200) << probe;
  EXPECT_EQ(carpool.get("/nowhere").status, 404);
}

TEST(Observe, AFullPoolFailsNoProbe) {
  Carpool carpool(postgres(), {.admin = "readyWhen: database", .pool = "size: 1"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection waiter = carpool.connect();
  waiter.send("select 1");
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 1);
  EXPECT_TRUE(throughout(
      [&] { return carpool.get("/livez").status == 200 && carpool.get("/readyz").status == 200; },
      500ms));
  EXPECT_EQ(postgres().backends(), 1) << "the check took a connection of its own";
}

TEST(Observe, EveryMetricLineIsWellFormedAndEveryFamilyIsDescribedOnce) {
  Carpool carpool(postgres(), {});
  Connection client = carpool.connect();
  client.query("select 1");
  client.query("select 1/0");
  const std::string text = carpool.get("/metrics").body;
  std::set<std::string> described;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# TYPE ", 0) == 0) {
      const std::string name = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(described.insert(name).second) << name << " is described twice";
    }
  }
  for (const char* name : {"carpool_pool_size",
                           "carpool_pool_servers",
                           "carpool_pool_clients",
                           "carpool_pool_wait_seconds",
                           "carpool_pool_oldest_waiter_seconds",
                           "carpool_query_seconds",
                           "carpool_transaction_seconds",
                           "carpool_pool_acquire_timeouts_total",
                           "carpool_clients_rejected_total",
                           "carpool_server_connects_total",
                           "carpool_server_connect_errors_total",
                           "carpool_server_connect_seconds",
                           "carpool_errors_total",
                           "carpool_pins_total",
                           "carpool_bytes_total",
                           "carpool_config_info",
                           "carpool_config_last_reload_successful",
                           "carpool_config_last_reload_success_timestamp_seconds",
                           "carpool_credentials_last_reload_successful",
                           "carpool_config_reloads_total",
                           "carpool_build_info",
                           "process_cpu_seconds_total",
                           "process_resident_memory_bytes",
                           "process_open_fds"})
    EXPECT_EQ(described.count(name), 1U) << name;
}

TEST(Observe, PrometheussOwnCheckerAcceptsTheMetrics) {
  Carpool carpool(postgres(), {});
  Connection client = carpool.connect();
  client.query("select 1");
  TempDir dir;
  write_file(dir.path() / "metrics", carpool.get("/metrics").body);
  EXPECT_NO_THROW(run_command(
      {"sh", "-c", "promtool check metrics < '" + (dir.path() / "metrics").string() + "'"}));
}

TEST(Observe, StatusCountsClientsServersAndTheirStates) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  Connection idle = carpool.connect();
  ASSERT_TRUE(idle.query("select 1").ok());
  Connection busy = carpool.connect();
  ASSERT_TRUE(busy.query("begin").ok());
  const json status = carpool.status();
  EXPECT_EQ(status["clients"]["connected"], 2);
  ASSERT_EQ(status["pools"].size(), 1U);
  const json& pool = status["pools"][0];
  EXPECT_EQ(pool["database"], "app");
  EXPECT_EQ(pool["user"], "app");
  EXPECT_EQ(pool["mode"], "transaction");
  EXPECT_EQ(pool["size"], 3);
  EXPECT_EQ(pool["servers"]["leased"], 1);
  EXPECT_EQ(pool["clients"]["idle"], 1);
  EXPECT_EQ(pool["clients"]["attached"], 1);
}

TEST(Observe, DetailedStatusNamesTheBackendBehindEachServer) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  Connection busy = carpool.connect();
  ASSERT_TRUE(busy.query("begin").ok());
  const int pid = busy.backend_pid();
  const json status = json::parse(carpool.get("/status?detailed=1").body);
  ASSERT_EQ(status["serverList"].size(), 1U);
  EXPECT_EQ(status["serverList"][0]["backendPid"], pid);
  EXPECT_EQ(status["serverList"][0]["state"], "leased");
  ASSERT_EQ(status["clientList"].size(), 1U);
  EXPECT_EQ(status["clientList"][0]["state"], "idle_in_transaction");
  EXPECT_EQ(status["serverList"][0]["clientId"], status["clientList"][0]["id"]);
}

TEST(Observe, AClientIsShownUnderTheNameThatItsApplicationGave) {
  Carpool carpool(postgres(), {});
  const auto shown = [&] {
    return json::parse(carpool.get("/status?detailed=1").body)["clientList"][0]["applicationName"]
        .get<std::string>();
  };
  Connection client(carpool.conninfo() + " application_name=worker-3");
  EXPECT_EQ(shown(), "worker-3");
  ASSERT_TRUE(client.query("set application_name to 'night''s job'").ok());
  EXPECT_EQ(shown(), "night's job");
}

TEST(Observe, ASessionThatKeepsItsServerAndRunsNothingIsToldFromALongQuery) {
  Carpool carpool(postgres(), {.pool = "mode: session, size: 1"});
  const auto detailed = [&] { return json::parse(carpool.get("/status?detailed=1").body); };
  Connection idle = carpool.connect();
  ASSERT_TRUE(idle.query("select 1").ok());
  EXPECT_EQ(detailed()["clientList"][0]["state"], "idle_in_session");
  Connection waiter = carpool.connect();
  waiter.send("select 2");
  EVENTUALLY(detailed()["pools"][0].contains("why") &&
             detailed()["pools"][0]["why"]["cause"] == "idle_in_session");
  idle.close();
  EXPECT_TRUE(waiter.wait().ok());
}

TEST(Observe, ConfigShowsWhatIsInForceAndNoSecret) {
  Carpool carpool(postgres(), {.server = "url: 'postgresql://app:hunter2@127.0.0.1:" +
                                         std::to_string(postgres().port()) + "/app'",
                               .pool = "size: 7"});
  const json config = carpool.config();
  EXPECT_EQ(config["effective"]["pool"]["size"], 7);
  EXPECT_EQ(config["lastResult"], "applied");
  EXPECT_EQ(config["source"], carpool.mount().file("carpool.yaml").string());
  EXPECT_EQ(carpool.get("/config").body.find("hunter2"), std::string::npos);
  EXPECT_FALSE(carpool.logged("hunter2"));
}

TEST(Observe, EveryLogLineIsAJsonObject) {
  Carpool carpool(postgres(), {.log = "level: debug, slowQuery: 1ms"});
  Connection client = carpool.connect();
  client.query("select pg_sleep(0.01), 'quoted \" and \\ and \n and \x01'");
  client.query("select 1/0");
  client.close();
  carpool.reload({.pool = "size: 3", .log = "level: debug"});
  std::istringstream lines(carpool.log());
  for (std::string line; std::getline(lines, line);) {
    const json parsed = json::parse(line, nullptr, false);
    ASSERT_TRUE(parsed.is_object()) << line;
    for (const char* key : {"ts", "level", "msg"}) EXPECT_TRUE(parsed.contains(key)) << line;
  }
}

TEST(Observe, ASlowQueryIsLoggedWithItsTimesApartAndItsValuesMasked) {
  Carpool carpool(postgres(), {.pool = "size: 1", .log = "slowQuery: 100ms"});
  Connection holder = carpool.connect();
  ASSERT_TRUE(holder.query("begin").ok());
  Connection client = carpool.connect();
  client.send("select pg_sleep(0.2), 'a secret', 123456789");
  ASSERT_EVENTUALLY(carpool.clients("waiting") == 1);
  std::this_thread::sleep_for(200ms);
  ASSERT_TRUE(holder.query("commit").ok());
  ASSERT_TRUE(client.wait().ok());
  const json line = logged_line(carpool, "slow query");
  ASSERT_FALSE(line.is_null()) << carpool.log();
  EXPECT_GE(line["waited_ms"], 200);
  EXPECT_GE(line["ran_ms"], 190);
  EXPECT_TRUE(line.contains("sent_ms"));
  EXPECT_EQ(line["database"], "app");
  EXPECT_FALSE(carpool.logged("a secret"));
  EXPECT_FALSE(carpool.logged("123456789"));
  EXPECT_NE(line["query"].get<std::string>().find("pg_sleep"), std::string::npos);
}

TEST(Observe, TheFiguresOfEachPoolAreLoggedAtTheirInterval) {
  Carpool carpool(postgres(), {.log = "statsInterval: 1s"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select 1").ok());
  EVENTUALLY(std::ranges::any_of(carpool.log_lines(), [](const json& line) {
    return line.value("database", "") == "app" && line.value("user", "") == "app" &&
           line.value("level", "") == "info" && line.size() > 8;
  }));
}

TEST(Observe, TheControlPortIsOnLoopbackAndRefusesAForeignHost) {
  Carpool carpool(postgres(), {});
  Wire wire = Wire::tcp(carpool.control_port());
  ASSERT_TRUE(
      wire.send("POST /drain HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n"
                "Connection: close\r\n\r\n"));
  EXPECT_NE(wire.read_bytes(12).find("403"), std::string::npos);
  EXPECT_EQ(carpool.get("/readyz").status, 200);
}

TEST(CommandLine, WaitReturnsWhenItIsReadyAndFailsAtItsTimeout) {
  Carpool carpool(postgres(), {});
  const std::string address = "127.0.0.1:" + std::to_string(carpool.admin_port());
  EXPECT_EQ(run_carpool({"wait", "--admin", address, "--timeout", "10s"}).exit_code, 0);
  const RunResult late = run_carpool(
      {"wait", "--admin", "127.0.0.1:" + std::to_string(free_port()), "--timeout", "300ms"});
  EXPECT_EQ(late.exit_code, 1) << late.output;
}

TEST(CommandLine, VersionAndCheckWork) {
  EXPECT_EQ(run_carpool({"version"}).exit_code, 0);
  TempDir dir;
  write_file(dir.path() / "good.yaml", "server: {host: db, database: app}\npool: {size: 5}\n");
  const RunResult good = run_carpool({"check", dir.path() / "good.yaml"});
  EXPECT_EQ(good.exit_code, 0) << good.output;
}

}  // namespace
}  // namespace carpool::integration
