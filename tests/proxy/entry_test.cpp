// Who comes in while the rules change: nobody whom those in force would keep out, and everybody
// else.
#include <gmock/gmock.h>
#include <ifaddrs.h>

#include "fixture.h"

namespace carpool::proxy {
namespace {

// An address of this machine that is not loopback; "" where it has none.
std::string outer_address() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  char text[INET_ADDRSTRLEN] = "";
  for (const ifaddrs* one = all; one != nullptr && text[0] == '\0'; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    const auto& in = reinterpret_cast<const sockaddr_in&>(*one->ifa_addr);
    if (ntohl(in.sin_addr.s_addr) >> 24 == 127) continue;
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  }
  freeifaddrs(all);
  return text;
}

class EntryTest : public ProxyTest {
 protected:
  Credentials users(const std::string& text) {
    Credentials credentials;
    Result<pg::Users> parsed = pg::Users::parse(text, {proxy_->gatekeeper().salt_secret(), 4096});
    EXPECT_TRUE(parsed);
    credentials.users = std::move(*parsed);
    return credentials;
  }
  void change_to(config::AuthMode mode) {
    config_.auth.mode = mode;
    ASSERT_TRUE(proxy_->apply(config_));
    proxy_->gatekeeper().take(users("\"alice\" \"secret\"\n"));
  }
  std::string why(TestClient& client) {
    for (const Message& message : client.messages) {
      if (message.type == 'E') return pg::parse_error(message.body)->message.data();
    }
    return "";
  }
};

// The validator refuses trust on such an address. This holds where a client came before the address
// became another, and whatever else may go wrong.
TEST_F(EntryTest, TrustLetsInWhoComesOverLoopbackAndNobodyElse) {
  config_.listen.address = "0.0.0.0";
  serve();
  client();
  const std::string outer = outer_address();
  if (outer.empty()) return;  // nobody can come from anywhere else
  TestClient& stranger = clients_.emplace_back(proxy_->port(), outer);
  stranger.start();
  EXPECT_TRUE(until([&] { return stranger.ended; }));
  EXPECT_EQ(stranger.types, "E");
  EXPECT_EQ(stranger.sqlstate(), "28000");
  EXPECT_THAT(why(stranger), testing::HasSubstr("this client comes from " + outer + ":"));
}

// It was connected before, on another address, and asks once trust is in force.
TEST_F(EntryTest, WhoConnectedElsewhereBeforeTrustCameIsNotTrusted) {
  config_.listen.address = "0.0.0.0";
  config_.auth.mode = config::AuthMode::ScramSha256;
  serve();
  const std::string outer = outer_address();
  if (outer.empty()) return;
  TestClient& stranger = clients_.emplace_back(proxy_->port(), outer);
  TestClient& asked = clients_.emplace_back(proxy_->port(), outer);
  asked.start();
  EXPECT_TRUE(until([&] { return asked.types == "R"; }));
  config_.listen.address = "127.0.0.1";
  change_to(config::AuthMode::Trust);
  stranger.start();
  EXPECT_TRUE(until([&] { return stranger.ended; }));
  EXPECT_EQ(stranger.sqlstate(), "28000");
  EXPECT_EQ(asked.types, "R") << "it must still show who it is";
}

// PostgreSQL is slow, so that the client waits to be greeted; it was let in without a password.
TEST_F(EntryTest, WhoWasTrustedAndIsNotGreetedYetIsJudgedByTheRulesThatHaveCome) {
  serve();
  postgres_.at_start = [](Backend&) {};
  TestClient& early = connect().start();
  EXPECT_TRUE(until([&] { return !postgres_.backends.empty() && postgres_.backends[0]->started; }));
  change_to(config::AuthMode::ScramSha256);
  settle();
  EXPECT_EQ(early.types, "");
  postgres_.backends[0]->greet();
  EXPECT_TRUE(until([&] { return early.ended; }));
  EXPECT_EQ(early.types, "E");
  EXPECT_EQ(early.sqlstate(), "57P03");
}

TEST_F(EntryTest, WhoMustUseTlsNowIsNotGreetedInClear) {
  serve();
  postgres_.at_start = [](Backend&) {};
  TestClient& early = connect().start();
  EXPECT_TRUE(until([&] { return !postgres_.backends.empty() && postgres_.backends[0]->started; }));
  config_.listen.tls.mode = config::TlsMode::Require;
  ASSERT_TRUE(proxy_->apply(config_));
  postgres_.backends[0]->greet();
  EXPECT_TRUE(until([&] { return early.ended; }));
  EXPECT_EQ(early.sqlstate(), "57P03");
}

// What changed is no concern of who comes in.
TEST_F(EntryTest, AnyOtherChangeGreetsWhoWaits) {
  serve();
  postgres_.at_start = [](Backend&) {};
  TestClient& early = connect().start();
  EXPECT_TRUE(until([&] { return !postgres_.backends.empty() && postgres_.backends[0]->started; }));
  config_.databases[0].pool.size = 3;
  config_.listen.clients_max = 3;
  ASSERT_TRUE(proxy_->apply(config_));
  postgres_.backends[0]->greet();
  EXPECT_TRUE(until([&] { return early.count('Z') == 1; })) << early.types;
}

// ---- where clients connect

TEST_F(EntryTest, AListenerThatMovesLosesNobodyWhoHasConnected) {
  serve();
  TestClient& in = client();
  const std::uint16_t old_port = proxy_->port();
  TestClient& at_the_door = connect();  // in the kernel's queue still: it has said nothing
  config_.listen.address = "127.0.0.2";
  ASSERT_TRUE(proxy_->apply(config_));
  EXPECT_NE(proxy_->port(), 0);
  at_the_door.start();
  EXPECT_TRUE(until([&] { return at_the_door.count('Z') == 1; })) << at_the_door.types;
  in.query("SELECT 1");
  EXPECT_TRUE(until([&] { return in.types == "CZ"; })) << in.types;
  TestClient& newcomer = clients_.emplace_back(proxy_->port(), "127.0.0.2");
  newcomer.start();
  EXPECT_TRUE(until([&] { return newcomer.count('Z') == 1; })) << newcomer.types;
  EXPECT_EQ(proxy_->listeners().where(),
            std::vector<std::string>{"127.0.0.2:" + std::to_string(proxy_->port())});
  EXPECT_FALSE(TestClient::is_answered("127.0.0.1", old_port));
}

TEST_F(EntryTest, TheSamePortOnAWiderAndANarrowerAddressIsTakenOverWithoutAGap) {
  serve();
  config_.listen.port = proxy_->port();
  ASSERT_TRUE(proxy_->apply(config_));  // the same place, by number
  config_.listen.address = "127.0.0.2";
  ASSERT_TRUE(proxy_->apply(config_));  // and twice in a turn
  for (const char* address : {"0.0.0.0", "127.0.0.1", "0.0.0.0", "127.0.0.2"}) {
    TestClient& at_the_door = connect();
    config_.listen.address = address;
    ASSERT_TRUE(proxy_->apply(config_)) << address;
    EXPECT_EQ(proxy_->listeners().where()[0],
              std::string(address) + ":" + std::to_string(config_.listen.port));
    at_the_door.start();
    EXPECT_TRUE(until([&] { return at_the_door.count('Z') == 1; })) << address;
  }
  EXPECT_FALSE(TestClient::is_answered("127.0.0.1", config_.listen.port));
  EXPECT_TRUE(TestClient::is_answered("127.0.0.2", config_.listen.port));
}

TEST_F(EntryTest, AnAddressThatCannotBeHadChangesNothing) {
  serve();
  const std::vector<std::string> before = proxy_->listeners().where();
  const config::Config good = config_;
  config_.listen.port = postgres_.port;  // taken
  config_.pool.size = 7;
  const Status taken = proxy_->apply(config_);
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error().message, testing::HasSubstr("Address already in use"));
  // The TCP port could be had, the Unix socket not.
  config_ = good;
  config_.listen.address = "127.0.0.2";
  config_.listen.unix_socket_dir = "/nowhere/at/all";
  EXPECT_FALSE(proxy_->apply(config_));
  EXPECT_EQ(proxy_->listeners().where(), before);
  EXPECT_EQ(proxy_->config(), good);
  expect_still_serving();
}

