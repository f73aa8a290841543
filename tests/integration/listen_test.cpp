// The promise: where clients connect may change while Carpool runs, whole or not at all; who is
// connected stays, nobody is refused in between, and no mixture of old and new opens a door.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string as_app() {
  return "host: 127.0.0.1, user: app, port: " + std::to_string(postgres().port());
}

// The configuration with another listening address, port, or both; 0 leaves the port.
std::string listening(const Carpool& carpool, const Settings& settings, const std::string& address,
                      int port = 0) {
  std::string yaml = carpool.render(settings);
  const std::string before = "address: 127.0.0.1, port: " + std::to_string(carpool.port());
  const std::string after =
      "address: " + address + ", port: " + std::to_string(port == 0 ? carpool.port() : port);
  yaml.replace(yaml.find(before), before.size(), after);
  return yaml;
}

Connection connect_to(const std::string& address, int port) {
  return Connection("host=" + address + " port=" + std::to_string(port) + " user=app dbname=app");
}

std::string errors(const Carpool& carpool) {
  return carpool.config()["errors"].dump();
}

TEST(ListeningPort, MovesWhileClientsStay) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  const int pid = client.backend_pid();
  const int port = free_port();
  carpool.swap_text(listening(carpool, {.pool = "size: 4"}, "127.0.0.1", port));
  EVENTUALLY(connect_to("127.0.0.1", port).connected());
  EXPECT_FALSE(carpool.connect().connected()) << "the old one is given up";
  EXPECT_EQ(client.backend_pid(), pid);
  EXPECT_EQ(client.query("commit").tag, "COMMIT");
  const nlohmann::json config = carpool.config();
  EXPECT_EQ(config["effective"]["listen"]["port"], port);
  EXPECT_EQ(config["needsRestart"].dump(), "[]");
  EXPECT_NE(config["applied"].dump().find("listen.port"), std::string::npos);
}

// One socket takes over from the other: nobody is refused meanwhile.
TEST(ListeningAddress, WidensAndNarrowsUnderClientsThatComeAndGo) {
  const Settings settings{.auth = "mode: passthrough", .server = as_app()};
  postgres().admin("create role comes login password 'secret'");
  postgres().prepend_hba("host all comes 127.0.0.1/32 scram-sha-256");
  Carpool carpool(settings);
  const std::string conninfo = carpool.conninfo("comes") + " password=secret";
  std::atomic<bool> done = false;
  std::atomic<int> connected = 0;
  std::atomic<int> failed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) {
    threads.emplace_back([&] {
      while (!done) (Connection(conninfo).query("select 1").ok() ? connected : failed)++;
    });
  }
  for (const std::string address : {"0.0.0.0", "127.0.0.1", "0.0.0.0", "127.0.0.1"}) {
    const int before = connected;
    carpool.swap_text(listening(carpool, settings, address));
    EVENTUALLY(carpool.config()["effective"]["listen"]["address"] == address);
    EVENTUALLY(connected > before);
    // The former socket goes at the end of the turn in which /config tells of the new one.
    EVENTUALLY((connect_to("127.0.0.2", carpool.port()).error().find("refused") ==
                std::string::npos) == (address == "0.0.0.0"));
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

// Somebody else's port: a change that cannot come is rejected whole, and comes once it can.
TEST(ListeningPort, ThatIsTakenRejectsTheChangeWholeUntilItIsFree) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(address.sin_port);
  carpool.swap_text(listening(carpool, {.pool = "size: 4"}, "127.0.0.1", port));
  EVENTUALLY(errors(carpool).find("cannot listen on 127.0.0.1:" + std::to_string(port)) !=
             std::string::npos);
  EXPECT_EQ(carpool.config()["effective"]["pool"]["size"], 3) << "nothing of it is in force";
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
  ::close(fd);
  carpool.signal(SIGHUP);
  EVENTUALLY(connect_to("127.0.0.1", port).connected());
  EXPECT_EQ(carpool.config()["effective"]["pool"]["size"], 4);
  EXPECT_EQ(errors(carpool), "[]");
}

