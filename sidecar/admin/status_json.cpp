#include "admin/status_json.h"

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numeric>

#include "admin/diagnosis.h"
#include "admin/level.h"
#include "admin/percentile.h"
#include "admin/text.h"

namespace carpool::admin {
namespace {

using Json = nlohmann::ordered_json;
using pool::ClientState;
using pool::Histogram;
using pool::PoolSnapshot;

constexpr std::size_t kQueryBytes_max = 500;  // a cut character becomes U+FFFD

// Six decimals are microseconds, which is all that is measured.
double rounded(double value) {
  return std::round(value * 1e6) / 1e6;
}

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <typename Values, typename Names>
Json by_name(const Values& values, const Names& names) {
  Json out = Json::object();
  for (std::size_t i = 0; i < names.size(); i++) out[names[i]] = values[i];
  return out;
}

template <typename Values>
std::uint64_t sum(const Values& values) {
  return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

// With their sum.
template <typename Values, typename Names>
Json states(const Values& values, const Names& names) {
  Json out = by_name(values, names);
  out["total"] = sum(values);
  return out;
}

Json times(const Histogram& histogram) {
  const double count = static_cast<double>(histogram.count);
  const double total = seconds(static_cast<Micros>(histogram.sum_us));
  return {{"count", histogram.count},
          {"mean", count > 0 ? rounded(total / count) : 0},
          {"p50", rounded(percentile_seconds(histogram, 0.50))},
          {"p95", rounded(percentile_seconds(histogram, 0.95))},
          {"p99", rounded(percentile_seconds(histogram, 0.99))}};
}

std::uint32_t waiting(const PoolSnapshot& pool) {
  return pool.clients[static_cast<std::size_t>(ClientState::Waiting)];
}

std::uint64_t errors(const PoolSnapshot& pool) {
  std::uint64_t total = 0;
  for (const auto& [sqlstate_class, count] : pool.counters.errors_by_class) total += count;
  return total;
}

Json counters(const PoolSnapshot& pool) {
  const pool::PoolCounters& c = pool.counters;
  Json by_class = Json::object();
  for (const auto& [sqlstate_class, count] : c.errors_by_class) {
    by_class[valid_utf8(sqlstate_class)] = count;
  }
  return {{"transactions", c.transactions},
          {"queries", c.queries},
          {"waits", c.waits},
          {"acquireTimeouts", c.acquire_timeouts},
          {"errors", errors(pool)},
          {"errorsBySqlstateClass", std::move(by_class)},
          {"clientsRejected", by_name(c.clients_rejected, pool::kRejectReasonNames)},
          {"serverConnects", c.server_connects},
          {"serverConnectErrors", by_name(c.connect_errors, pool::kConnectErrorNames)},
          {"pins", by_name(c.pins, pool::kPinCauseNames)},
          {"bytesFromClients", c.bytes_from_clients},
          {"bytesToClients", c.bytes_to_clients},
          {"preparesForwarded", c.prepares_forwarded},
          {"preparesReused", c.prepares_reused}};
}

Json pool_json(const PoolSnapshot& pool) {
  return {{"database", pool.database},
          {"user", pool.user},
          {"mode", pool.mode},
          {"level", level_name(level_of(pool))},
          {"size", pool.size},
          {"minIdle", pool.min_idle},
          {"overflow", pool.overflow},
          {"busy", busy_servers(pool)},
          {"utilisation", rounded(utilisation(pool))},
          {"servers", states(pool.servers, pool::kSlotStateNames)},
          {"clients", states(pool.clients, pool::kClientStateNames)},
          {"waiting", waiting(pool)},
          {"oldestWaiterSeconds", rounded(seconds(pool.oldest_waiter_us))},
          {"paused", pool.paused},
          {"connectingFails", pool.connecting_fails},
          {"lastConnectError", pool.last_connect_error},
          {"waitSeconds", times(pool.counters.wait)},
          {"querySeconds", times(pool.counters.query)},
          {"transactionSeconds", times(pool.counters.transaction)},
          {"serverConnectSeconds", times(pool.counters.server_connect)},
          {"preparedStatements", pool.prepared_statements},
          {"preparedStatementBytes", pool.prepared_statement_bytes},
          {"counters", counters(pool)}};
}

Json recent_json(const Recent& recent) {
  return {{"seconds", rounded(recent.seconds)},
          {"transactionsPerSecond", rounded(recent.transactions_per_second)},
          {"queriesPerSecond", rounded(recent.queries_per_second)},
          {"errorsPerSecond", rounded(recent.errors_per_second)},
          {"waitSeconds", times(recent.wait)},
          {"querySeconds", times(recent.query)},
          {"transactionSeconds", times(recent.transaction)}};
}

Json totals(const std::vector<PoolSnapshot>& pools) {
  std::uint64_t size = 0, servers = 0, busy = 0, in_queue = 0, transactions = 0, queries = 0,
                failed = 0;
  Micros oldest_us = 0;
  for (const PoolSnapshot& pool : pools) {
    size += pool.size;
    servers += sum(pool.servers);
    busy += busy_servers(pool);
    in_queue += waiting(pool);
    oldest_us = std::max(oldest_us, pool.oldest_waiter_us);
    transactions += pool.counters.transactions;
    queries += pool.counters.queries;
    failed += errors(pool);
  }
  return {{"pools", pools.size()},
          {"size", size},
          {"servers", servers},
          {"busy", busy},
          {"waiting", in_queue},
          {"oldestWaiterSeconds", rounded(seconds(oldest_us))},
          {"transactions", transactions},
          {"queries", queries},
          {"errors", failed}};
}

Json client_json(const pool::ClientSnapshot& client) {
  return {{"id", client.id},
          {"database", client.database},
          {"user", client.user},
          {"applicationName", client.application_name},
          {"address", client.address},
          {"state", client.state},
          {"inStateSeconds", rounded(seconds(client.in_state_us))},
          {"pinnedBy", client.pinned_by},
          {"pinnedSeconds", rounded(seconds(client.pinned_us))},
          {"query", client.query.substr(0, kQueryBytes_max)}};
}

Json server_json(const pool::ServerSnapshot& server) {
  return {{"id", server.id},
          {"database", server.database},
          {"user", server.user},
          {"address", server.address},
          {"backendPid", server.backend_pid},
          {"state", server.state},
          {"inStateSeconds", rounded(seconds(server.in_state_us))},
          {"ageSeconds", rounded(seconds(server.age_us))},
          {"clientId", server.client_id}};
}

}  // namespace

std::string status_json(const pool::Snapshot& snapshot, const std::string& version,
                        const StatusExtras& extras) {
  Json out = {{"version", version},
              {"level", level_name(level_of(snapshot))},
              {"uptimeSeconds", rounded(seconds(snapshot.uptime_us))},
              {"draining", snapshot.draining},
              {"paused", snapshot.paused},
              {"pausedDatabases", snapshot.paused_databases},
              {"resumedDatabases", snapshot.resumed_databases},
              {"clients",
               {{"connected", snapshot.clients},
                {"max", snapshot.clients_max},
                {"accepted", snapshot.client_connects},
                {"acceptPaused", snapshot.accept_paused},
                {"rejected", by_name(snapshot.clients_rejected, pool::kRejectReasonNames)}}},
              {"totals", totals(snapshot.pools)},
              {"pools", Json::array()}};
  for (const PoolSnapshot& pool : snapshot.pools) {
    Json& entry = out["pools"].emplace_back(pool_json(pool));
    if (extras.history != nullptr) {
      const auto recent = extras.history->last_minute(pool, extras.now_us);
      if (recent) entry["lastMinute"] = recent_json(*recent);
    }
    const Diagnosis why = diagnose(pool, snapshot);
    if (!why.cause.empty()) {
      entry["why"] = {{"cause", why.cause}, {"sentence", why.sentence}, {"setting", why.setting}};
    }
  }
  if (extras.lists) {
    Json& clients = out["clientList"] = Json::array();
    for (const auto& client : snapshot.client_list) clients.push_back(client_json(client));
    Json& servers = out["serverList"] = Json::array();
    for (const auto& server : snapshot.server_list) servers.push_back(server_json(server));
  }
  return dumped(out);
}

std::string config_json(const ConfigView& config) {
  Json effective = Json::parse(config.effective_json, nullptr, false);
  if (effective.is_discarded()) effective = Json::object();
  return dumped({{"hash", config.hash},
                 {"source", config.source},
                 {"ageSeconds", rounded(seconds(config.age_us))},
                 {"lastResult", config.last_result},
                 {"lastReloadSuccessful", config.last_reload_successful},
                 {"lastSuccessUnixSeconds", config.last_success_unix_seconds},
                 {"errors", config.errors},
                 {"warnings", config.warnings},
                 {"applied", config.applied},
                 {"needsRestart", config.needs_restart},
                 {"late", config.late},
                 {"credentialsLastReloadSuccessful", config.credentials_last_reload_successful},
                 {"reloads",
                  {{"applied", config.reloads_applied},
                   {"rejected", config.reloads_rejected},
                   {"unchanged", config.reloads_unchanged}}},
                 {"watch", config.watch},
                 {"effective", std::move(effective)}});
}

}  // namespace carpool::admin
