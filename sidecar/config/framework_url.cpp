#include "config/framework_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "config/libpq.h"
#include "config/text.h"

namespace carpool::config {
namespace {

// The first part of a scheme; behind a `+` stands the driver.
constexpr std::array<std::string_view, 5> kSchemes = {"postgres", "postgresql", "postgis", "psql",
                                                      "pgsql"};

// Known to belong to a framework, though some look like libpq's.
constexpr std::array<std::string_view, 30> kOfFrameworks = {"conn_max_age",
                                                            "conn_health_checks",
                                                            "disable_server_side_cursors",
                                                            "engine",
                                                            "ssl_require",
                                                            "prepared_statement_cache_size",
                                                            "prepared_statement_name_func",
                                                            "statement_cache_size",
                                                            "pool_size",
                                                            "max_overflow",
                                                            "pool_recycle",
                                                            "pool_pre_ping",
                                                            "pool_timeout",
                                                            "pool",
                                                            "schema",
                                                            "pgbouncer",
                                                            "connection_limit",
                                                            "socket_timeout",
                                                            "sslaccept",
                                                            "sslidentity",
                                                            "checkout_timeout",
                                                            "idle_timeout",
                                                            "reaping_frequency",
                                                            "prepared_statements",
                                                            "advisory_locks",
                                                            "encoding",
                                                            "charset",
                                                            "serverVersion",
                                                            "currentSchema",
                                                            "prepareThreshold"};

bool nearly_libpqs(const std::string& name) {
  std::vector<std::string> known;
  for (const LibpqParameter& parameter : libpq_parameters()) known.emplace_back(parameter.name);
  return !nearest_name(name, known).empty();
}

// What is none may be the end of a password with a `?` in it, and is not to be shown.
bool is_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
  });
}

bool is_for_libpq(const std::string& name) {
  if (name == "ssl" || name == kRequireSsl || find_parameter(name) != nullptr) return true;
  return std::find(kOfFrameworks.begin(), kOfFrameworks.end(), name) == kOfFrameworks.end() &&
         nearly_libpqs(name);
}

// asyncpg's `ssl`, whose values are those of libpq's `sslmode`.
std::string_view as_sslmode(std::string_view value) {
  if (value == "true" || value == "True" || value == "1") return "require";
  if (value == "false" || value == "False" || value == "0") return "disable";
  return value;
}

}  // namespace

PlainUrl plain_url(std::string_view url) {
  while (!url.empty() && std::string_view(" \t\r\n").find(url.back()) != std::string_view::npos) {
    url.remove_suffix(1);
  }
  PlainUrl plain;
  const std::size_t colon = url.find("://");
  const std::string_view scheme = url.substr(0, std::min(colon, url.size()));
  const std::size_t plus = std::min(scheme.find('+'), scheme.size());
  if (colon == std::string_view::npos || colon > url.find('=') ||
      std::find(kSchemes.begin(), kSchemes.end(), scheme.substr(0, plus)) == kSchemes.end()) {
    plain.url = url;
    return plain;
  }
  std::string_view rest = url.substr(colon);
  // The `?` of a password is none; a login ends at the first `@` before any `/`.
  std::size_t from = rest.find_first_of("@/", 3);
  if (from == std::string_view::npos || rest[from] == '/') from = 3;
  const std::size_t mark = rest.find('?', from);
  plain.url = scheme == "postgres" ? "postgres" : "postgresql";
  plain.url += rest.substr(0, mark);
  if (mark == std::string_view::npos) return plain;
  const char* joint = "?";
  for (std::string_view query = rest.substr(mark + 1); !query.empty();) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const std::size_t equals = pair.find('=');
    const std::string name(pair.substr(0, equals));
    if (is_name(name) && !is_for_libpq(name)) {
      plain.left_out.push_back(name);
      continue;
    }
    if (name == "ssl" && equals != std::string_view::npos) {
      plain.url += fmt::format("{}sslmode={}", joint, as_sslmode(pair.substr(equals + 1)));
    } else {
      plain.url += fmt::format("{}{}", joint, pair);
    }
    joint = "&";
  }
  return plain;
}

std::string left_out_warning(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  quoted.reserve(names.size());
  for (const std::string& name : names) quoted.push_back(quote(name));
  return fmt::format("{} {} not for libpq and {} left out", enumerate(quoted),
                     names.size() == 1 ? "is" : "are", names.size() == 1 ? "is" : "are");
}

}  // namespace carpool::config
