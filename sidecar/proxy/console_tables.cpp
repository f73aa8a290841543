#include "proxy/console_tables.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <ctime>
#include <set>
#include <utility>
#include <vector>

#include "config/conninfo.h"
#include "config/keys.h"
#include "config/text.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

using pg::Column;
using pg::ResultTable;
using pool::ClientState;
using pool::PoolSnapshot;
using pool::SlotState;

constexpr const char* kVersion = "PgBouncer 1.18.0";
constexpr auto kInt = pg::ColumnType::Int8;

std::string text(std::uint64_t value) {
  return fmt::format("{}", value);
}

std::uint32_t servers(const PoolSnapshot& pool, SlotState state) {
  return pool.servers[static_cast<std::size_t>(state)];
}
std::uint32_t clients(const PoolSnapshot& pool, ClientState state) {
  return pool.clients[static_cast<std::size_t>(state)];
}

// Servers that hold a connection.
std::uint64_t connected(const PoolSnapshot& pool) {
  std::uint64_t sum = 0;
  for (const SlotState state :
       {SlotState::Idle, SlotState::Leased, SlotState::Resetting, SlotState::Canceling}) {
    sum += servers(pool, state);
  }
  return sum;
}

ResultTable pools(const ConsoleView& view) {
  ResultTable table({{"database"},
                     {"user"},
                     {"cl_active", kInt},
                     {"cl_waiting", kInt},
                     {"cl_active_cancel_req", kInt},
                     {"cl_waiting_cancel_req", kInt},
                     {"sv_active", kInt},
                     {"sv_active_cancel", kInt},
                     {"sv_being_canceled", kInt},
                     {"sv_idle", kInt},
                     {"sv_used", kInt},
                     {"sv_tested", kInt},
                     {"sv_login", kInt},
                     {"maxwait", kInt},
                     {"maxwait_us", kInt},
                     {"pool_mode"}});
  for (const PoolSnapshot& pool : view.snapshot.pools) {
    // PgBouncer counts a client that asks for nothing as active.
    const auto active =
        std::uint64_t{clients(pool, ClientState::Idle)} + clients(pool, ClientState::Attached);
    const auto wait = static_cast<std::uint64_t>(pool.oldest_waiter_us);
    table.add({pool.database, pool.user, text(active), text(clients(pool, ClientState::Waiting)),
               "0", "0", text(servers(pool, SlotState::Leased)), "0",
               text(servers(pool, SlotState::Canceling)), text(servers(pool, SlotState::Idle)), "0",
               text(servers(pool, SlotState::Resetting)),
               text(servers(pool, SlotState::Connecting)), text(wait / kMicrosPerSecond),
               text(wait % kMicrosPerSecond), pool.mode});
  }
  return table;
}

std::vector<std::string> as_row(const std::string& database, const ConsoleTotals& totals) {
  return {
      database,          text(totals.transactions),   text(totals.queries),  text(totals.received),
      text(totals.sent), text(totals.transaction_us), text(totals.query_us), text(totals.wait_us)};
}

ResultTable stats(const ConsoleView& view) {
  ResultTable table({{"database"},
                     {"total_xact_count", kInt},
                     {"total_query_count", kInt},
                     {"total_received", kInt},
                     {"total_sent", kInt},
                     {"total_xact_time", kInt},
                     {"total_query_time", kInt},
                     {"total_wait_time", kInt},
                     {"avg_xact_count", kInt},
                     {"avg_query_count", kInt},
                     {"avg_recv", kInt},
                     {"avg_sent", kInt},
                     {"avg_xact_time", kInt},
                     {"avg_query_time", kInt},
                     {"avg_wait_time", kInt},
                     // Before PgBouncer 1.8 total_query_count had this name, and Debian's
                     // prometheus-pgbouncer-exporter still asks for it.
                     {"total_requests", kInt}});
  for (const auto& [database, totals] : totals_of(view.snapshot)) {
    std::vector<std::string> row = as_row(database, totals);
    const std::vector<std::string> averages =
        as_row(database, view.averages.of(database, totals, view.now));
    row.insert(row.end(), averages.begin() + 1, averages.end());
    row.push_back(text(totals.queries));
    table.add(std::move(row));
  }
  return table;
}

// STATS_TOTALS and STATS_AVERAGES have the same columns.
ResultTable stats_part(const ConsoleView& view, bool averages) {
  ResultTable table({{"database"},
                     {"xact_count", kInt},
                     {"query_count", kInt},
                     {"bytes_received", kInt},
                     {"bytes_sent", kInt},
                     {"xact_time", kInt},
                     {"query_time", kInt},
                     {"wait_time", kInt}});
  for (const auto& [database, totals] : totals_of(view.snapshot)) {
    table.add(as_row(database, averages ? view.averages.of(database, totals, view.now) : totals));
  }
  return table;
}

