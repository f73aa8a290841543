#include "config/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace carpool::config {
namespace {

// An address of either family as one of IPv6.
using Raw = std::array<std::uint8_t, 16>;

constexpr Raw kAny6 = {};
constexpr Raw kAny4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr Raw kLoopback6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr Raw kLoopback4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
constexpr std::size_t kPrefix4 = 12;  // bytes that say that it is one of IPv4

Raw mapped(const in_addr& v4) {
  Raw raw = kAny4;
  const std::uint32_t number = ntohl(v4.s_addr);
  for (std::size_t i = 0; i < 4; i++) {
    raw[kPrefix4 + i] = static_cast<std::uint8_t>(number >> (8 * (3 - i)));
  }
  return raw;
}

std::optional<Raw> parse(const std::string& text) {
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return mapped(v4);
  Raw raw;
  if (inet_pton(AF_INET6, text.c_str(), raw.data()) == 1) return raw;
  return std::nullopt;
}

// As getaddrinfo() reads it, for which 127.1 is an address.
std::optional<Raw> parse_host(const std::string& text) {
  in_addr v4;
  const bool old_form = text.find_first_not_of("0123456789abcdefxABCDEFX.") == std::string::npos;
  if (old_form && inet_aton(text.c_str(), &v4) != 0) return mapped(v4);
  return parse(text);
}

bool is_v4(const Raw& address) {
  return std::equal(address.begin(), address.begin() + kPrefix4, kAny4.begin());
}

bool is_loopback(const Raw& address) {
  return address == kLoopback6 || (is_v4(address) && address[kPrefix4] == 127);
}

// Whether what is bound to `all` has the other address, too.
bool covers(const Raw& all, const Raw& address) {
  return all == kAny6 || (all == kAny4 && is_v4(address));
}

}  // namespace

bool is_ip(const std::string& address) {
  in_addr v4;
  in6_addr v6;
  return inet_pton(AF_INET, address.c_str(), &v4) == 1 ||
         inet_pton(AF_INET6, address.c_str(), &v6) == 1;
}

bool is_loopback(const std::string& address) {
  in_addr v4;
  if (inet_pton(AF_INET, address.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, address.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

bool overlap(const std::string& one, const std::string& other) {
  const std::optional<Raw> a = parse(one);
  const std::optional<Raw> b = parse(other);
  if (!a || !b) return one == other;
  return *a == *b || covers(*a, *b) || covers(*b, *a);
}

bool leads_to(const std::string& host, const std::string& address) {
  const std::optional<Raw> at = parse(address);
  if (!at) return host == address;
  const auto is_accepted = [&](const Raw& to) {
    return to == *at || (is_loopback(to) && covers(*at, to));
  };
  if (host == "localhost") return is_accepted(kLoopback4) || is_accepted(kLoopback6);
  const std::optional<Raw> to = parse_host(host);
  if (!to) return false;
  // Linux connects to "any" as to the loopback.
  if (*to == kAny4) return is_accepted(kLoopback4);
  if (*to == kAny6) return is_accepted(kLoopback6);
  return is_accepted(*to);
}

}  // namespace carpool::config
