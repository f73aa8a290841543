// A proxy as it might stand, and an AdminServer before it, for the tests of admin/ and cli/.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "admin/admin_server.h"
#include "pool/counters.h"

namespace carpool::admin {

inline pool::PoolSnapshot sample_pool(const std::string& database, std::uint32_t leased) {
  using pool::ClientState;
  using pool::SlotState;
  pool::PoolSnapshot out;
  out.database = database;
  out.user = "app";
  out.mode = "transaction";
  out.size = 10;
  out.servers[static_cast<std::size_t>(SlotState::Leased)] = leased;
  out.servers[static_cast<std::size_t>(SlotState::Idle)] = leased < 10 ? 1 : 0;
  out.clients[static_cast<std::size_t>(ClientState::Attached)] = leased;
  out.clients[static_cast<std::size_t>(ClientState::Idle)] = 30;
  out.prepared_statements = 7;
  out.prepared_statement_bytes = 2100;
  pool::PoolCounters& counters = out.counters;
  counters.transactions = 1000;
  counters.queries = 2500;
  counters.server_connects = 12;
  counters.restores = 21;
  counters.connect_errors[static_cast<std::size_t>(pool::ConnectError::Timeout)] = 2;
  counters.pins[static_cast<std::size_t>(pool::PinCause::Listen)] = 3;
  counters.errors_by_class = {{"22", 4}, {"42", 1}};
  counters.bytes_from_clients = 123;
  counters.bytes_to_clients = 4567;
  for (int i = 1; i <= 1000; i++) counters.query.observe(i * kMicrosPerMilli);
  for (int i = 0; i < 100; i++) counters.wait.observe(20);
  counters.transaction.observe(3 * kMicrosPerSecond);
  counters.server_connect.observe(7 * kMicrosPerMilli);
  return out;
}

inline pool::Snapshot sample_snapshot() {
  pool::Snapshot out;
  out.pools = {sample_pool("app", 3), sample_pool("jobs", 0)};
  out.clients = 63;
  out.clients_max = 1000;
  out.client_connects = 99;
  out.clients_rejected[static_cast<std::size_t>(pool::RejectReason::AuthFailed)] = 5;
  out.uptime_us = 3600 * kMicrosPerSecond;
  return out;
}

inline void add_lists(pool::Snapshot& snapshot) {
  pool::ClientSnapshot client;
  client.id = 7;
  client.database = "app";
  client.user = "app";
  client.application_name = "worker-3";
  client.address = "127.0.0.1:50112";
  client.state = "attached";
  client.in_state_us = 1'500'000;
  client.query = "SELECT * FROM orders WHERE id = ?";
  pool::ServerSnapshot server;
  server.id = 2;
  server.database = "app";
  server.user = "app";
  server.address = "10.0.0.5:5432";
  server.backend_pid = 4242;
  server.state = "leased";
  server.in_state_us = 1'500'000;
  server.age_us = 60'000'000;
  server.client_id = 7;
  snapshot.client_list = {client};
  snapshot.server_list = {server};
}

inline ConfigView sample_config() {
  ConfigView out;
  out.effective_json = R"({"pool":{"size":10}})";
  out.hash = "sha256:0123456789abcdef";
  out.source = "/etc/carpool/carpool.yaml";
  out.age_us = 90 * kMicrosPerSecond;
  out.last_result = "rejected";
  out.errors = {"carpool.yaml:3:9: pool.size: must be at least 1"};
  out.applied = {"pool.size"};
  out.needs_restart = {"listen.port"};
  out.last_reload_successful = false;
  out.last_success_unix_seconds = 1'795'231'094.5;
  out.reloads_applied = 2;
  out.reloads_rejected = 1;
  out.reloads_unchanged = 4;
  out.watch = "inotify";
  return out;
}

// What the loop would say, and what was asked of it. The HTTP threads read it under the lock.
class SampleProxy {
 public:
  SampleProxy() {
    readiness_.started = true;
    snapshot_ = sample_snapshot();
    config_ = sample_config();
  }

  void hang() { hangs_ = true; }  // from now on nothing is answered in time
  template <typename Change>
  void change(Change change) {
    std::lock_guard lock(mutex_);
    change(readiness_, snapshot_, config_);
  }
  std::vector<std::pair<Control, std::string>> controls() {
    std::lock_guard lock(mutex_);
    return controls_;
  }

  // This object must outlive the server that asks.
  Source source() {
    Source out;
    out.loop_answers = [this] { return !hangs_; };
    out.readiness = [this] { return guarded(readiness_); };
    out.config = [this] { return guarded(config_); };
    out.snapshot = [this](bool detailed) {
      std::optional<pool::Snapshot> snapshot = guarded(snapshot_);
      // As the proxy does: without being asked it tells only who holds servers.
      if (snapshot && !detailed) snapshot->server_list.clear();
      return snapshot;
    };
    out.control = [this](Control what, const std::string& database) -> Result<std::string> {
      if (hangs_) return Error{"the loop did not answer"};
      if (database == "nosuch") return Error{"there is no database nosuch"};
      std::lock_guard lock(mutex_);
      controls_.emplace_back(what, database);
      return std::string("as you wish");
    };
    return out;
  }

 private:
  template <typename T>
  std::optional<T> guarded(const T& value) {
    if (hangs_) return std::nullopt;
    std::lock_guard lock(mutex_);
    return value;
  }

  std::atomic<bool> hangs_ = false;
  std::mutex mutex_;  // guards all below
  Readiness readiness_;
  pool::Snapshot snapshot_;
  ConfigView config_;
  std::vector<std::pair<Control, std::string>> controls_;
};

// On free ports of the loopback address. Null when it cannot start, which the test then says.
inline std::unique_ptr<AdminServer> start_sample(SampleProxy& proxy) {
  Options options;
  options.address = "127.0.0.1";
  options.port = 0;
  options.control_port = 0;
  options.version = "1.2.3";
  auto server = AdminServer::start(options, proxy.source());
  if (!server) return nullptr;
  return std::move(*server);
}

}  // namespace carpool::admin
