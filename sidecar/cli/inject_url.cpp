#include "cli/inject_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/framework_url.h"
#include "config/url.h"

namespace carpool::cli {
namespace {

// What says where the server is and how it is to be trusted; these become the sidecar's. The first
// are libpq's (PostgreSQL manual, "Parameter Key Words"), the last are Prisma's.
constexpr std::array<std::string_view, 36> kOfServer = {"host",
                                                        "hostaddr",
                                                        "port",
                                                        "password",
                                                        "passfile",
                                                        "service",
                                                        "servicefile",
                                                        "sslmode",
                                                        "ssl",
                                                        "requiressl",
                                                        "sslnegotiation",
                                                        "sslcompression",
                                                        "sslcert",
                                                        "sslkey",
                                                        "sslpassword",
                                                        "sslcertmode",
                                                        "sslrootcert",
                                                        "sslcrl",
                                                        "sslcrldir",
                                                        "sslsni",
                                                        "sslkeylogfile",
                                                        "requirepeer",
                                                        "ssl_min_protocol_version",
                                                        "ssl_max_protocol_version",
                                                        "require_auth",
                                                        "channel_binding",
                                                        "gssencmode",
                                                        "krbsrvname",
                                                        "gsslib",
                                                        "gssdelegation",
                                                        "scram_client_key",
                                                        "scram_server_key",
                                                        "target_session_attrs",
                                                        "load_balance_hosts",
                                                        "sslaccept",
                                                        "sslidentity"};

bool is_of_server(std::string_view name) {
  return std::find(kOfServer.begin(), kOfServer.end(), name) != kOfServer.end();
}

// The parts of scheme://user:password@host:port/database?name=value, as they are written.
struct Parts {
  std::string_view scheme;
  std::string_view user;
  std::string_view hosts;
  std::string_view path;  // with its slash
  std::string_view query;
};

std::optional<Parts> take_apart(std::string_view url) {
  Parts parts;
  const std::size_t colon = url.find("://");
  if (colon == std::string_view::npos || colon > url.find('=')) return std::nullopt;
  parts.scheme = url.substr(0, colon);
  std::string_view rest = url.substr(colon + 3);
  if (const std::size_t mark = rest.find('?'); mark != std::string_view::npos) {
    parts.query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  const std::size_t at = rest.rfind('@');  // a password may hold one that is not escaped
  const std::size_t slash = rest.find('/', at == std::string_view::npos ? 0 : at);
  if (slash != std::string_view::npos) {
    parts.path = rest.substr(slash);
    rest = rest.substr(0, slash);
  }
  if (at != std::string_view::npos) {
    const std::string_view login = rest.substr(0, at);
    parts.user = login.substr(0, login.find(':'));
    rest = rest.substr(at + 1);
  }
  parts.hosts = rest;
  return parts;
}

// Drivers that are named in the scheme take their own parameters, and asyncpg's and pg8000's have
// no sslmode; libpq's, and those that are named nowhere, do.
bool takes_sslmode(std::string_view scheme) {
  const std::size_t plus = scheme.find('+');
  return plus == std::string_view::npos || scheme.substr(plus + 1).starts_with("psycopg");
}

std::string with_sidecar(const Parts& parts) {
  std::string query;
  bool mode = false;
  for (std::string_view rest = parts.query; !rest.empty();) {
    const std::size_t end = std::min(rest.find('&'), rest.size());
    std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const std::string_view name = pair.substr(0, pair.find('='));
    if (name == "sslmode" && takes_sslmode(parts.scheme)) {
      pair = "sslmode=disable";
      mode = true;
    } else if (is_of_server(name) || pair.empty()) {
      continue;
    }
    query += fmt::format("{}{}", query.empty() ? "" : "&", pair);
  }
  if (!mode && takes_sslmode(parts.scheme)) {
    query += fmt::format("{}sslmode=disable", query.empty() ? "" : "&");
  }
  return fmt::format("{}://{}{}{}:{}{}{}{}", parts.scheme, parts.user,
                     parts.user.empty() ? "" : "@", kSidecarHost, kSidecarPort, parts.path,
                     query.empty() ? "" : "?", query);
}

// 'a value' as libpq's keyword strings have it.
std::string as_keyword(const std::string& name, const std::string& value) {
  std::string quoted;
  for (const char c : value) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  const bool plain = !value.empty() && quoted == value && value.find(' ') == std::string::npos;
  return plain ? fmt::format("{}={}", name, value) : fmt::format("{}='{}'", name, quoted);
}

}  // namespace

Result<std::string> url_at_sidecar(std::string_view url) {
  while (!url.empty() && (url.back() == '\n' || url.back() == '\r')) url.remove_suffix(1);
  const bool filled_in = url.find("$(") != std::string_view::npos;
  const std::optional<Parts> parts = take_apart(url);
  const Result<config::UrlParts> read = config::parse_url(config::plain_url(url).url);
  // What the sidecar would not understand it is not handed.
  if (!read && !(filled_in && parts)) return read.error();
  if (parts) return with_sidecar(*parts);
  std::string keywords = fmt::format("host={} port={} sslmode=disable", kSidecarHost, kSidecarPort);
  for (const auto& [name, value] : *read) {
    if (!is_of_server(name)) keywords += " " + as_keyword(name, value);
  }
  return keywords;
}

bool leads_to_sidecar(std::string_view url) {
  const std::optional<Parts> parts = take_apart(url);
  if (parts) {
    for (const std::string_view host : {"127.0.0.1", "localhost", "[::1]"}) {
      if (parts->hosts == fmt::format("{}:{}", host, kSidecarPort)) return true;
    }
    return false;
  }
  const Result<config::UrlParts> read = config::parse_url(url);
  if (!read) return false;
  const auto host = read->find("host");
  const auto port = read->find("port");
  return host != read->end() && (host->second == kSidecarHost || host->second == "localhost") &&
         port != read->end() && port->second == kSidecarPort;
}

std::string with_user_and_database(std::string_view url, std::string_view user,
                                   std::string_view database) {
  const std::optional<Parts> parts = take_apart(url);
  if (!parts) return std::string(url);
  return fmt::format("{}://{}@/{}{}{}", parts->scheme, user, database,
                     parts->query.empty() ? "" : "?", parts->query);
}

std::string parameter_of(std::string_view url, const std::string& name) {
  const Result<config::UrlParts> read = config::parse_url(config::plain_url(url).url);
  if (!read) return "";
  const auto found = read->find(name);
  return found == read->end() ? "" : found->second;
}

}  // namespace carpool::cli