std::vector<Column> connection_columns() {
  return {{"type"},
          {"user"},
          {"database"},
          {"state"},
          {"addr"},
          {"port", kInt},
          {"local_addr"},
          {"local_port", kInt},
          {"connect_time"},
          {"request_time"},
          {"wait", kInt},
          {"wait_us", kInt},
          {"close_needed", kInt},
          {"ptr"},
          {"link"},
          {"remote_pid", kInt},
          {"tls"},
          {"application_name"}};
}

struct Peer {
  std::string address;
  std::string port;
};

// "127.0.0.1:5000", "[::1]:5000" or "unix".
Peer peer_of(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {address, "0"};
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const std::string port = address.substr(colon + 1);
  const bool digits = !port.empty() && port.find_first_not_of("0123456789") == std::string::npos;
  return digits ? Peer{host, port} : Peer{address, "0"};
}

std::string when(const ConsoleView& view, Micros ago_us) {
  const auto at = static_cast<std::time_t>(view.unix_seconds - seconds(ago_us));
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(at));
}

std::string pointer(char kind, std::uint64_t id) {
  return id == 0 ? "" : fmt::format("{}{:#x}", kind, id);
}

ResultTable client_list(const ConsoleView& view) {
  ResultTable table(connection_columns());
  for (const pool::ClientSnapshot& client : view.snapshot.client_list) {
    const Peer peer = peer_of(client.address);
    const bool waits = client.state == "waiting";
    const auto wait = static_cast<std::uint64_t>(waits ? client.in_state_us : 0);
    std::string link;
    for (const pool::ServerSnapshot& server : view.snapshot.server_list) {
      if (server.client_id == client.id) link = pointer('S', server.id);
    }
    table.add({"C", client.user, client.database,
               waits                                                           ? "waiting"
               : client.state == "startup" || client.state == "authenticating" ? "login"
                                                                               : "active",
               peer.address, peer.port, view.config.listen.address, text(view.config.listen.port),
               when(view, client.age_us), when(view, client.in_state_us),
               text(wait / kMicrosPerSecond), text(wait % kMicrosPerSecond), "0",
               pointer('C', client.id), link, "0", "", client.application_name});
  }
  return table;
}

ResultTable server_list(const ConsoleView& view) {
  ResultTable table(connection_columns());
  for (const pool::ServerSnapshot& server : view.snapshot.server_list) {
    const Peer peer = peer_of(server.address);
    const char* state = server.state == "leased"       ? "active"
                        : server.state == "connecting" ? "login"
                        : server.state == "resetting"  ? "tested"
                        : server.state == "canceling"  ? "being_canceled"
                        : server.state == "closing"    ? "close"
                                                       : "idle";
    table.add({"S", server.user, server.database, state, peer.address, peer.port, "", "0",
               when(view, server.age_us), when(view, server.in_state_us), "0", "0",
               server.state == "closing" ? "1" : "0", pointer('S', server.id),
               pointer('C', server.client_id), text(static_cast<std::uint64_t>(server.backend_pid)),
               "", ""});
  }
  return table;
}

constexpr const char* kModeNames[] = {"session", "transaction", "statement"};

// The names of the file, and those that somebody asked for and "*" matched.
std::set<std::string> database_names(const ConsoleView& view) {
  std::set<std::string> names;
  for (const config::Database& database : view.config.databases) {
    if (database.name != "*") names.insert(database.name);
  }
  for (const PoolSnapshot& pool : view.snapshot.pools) names.insert(pool.database);
  names.insert(view.snapshot.paused_databases.begin(), view.snapshot.paused_databases.end());
  return names;
}

// Where the servers of a database are, as the url and the keys beside it say.
struct Where {
  std::string host;
  std::string port;  // a number: of several the first
  std::string database;
  std::string user;  // empty: each client's own
};

Where where_of(const config::Server& server, const std::string& name) {
  Result<config::UrlParts> parts = config::conninfo_of(server, libpq_at_hand());
  if (!parts) return {server.host, text(server.port), name, server.user};
  const auto get = [&](const char* parameter) { return (*parts)[parameter]; };
  Where where{get("host"), get("port"), get("dbname"), get("user")};
  if (where.host.empty()) where.host = get("hostaddr");
  where.port = config::split_list(where.port).front();
  if (where.port.empty()) where.port = text(config::Server{}.port);
  if (where.database.empty()) where.database = name;
  return where;
}

