// LiveKey: a proxy whose clients and servers stand in each of their states while one live key of
// the configuration changes. rows() has what is particular to each key.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "config/keys.h"
#include "config/moment.h"
#include "fixture.h"

namespace carpool::proxy {

class LiveKey : public ProxyTest,
                public testing::WithParamInterface<std::tuple<std::string, config::PoolMode>> {
 protected:
  struct Row {
    std::function<void(config::Config&)> change;
    config::Moment moment = config::Moment::AtOnce;
    // That the new value counts; with every client gone but the idle one. Or the test that shows
    // it, since it is no matter of the proxy's.
    std::function<void(LiveKey&)> counts;
    std::string shown_by;
    std::function<void(config::Config&)> before;  // what is set from the start
    std::function<void(LiveKey&)> while_full;     // of the moment behind the change
    std::string waiting = "CZ";                   // what becomes of the one that waits
    std::string startup = "RSSKZ";                // of the one that was saying who it is
    std::string signing_in = "RSSKZ";             // and of the one that was to be greeted
  };
  static const std::map<std::string, Row>& rows();

  config::PoolMode mode() const { return std::get<config::PoolMode>(GetParam()); }
  bool transaction_mode() const { return mode() == config::PoolMode::Transaction; }
  static std::string reset_of(const config::Pool& pool) {
    return pool.mode == config::PoolMode::Session ? pool.reset_query : "";
  }

  void SetUp() override {
    other_port_ = other_postgres_.port;
    config_.pool.mode = mode();
    config_.pool.size = 5;
    config_.pool.connect_concurrency = 5;
    config_.server.connect_timeout_us = 0;
    postgres_.script = [this](Backend& backend, const Message& request) {
      answer(backend, request);
    };
  }
  // The proxy ends behind this object, and asks until then.
  void TearDown() override { postgres_.script = ScriptedPostgres::well_behaved; }
  void answer(Backend& backend, const Message& request) {
    const std::string sql = request.type == 'Q' ? request.text().c_str() : "";
    const bool cleans = sql == "ROLLBACK" || sql == "DISCARD ALL" || sql == "CLEAN";
    if (sql == "SLOW" || (cleans && !cleaning_is_answered_)) return;
    if (sql == "COPY") {
      Bytes out;
      const std::size_t start = pg::begin_message(out, 'G');
      append_text(out, std::string("\0\0\0", 3));
      pg::finish_message(out, start);
      return backend.say(out);
    }
    if (request.type == 'c') {
      backend.complete("COPY");
      return backend.ready(backend.transaction);
    }
    ScriptedPostgres::well_behaved(backend, request);
  }
  Backend& backend_that_was_asked(const std::string& requests) {
    Backend* found = nullptr;
    EXPECT_TRUE(until([&] {
      for (const auto& backend : postgres_.backends) {
        if (backend->asked() == requests && !taken_.contains(backend.get())) found = backend.get();
      }
      return found != nullptr;
    })) << requests;
    taken_.insert(found);
    return *found;
  }
  TestClient& in_transaction() {
    TestClient& open = client();
    open.query("BEGIN");
    EXPECT_TRUE(until([&] { return open.status() == 'T'; })) << open.types;
    open.clear();
    return open;
  }
  // Whatever the ticks of the proxy do, they have done.
  void let_ticks_pass() {
    bool passed = false;
    net::Timer timer;
    timer.start(loop_, 3 * Proxy::kTick_us, 0, [&] { passed = true; });
    ASSERT_TRUE(until([&] { return passed; }));
  }
  std::size_t greeted() const { return postgres_.greeted() + other_postgres_.greeted(); }
  std::uint32_t of_carl(pool::SlotState state) {
    for (const pool::PoolSnapshot& pool : proxy_->snapshot(false).pools) {
      if (pool.user == "carl") return pool.servers[static_cast<std::size_t>(state)];
    }
    return 0;
  }
  pool::PoolSnapshot of_alice() {
    for (const pool::PoolSnapshot& pool : proxy_->snapshot(false).pools) {
      if (pool.user == "alice") return pool;
    }
    return {};
  }
  // Each server is another one than before.
  void expect_replaced() {
    const std::size_t before = greeted_before_;
    TestClient& next = client();
    next.query("SELECT 'next'");
    EXPECT_TRUE(until([&] { return next.types == "CZ"; })) << next.types;
    const auto asked = [&](const ScriptedPostgres& postgres, std::size_t from) {
      for (std::size_t i = from; i < postgres.backends.size(); ++i) {
        if (postgres.backends[i]->asked().find("'next'") != std::string::npos) return true;
      }
      return false;
    };
    EXPECT_TRUE(asked(postgres_, before) || asked(other_postgres_, 0));
  }

  static inline std::uint16_t other_port_ = 0;
  bool cleaning_is_answered_ = true;
  std::size_t greeted_before_ = 0;  // backends, whoever of them is still there
  std::set<Backend*> taken_;
};

}  // namespace carpool::proxy
