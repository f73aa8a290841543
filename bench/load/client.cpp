#include "client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace carpool::load {
namespace {

constexpr std::size_t kBody_max = 1024;
constexpr std::size_t kReadBytes = 16384;

// "SQLSTATE message" of an ErrorResponse's fields: a letter and a text that ends with a zero, each.
std::string error_text(std::string_view body) {
  std::string sqlstate;
  std::string message;
  while (body.size() > 1 && body.front() != '\0') {
    const char field = body.front();
    const std::size_t end = std::min(body.find('\0', 1), body.size());
    const std::string_view text = body.substr(1, end - 1);
    if (field == 'C') sqlstate = text;
    if (field == 'M') message = text;
    body.remove_prefix(std::min(end + 1, body.size()));
  }
  return sqlstate + " " + message;
}

}  // namespace

bool Client::open(std::uint16_t port, std::string_view startup) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) {
    error_ = std::strerror(errno);
    return false;
  }
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
    error_ = std::strerror(errno);
    close();
    return false;
  }
  startup_ = startup;
  state_ = State::Connecting;
  failed_ = false;
  header_size_ = 0;
  body_left_ = 0;
  error_.clear();
  return true;
}

void Client::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  state_ = State::Off;
}

Event Client::lost(const char* why) {
  if (error_.empty()) error_ = why;
  close();
  return Event::Lost;
}

// What is sent is far smaller than a socket's buffer: a part of it is as good as nothing.
bool Client::send_all(std::string_view bytes) {
  const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent == static_cast<ssize_t>(bytes.size())) return true;
  lost(sent < 0 ? std::strerror(errno) : "the socket's buffer is full");
  return false;
}

bool Client::ask(std::string_view query) {
  state_ = State::Asking;
  failed_ = false;
  return send_all(query);
}

Event Client::on_writable() {
  if (state_ != State::Connecting) return Event::Nothing;
  int failed = 0;
  socklen_t size = sizeof failed;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &failed, &size);
  if (failed != 0) return lost(std::strerror(failed));
  state_ = State::SigningIn;
  return send_all(startup_) ? Event::Nothing : Event::Lost;
}

Event Client::on_readable() {
  char buffer[kReadBytes];
  const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
  if (got < 0) {
    return errno == EAGAIN || errno == EINTR ? Event::Nothing : lost(std::strerror(errno));
  }
  if (got == 0) return lost("the server closed the connection");
  return take({buffer, static_cast<std::size_t>(got)});
}

Event Client::take(std::string_view bytes) {
  while (!bytes.empty()) {
    if (header_size_ < header_.size()) {
      header_[header_size_++] = bytes.front();
      bytes.remove_prefix(1);
      if (header_size_ < header_.size()) continue;
      std::uint32_t length = 0;
      std::memcpy(&length, header_.data() + 1, sizeof length);
      body_left_ = ntohl(length) - 4;
      body_.clear();
    }
    const std::string_view body = bytes.substr(0, body_left_);
    const bool wanted = header_[0] == 'E' || header_[0] == 'R' || header_[0] == 'Z';
    if (wanted) body_.append(body.substr(0, kBody_max - std::min(body_.size(), kBody_max)));
    body_left_ -= static_cast<std::uint32_t>(body.size());
    bytes.remove_prefix(body.size());
    if (body_left_ > 0) return Event::Nothing;
    header_size_ = 0;
    // One query is out at a time: nothing follows the message that ends its reply.
    if (const Event event = end_of_message(); event != Event::Nothing) return event;
  }
  return Event::Nothing;
}

Event Client::end_of_message() {
  switch (header_[0]) {
    case 'E':
      failed_ = true;
      error_ = error_text(body_);
      // One that refuses the sign-in is followed by nothing but the end of the connection.
      return state_ == State::SigningIn ? lost("") : Event::Nothing;
    case 'R':
      if (body_ != std::string_view("\0\0\0\0", 4)) return lost("a password is asked for");
      return Event::Nothing;
    case 'Z': {
      const bool signing_in = state_ == State::SigningIn;
      state_ = State::Ready;
      if (signing_in) return Event::Ready;
      return failed_ ? Event::Failed : Event::Answered;
    }
    default:
      return Event::Nothing;
  }
}

}  // namespace carpool::load
