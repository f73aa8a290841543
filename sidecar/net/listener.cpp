#include "net/listener.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "net/address.h"

namespace carpool::net {
namespace {

// The kernel cuts it to net.core.somaxconn.
constexpr int kBacklog = 4096;

Error os_error(const std::string& what) {
  return Error{what + ": " + std::strerror(errno)};
}

std::uint16_t bound_port(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

// Whether some process listens on a Unix socket's path. One that takes nobody in at the moment,
// since its queue is full, does: EAGAIN (connect(2)).
bool somebody_listens(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN;
  ::close(fd);
  return connected;
}

// While this is there, sockets of ours may be bound to the same port of overlapping addresses
// (socket(7), SO_REUSEPORT): nobody is refused while one takes over from another. None is left so,
// since another process of this user could then take a part of the clients.
class SharedPort {
 public:
  explicit SharedPort(std::vector<int> fds) : fds_(std::move(fds)) { set(1); }
  ~SharedPort() { set(0); }
  SharedPort(const SharedPort&) = delete;
  SharedPort& operator=(const SharedPort&) = delete;

 private:
  void set(int on) const {
    for (const int fd : fds_) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  }
  const std::vector<int> fds_;
};

}  // namespace

Status Listener::listen_tcp(Loop& loop, const std::string& address, std::uint16_t port,
                            Handler handler, const std::vector<const Listener*>& beside) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV | (address == "localhost" ? 0 : AI_NUMERICHOST);
  addrinfo* found = nullptr;
  const int rc = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (rc != 0) return Error{fmt::format("cannot listen on '{}': {}", address, gai_strerror(rc))};

  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  Status status = Ok{};
  std::vector<int> sharing;
  sharing.reserve(beside.size() + 1);
  for (const Listener* other : beside) sharing.push_back(other->fd_);
  if (!sharing.empty()) sharing.push_back(fd);
  const SharedPort shared(std::move(sharing));
  if (fd < 0) {
    status = os_error("cannot make a socket");
  } else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
             bind(fd, found->ai_addr, found->ai_addrlen) != 0 || ::listen(fd, kBacklog) != 0) {
    status = os_error(fmt::format("cannot listen on {}:{}", address, port));
    ::close(fd);
  } else {
    // What is accepted inherits these, so that they cost no call for each connection.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (is_local(*found->ai_addr)) pace_not(fd);
    // A client of PostgreSQL speaks first: it is accepted together with its first packet, at one
    // wake-up for the two. One that says nothing is accepted all the same, a second later (tcp(7)).
    const int seconds = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
    fd_ = fd;
    port_ = bound_port(fd);
  }
  freeaddrinfo(found);
  return status ? start(loop, std::move(handler)) : status;
}

Status Listener::listen_unix(Loop& loop, const std::string& path, Handler handler) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{fmt::format("cannot listen on {}: the path is too long", path)};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (somebody_listens(address)) {
    return Error{fmt::format("cannot listen on {}: another process does", path)};
  }
  unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return os_error("cannot make a socket");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      chmod(path.c_str(), 0777) != 0 || ::listen(fd, kBacklog) != 0) {
    Error error = os_error("cannot listen on " + path);
    ::close(fd);
    return error;
  }
  fd_ = fd;
  unix_path_ = path;
  struct stat info {};
  if (stat(path.c_str(), &info) == 0) {
    unix_device_ = info.st_dev;
    unix_inode_ = info.st_ino;
  }
  return start(loop, std::move(handler));
}

Status Listener::start(Loop& loop, Handler handler) {
  loop_ = &loop;
  handler_ = std::move(handler);
  if (watch()) return Ok{};
  Error error = os_error("cannot watch the listening socket");
  close();
  return error;
}

bool Listener::watch() {
  watched_ = loop_->watch(fd_, EPOLLIN, *this);
  return watched_;
}

void Listener::on_events(std::uint32_t) {
  for (int i = 0; i < kAcceptMax && is_open() && accept_one(); ++i) {
  }
}

bool Listener::accept_one() {
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      exhausted(errno);
    }
    return false;  // EAGAIN, or a connection that has gone already
  }
  if (exhausted_) {
    exhausted_ = false;
    handler_.on_exhausted(false, "");
  }
  handler_.on_connection(fd);
  return true;
}

void Listener::accept_all_and_close() {
  for (int i = 0; i < kBacklog && is_open() && accept_one(); ++i) {
  }
  close();
}

std::string Listener::where() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (!unix_path_.empty()) return unix_path_;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  return describe(address);
}

void Listener::exhausted(int error) {
  if (watched_) loop_->unwatch(fd_, *this);
  watched_ = false;
  if (!exhausted_) {
    exhausted_ = true;
    handler_.on_exhausted(true, std::strerror(error));
  }
  retry_.start(*loop_, kRetry_us, 0, [this] {
    retry_.stop();
    watch();
  });
}

bool Listener::can_be_found() const {
  struct stat info {};
  return unix_path_.empty() || (stat(unix_path_.c_str(), &info) == 0 &&
                                info.st_dev == unix_device_ && info.st_ino == unix_inode_);
}

void Listener::close() {
  if (fd_ < 0) return;
  // Another may have come in its place.
  const bool is_ours = !unix_path_.empty() && can_be_found();
  if (watched_) loop_->unwatch(fd_, *this);
  watched_ = false;
  retry_.stop();
  ::close(fd_);
  fd_ = -1;
  if (is_ours) unlink(unix_path_.c_str());
}

}  // namespace carpool::net
