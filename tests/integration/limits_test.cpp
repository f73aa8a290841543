// The promise: every limit has an answer, to whoever can act on it, and nothing that is asked too
// much for, set wrongly or missing takes anybody else down.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

TEST(Limits, PastClientsMaxANewcomerIsTurnedAwayAndTheOthersStay) {
  Carpool carpool(postgres(), {.listen = "clientsMax: 3"});
  std::vector<Connection> clients;
  for (int i = 0; i < 3; i++) {
    clients.push_back(carpool.connect());
    ASSERT_TRUE(clients.back().query("select 1").ok());
  }
  Wire newcomer = carpool.raw();
  newcomer.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  const std::vector<Message> answer = newcomer.read_until("E");
  const Message* error = find(answer, 'E');
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(error->sqlstate(), "53300");
  EXPECT_EQ(error->field('V'), "FATAL");
  EXPECT_NE(error->field('M').find("clientsMax") + error->field('H').find("clientsMax"),
            std::string::npos);
  EXPECT_TRUE(newcomer.ended());
  EXPECT_EQ(carpool.metric("carpool_clients_rejected_total", {{"reason", "clients_max"}}), 1);
  for (Connection& client : clients) EXPECT_TRUE(client.query("select 1").ok());
  clients.pop_back();
  EVENTUALLY(carpool.connect().connected());
}

TEST(Limits, ACancelIsHeardEvenAtClientsMax) {
  Carpool carpool(postgres(), {.listen = "clientsMax: 1"});
  Connection client = carpool.connect();
  client.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%'") == 1);
  client.cancel();
  EXPECT_EQ(client.wait().sqlstate, "57014");
}

TEST(Limits, QueryTimeoutEndsTheQueryAndTheClientStays) {
  Carpool carpool(postgres(), {.pool = "size: 1, queryTimeout: 200ms"});
  Connection client = carpool.connect();
  const int pid = client.backend_pid();
  const Reply reply = client.query("select pg_sleep(600)");
  EXPECT_EQ(reply.sqlstate, "57014") << reply.message;
  EXPECT_EQ(client.query("select 1").value(), "1");
  EXPECT_EQ(client.backend_pid(), pid);
  EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%' and state = 'active'") == 0);
}

