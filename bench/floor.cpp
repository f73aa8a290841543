// The floor of a relay on this machine: what a transaction costs when nothing is known of it but
// that a ReadyForQuery `I` ends it. One edge-triggered epoll, two recv and two send a transaction,
// a pool that never grows, no timeouts, no errors, no sign-in: it is measured beside the others and
// serves for nothing else.
//
//   floor PORT SERVER_PORT POOL_SIZE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

namespace {

struct End {
  enum class Kind { Listener, Client, Server } kind;
  int fd;
  bool greeted = false;
  End* peer = nullptr;
  std::string waiting;  // a client's request, while no server is free
};

int epoll_fd;
std::vector<End*> idle;
std::deque<End*> waiters;
std::string greeting;
std::array<char, 128 * 1024> buffer;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

void watch(End* end, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = end;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, end->fd, &event) != 0) give_up("epoll_ctl");
}

void set(int fd, int level, int option) {
  const int on = 1;
  setsockopt(fd, level, option, &on, sizeof on);
}

sockaddr_in loopback(const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool ends_transaction(const char* bytes, std::size_t size) {
  return size >= 6 && std::memcmp(bytes + size - 6, "Z\0\0\0\5I", 6) == 0;
}

void open_server(const sockaddr_in& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  set(fd, IPPROTO_TCP, TCP_NODELAY);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    give_up("connect");
  }
  constexpr char kStartup[] = "\0\0\0\x1f\0\3\0\0user\0app\0database\0app\0";
  send(fd, kStartup, sizeof kStartup, 0);
  greeting.clear();
  while (!ends_transaction(greeting.data(), greeting.size())) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n <= 0) give_up("signing in");
    greeting.append(buffer.data(), static_cast<std::size_t>(n));
  }
  End* server = new End{End::Kind::Server, fd};
  idle.push_back(server);
  watch(server, EPOLLIN | EPOLLET);
}

void request(End* client, const char* bytes, std::size_t size) {
  if (client->peer == nullptr) {
    if (idle.empty()) {
      client->waiting.assign(bytes, size);
      waiters.push_back(client);
      return;
    }
    client->peer = idle.back();
    idle.pop_back();
    client->peer->peer = client;
  }
  send(client->peer->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void reply(End* server, std::size_t size) {
  End* client = server->peer;
  if (client == nullptr) return;
  send(client->fd, buffer.data(), size, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (!ends_transaction(buffer.data(), size)) return;
  client->peer = server->peer = nullptr;
  idle.push_back(server);
  if (waiters.empty()) return;
  End* next = waiters.front();
  waiters.pop_front();
  request(next, next->waiting.data(), next->waiting.size());
}

void hang_up(End* client) {
  std::erase(waiters, client);
  close(client->fd);  // its End stays: an event of this turn may still name it
}

void from_client(End* client, std::size_t size) {
  if (client->greeted) {
    if (buffer[0] == 'X') return hang_up(client);
    return request(client, buffer.data(), size);
  }
  if (size == 8) {  // SSLRequest
    send(client->fd, "N", 1, MSG_NOSIGNAL);
    return;
  }
  client->greeted = true;
  send(client->fd, greeting.data(), greeting.size(), MSG_NOSIGNAL);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < std::atoi(argv[3]); ++i) open_server(loopback(argv[2]));

  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  set(fd, SOL_SOCKET, SO_REUSEADDR);
  set(fd, IPPROTO_TCP, TCP_NODELAY);
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  const sockaddr_in address = loopback(argv[1]);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(fd, 4096) != 0) {
    give_up("listen");
  }
  End listener{End::Kind::Listener, fd};
  watch(&listener, EPOLLIN);

  std::array<epoll_event, 512> events;
  while (true) {
    const int n = epoll_wait(epoll_fd, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      End* end = static_cast<End*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (end->kind == End::Kind::Listener) {
        const int accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) watch(new End{End::Kind::Client, accepted}, EPOLLIN | EPOLLET);
        continue;
      }
      const ssize_t size = recv(end->fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size < 0) continue;
      if (end->kind == End::Kind::Server) {
        if (size == 0) give_up("a server is gone");
        reply(end, static_cast<std::size_t>(size));
      } else if (size == 0) {
        hang_up(end);
      } else {
        from_client(end, static_cast<std::size_t>(size));
      }
    }
  }
}
