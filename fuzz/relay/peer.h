// Peer: one end of a Unix socket whose other end Carpool has: a client, or a backend. It never
// blocks; what it has to say goes out as far as it is allowed to, so that an input can cut it
// anywhere, and what comes is kept until somebody takes it.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <utility>

#include "base/bytes.h"

namespace carpool::fuzz {

class Peer {
 public:
  static constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

  explicit Peer(int fd) : fd_(fd) {}
  ~Peer() { vanish(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  bool is_open() const { return fd_ >= 0; }
  // The other side has closed, or said that it sends no more.
  bool ended() const { return ended_; }
  std::size_t unsent() const { return out_.size() - sent_; }

  void say(ByteSpan bytes) { append(out_, bytes); }
  // So many bytes more may go out; kNoLimit: all, from now on.
  void allow(std::size_t bytes) {
    allowed_ = bytes == kNoLimit || allowed_ == kNoLimit ? bytes : allowed_ + bytes;
  }
  void hold() { allowed_ = 0; }
  void set_deaf(bool deaf) { deaf_ = deaf; }
  void shut() {
    if (fd_ >= 0) ::shutdown(fd_, SHUT_WR);
  }
  // With what has come and was not read the other side is told of a reset (unix(7)).
  void vanish() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  // Whether something has moved. `comes`: something may have come.
  bool move(bool comes) {
    const bool went = send_some();
    return (comes && receive_some()) || went;
  }
  // To be looked at for what comes; -1: it is not to be read.
  int readable_fd() const { return deaf_ || ended_ ? -1 : fd_; }

 protected:
  // What has come and was not taken.
  ByteSpan rest() const { return ByteSpan(in_).subspan(taken_); }
  void take(std::size_t bytes) {
    taken_ += bytes;
    if (taken_ < in_.size()) return;
    in_.clear();
    taken_ = 0;
  }

 private:
  bool send_some() {
    const std::size_t most = std::min(unsent(), allowed_);
    if (fd_ < 0 || most == 0) return false;
    const ssize_t n = send(fd_, out_.data() + sent_, most, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n <= 0) return false;
    sent_ += static_cast<std::size_t>(n);
    if (allowed_ != kNoLimit) allowed_ -= static_cast<std::size_t>(n);
    if (sent_ == out_.size()) {
      out_.clear();
      sent_ = 0;
    }
    return true;
  }
  bool receive_some() {
    bool moved = false;
    while (fd_ >= 0 && !deaf_ && !ended_) {
      static std::array<std::uint8_t, 64u << 10> room;
      const ssize_t n = recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) break;
      moved = true;
      if (n > 0) append(in_, ByteSpan(room.data(), static_cast<std::size_t>(n)));
      if (n <= 0) ended_ = true;
    }
    return moved;
  }

  int fd_;
  Bytes in_;
  Bytes out_;
  std::size_t taken_ = 0;
  std::size_t sent_ = 0;
  std::size_t allowed_ = kNoLimit;
  bool deaf_ = false;
  bool ended_ = false;
};

}  // namespace carpool::fuzz