TEST_F(EntryTest, AUnixSocketComesMovesAndGoes) {
  serve();
  char name[] = "/tmp/carpool-entry-XXXXXX";
  const std::string dir = mkdtemp(name);
  const auto path = [&](const std::string& in) {
    return in + "/.s.PGSQL." + std::to_string(proxy_->port());
  };
  config_.listen.unix_socket_dir = dir;
  ASSERT_TRUE(proxy_->apply(config_));
  EXPECT_EQ(proxy_->listeners().where().at(1), path(dir));
  config_.listen.unix_socket_dir = dir + "/";  // the same place in other words
  ASSERT_TRUE(proxy_->apply(config_));
  EXPECT_EQ(access(path(dir).c_str(), F_OK), 0);
  config_.listen.unix_socket_dir = "/tmp";
  ASSERT_TRUE(proxy_->apply(config_));
  settle();
  EXPECT_NE(access(path(dir).c_str(), F_OK), 0);
  EXPECT_EQ(access(path("/tmp").c_str(), F_OK), 0);
  config_.listen.unix_socket_dir.clear();
  ASSERT_TRUE(proxy_->apply(config_));
  settle();
  EXPECT_NE(access(path("/tmp").c_str(), F_OK), 0);
  EXPECT_EQ(rmdir(dir.c_str()), 0);
}

}  // namespace
}  // namespace carpool::proxy
