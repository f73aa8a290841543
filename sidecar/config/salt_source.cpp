#include "config/salt_source.h"

#include "config/conninfo.h"
#include "config/url.h"

namespace carpool::config {
namespace {

SaltSource source_of(const Server& server, const Libpq& libpq) {
  if (!server.password.empty()) return {.password = server.password};
  if (!server.password_file.empty()) return {.password_file = server.password_file};
  Result<UrlParts> parts = parse_url(server.url, libpq);
  return parts ? SaltSource{.password = (*parts)["password"]} : SaltSource{};
}

// Empty where no server is named.
std::string place_of(const Server& server, const Libpq& libpq) {
  const Result<UrlParts> parts = conninfo_of(server, libpq);
  if (!parts || (!parts->contains("host") && !parts->contains("hostaddr"))) return "";
  std::string place;
  for (const char* name : {"host", "hostaddr", "port", "user", "dbname"}) {
    const auto found = parts->find(name);
    if (found != parts->end()) place += std::string(name) + "=" + found->second + "\n";
  }
  return place;
}

}  // namespace

SaltSource salt_source(const Config& config, const Libpq& libpq) {
  if (!config.auth.salt_file.empty()) return {.file = config.auth.salt_file};
  SaltSource source = source_of(config.server, libpq);
  for (const Database& database : config.databases) {
    if (source.secret()) break;
    source = source_of(database.server, libpq);
  }
  if (!source.secret()) {
    const bool section = !config.server.url.empty() || !config.server.host.empty();
    const bool other = !section && !config.databases.empty();
    source.place = place_of(other ? config.databases.front().server : config.server, libpq);
  }
  return source;
}

}  // namespace carpool::config
