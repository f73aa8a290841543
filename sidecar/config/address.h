// What can be said of an IP address by its text. Pure; it resolves no name.
#pragma once

#include <string>

namespace carpool::config {

bool is_ip(const std::string& address);

// 127.0.0.0/8, ::1, and the IPv4 form inside IPv6.
bool is_loopback(const std::string& address);

// Whether two listening addresses cannot share a port. All addresses of IPv6 are those of IPv4,
// too.
bool overlap(const std::string& one, const std::string& other);

// Whether who connects to `host` of this machine, an address or "localhost", is accepted by a
// listener at `address`. What is not said by the text, such as that a name or another address is
// this machine's, is not known.
bool leads_to(const std::string& host, const std::string& address);

}  // namespace carpool::config
