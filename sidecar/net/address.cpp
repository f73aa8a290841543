#include "net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace carpool::net {

std::string describe(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, ntohs(in.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, ntohs(in6.sin6_port));
  }
  return "unix";
}

bool is_local(const sockaddr& address) {
  switch (address.sa_family) {
    case AF_UNIX:
      return true;
    case AF_INET:
      return ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24 ==
             IN_LOOPBACKNET;
    case AF_INET6: {
      const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
      if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == IN_LOOPBACKNET;
      return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    default:
      return false;
  }
}

bool is_local_connection(int fd) {
  for (const auto name_of : {getsockname, getpeername}) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (name_of(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return false;
    if (!is_local(reinterpret_cast<const sockaddr&>(address))) return false;
  }
  return true;
}

void pace_not(int fd) {
  constexpr char kReno[] = "reno";
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kReno, sizeof kReno - 1);
}

}  // namespace carpool::net
