#include "net/stream.h"

#include <linux/sockios.h>
#include <openssl/err.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "net/address.h"

namespace carpool::net {
namespace {

constexpr std::uint32_t kReadEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;

}  // namespace

// send(2) and recv(2) are made as plain system calls: those of libc are cancellation points, which
// cost two atomic operations each in a process with threads.

Stream::~Stream() {
  CHECK(!open_);
}

bool Stream::open(Loop& loop, int fd, bool owns_fd, StreamListener* listener, Told told) {
  CHECK(!open_);
  watches_writable_ = false;
  if (!loop.watch(fd, kReadEvents, *this, told)) return false;
  loop_ = &loop;
  listener_ = listener;
  fd_ = fd;
  owns_fd_ = owns_fd;
  open_ = true;
  paused_ = broken_ = readable_ = ended_ = false;
  return true;
}

void Stream::set_tls(SSL* ssl, bool owns_ssl) {
  ssl_ = ssl;
  owns_ssl_ = owns_ssl;
  if (ssl != nullptr) {
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  }
}

void Stream::watch_writable() {
  if (watches_writable_) return;
  watches_writable_ = true;
  loop_->rewatch(fd_, kReadEvents | EPOLLOUT, *this);
}

void Stream::on_events(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) ended_ = true;
  // Under TLS what is sent may wait for what comes, and what comes for what is sent.
  if (!out_.empty()) flush_some();
  if (!open_) return;
  if (tls_wants_write_) {
    tls_wants_write_ = false;
    readable_ = true;
  }
  if (paused_ && ended_) listener_->on_hangup();
  if (open_) tell_readable();
}

void Stream::flush_some() {
  if (!flush()) {
    broken_ = readable_ = true;  // a read says so
    out_.clear();
  }
  if (out_.empty()) listener_->on_drained();
}

void Stream::tell_readable() {
  for (int i = 0; i < kReadsMax && open_ && readable_ && !paused_; ++i) listener_->on_readable();
  if (open_ && readable_ && !paused_) loop_->again(*this);
}

int Stream::peek() {
  std::uint8_t byte = 0;
  if (ssl_ == nullptr) {
    const ssize_t n = recv(fd_, &byte, 1, MSG_PEEK);
    if (n == 1) return byte;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? kNothing : kEnded;
  }
  ERR_clear_error();
  const int n = SSL_peek(ssl_, &byte, 1);
  const int error = n == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, n);
  if (error == SSL_ERROR_WANT_READ) return kNothing;
  // What OpenSSL has taken from the kernel is told by no event.
  readable_ = true;
  if (!paused_) loop_->again(*this);
  if (error == SSL_ERROR_WANT_WRITE) return kNothing;
  return error == SSL_ERROR_NONE ? byte : kEnded;
}

ssize_t Stream::read(std::span<std::uint8_t> into) {
  if (broken_) return kEnd;
  if (ssl_ == nullptr) {
    const ssize_t n = syscall(SYS_recvfrom, fd_, into.data(), into.size(), 0, nullptr, nullptr);
    // Less than there was room for is all there was: what comes later is told anew. An end that was
    // told is still to be read.
    if (n > 0) readable_ = ended_ || static_cast<std::size_t>(n) == into.size();
    if (n >= 0) return n;
    if (errno == EINTR) return kAgain;
    if (errno != EAGAIN) return kEnd;
    readable_ = false;
    return kAgain;
  }
  ERR_clear_error();
  const int n = SSL_read(ssl_, into.data(), static_cast<int>(into.size()));
  if (n > 0) return n;
  switch (SSL_get_error(ssl_, n)) {
    case SSL_ERROR_WANT_READ:
      readable_ = false;
      return kAgain;
    case SSL_ERROR_WANT_WRITE:
      readable_ = false;
      tls_wants_write_ = true;
      watch_writable();
      return kAgain;
    default:
      return kEnd;  // why, OpenSSL's queue of errors says until the next call
  }
}

// Bytes sent, 0 when the kernel takes none now, -1 when the connection is broken.
ssize_t Stream::send_some(ByteSpan bytes) {
  if (ssl_ == nullptr) {
    const ssize_t n =
        syscall(SYS_sendto, fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL, nullptr, 0);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
  }
  ERR_clear_error();
  const int n = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  if (n > 0) return n;
  const int error = SSL_get_error(ssl_, n);
  if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) return 0;
  ERR_clear_error();
  return -1;
}

bool Stream::write(ByteSpan bytes) {
  if (!open_ || broken_) return false;
  if (out_.empty()) {
    while (!bytes.empty()) {
      const ssize_t n = send_some(bytes);
      if (n < 0) {
        broken_ = true;
        return false;
      }
      if (n == 0) break;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      // A plain socket that took a part is full; TLS takes a record at a time.
      if (ssl_ == nullptr) break;
    }
    if (bytes.empty()) return true;
    watch_writable();
  }
  out_.append(bytes);
  return true;
}

bool Stream::flush() {
  while (!out_.empty()) {
    const ssize_t n = send_some(out_.bytes());
    if (n < 0) return false;
    if (n == 0) return true;
    out_.consume(static_cast<std::uint32_t>(n));
  }
  return true;
}

void Stream::pause_reading() {
  if (paused_) return;
  paused_ = true;
  // The event that told of the end has passed, and no other comes.
  if (open_ && ended_) loop_->again(*this);
}

void Stream::resume_reading() {
  if (!paused_ || !open_) return;
  paused_ = false;
  if (readable_) loop_->again(*this);
}

void Stream::pace_not_if_local() {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  auto* peer = reinterpret_cast<sockaddr*>(&address);
  if (!open_ || getpeername(fd_, peer, &length) != 0) return;
  if (address.ss_family != AF_UNIX && is_local(*peer)) pace_not(fd_);
}

std::string Stream::peer() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (!open_ || getpeername(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  return describe(address);
}

std::uint64_t Stream::kernel_bytes() const {
  int out = 0;
  int in = 0;
  if (!open_) return 0;
  if (ioctl(fd_, SIOCOUTQ, &out) != 0) out = 0;  // tcp(7), unix(7)
  if (ioctl(fd_, SIOCINQ, &in) != 0) in = 0;
  return static_cast<std::uint64_t>(out) + static_cast<std::uint64_t>(in);
}

void Stream::shutdown_write() {
  if (open_) ::shutdown(fd_, SHUT_WR);
}

void Stream::close() {
  if (!open_) return;
  open_ = false;
  out_.clear();
  if (ssl_ != nullptr && owns_ssl_) {
    // One attempt at close_notify; the peer's own is not waited for (RFC 8446, section 6.1).
    if (SSL_is_init_finished(ssl_) && !broken_) SSL_shutdown(ssl_);
    ERR_clear_error();
    SSL_free(ssl_);
  }
  ssl_ = nullptr;
  if (owns_fd_) {
    loop_->forget(*this);
    ::close(fd_);
  } else {
    loop_->unwatch(fd_, *this);
  }
  fd_ = -1;
  loop_->release(*this);
}

}  // namespace carpool::net
