#include <fmt/format.h>

#include "cli/convert_names.h"
#include "cli/convert_parts.h"
#include "config/keys.h"

namespace carpool::cli {
namespace {

// Where PgBouncer's default is another than ours, it is written out.
void set_defaults(const std::vector<IniEntry>& ini, Draft& draft) {
  for (const Default& standard : kDefaults) {
    if (find_setting(ini, standard.theirs) != nullptr) continue;
    draft.carry(draft.lines, standard.ours, standard.as, standard.value,
                fmt::format("PgBouncer's default of {}", standard.theirs));
    draft.carried--;
  }
  // Its reserve pool is off where reserve_pool_timeout is 0.
  if (setting_or(ini, "reserve_pool_timeout", "5") == "0") draft.lines.erase("pool.overflow");
  if (setting_or(ini, "log_stats", "1") == "0")
    draft.lines["log.statsInterval"] = {"0s", "log_stats = 0"};
  if (setting_or(ini, "verbose", "0") != "0") draft.lines["log.level"] = {"debug", "verbose"};
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

}  // namespace

void convert_setting(const IniEntry& entry, Draft& draft) {
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
  convert_pairs(ini, draft);
  convert_listen(ini, draft);
}

}  // namespace carpool::cli