TEST(Limits, QueryTimeoutInsideATransactionLeavesItFailed) {
  Carpool carpool(postgres(), {.pool = "size: 1, queryTimeout: 200ms"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  EXPECT_EQ(client.query("select pg_sleep(600)").sqlstate, "57014");
  EXPECT_EQ(client.transaction_status(), PQTRANS_INERROR);
  EXPECT_TRUE(client.query("rollback").ok());
  EXPECT_EQ(client.query("select 1").value(), "1");
}

TEST(Limits, IdleTransactionTimeoutFreesTheServerAndSaysWhy) {
  postgres().connect().query("drop table if exists ledger; create table ledger (entry int)");
  Carpool carpool(postgres(), {.pool = "size: 1, idleTransactionTimeout: 200ms"});
  Wire forgetful = carpool.raw();
  ASSERT_TRUE(forgetful.sign_in());
  forgetful.query("begin");
  forgetful.query("insert into ledger values (1)");
  Connection waiter = carpool.connect();
  EXPECT_EQ(waiter.query("select count(*) from ledger").value(), "0");
  // Told at once or at the next query; with or without the connection.
  forgetful.send(query_message("commit"));
  const std::vector<Message> answer = forgetful.read_until("EZ");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "25P03");
}

TEST(Limits, IdleTransactionTimeoutDoesNotTouchABusyTransaction) {
  Carpool carpool(postgres(), {.pool = "size: 1, idleTransactionTimeout: 200ms"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  EXPECT_TRUE(client.query("select pg_sleep(0.6)").ok());
  EXPECT_TRUE(client.query("commit").ok());
}

TEST(Limits, StatementTimeoutIsPostgressOwn) {
  Carpool carpool(postgres(), {.pool = "size: 1, statementTimeout: 250ms"});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query("show statement_timeout").value(), "250ms");
  EXPECT_EQ(client.query("select pg_sleep(600)").sqlstate, "57014");
  EXPECT_EQ(client.query("select 1").value(), "1");
}

TEST(Limits, WithoutFileDescriptorsItStopsAcceptingAndGoesOnWhenThereAreSome) {
  constexpr unsigned kFiles = 64;
  Carpool carpool(postgres(), {.pool = "size: 2, minIdle: 2"}, {.open_files_max = kFiles});
  Connection early = carpool.connect();
  ASSERT_TRUE(early.query("select 1").ok());
  ASSERT_EVENTUALLY(carpool.servers("idle") == 2);
  std::vector<Wire> crowd;
  for (int i = 0; i < 150; i++) {
    crowd.push_back(carpool.raw());
    crowd.back().send(startup_packet({{"user", "app"}, {"database", "app"}}));
  }
  EVENTUALLY(open_files(carpool.pid()) >= kFiles - 8);
  for (int i = 0; i < 20; i++) EXPECT_TRUE(early.query("select 1").ok()) << early.error();
  EXPECT_TRUE(carpool.running());
  const std::string while_full = carpool.log();
  // It neither spins nor fills the log: each time that it has to stop is said once.
  EXPECT_LT(std::count(while_full.begin(), while_full.end(), '\n'), 400);
  EXPECT_TRUE(carpool.logged("no descriptors left"));
  const auto stops = [&] {
    int count = 0;
    for (const nlohmann::json& line : carpool.log_lines()) {
      if (line.dump().find("no descriptors left") != std::string::npos) count++;
    }
    return count;
  };
  EXPECT_LE(stops(), 20);
  crowd.clear();
  EVENTUALLY(open_files(carpool.pid()) < kFiles - 8);
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
  EXPECT_EQ(carpool.status()["clients"]["acceptPaused"], stops());
}

TEST(Limits, APortInUseIsAClearErrorAndExitCodeOne) {
  Carpool first(postgres(), {});
  TempDir dir;
  const std::string path = dir.path() / "carpool.yaml";
  write_file(path, "listen: {port: " + std::to_string(first.port()) +
                       "}\nadmin: {port: " + std::to_string(free_port()) + ", controlPort: " +
                       std::to_string(free_port()) + "}\nserver: {host: 127.0.0.1}\n");
  const RunResult result = run_carpool({"run", "--config", path});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find(std::to_string(first.port())), std::string::npos) << result.output;
  EXPECT_TRUE(first.connect().query("select 1").ok());
}

TEST(Limits, AnAdminPortInUseIsAClearErrorAndExitCodeOne) {
  Carpool first(postgres(), {});
  TempDir dir;
  const std::string path = dir.path() / "carpool.yaml";
  write_file(path, "listen: {port: " + std::to_string(free_port()) +
                       "}\nadmin: {port: " + std::to_string(first.admin_port()) +
                       ", controlPort: " + std::to_string(free_port()) +
                       "}\nserver: {host: 127.0.0.1}\n");
  const RunResult result = run_carpool({"run", "--config", path});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find(std::to_string(first.admin_port())), std::string::npos)
      << result.output;
}

// A start with this file must fail with exit code 78 and name each of these.
void expect_bad_config(const std::string& yaml, const std::vector<std::string>& named) {
  TempDir dir;
  const std::string path = dir.path() / "carpool.yaml";
  write_file(path, yaml);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"run", "--config", path}, {"check", path}}) {
    const RunResult result = run_carpool(command);
    EXPECT_EQ(result.exit_code, 78) << command[0] << " of\n" << yaml << result.output;
    for (const std::string& text : named)
      EXPECT_NE(result.output.find(text), std::string::npos)
          << command[0] << " does not name " << text << ":\n"
          << result.output;
  }
}

TEST(Limits, ABadConfigurationAtStartListsEveryMistakeWithItsPlace) {
  expect_bad_config("server: {host: db}\npool:\n  size: 0\n  siez: 5\n  idleTimeout: 5 parsecs\n",
                    {"3:9", "4:3", "5:16", "pool.size", "siez", "size", "parsecs"});
}

