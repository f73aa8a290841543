// A mended configuration counts at once: what was tried, refused or let go by the former one holds
// up nobody and is told to nobody.
#include <fstream>

#include "fixture.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::SlotState;

class Anew : public ProxyTest {
 protected:
  static void keep_silent(Backend&) {}
  TestClient& in_a_transaction() {
    TestClient& open = client();
    open.query("BEGIN");
    EXPECT_TRUE(until([&] { return open.status() == 'T'; }));
    open.clear();
    return open;
  }
  void go_elsewhere() {
    change_server([this](config::Server& server) { server.port = other_postgres_.port; });
  }
};

TEST_F(Anew, AnAttemptThatHangsAtTheFormerHostHoldsUpNobody) {
  config_.server.connect_timeout_us = 0;  // for ever
  postgres_.at_start = keep_silent;
  serve();
  TestClient& client = connect().start();
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 1; }));
  go_elsewhere();
  ASSERT_TRUE(until([&] { return client.count('Z') == 1; })) << client.types;
  EXPECT_EQ(other_postgres_.greeted(), 1u);
  EXPECT_TRUE(until([&] { return postgres_.backends[0]->ended; }));
}

TEST_F(Anew, ARefusalOfTheFormerPasswordIsToldToNobody) {
  postgres_.at_start = keep_silent;
  serve();
  TestClient& before = connect().start();
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 1; }));
  change_server([](config::Server& server) { server.password = "right"; });
  TestClient& after = connect().start();
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 2; }));
  postgres_.backends[0]->error("28P01", pg::Severity::Fatal);
  settle();
  EXPECT_EQ(before.types + after.types, "");
  EXPECT_FALSE(pool().connecting_fails);
  postgres_.backends[1]->greet();
  ASSERT_TRUE(until([&] { return before.count('Z') + after.count('Z') == 2; }));
}

TEST_F(Anew, TheNextAttemptDoesNotBackOffForTheFormerSettings) {
  postgres_.at_start = [](Backend& backend) {
    backend.error("57P03", pg::Severity::Fatal);
    backend.vanish();
  };
  serve();
  TestClient& client = connect().start();
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 4; }));
  ASSERT_TRUE(
      until([&] { return pool().connecting_fails && servers(SlotState::Connecting) == 0; }));
  change_server([](config::Server& server) { server.user = "right"; });
  EXPECT_FALSE(pool().connecting_fails);
  EXPECT_EQ(pool().last_connect_error, "");
  turn();
  turn();
  EXPECT_EQ(servers(SlotState::Connecting), 1u) << "sooner than any back-off";
  EXPECT_EQ(client.types, "");
}

TEST_F(Anew, ServersThatTheFormerHostDoesNotLetGoTakeNoRoom) {
  serve();
  TestClient& client = this->client();
  postgres_.backends[0]->deaf = true;  // and so it does not see that it is to go
  go_elsewhere();
  client.query("SELECT 1");
  ASSERT_TRUE(until([&] { return client.types == "CZ"; })) << client.types;
  EXPECT_EQ(servers(SlotState::Closing), 1u) << "it has not waited for that";
}

TEST_F(Anew, ServersThatTheSameHostDoesNotLetGoStillCount) {
  serve();
  TestClient& client = this->client();
  postgres_.backends[0]->deaf = true;
  change_server([](config::Server& server) { server.password = "another"; });
  ASSERT_TRUE(until([&] { return servers(SlotState::Closing) == 1; }));
  client.query("SELECT 1");
  settle();
  EXPECT_EQ(postgres_.backends.size(), 1u) << "or pool.size would not hold in PostgreSQL";
  postgres_.backends[0]->vanish();
  ASSERT_TRUE(until([&] { return client.types == "CZ"; })) << client.types;
}

TEST_F(Anew, ATransactionAtTheFormerHostGoesOnAndKeepsNobodyFromTheNewOne) {
  serve();
  TestClient& before = in_a_transaction();
  go_elsewhere();
  TestClient& after = client();
  after.query("SELECT 1");
  ASSERT_TRUE(until([&] { return after.types == "CZ"; })) << after.types;
  EXPECT_EQ(other_postgres_.backends[0]->asked(), "Q:SELECT 1");
  before.query("COMMIT");
  ASSERT_TRUE(until([&] { return before.types == "CZ"; })) << before.types;
  EXPECT_TRUE(postgres_.backends[0]->asked().starts_with("Q:BEGIN Q:COMMIT"));
  EXPECT_TRUE(until([&] { return postgres_.backends[0]->ended; }));
}

TEST_F(Anew, AFileWithAnotherPasswordIsAnotherConfiguration) {
  const std::string file = testing::TempDir() + "anew_password";
  std::ofstream(file) << "wrong\n";
  config_.server.password_file = file;
  config_.server.connect_timeout_us = 0;
  bool asked = false;  // by the former password
  postgres_.at_start = [&](Backend&) { asked = true; };
  serve();
  TestClient& client = connect().start();
  ASSERT_TRUE(until([&] { return asked && !proxy_->threads_busy(); }));
  std::ofstream(file) << "right\n";
  postgres_.at_start = [](Backend& backend) { backend.greet(); };
  proxy_->look_at_server_files();
  ASSERT_TRUE(until([&] { return client.count('Z') == 1; })) << client.types;
  EXPECT_TRUE(until([&] { return postgres_.backends[0]->ended; }));
}

