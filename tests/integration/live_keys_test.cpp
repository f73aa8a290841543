// The promise: what a live key says counts from its moment on, also where it is no matter of the
// relay's: the log, a drain, how passwords are hashed. The keys of the relay stand in
// tests/proxy/live_keys_test.cpp, whose table names these tests.
#include <gtest/gtest.h>

#include <algorithm>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using nlohmann::json;
using namespace std::string_literals;

PostgresCluster& postgres() {
  return shared_postgres();
}

TEST(LiveKeys, TheLogFollowsInEachOfItsKeys) {
  Carpool carpool(postgres(), {.log = "slowQuery: 0s, queryText: off, statsInterval: 0s"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select pg_sleep(0.1), 'before'").ok());
  carpool.reload({.log = "slowQuery: 50ms, queryText: full, statsInterval: 1s"});
  ASSERT_TRUE(client.query("select pg_sleep(0.1), 'after'").ok());
  EVENTUALLY(carpool.logged("pg_sleep(0.1), 'after'"));
  EXPECT_FALSE(carpool.logged("pg_sleep(0.1), 'before'"));
  EVENTUALLY(std::ranges::any_of(carpool.log_lines(), [](const json& line) {
    return line.contains("servers_idle") && line.value("database", "") == "app";
  }));
}

TEST(LiveKeys, ADrainGoesByWhatHoldsThen) {
  Carpool carpool(postgres(), {.drain = "minDelay: 0s, timeout: 60s"});
  Wire client = carpool.raw();
  ASSERT_TRUE(client.sign_in());
  carpool.reload({.drain = "minDelay: 1s, timeout: 60s"});
  const Clock::time_point start = Clock::now();
  carpool.signal(SIGTERM);
  ASSERT_EVENTUALLY(carpool.get("/readyz").status == 503);
  carpool.reload({.drain = "minDelay: 1s, timeout: 2s"});
  EXPECT_TRUE(client.ended()) << "by the timeout that came while it was draining";
  EXPECT_EQ(carpool.wait_exit(), 0);
  EXPECT_GE(since(start), 1s);
}

// What a client is shown before it says its proof: "r=...,s=<salt>,i=<iterations>".
std::string challenge_of(const Carpool& carpool, const std::string& user) {
  Wire client = carpool.raw();
  client.send(startup_packet({{"user", user}, {"database", "app"}}));
  client.read();
  const std::string first = "n,,n=,r=rOprNGfwEbeRWgbNEkqO";
  client.send(message('p', "SCRAM-SHA-256\0"s + int32_bytes(28) + first));
  const std::optional<Message> challenge = client.read();
  return challenge && challenge->type == 'R' ? challenge->body : "";
}

std::string salt_of(const Carpool& carpool, const std::string& user) {
  const std::string challenge = challenge_of(carpool, user);
  const std::size_t at = challenge.find(",s=");
  return at == std::string::npos ? "" : challenge.substr(at, challenge.find(",i=") - at);
}

TEST(LiveKeys, SaltsAreMadeFromAnotherFile) {
  const std::string auth = "mode: scram-sha-256, usersFile: '{mount}/users', saltFile: '{mount}/";
  const std::string at = "host: 127.0.0.1, port: " + std::to_string(postgres().port());
  Carpool carpool({.auth = auth + "one'", .server = at},
                  {.files = {{"users", "\"known\" \"a password\"\n"},
                             {"one", "sixteen bytes or more of one"},
                             {"two", "sixteen bytes or more of two"}}});
  const std::string before = salt_of(carpool, "nobody");
  ASSERT_NE(before, "");
  EXPECT_EQ(salt_of(carpool, "nobody"), before);
  carpool.swap({.auth = auth + "two'", .server = at});
  EVENTUALLY(salt_of(carpool, "nobody") != before);
}

TEST(LiveKeys, PasswordsAreHashedAnewWithOtherIterations) {
  const std::string auth = "mode: scram-sha-256, usersFile: '{mount}/users', scramIterations: ";
  const ConfigMount::Files users = {{"users", "\"known\" \"a password\"\n"}};
  const std::string at = "host: 127.0.0.1, port: " + std::to_string(postgres().port());
  Carpool carpool({.auth = auth + "4096", .server = at}, {.files = users});
  const auto shown = [&](const std::string& iterations) {
    return challenge_of(carpool, "known").find(",i=" + iterations) != std::string::npos;
  };
  EXPECT_TRUE(shown("4096"));
  carpool.swap({.auth = auth + "5000", .server = at});
  EVENTUALLY(shown("5000"));
}

}  // namespace
}  // namespace carpool::integration