TEST(Limits, ImpossibleValuesAtStartAreTurnedDown) {
  expect_bad_config("server: {host: db}\npool: {size: -1}\n", {"pool.size"});
  expect_bad_config("server: {host: db}\npool: {size: 2, minIdle: 3}\n", {"minIdle"});
  expect_bad_config("server: {host: db}\nlisten: {port: 99999}\n", {"listen.port"});
  expect_bad_config("server: {host: db}\nlisten: [1, 2]\n", {"listen"});
  expect_bad_config("server: {host: db\n", {""});
  expect_bad_config("server: {host: db}\npool:\n  size: ${NO_SUCH_VARIABLE}\n",
                    {"NO_SUCH_VARIABLE"});
}

TEST(Limits, TrustOnAnAddressThatIsNotLoopbackIsRefusedAtStart) {
  expect_bad_config("listen: {address: 0.0.0.0}\nserver: {host: db}\n", {"trust", "0.0.0.0"});
}

TEST(Limits, AMissingFileAtStartIsAnError) {
  const RunResult result = run_carpool({"run", "--config", "/nonexistent/carpool.yaml"});
  EXPECT_EQ(result.exit_code, 78);
  EXPECT_NE(result.output.find("/nonexistent/carpool.yaml"), std::string::npos) << result.output;
}

TEST(Limits, AnUnknownOptionIsExitCodeTwo) {
  EXPECT_EQ(run_carpool({"run", "--no-such-option"}).exit_code, 2);
  EXPECT_EQ(run_carpool({"fly"}).exit_code, 2);
}

TEST(Limits, WithoutAFileTheEnvironmentIsEnough) {
  const std::string url =
      "postgresql://app@127.0.0.1:" + std::to_string(postgres().port()) + "/app";
  TempDir dir;
  // The default ports: where something else holds them, the clear error is what counts.
  bool taken = false;
  for (const int port : {6432, 9930, 9931}) taken = taken || Wire::tcp(port).connected();
  Process process({.argv = {carpool_binary(), "run"},
                   .env = {{"DATABASE_URL", url}},
                   .output_file = dir.path() / "log",
                   .user = ""});
  if (taken) {
    EXPECT_EQ(process.wait(), 1);
    EXPECT_NE(read_file(dir.path() / "log").find("in use"), std::string::npos);
    return;
  }
  ASSERT_EVENTUALLY(!process.running() || Wire::tcp(6432).connected());
  ASSERT_TRUE(process.running()) << read_file(dir.path() / "log");
  Connection client("host=127.0.0.1 port=6432 user=app dbname=app");
  EXPECT_EQ(client.query("select 1").value(), "1");
  client.close();
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 0);
}

TEST(Limits, AnUnreadablePasswordFileIsSaidSoAndServesOnceItIsThere) {
  Carpool carpool(postgres(),
                  {.server = "host: 127.0.0.1, port: " + std::to_string(postgres().port()) +
                             ", user: scram_user, passwordFile: '{mount}/password'",
                   .pool = "acquireTimeout: 500ms"});
  Wire client = carpool.raw();
  client.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  std::vector<Message> answer = client.read_until("EZ");
  if (find(answer, 'Z') != nullptr) answer = client.query("select 1");
  EXPECT_NE(find(answer, 'E'), nullptr);
  EVENTUALLY(carpool.logged("/password"));
  carpool.mount().swap({{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))},
                        {"password", std::string(kPassword) + "\n"}});
  EVENTUALLY(carpool.connect().query("select current_user").value() == "scram_user");
}

TEST(Limits, SecretsThatCannotBeReadAtStartAreNamedAndExitCode78) {
  TempDir dir;
  const std::string folder = dir.path() / "folder";
  std::filesystem::create_directory(folder);
  const auto run = [&](const std::string& more) {
    const std::string path = dir.path() / "carpool.yaml";
    write_file(path, "admin: {port: " + std::to_string(free_port()) + ", controlPort: " +
                         std::to_string(free_port()) + "}\nserver: {host: 127.0.0.1}\n" + more);
    return run_carpool({"run", "--config", path});
  };
  const std::string port = "port: " + std::to_string(free_port());
  for (const std::string& missing : {folder, (dir.path() / "missing").string()}) {
    const RunResult users =
        run("listen: {" + port + "}\nauth: {mode: scram-sha-256, usersFile: '" + missing + "'}\n");
    EXPECT_EQ(users.exit_code, 78) << users.output;
    EXPECT_NE(users.output.find(missing), std::string::npos) << users.output;
    const RunResult tls = run("listen: {" + port + ", tls: {mode: allow, certFile: '" + missing +
                              "', keyFile: '" + missing + "'}}\n");
    EXPECT_EQ(tls.exit_code, 78) << tls.output;
    EXPECT_NE(tls.output.find(missing), std::string::npos) << tls.output;
  }
}

