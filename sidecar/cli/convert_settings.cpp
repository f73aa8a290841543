#include <fmt/format.h>

#include <cstdlib>
#include <utility>

#include "cli/convert_names.h"
#include "cli/convert_parts.h"
#include "config/keys.h"

namespace carpool::cli {
namespace {

bool is_off(const std::string& value) {
  return value == "0" || value == "off" || value == "no" || value == "false";
}

// Where PgBouncer's default is another than ours, it is written out.
void set_defaults(const std::vector<IniEntry>& ini, Draft& draft) {
  for (const Default& standard : kDefaults) {
    if (find_setting(ini, standard.theirs) != nullptr) continue;
    draft.carry(draft.lines, standard.ours, standard.as, standard.value,
                fmt::format("PgBouncer's default of {}", standard.theirs));
    draft.carried--;
  }
  if (is_off(setting_or(ini, "log_stats", "1"))) {
    draft.lines["log.statsInterval"] = {"0s", "log_stats = 0"};
  }
  if (setting_or(ini, "verbose", "0") != "0") draft.lines["log.level"] = {"debug", "verbose"};
}

// A reserve pool that is off, for all databases and all that they say of it: where its timeout is
// 0. Where nobody has one, its timeout says nothing.
void convert_reserve(const std::vector<IniEntry>& ini, Draft& draft) {
  const std::string timeout = setting_or(ini, "reserve_pool_timeout", "5");
  const bool off = std::strtod(timeout.c_str(), nullptr) == 0 && !is_variable(timeout);
  bool any = false;
  const auto settle = [&](Lines& lines, const std::string& where) {
    const auto line = lines.find("pool.overflow");
    if (line == lines.end()) return;
    if (off && line->second.text != "0") {
      draft.note(fmt::format("{}{}: reserve_pool_timeout = 0 switches the reserve pool off", where,
                             one_line(line->second.from)));
      draft.carried--;
    }
    if (off) lines.erase(line);
    any = any || !off;
  };
  settle(draft.lines, "");
  for (Draft::Database& database : draft.databases) {
    settle(database.lines, fmt::format("[databases] {}: ", one_line(database.name)));
  }
  if (!any) draft.lines.erase("pool.overflowAfter");
}

void convert_pairs(const std::vector<IniEntry>& ini, Draft& draft) {
  const std::string wait = setting_or(ini, "query_wait_timeout", "");
  if (wait == "0") {
    draft.lines["pool.acquireTimeout"] = {"365d", "query_wait_timeout = 0, which is for ever"};
    draft.carried++;
  } else if (!wait.empty()) {
    draft.carry(draft.lines, "pool.acquireTimeout", As::Seconds, wait, "query_wait_timeout");
  }
  const std::string prepared = setting_or(ini, "max_prepared_statements", "");
  if (prepared == "0") {
    draft.note("max_prepared_statements = 0: prepared statements are always followed");
  } else if (!prepared.empty()) {
    draft.carry(draft.lines, "pool.preparedStatementsMax", As::Text, prepared,
                "max_prepared_statements");
  }
  const std::string tls = setting_or(ini, "client_tls_sslmode", "");
  if (tls.empty()) return;
  const bool verifies = tls.starts_with("verify");
  draft.carry(draft.lines, "listen.tls.mode", As::Text,
              tls == "prefer" ? "allow"
              : verifies      ? "require"
                              : tls,
              fmt::format("client_tls_sslmode = {}", one_line(tls)));
  if (verifies) {
    draft.note(
        fmt::format("client_tls_sslmode = {}: listen.tls.caFile asks for a client's certificate; "
                    "its name is not compared with the user's",
                    one_line(tls)));
  }
}

void convert_listen(const std::vector<IniEntry>& ini, Draft& draft) {
  const std::string addresses = setting_or(ini, "listen_addr", "");
  const std::string first = addresses.substr(0, addresses.find(','));
  const bool local =
      first.empty() || first == "localhost" || first == "127.0.0.1" || first == "::1";
  draft.lines["listen.address"] = {yaml_text(first == "::1" ? "::1" : "127.0.0.1"), "listen_addr"};
  if (local && addresses.find(',') == std::string::npos) return;
  draft.note(
      fmt::format("listen_addr = {}: a sidecar listens on loopback, for its own pod. To serve "
                  "others, set listen.address; it takes one address",
                  one_line(addresses)));
}

// No part of a pod's file system is shared by its containers, unless a volume is.
void convert_socket(const std::vector<IniEntry>& ini, Draft& draft) {
  const std::string folder = setting_or(ini, "unix_socket_dir", "");
  if (folder.empty()) return;
  draft.note(fmt::format(
      "unix_socket_dir = {}: a socket needs a folder that application and sidecar both "
      "mount: `carpool.socket: true` in the chart and listen.unixSocketDir: /run/carpool",
      one_line(folder)));
}

}  // namespace

void convert_lifetime(const std::string& value, const std::string& where, Lines& lines,
                      Draft& draft) {
  if (std::strtod(value.c_str(), nullptr) != 0 || value.empty() || is_variable(value)) {
    return draft.carry(lines, "pool.maxLifetime", As::Seconds, value, "server_lifetime");
  }
  const std::string from = "server_lifetime = 0";
  for (const auto& [path, shortest] :
       {std::pair("pool.maxLifetime", "1s"), std::pair("pool.idleTimeout", "100ms"),
        std::pair("pool.pruneInterval", "10ms")}) {
    Draft::replace(lines, path, shortest, from);
  }
  Draft::replace(lines, "pool.minIdle", "0", from);
  draft.carried++;
  draft.note(
      fmt::format("{}{}: PgBouncer uses a server once. Carpool closes it when it has been idle "
                  "for 100 ms, or is 1 s old; until then it is lent again",
                  where, from));
}

void convert_setting(const IniEntry& entry, Draft& draft) {
  if (entry.key.starts_with("max_") && entry.value == "0" && why_not(entry.key) != nullptr) {
    return;  // no limit, and nor have we one
  }
  if (const Same* same = find_same(entry.key)) {
    if (entry.value.empty() && config::find_key(same->ours)->type != config::KeyType::String)
      return;
    return draft.carry(draft.lines, same->ours, same->as, entry.value, entry.key);
  }
  if (is_converted_apart(entry.key)) return;
  const char* why = why_not(entry.key);
  draft.note(fmt::format("{} = {}: {}", entry.key, one_line(entry.value),
                         why != nullptr ? why : "a setting that this converter does not know"));
}

void convert_settings_together(const std::vector<IniEntry>& ini, Draft& draft) {
  set_defaults(ini, draft);
  convert_reserve(ini, draft);
  if (const IniEntry* lifetime = find_setting(ini, "server_lifetime")) {
    convert_lifetime(lifetime->value, "", draft.lines, draft);
  }
  convert_pairs(ini, draft);
  convert_listen(ini, draft);
  convert_socket(ini, draft);
}

}  // namespace carpool::cli