ResultTable databases(const ConsoleView& view) {
  ResultTable table({{"name"},
                     {"host"},
                     {"port", kInt},
                     {"database"},
                     {"force_user"},
                     {"pool_size", kInt},
                     {"min_pool_size", kInt},
                     {"reserve_pool", kInt},
                     {"pool_mode"},
                     {"max_connections", kInt},
                     {"current_connections", kInt},
                     {"paused", kInt},
                     {"disabled", kInt}});
  for (const std::string& name : database_names(view)) {
    const config::Database* settings = view.config.find_database(name);
    if (settings == nullptr) continue;  // its pool serves the clients that it has
    std::uint64_t current = 0;
    const bool paused = view.snapshot.is_paused(name);
    for (const PoolSnapshot& pool : view.snapshot.pools) {
      if (pool.database != name) continue;
      current += connected(pool);
    }
    const Where where = where_of(settings->server, name);
    table.add({name, where.host, where.port, where.database, where.user, text(settings->pool.size),
               text(settings->pool.min_idle), text(settings->pool.overflow),
               kModeNames[static_cast<std::size_t>(settings->pool.mode)], "0", text(current),
               paused ? "1" : "0", "0"});
  }
  return table;
}

ResultTable users(const ConsoleView& view) {
  ResultTable table({{"name"}, {"pool_mode"}});
  std::set<std::string> names(view.config.admin.users.begin(), view.config.admin.users.end());
  for (const PoolSnapshot& pool : view.snapshot.pools) names.insert(pool.user);
  for (const std::string& name : names) table.add({name, ""});
  return table;
}

ResultTable lists(const ConsoleView& view) {
  std::uint64_t used_clients = 0;
  std::uint64_t login_clients = 0;
  std::uint64_t free_servers = 0;
  std::uint64_t used_servers = 0;
  std::set<std::string> users;
  for (const PoolSnapshot& pool : view.snapshot.pools) {
    users.insert(pool.user);
    for (const ClientState state : {ClientState::Idle, ClientState::Waiting, ClientState::Attached})
      used_clients += clients(pool, state);
    login_clients += clients(pool, ClientState::Authenticating);
    free_servers += servers(pool, SlotState::Idle);
    used_servers += connected(pool) - servers(pool, SlotState::Idle);
  }
  ResultTable table({{"list"}, {"items", kInt}});
  table.add({"databases", text(database_names(view).size())});
  table.add({"users", text(users.size())});
  table.add({"pools", text(view.snapshot.pools.size())});
  table.add({"free_clients", "0"});
  table.add({"used_clients", text(used_clients)});
  table.add({"login_clients", text(login_clients)});
  table.add({"free_servers", text(free_servers)});
  table.add({"used_servers", text(used_servers)});
  for (const char* name : {"dns_names", "dns_zones", "dns_queries", "dns_pending"}) {
    table.add({name, "0"});
  }
  return table;
}

// PgBouncer's names for what Carpool has too, which exporters look for.
struct Known {
  const char* theirs;
  const char* ours;
};
constexpr std::array<Known, 16> kKnown = {{
    {"admin_users", "admin.users"},
    {"auth_type", "auth.mode"},
    {"default_pool_size", "pool.size"},
    {"idle_transaction_timeout", "pool.idleTransactionTimeout"},
    {"listen_addr", "listen.address"},
    {"listen_port", "listen.port"},
    {"max_client_conn", "listen.clientsMax"},
    {"min_pool_size", "pool.minIdle"},
    {"pool_mode", "pool.mode"},
    {"query_timeout", "pool.queryTimeout"},
    {"query_wait_timeout", "pool.acquireTimeout"},
    {"reserve_pool_size", "pool.overflow"},
    {"reserve_pool_timeout", "pool.overflowAfter"},
    {"server_connect_timeout", "server.connectTimeout"},
    {"server_idle_timeout", "pool.idleTimeout"},
    {"server_lifetime", "pool.maxLifetime"},
}};

// As PgBouncer writes it: times in seconds, lists without brackets.
std::string their_text(const config::Key& key, const config::Value& value) {
  if (key.type == config::KeyType::Duration) {
    return fmt::format("{:g}", seconds(std::get<std::int64_t>(value)));
  }
  if (key.type == config::KeyType::StringList) {
    return fmt::format("{}", fmt::join(std::get<std::vector<std::string>>(value), ", "));
  }
  return config::to_masked_text(key, value);
}

