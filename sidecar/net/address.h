// Address: a socket's address in words for people.
#pragma once

#include <sys/socket.h>

#include <string>

namespace carpool::net {

// "127.0.0.1:5000", "[::1]:5000" or "unix".
std::string describe(const sockaddr_storage& address);

}  // namespace carpool::net
