// Address: a socket's address in words for people, and what follows from where it leads.
#pragma once

#include <sys/socket.h>

#include <string>

namespace carpool::net {

// "127.0.0.1:5000", "[::1]:5000" or "unix".
std::string describe(const sockaddr_storage& address);

// Whether what is sent there stays on this machine: 127.0.0.0/8, in IPv6's notation too, ::1, or a
// Unix socket.
bool is_local(const sockaddr& address);

// Whether both ends of a connected socket are on this machine, as its own loopback addresses or a
// Unix socket say. What was redirected here from elsewhere shows where it came from.
bool is_local_connection(int fd);

// Takes congestion control off a TCP socket that leads to this machine, where no packet is lost:
// BBR, the default of many hosts, sets a pacing timer for each packet. Sockets accepted from a
// listening one inherit it. Reno is the one that every kernel has and allows (tcp(7),
// TCP_CONGESTION); where it cannot be set, nothing changes.
void pace_not(int fd);

}  // namespace carpool::net
