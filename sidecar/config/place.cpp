#include "config/place.h"

#include <array>
#include <string>

#include "config/conninfo.h"

namespace carpool::config {
namespace {

std::array<std::string, 4> place_of(const Server& server, const Libpq& libpq) {
  const Result<UrlParts> parts = conninfo_of(server, libpq);
  if (!parts) return {server.url};  // which is turned down elsewhere
  const auto part = [&](const char* name) {
    const auto found = parts->find(name);
    return found == parts->end() ? std::string() : found->second;
  };
  return {part("host"), part("hostaddr"), part("port"), part("service")};
}

}  // namespace

bool same_place(const Server& one, const Server& other, const Libpq& libpq) {
  return place_of(one, libpq) == place_of(other, libpq);
}

}  // namespace carpool::config
