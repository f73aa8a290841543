#include "config/salt_source.h"

#include "config/url.h"

namespace carpool::config {
namespace {

bool has_password(const Server& server) {
  if (!server.password.empty() || !server.password_file.empty()) return true;
  const Result<UrlParts> parts = parse_url(server.url);
  return parts && parts->contains("password");
}

}  // namespace

const Server* salt_source(const Config& config) {
  if (has_password(config.server)) return &config.server;
  for (const Database& database : config.databases) {
    if (has_password(database.server)) return &database.server;
  }
  return nullptr;
}

}  // namespace carpool::config