TEST(Limits, AThousandClientsThatComeAndGoLeaveNothingBehind) {
  Carpool carpool(postgres(), {.pool = "size: 4"});
  ASSERT_TRUE(carpool.connect().query("select 1").ok());
  EVENTUALLY(carpool.clients() == 0);
  const std::size_t files = open_files(carpool.pid());
  for (int round = 0; round < 1000; round++) {
    Wire client = carpool.raw();
    ASSERT_TRUE(client.connected());
    if (round % 4 == 0) continue;  // gone before it said a word
    client.send(startup_packet({{"user", "app"}, {"database", "app"}}));
    if (round % 4 == 1) continue;  // gone while it signs in
    client.read_until("Z");
    client.send(query_message("select 1"));
    if (round % 4 == 2) client.reset();
  }
  EVENTUALLY(carpool.clients() == 0);
  // The admin server keeps a connection or two of ours alive.
  EVENTUALLY(open_files(carpool.pid()) <= files + 4 + 3);
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
}

// A BEGIN never fails without a pooler, and what stands behind it relies on it.
TEST(AClientThatGetsNoServer, FailsInAllThatItHadSent) {
  shared_postgres().connect().query("drop table if exists unserved; create table unserved(t text)");
  Carpool carpool(shared_postgres(), {.pool = "size: 1, acquireTimeout: 300ms"});
  const auto batch = [](const std::string& sql) {
    return parse_message("", sql) + bind_message("", "") + execute_message("") + sync_message();
  };
  const std::string large = "insert into unserved values ('" + std::string(300'000, 'x') + "')";
  const std::vector<std::pair<std::string, int>> all = {
      {query_message("begin") + query_message("insert into unserved values ('x')") +
           query_message("commit"),
       3},
      {batch("begin") + batch("insert into unserved values ('x')") + batch("commit"), 3},
      {query_message("begin") + batch(large) + query_message(large) + query_message("commit"), 4},
  };
  Wire holder = carpool.raw();
  ASSERT_TRUE(holder.sign_in());
  for (const auto& [bytes, requests] : all) {
    holder.query("begin");
    Wire wire = carpool.raw();
    ASSERT_TRUE(wire.sign_in());
    std::thread sender([&wire, &bytes = bytes] { wire.send(bytes); });
    const std::vector<Message> first = wire.read_until("Z");
    holder.query("commit");
    EXPECT_EQ(sqlstate_of(first), "53300");
    for (int i = 1; i < requests; ++i) {
      const std::vector<Message> next = wire.read_until("Z");
      EXPECT_EQ(types(next), "EZ");
      EXPECT_EQ(sqlstate_of(next), "53300");
    }
    sender.join();
    EXPECT_EQ(value_of(wire.query("select count(*) from unserved")), "0") << "it is served again";
  }
}

TEST(AClientThatGetsNoServer, HoldsUpNobodyHoweverMuchItSends) {
  Carpool carpool(shared_postgres(), {.pool = "size: 1, acquireTimeout: 300ms"});
  Wire holder = carpool.raw();
  ASSERT_TRUE(holder.sign_in());
  holder.query("begin");
  Wire wire = carpool.raw();
  ASSERT_TRUE(wire.sign_in());
  std::string many;
  for (int i = 0; i < 4000; ++i) many += parse_message("", "select 1");
  std::atomic<bool> over = false;
  std::thread sender([&] {
    while (!over && wire.send(many)) {
    }
  });
  EVENTUALLY(carpool.metric("carpool_pool_acquire_timeouts_total") == 1);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(value_of(holder.query("select 'mine'")), "mine");
  over = true;
  wire.shutdown();
  sender.join();
}

}  // namespace
}  // namespace carpool::integration