TEST(ListeningPort, SwappedWithPostgresqlsOwnIsRejectedAndCarpoolNeverConnectsToItself) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  Connection client = carpool.connect();
  const Settings swapped{.server = "host: 127.0.0.1, port: " + std::to_string(carpool.port()),
                         .pool = "size: 4"};
  carpool.swap_text(listening(carpool, swapped, "127.0.0.1", postgres().port()));
  EVENTUALLY(errors(carpool).find("cannot listen on") != std::string::npos);
  EXPECT_TRUE(client.query("select 1").ok());
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
  EXPECT_EQ(carpool.config()["effective"]["pool"]["size"], 3);
}

// An admin port stays until the next start, so that no listening port can come there.
TEST(AMixtureOfOldAndNew, ThatNoFileCouldBeIsRejectedAndSaysWhichKeysItIs) {
  Carpool carpool(postgres(), {.pool = "size: 3"});
  std::string yaml = listening(carpool, {.pool = "size: 4"}, "127.0.0.1", carpool.admin_port());
  const std::string admin = "port: " + std::to_string(carpool.admin_port()) + ", controlPort";
  yaml.replace(yaml.find(admin), admin.size(),
               "port: " + std::to_string(carpool.port()) + ", controlPort");
  carpool.swap_text(yaml);
  EVENTUALLY(errors(carpool).find("listen.port: cannot come without `admin.port` (" +
                                  std::to_string(carpool.admin_port()) +
                                  "), which waits for a restart") != std::string::npos);
  EXPECT_EQ(carpool.config()["effective"]["pool"]["size"], 3);
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
}

TEST(Trust, ComesOnlyTogetherWithItsAddress) {
  const Settings asks{.auth = "mode: scram-sha-256, usersFile: '{mount}/users'",
                      .server = as_app()};
  Carpool carpool(asks, {.files = {{"users", "\"app\" \"secret\"\n"}}});
  carpool.swap_text(listening(carpool, asks, "0.0.0.0"));
  EVENTUALLY(connect_to("127.0.0.2", carpool.port()).error().find("refused") == std::string::npos);
  carpool.swap({.server = as_app()});
  EVENTUALLY(carpool.connect().connected());
  EXPECT_NE(connect_to("127.0.0.2", carpool.port()).error().find("refused"), std::string::npos);
  EXPECT_EQ(carpool.config()["effective"]["listen"]["address"], "127.0.0.1");
}

TEST(UnixSocket, ComesMovesAndGoes) {
  TempDir one;
  TempDir other;
  Carpool carpool(postgres(), {});
  const auto answers = [&](const TempDir& dir) {
    return connect_to(dir.path(), carpool.port()).connected();
  };
  EXPECT_FALSE(answers(one));
  carpool.reload({.listen = "unixSocketDir: " + one.path().string()});
  EXPECT_TRUE(answers(one));
  Connection client = connect_to(one.path(), carpool.port());
  carpool.reload({.listen = "unixSocketDir: " + other.path().string()});
  EXPECT_TRUE(answers(other));
  EXPECT_FALSE(answers(one));
  EXPECT_TRUE(client.query("select 1").ok());
  carpool.reload({});
  EXPECT_FALSE(answers(other));
  EXPECT_TRUE(std::filesystem::is_empty(other.path()));
}

// As where an emptyDir was emptied by somebody who meant well.
TEST(UnixSocket, IsMadeAnewWhereItsFolderVanishedAndCameBack) {
  TempDir dir;
  Carpool carpool(postgres(), {.listen = "unixSocketDir: " + dir.path().string()});
  const auto answers = [&] { return connect_to(dir.path(), carpool.port()).connected(); };
  ASSERT_TRUE(answers());
  std::filesystem::remove_all(dir.path());
  carpool.reload({.listen = "unixSocketDir: " + dir.path().string(), .pool = "size: 3"});
  EXPECT_EQ(carpool.config()["effective"]["pool"]["size"], 3) << "what else changes comes";
  std::filesystem::create_directory(dir.path());
  carpool.signal(SIGHUP);
  EVENTUALLY(answers());
}

}  // namespace
}  // namespace carpool::integration
