#include "net/resolver.h"

#include <arpa/inet.h>

#include <algorithm>
#include <memory>

namespace carpool::net {
namespace {

struct Lookup {
  uv_getaddrinfo_t request;
  std::string host;
  std::function<void(Result<std::vector<std::string>>)> done;
};

std::vector<std::string> numeric(const addrinfo* found) {
  std::vector<std::string> addresses;
  for (; found != nullptr; found = found->ai_next) {
    char text[INET6_ADDRSTRLEN] = "";
    const void* raw =
        found->ai_family == AF_INET6
            ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(found->ai_addr)->sin6_addr)
            : static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(found->ai_addr)->sin_addr);
    if (inet_ntop(found->ai_family, raw, text, sizeof text) == nullptr) continue;
    if (std::find(addresses.begin(), addresses.end(), text) == addresses.end()) {
      addresses.emplace_back(text);
    }
  }
  return addresses;
}

}  // namespace

void resolve(Loop& loop, const std::string& host,
             std::function<void(Result<std::vector<std::string>>)> done) {
  auto* lookup = new Lookup{{}, host, std::move(done)};
  lookup->request.data = lookup;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  const int rc = uv_getaddrinfo(
      loop.uv(), &lookup->request,
      [](uv_getaddrinfo_t* request, int status, addrinfo* found) {
        std::unique_ptr<Lookup> owned(static_cast<Lookup*>(request->data));
        std::vector<std::string> addresses = numeric(found);
        uv_freeaddrinfo(found);
        if (status != 0 || addresses.empty()) {
          owned->done(Error{"cannot resolve \"" + owned->host +
                            "\": " + (status != 0 ? uv_strerror(status) : "no address")});
        } else {
          owned->done(std::move(addresses));
        }
      },
      lookup->host.c_str(), nullptr, &hints);
  if (rc == 0) return;
  // A name that is too long, or no name at all; said later, like everything else.
  loop.run_blocking(
      [] {},
      [lookup, rc] {
        std::unique_ptr<Lookup> owned(lookup);
        owned->done(Error{"cannot resolve \"" + owned->host + "\": " + uv_strerror(rc)});
      });
}

bool is_address(const std::string& host) {
  unsigned char raw[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), raw) == 1 || inet_pton(AF_INET6, host.c_str(), raw) == 1;
}

}  // namespace carpool::net
