#include "config/salt_source.h"

#include "config/url.h"

namespace carpool::config {
namespace {

SaltSource source_of(const Server& server) {
  if (!server.password.empty()) return {.password = server.password};
  if (!server.password_file.empty()) return {.password_file = server.password_file};
  Result<UrlParts> parts = parse_url(server.url);
  return parts ? SaltSource{.password = (*parts)["password"]} : SaltSource{};
}

}  // namespace

SaltSource salt_source(const Config& config) {
  if (!config.auth.salt_file.empty()) return {.file = config.auth.salt_file};
  SaltSource source = source_of(config.server);
  for (const Database& database : config.databases) {
    if (!source.empty()) break;
    source = source_of(database.server);
  }
  return source;
}

}  // namespace carpool::config