TEST_F(Anew, APasswordThatIsBeingTriedAtTheFormerHostIsTriedAtTheNewOne) {
  config_.auth.mode = config::AuthMode::Passthrough;
  config_.server.connect_timeout_us = 0;
  postgres_.at_start = keep_silent;
  other_postgres_.at_start = [](Backend& backend) {
    Bytes out;
    const std::size_t start = pg::begin_message(out, 'R');
    append_u32(out, 3);  // AuthenticationCleartextPassword
    pg::finish_message(out, start);
    backend.say(out);
    backend.greeted = true;
  };
  other_postgres_.script = [](Backend& backend, const Message& request) {
    if (request.type == 'p') backend.greet();
  };
  serve();
  TestClient& client = connect().start();
  ASSERT_TRUE(until([&] { return client.types == "R"; }));
  Bytes password;
  const std::size_t start = pg::begin_message(password, 'p');
  append_cstring(password, "right");
  pg::finish_message(password, start);
  client.say(password);
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 1; }));
  go_elsewhere();
  ASSERT_TRUE(until([&] { return client.count('Z') == 1; })) << client.types;
  EXPECT_TRUE(until([&] { return postgres_.backends[0]->ended; }));
}

// Credentials that rotate, as a Vault's do, would else fill PostgreSQL with warm servers.
TEST_F(Anew, APoolThatWasWarmForTheFormerUserGoesWithIt) {
  config_.pool.size = 3;
  config_.pool.min_idle = 2;
  const auto file = [&](const std::string& user) {
    config_.server.user = user;
    config_.databases = {{"app", config_.server, config_.pool}};
  };
  const auto pools = [&] {
    std::vector<std::string> users;
    for (const pool::PoolSnapshot& pool : proxy_->snapshot(false).pools) users.push_back(pool.user);
    return users;
  };
  file("first");
  proxy_ = std::make_unique<Proxy>(loop_, config_, cgroups_);
  ASSERT_TRUE(proxy_->listen());
  ASSERT_TRUE(until([&] { return postgres_.greeted() == 2; }));
  TestClient& client = connect().start("app", "first");
  ASSERT_TRUE(until([&] { return client.count('Z') == 1; }));
  file("second");
  EXPECT_TRUE(proxy_->apply(config_));
  file("third");
  EXPECT_TRUE(proxy_->apply(config_));
  ASSERT_TRUE(until([&] {
    return pools() == std::vector<std::string>{"first", "third"};
  })) << "the one with a client stays";
  client.vanish();
  file("fourth");
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 0; }));
  EXPECT_TRUE(proxy_->apply(config_));
  ASSERT_TRUE(until([&] { return pools() == std::vector<std::string>{"fourth"}; }));
  file("first");
  EXPECT_TRUE(proxy_->apply(config_));
  file("fourth");
  EXPECT_TRUE(proxy_->apply(config_));
  TestClient& back = connect().start("app", "first");
  ASSERT_TRUE(until([&] { return back.count('Z') == 1; })) << "it is made anew for who comes";
}

TEST_F(Anew, APoolIsWarmForTheUserOfAUrlToo) {
  config_.server.url = "postgres://first@127.0.0.1/app";
  config_.pool.size = 3;
  config_.pool.min_idle = 2;
  config_.databases = {{"app", config_.server, config_.pool}};
  proxy_ = std::make_unique<Proxy>(loop_, config_, cgroups_);
  ASSERT_TRUE(until([&] { return postgres_.greeted() == 2; }));
  EXPECT_EQ(pool().user, "first");
}

TEST_F(Anew, ADatabaseThatWasRemovedIsAskedByNoCheck) {
  config_.admin.ready_when = config::ReadyWhen::Database;
  config::Server elsewhere = config_.server;
  elsewhere.port = other_postgres_.port;
  config_.databases = {{"aaa", elsewhere, config_.pool}, {"app", config_.server, config_.pool}};
  proxy_ = std::make_unique<Proxy>(loop_, config_, cgroups_);
  ASSERT_TRUE(proxy_->listen());
  TestClient& stays = connect().start("aaa");
  ASSERT_TRUE(until([&] { return stays.count('Z') == 1 && proxy_->why_no_database().empty(); }));
  const std::size_t asked = other_postgres_.backends.size();
  config_.databases = {{"app", config_.server, config_.pool}};
  EXPECT_TRUE(proxy_->apply(config_));
  other_postgres_.hang_up_at_once = 100;
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 1; }));
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 2; })) << "at each interval";
  EXPECT_EQ(proxy_->why_no_database(), "");
  EXPECT_EQ(other_postgres_.backends.size(), asked);
}

TEST_F(Anew, ACheckThatHangsAtTheFormerHostIsDropped) {
  config_.admin.ready_when = config::ReadyWhen::Database;
  config_.server.connect_timeout_us = 0;
  postgres_.at_start = keep_silent;
  serve();
  ASSERT_TRUE(until([&] { return postgres_.backends.size() == 1; }));
  EXPECT_NE(proxy_->why_no_database(), "");
  go_elsewhere();
  ASSERT_TRUE(until([&] { return proxy_->why_no_database().empty(); }));
}

}  // namespace
}  // namespace carpool::proxy
