// ProxyTest: a Proxy on a loop, before a ScriptedPostgres, with any number of TestClients.
#pragma once

#include <algorithm>
#include <list>

#include "peers.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool::proxy {

class ProxyTest : public testing::Test {
 protected:
  ProxyTest() {
    config::Log quiet;
    quiet.level = config::LogLevel::Error;
    log::configure(quiet);
    config_.listen.port = 0;
    config_.log = quiet;
    config_.server.host = "127.0.0.1";
    config_.server.port = postgres_.port;
    config_.server.port_set = true;
    config_.server.ssl_mode = "disable";
    config_.pool.size = 1;
  }
  ~ProxyTest() {
    postgres_.hold_cancels = false;
    clients_.clear();
    if (proxy_ == nullptr) return;
    // The proxy ends when its cancels have: PostgreSQL must go on answering them.
    net::Timer pump;
    pump.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [this] {
      postgres_.pump();
      other_postgres_.pump();
    });
    proxy_.reset();
  }

  void serve() {
    config_.databases = {{"*", config_.server, config_.pool}};
    proxy_ = std::make_unique<Proxy>(loop_, config_, cgroups_);
    ASSERT_TRUE(proxy_->listen());
  }
  // A configuration with other settings comes into force.
  template <typename Fn>
  void change(Fn&& fn) {
    fn(config_.pool);
    apply();
  }
  template <typename Fn>
  void change_server(Fn&& fn) {
    fn(config_.server);
    apply();
  }
  void apply() {
    config_.databases = {{"*", config_.server, config_.pool}};
    EXPECT_TRUE(proxy_->apply(config_));
  }
  TestClient& connect() { return clients_.emplace_back(proxy_->port()); }
  // One that has signed in.
  TestClient& client() {
    TestClient& client = connect().start();
    EXPECT_TRUE(until([&] { return client.count('Z') == 1; })) << client.types;
    client.clear();
    return client;
  }
  void turn() {
    net::Timer awake;
    awake.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [] {});
    loop_.run_once();
    postgres_.pump();
    other_postgres_.pump();
    for (TestClient& client : clients_) client.read();
  }
  // The deadline is there only so that a test that has failed ends.
  template <typename Condition>
  testing::AssertionResult until(Condition&& condition) {
    const Micros end = net::Loop::clock_us() + 20 * kMicrosPerSecond;
    while (!condition()) {
      if (net::Loop::clock_us() > end) return testing::AssertionFailure() << "it never came to be";
      turn();
    }
    return testing::AssertionSuccess();
  }
  // Long enough for whatever could happen now to have happened.
  void settle() {
    for (int i = 0; i < 25; ++i) turn();
  }
  pool::PoolSnapshot pool() {
    const pool::Snapshot all = proxy_->snapshot(false);
    return all.pools.empty() ? pool::PoolSnapshot{} : all.pools[0];
  }
  std::uint32_t servers(pool::SlotState state) {
    return pool().servers[static_cast<std::size_t>(state)];
  }
  std::uint32_t clients(pool::ClientState state) {
    return pool().clients[static_cast<std::size_t>(state)];
  }
  // Another client's query is answered, so nobody was harmed.
  void expect_still_serving() {
    postgres_.script = ScriptedPostgres::well_behaved;
    TestClient& other = client();
    other.query("SELECT 'unharmed'");
    EXPECT_TRUE(until([&] { return other.types == "CZ"; })) << other.types;
  }

  net::Loop loop_;
  ScriptedPostgres postgres_;
  ScriptedPostgres other_postgres_;  // for who goes elsewhere
  config::Config config_;
  std::string cgroups_ = "/nowhere";
  std::unique_ptr<Proxy> proxy_;
  std::list<TestClient> clients_;
};

}  // namespace carpool::proxy