ResultTable config_table(const ConsoleView& view) {
  ResultTable table({{"key"}, {"value"}, {"default"}, {"changeable"}});
  const config::Config standard;
  for (const Known& known : kKnown) {
    const config::Key& key = *config::find_key(known.ours);
    table.add({known.theirs, their_text(key, key.get(view.config)),
               their_text(key, key.get(standard)), key.live ? "yes" : "no"});
  }
  // There are no such limits: 0 is PgBouncer's word for that.
  for (const char* name : {"max_db_connections", "max_user_connections"}) {
    table.add({name, "0", "0", "no"});
  }
  for (const config::Key& key : config::keys()) {
    table.add({key.path, config::to_masked_text(key, key.get(view.config)),
               config::to_masked_text(key, key.get(standard)), key.live ? "yes" : "no"});
  }
  return table;
}

ResultTable version(const ConsoleView& view) {
  ResultTable table({{"version"}});
  table.add({console_version(view.version)});
  return table;
}

ResultTable state(const ConsoleView& view) {
  ResultTable table({{"key"}, {"value"}});
  table.add({"active", view.snapshot.paused ? "no" : "yes"});
  table.add({"paused", view.snapshot.paused ? "yes" : "no"});
  table.add({"suspended", "no"});
  return table;
}

ResultTable totals(const ConsoleView& view) {
  return stats_part(view, false);
}
ResultTable averages(const ConsoleView& view) {
  return stats_part(view, true);
}

constexpr std::array<std::pair<std::string_view, ResultTable (*)(const ConsoleView&)>, 12> kTables =
    {{{"pools", pools},
      {"stats", stats},
      {"stats_totals", totals},
      {"stats_averages", averages},
      {"clients", client_list},
      {"servers", server_list},
      {"databases", databases},
      {"users", users},
      {"lists", lists},
      {"config", config_table},
      {"version", version},
      {"state", state}}};

}  // namespace

TotalsByDatabase totals_of(const pool::Snapshot& snapshot) {
  TotalsByDatabase totals;
  for (const PoolSnapshot& pool : snapshot.pools) {
    ConsoleTotals& sum = totals[pool.database];
    sum.transactions += pool.counters.transactions;
    sum.queries += pool.counters.queries;
    sum.received += pool.counters.bytes_from_clients;
    sum.sent += pool.counters.bytes_to_clients;
    sum.transaction_us += pool.counters.transaction.sum_us;
    sum.query_us += pool.counters.query.sum_us;
    sum.wait_us += pool.counters.wait.sum_us;
  }
  return totals;
}

void ConsoleAverages::end_period(TotalsByDatabase totals, Micros now) {
  from_ = std::move(to_);
  from_us_ = to_us_;
  to_ = std::move(totals);
  to_us_ = now;
}

ConsoleTotals ConsoleAverages::of(const std::string& database, const ConsoleTotals& total,
                                  Micros now) const {
  const bool whole = to_us_ > from_us_;
  const auto find = [&](const TotalsByDatabase& all) {
    const auto found = all.find(database);
    return found == all.end() ? ConsoleTotals{} : found->second;
  };
  const ConsoleTotals before = whole ? find(from_) : ConsoleTotals{};
  const ConsoleTotals after = whole ? find(to_) : total;
  const double elapsed = std::max(seconds(whole ? to_us_ - from_us_ : now - from_us_), 1e-6);
  // A pool that was dropped and made anew counts from zero again.
  const auto grown = [](std::uint64_t a, std::uint64_t b) { return b > a ? b - a : 0; };
  const auto rate = [&](std::uint64_t a, std::uint64_t b) {
    return static_cast<std::uint64_t>(static_cast<double>(grown(a, b)) / elapsed);
  };
  ConsoleTotals average;
  average.transactions = rate(before.transactions, after.transactions);
  average.queries = rate(before.queries, after.queries);
  average.received = rate(before.received, after.received);
  average.sent = rate(before.sent, after.sent);
  const std::uint64_t transactions = grown(before.transactions, after.transactions);
  const std::uint64_t queries = grown(before.queries, after.queries);
  if (transactions > 0) {
    average.transaction_us = grown(before.transaction_us, after.transaction_us) / transactions;
    average.wait_us = grown(before.wait_us, after.wait_us) / transactions;
  }
  if (queries > 0) average.query_us = grown(before.query_us, after.query_us) / queries;
  return average;
}

std::optional<ResultTable> console_table(std::string_view name, const ConsoleView& view) {
  for (const auto& [known, make] : kTables) {
    if (known == name) return make(view);
  }
  return std::nullopt;
}

std::string_view console_help() {
  return "\n\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION"
         "\n\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|LISTS|STATE"
         "\n\tPAUSE [<db>]"
         "\n\tRESUME [<db>]"
         "\n\tRECONNECT [<db>]"
         "\n\tKILL <db>"
         "\n\tRELOAD";
}

std::string console_version(std::string_view version) {
  return fmt::format("{} (Carpool {})", kVersion, version);
}

}  // namespace carpool::proxy
