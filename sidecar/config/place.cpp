#include "config/place.h"

#include <array>
#include <string>

#include "config/url.h"

namespace carpool::config {
namespace {

// host, hostaddr, port and service, in the words of libpq.
using Place = std::array<std::string, 4>;

Place place_of(const Server& server) {
  Place place;
  if (const Result<UrlParts> parts = parse_url(server.url); parts && !server.url.empty()) {
    constexpr std::array<const char*, 4> kNames = {"host", "hostaddr", "port", "service"};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      if (const auto found = parts->find(kNames[i]); found != parts->end())
        place[i] = found->second;
    }
  }
  if (!server.host.empty()) place[0] = server.host;
  if (server.port_set || place[2].empty()) place[2] = std::to_string(server.port);
  return place;
}

}  // namespace

bool same_place(const Server& one, const Server& other) {
  return place_of(one) == place_of(other);
}

}  // namespace carpool::config
