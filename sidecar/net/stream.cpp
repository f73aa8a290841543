#include "net/stream.h"

#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"
#include "net/address.h"

namespace carpool::net {

Stream::~Stream() {
  CHECK(!open_);
}

bool Stream::open(Loop& loop, int fd, bool owns_fd, StreamListener* listener) {
  CHECK(!open_);
  if (uv_poll_init(loop.uv(), &poll_, fd) != 0) return false;
  poll_.data = this;
  listener_ = listener;
  fd_ = fd;
  owns_fd_ = owns_fd;
  open_ = true;
  paused_ = false;
  broken_ = false;
  watch();
  return true;
}

void Stream::set_tls(SSL* ssl, bool owns_ssl) {
  ssl_ = ssl;
  owns_ssl_ = owns_ssl;
  if (ssl != nullptr) {
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  }
}

void Stream::watch() {
  int events = 0;
  if (!paused_) events |= UV_READABLE;
  if (!out_.empty() || tls_wants_write_) events |= UV_WRITABLE;
  // With no event uv_poll_start stops the handle.
  uv_poll_start(&poll_, events, [](uv_poll_t* handle, int status, int ready) {
    static_cast<Stream*>(handle->data)->on_poll(status, ready);
  });
}

void Stream::on_poll(int status, int events) {
  // libuv has stopped watching a socket with an error. What came before the error can still be
  // read, and the read that finds nothing more says that it is broken.
  if (status < 0) {
    events = UV_READABLE | UV_WRITABLE;
    watch();
  }
  if ((events & UV_WRITABLE) != 0 && (!out_.empty() || tls_wants_write_)) {
    const bool had_bytes = !out_.empty();
    tls_wants_write_ = false;
    if (!flush()) {
      broken_ = true;
      out_.clear();
    }
    if (out_.empty()) {
      watch();
      if (had_bytes) listener_->on_drained();
      if (!open_) return;
      events |= ssl_ != nullptr ? UV_READABLE : 0;
    }
  }
  if ((events & UV_READABLE) != 0 && !paused_) listener_->on_readable();
}

int Stream::peek() const {
  std::uint8_t byte = 0;
  return recv(fd_, &byte, 1, MSG_PEEK) == 1 ? byte : -1;
}

ssize_t Stream::read(std::span<std::uint8_t> into) {
  if (broken_) return kEnd;
  if (ssl_ == nullptr) {
    const ssize_t n = recv(fd_, into.data(), into.size(), 0);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EINTR ? kAgain : kEnd;
  }
  ERR_clear_error();
  const int n = SSL_read(ssl_, into.data(), static_cast<int>(into.size()));
  if (n > 0) return n;
  switch (SSL_get_error(ssl_, n)) {
    case SSL_ERROR_WANT_READ:
      return kAgain;
    case SSL_ERROR_WANT_WRITE:
      tls_wants_write_ = true;
      watch();
      return kAgain;
    default:
      ERR_clear_error();
      return kEnd;
  }
}

// Bytes sent, 0 when the kernel takes none now, -1 when the connection is broken.
ssize_t Stream::send_some(ByteSpan bytes) {
  if (ssl_ == nullptr) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
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
    out_.append(bytes);
    watch();
    return true;
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
  if (paused_ || !open_) return;
  paused_ = true;
  watch();
}

void Stream::resume_reading() {
  if (!paused_ || !open_) return;
  paused_ = false;
  // What TLS has already read from the kernel makes no event: a writable one stands in for it.
  if (ssl_ != nullptr && SSL_has_pending(ssl_)) tls_wants_write_ = true;
  watch();
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

void Stream::shutdown_write() {
  if (open_) ::shutdown(fd_, SHUT_WR);
}

void Stream::close() {
  if (!open_) return;
  open_ = false;
  out_.clear();
  uv_poll_stop(&poll_);
  if (ssl_ != nullptr && owns_ssl_) {
    // One attempt at close_notify; the peer's own is not waited for (RFC 8446, section 6.1).
    if (SSL_is_init_finished(ssl_) && !broken_) SSL_shutdown(ssl_);
    ERR_clear_error();
    SSL_free(ssl_);
  }
  ssl_ = nullptr;
  if (owns_fd_) ::close(fd_);
  fd_ = -1;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_),
           [](uv_handle_t* handle) { static_cast<Stream*>(handle->data)->listener_->on_closed(); });
}

}  // namespace carpool::net
