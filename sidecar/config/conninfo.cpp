#include "config/conninfo.h"

#include <fmt/format.h>

#include <algorithm>

namespace carpool::config {

Result<UrlParts> conninfo_of(const Server& server, const Libpq& libpq) {
  UrlParts parts;
  if (!server.url.empty()) {
    Result<UrlParts> parsed = parse_url(server.url, libpq);
    if (!parsed) return parsed.error();
    parts = std::move(*parsed);
  }
  parts.erase("connect_timeout");
  parts.erase("replication");  // false, where it is valid at all
  const auto lay_over = [&](const char* name, const std::string& value) {
    if (!value.empty()) parts[name] = value;
  };
  // An address of the url is of the url's host.
  if (!server.host.empty()) parts.erase("hostaddr");
  lay_over("host", server.host);
  if (server.port_set || !parts.contains("port")) parts["port"] = fmt::format("{}", server.port);
  lay_over("dbname", server.database);
  lay_over("user", server.user);
  lay_over("password", server.password);
  lay_over("sslmode", server.ssl_mode);
  lay_over("sslrootcert", server.ssl_root_cert);
  lay_over("sslcert", server.ssl_cert);
  lay_over("sslkey", server.ssl_key);
  lay_over("target_session_attrs", server.target_session_attrs);
  lay_over("options", server.options);
  // It would put a layer between the relay and the socket.
  parts["gssencmode"] = "disable";
  return parts;
}

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> out;
  while (true) {
    const std::size_t comma = std::min(list.find(','), list.size());
    out.emplace_back(list.substr(0, comma));
    if (comma == list.size()) return out;
    list.remove_prefix(comma + 1);
  }
}

bool is_socket(std::string_view host) {
  return host.empty() || host.starts_with('/') || host.starts_with('@');
}

}  // namespace carpool::config
