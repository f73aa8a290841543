// Loop: the one libuv loop, on the one thread that owns every client, server, pool and counter.
//
// Other threads never touch what the loop owns: they post() a function to it, or call() one and
// wait for its value until a deadline, which also answers whether the loop is alive. Everything
// else here is for the loop's own thread. A function is never run from inside post() or call().
//
// Lifetime: everything that stands on the loop (streams, timers, watchers) is closed before it.
#pragma once

#include <uv.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"

namespace carpool::net {

class Loop {
 public:
  // Read at most this much at once; shared by all connections, since bytes that must be kept are
  // copied to a buffer of their own.
  static constexpr std::size_t kReadSize = 128u << 10;
  // Functions that wait to be run; past it post() refuses.
  static constexpr std::size_t kPostedMax = 1024;

  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(), then until every handle is closed.
  void run();
  void stop();
  // One turn, for those who wait for their handles to close.
  void run_once();

  // The time at which this turn of the loop began to handle events: one reading of the clock a
  // turn serves all of them.
  Micros now_us() {
    if (now_us_ == 0) now_us_ = clock_us();
    return now_us_;
  }
  // The monotonic clock itself.
  static Micros clock_us() { return static_cast<Micros>(uv_hrtime() / 1000); }

  // Called at the end of each turn, before the loop sleeps.
  void set_turn_end(std::function<void()> fn) { turn_end_ = std::move(fn); }

  // Valid until the next read of any connection.
  std::span<std::uint8_t> read_buffer() { return {read_buffer_.get(), kReadSize}; }

  // From any thread. False when too many wait, or the loop has stopped.
  bool post(std::function<void()> fn);

  // From another thread: the value of fn(), run on the loop; nullopt when the loop has not
  // answered within `deadline`. fn may run later even so, and must own what it uses.
  template <typename Fn>
  auto call(Fn fn, std::chrono::milliseconds deadline) -> std::optional<decltype(fn())> {
    using Value = decltype(fn());
    struct Shared {
      std::mutex mutex;
      std::condition_variable done;
      std::optional<Value> value;
    };
    auto shared = std::make_shared<Shared>();
    const bool posted = post([shared, fn = std::move(fn)]() mutable {
      Value value = fn();
      const std::lock_guard lock(shared->mutex);
      shared->value = std::move(value);
      shared->done.notify_one();
    });
    if (!posted) return std::nullopt;
    std::unique_lock lock(shared->mutex);
    shared->done.wait_for(lock, deadline, [&] { return shared->value.has_value(); });
    return std::move(shared->value);
  }

  // Runs on libuv's thread pool; then `done` on the loop. Both must own what they use. Nothing
  // bounds the work itself: callers keep few at a time.
  void run_blocking(std::function<void()> work, std::function<void()> done);

  uv_loop_t* uv() { return &loop_; }

 private:
  void run_posted();

  uv_loop_t loop_;
  uv_prepare_t prepare_;
  uv_async_t wake_;
  Micros now_us_ = 0;
  std::function<void()> turn_end_;
  std::unique_ptr<std::uint8_t[]> read_buffer_;

  std::mutex mutex_;  // guards the two below
  std::vector<std::function<void()>> posted_;
  bool stopped_ = false;
};

}  // namespace carpool::net
