// What can be said of an IP address by its text. Pure; it resolves no name.
#pragma once

#include <string>

namespace carpool::config {

bool is_ip(const std::string& address);

// 127.0.0.0/8, ::1, and the IPv4 form inside IPv6.
bool is_loopback(const std::string& address);

}  // namespace carpool::config
