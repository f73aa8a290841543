#include <fmt/format.h>

#include <algorithm>

#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

// What people and their tools ask of a proxy that runs: to pause, to look at files, to drain, how
// it fares.

namespace carpool::proxy {

using pool::ClientState;
using pool::SlotState;

// One that is configured, by its name or by `*`, or that was and still has clients.
Status Proxy::must_be_database(const std::string& name) const {
  // PostgreSQL's names are no longer (NAMEDATALEN).
  constexpr std::size_t kNameMax = 63;
  if (name == "*") return Error{"`*` is no database's name: name one, or none for all of them"};
  const config::Database* entry = config_.find_database(name);
  if (entry != nullptr && (entry->name == name || name.size() <= kNameMax)) return Ok{};
  const bool has_pool = std::any_of(pools_.begin(), pools_.end(),
                                    [&](const auto& pool) { return pool.first.database == name; });
  if (has_pool) return Ok{};
  return Error{fmt::format("no such database: {}", name)};
}

void Proxy::apply_pauses() {
  pauses_.keep([this](const std::string& name) { return bool{must_be_database(name)}; });
  for (auto& [key, pool] : pools_) {
    const bool paused = pauses_.paused(key.database);
    if (paused == pool->pool().paused()) continue;
    pool->pool().set_paused(paused);
    pool->mark_dirty();
  }
}

Status Proxy::pause(const std::string& database) {
  if (!database.empty()) {
    if (Status known = must_be_database(database); !known) return known;
  }
  Status status = pauses_.pause(database);
  apply_pauses();
  return status;
}

Status Proxy::resume(const std::string& database) {
  if (!database.empty()) {
    if (Status known = must_be_database(database); !known) return known;
  }
  Status status = pauses_.resume(database);
  apply_pauses();
  return status;
}

Status Proxy::reconnect(const std::string& database) {
  if (!database.empty()) {
    if (Status known = must_be_database(database); !known) return known;
  }
  for (auto& [key, pool] : pools_) {
    if (!database.empty() && key.database != database) continue;
    pool->reconnect();
  }
  return Ok{};
}

Status Proxy::kill(const std::string& database) {
  if (Status status = pause(database); !status) return status;
  for (auto& [key, pool] : pools_) {
    if (key.database != database) continue;
    std::vector<Client*> clients;
    for (std::size_t state = 0; state < pool::kClientStates; ++state) {
      if (static_cast<ClientState>(state) == ClientState::Closing) continue;
      pool->clients(static_cast<ClientState>(state)).for_each([&](Client& client) {
        clients.push_back(&client);
      });
    }
    for (Client* client : clients) client->close_with_error("57P01", "killed at the console");
    close_servers(*pool, "killed at the console");
    pool->mark_dirty();
  }
  return Ok{};
}

bool Proxy::paused_with_servers(const std::string& database) const {
  return std::any_of(pools_.begin(), pools_.end(), [&](const auto& entry) {
    return (database.empty() || entry.first.database == database) &&
           entry.second->pool().paused() && entry.second->has_servers();
  });
}

void Proxy::set_console(std::string version, std::function<void()> reload) {
  version_ = std::move(version);
  reload_ = std::move(reload);
}

// Between two turns: a client that asks is in the middle of one.
void Proxy::ask_reload() {
  loop_.post([this] {
    if (reload_ && !closed()) reload_();
  });
}

void Proxy::look_at_server_files() {
  std::set<std::string> files;
  for (const config::Database& database : config_.databases) {
    files.merge(files_of(database.server));
  }
  secret_watch_.look(files);
}

void Proxy::look_at_listeners() {
  if (closed()) return;
  const bool lost = listeners_.lost_unix();
  const Status found = listeners_.find_unix_again();
  if (lost && found) log::warn("the Unix socket was gone, and is made anew");
  if (!found && !std::exchange(lost_unix_, true)) {
    log::error("the Unix socket is gone", {{"error", found.error().message}});
  }
  if (found) lost_unix_ = false;
}

void Proxy::server_file_changed(const std::string& path) {
  if (closed()) return;
  log::info("a file with which servers are opened has changed", {{"file", path}});
  server_files_.changed(path);
  for (auto& [key, pool] : pools_) {
    if (!pool->retired() && files_of(pool->settings().server).contains(path)) pool->open_anew();
  }
  database_check_.file_changed(path);
}

void Proxy::begin_drain() {
  life_ = std::max(life_, Life::Drains);
  for (auto& [key, pool] : pools_) {
    pool->pool().set_draining(true);
    pool->mark_dirty();
  }
}

void Proxy::end_clients() {
  life_ = std::max(life_, Life::EndsClients);
  for (auto& [key, pool] : pools_) {
    for (const ClientState state : {ClientState::Authenticating, ClientState::Idle}) {
      pool->clients(state).for_each(
          [](Client& client) { client.close_with_error("57P01", "Carpool is shutting down"); });
    }
    pool->clients(ClientState::Waiting).for_each([](Client& client) {
      if (client.awaits_greeting()) client.close_with_error("57P01", "Carpool is shutting down");
    });
    pool->clients(ClientState::Attached).for_each([](Client& client) {
      client.server()->look_at_lease();
    });
  }
  startup_clients_.for_each([](Client& client) { client.close(); });
  clients_on_trial_.for_each([](Client& client) { client.close(); });
}

// ---- observing

pool::Snapshot Proxy::snapshot(bool detailed) {
  const Micros now = loop_.now_us();
  pool::Snapshot snapshot;
  for (const auto& [key, pool] : pools_) snapshot.pools.push_back(pool->snapshot(now));
  snapshot.clients = client_count();
  snapshot.clients_max = config_.listen.clients_max;
  snapshot.clients_rejected = rejected_;
  snapshot.memory_used_bytes = memory_.used_bytes();
  snapshot.memory_limit_bytes = memory_.limit_bytes();
  snapshot.client_connects = client_connects_;
  snapshot.accept_paused = accept_paused_;
  snapshot.cancels = cancels_.size();
  snapshot.draining = draining();
  snapshot.paused = pauses_.all();
  const std::set<std::string>& told_apart = pauses_.exceptions();
  (pauses_.all() ? snapshot.resumed_databases : snapshot.paused_databases)
      .assign(told_apart.begin(), told_apart.end());
  snapshot.uptime_us = now - started_us_;
  // Who holds servers is listed without being asked for, since it says why others wait: so many are
  // few, and thousands of idle clients cost nothing.
  for (const auto& [key, pool] : pools_) {
    if (detailed || pool->clients(ClientState::Waiting).empty()) continue;
    pool->pool().for_each_slot([&](pool::Slot& slot) {
      Client* client = static_cast<Server&>(slot).client();
      if (client != nullptr) snapshot.client_list.push_back(client->snapshot(now));
    });
  }
  if (!detailed) return snapshot;
  for (const auto& [id, client] : clients_) snapshot.client_list.push_back(client->snapshot(now));
  for (const auto& [key, pool] : pools_) {
    pool->pool().for_each_slot([&](pool::Slot& slot) {
      snapshot.server_list.push_back(static_cast<Server&>(slot).snapshot(now));
    });
  }
  return snapshot;
}

void Proxy::log_stats() {
  for (const auto& [key, pool] : pools_) {
    const pool::PoolSnapshot now = pool->snapshot(loop_.now_us());
    const auto servers = [&](SlotState state) {
      return now.servers[static_cast<std::size_t>(state)];
    };
    const auto clients = [&](ClientState state) {
      return now.clients[static_cast<std::size_t>(state)];
    };
    log::info("pool", {{"database", now.database},
                       {"user", now.user},
                       {"size", now.size},
                       {"servers_idle", servers(SlotState::Idle)},
                       {"servers_leased", servers(SlotState::Leased)},
                       {"servers_connecting", servers(SlotState::Connecting)},
                       {"clients_idle", clients(ClientState::Idle)},
                       {"clients_attached", clients(ClientState::Attached)},
                       {"clients_waiting", clients(ClientState::Waiting)},
                       {"oldest_wait_ms", now.oldest_waiter_us / kMicrosPerMilli},
                       {"queries", now.counters.queries},
                       {"transactions", now.counters.transactions},
                       {"acquire_timeouts", now.counters.acquire_timeouts},
                       {"server_connects", now.counters.server_connects}});
  }
}

}  // namespace carpool::proxy
