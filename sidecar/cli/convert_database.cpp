#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "cli/convert_names.h"
#include "cli/convert_parts.h"

namespace carpool::cli {
namespace {

// A name as part of a file name.
std::string file_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    out += plain ? c : '_';
  }
  return out == "_" && name == "*" ? "any" : out;
}

// What is no number is no limit, and noted as every limit is.
std::optional<std::uint64_t> connections(const std::string& value) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) return std::nullopt;
  return number;
}

void convert_pair(Draft& draft, Lines& lines, const std::string& name, const std::string& key,
                  const std::string& value, std::string& options) {
  const std::string from = fmt::format("[databases] {}: {}", one_line(name), key);
  if (key == "server_lifetime") return;  // see convert_database()
  if (const Same* same = find_same_of_database(key)) {
    return draft.carry(lines, same->ours, same->as, value, key);
  }
  if (key == "password") {
    lines["server.passwordFile"] = {
        yaml_text(fmt::format("{}/{}-password", kSecretDirectory, file_name(name))),
        "password: put it into the Secret"};
    draft.carried++;
    return;
  }
  if (key == "client_encoding" || key == "datestyle" || key == "timezone" ||
      key == "application_name") {
    std::string escaped;  // as the backend takes its options apart
    for (const char c : value) {
      if (c == ' ' || c == '\\') escaped += '\\';
      escaped += c;
    }
    options += fmt::format("{}-c {}={}", options.empty() ? "" : " ", key, escaped);
    return;
  }
  if (key == "load_balance_hosts") {
    if (value != "disable" && value != "round-robin") {
      draft.note(
          fmt::format("{} = {}: a value that this converter does not know", from, one_line(value)));
    }
    return;  // the hosts say it
  }
  if (key.starts_with("max_") && value == "0") return;  // no limit, and nor have we one
  const char* why = why_not_of_database(key);
  draft.note(fmt::format("{} = {}: {}", from, one_line(value),
                         why != nullptr ? why : "a setting that this converter does not know"));
}

}  // namespace

std::optional<Error> convert_database(const IniEntry& entry, Draft& draft) {
  const Result<ConnectPairs> pairs = parse_connect_string(entry.value);
  if (!pairs) {
    return Error{fmt::format("line {}: {}", entry.line, pairs.error().message)};
  }
  const std::string& name = entry.key;
  std::erase_if(draft.databases, [&](const Draft::Database& other) { return other.name == name; });
  Draft::Database database{name, {}, false, {}};
  std::string options;
  bool has_host = false;
  bool has_password = false;
  bool several = false;
  bool in_order = false;
  for (const auto& [key, value] : *pairs) {
    convert_pair(draft, database.lines, name, key, value, options);
    has_host = has_host || (key == "host" && !value.empty());
    has_password = has_password || key == "password";
    several = several || (key == "host" && value.find(',') != std::string::npos);
    in_order = in_order || (key == "load_balance_hosts" && value == "disable");
    if (key == "max_db_connections") database.connections_max = connections(value);
    database.own_user = database.own_user || (key == "user" && !value.empty());
  }
  // Last, since it decides how many stay idle too.
  for (const auto& [key, value] : *pairs) {
    if (key == "server_lifetime") {
      convert_lifetime(value, fmt::format("[databases] {}: ", one_line(name)), database.lines,
                       draft);
    }
  }
  if (!options.empty()) {
    draft.carry(database.lines, "server.options", As::Text, options, "the session's settings");
  }
  if (several && !in_order) {
    draft.note(
        fmt::format("[databases] {}: host: PgBouncer opens its connections to several hosts in "
                    "turn (round-robin). Carpool takes the first host that answers and is as "
                    "server.targetSessionAttrs asks",
                    one_line(name)));
  }
  if (!has_host) {
    database.lines["server.host"] = {yaml_text("/var/run/postgresql"), "no host: the Unix socket"};
  }
  if (database.own_user && !has_password) {
    database.lines["server.passwordFile"] = {
        yaml_text(fmt::format("{}/{}-password", kSecretDirectory, file_name(name))),
        "the userlist, which had the user's password: put it into the Secret"};
  }
  if (database.own_user) {
    draft.note(
        fmt::format("[databases] {}: user: all its clients shared one pool. Carpool has one for "
                    "each name under which clients come; pool.size holds for each",
                    one_line(name)));
  }
  draft.databases.push_back(std::move(database));
  return std::nullopt;
}

}  // namespace carpool::cli
