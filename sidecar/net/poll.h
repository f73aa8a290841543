// Poll: watches one descriptor it does not own. close() stops it at once, so that the descriptor
// may be closed right after; the memory it needs inside libuv goes after uv_close by itself.
// No callback comes after close(), and close() may be called from inside the callback.
#pragma once

#include <functional>

#include "net/loop.h"

namespace carpool::net {

class Poll {
 public:
  static constexpr int kReadable = UV_READABLE;
  static constexpr int kWritable = UV_WRITABLE;

  // `on_event` gets the events that are ready, or a negative libuv error.
  using Callback = std::function<void(int events)>;

  Poll() = default;
  ~Poll() { close(); }
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;

  // Watches `fd` for `events`. Replaces what it watched before. 0 or a libuv error.
  int open(Loop& loop, int fd, int events, Callback on_event);
  // Stops watching until the next open(): needed around calls that may close or change the
  // descriptor, as libpq's do.
  void close();
  bool is_open() const { return state_ != nullptr; }

 private:
  struct State;
  State* state_ = nullptr;
};

}  // namespace carpool::net
