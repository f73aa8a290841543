// Loop: the one loop, on the one thread that owns every client, server, pool and counter.
//
//   a turn:  sleep in epoll --- events of sockets ---> Watched::on_events()
//                         \--- libuv has something --> uv_run(UV_RUN_NOWAIT)
//            then turn_end, then what was closed is released
//
// Of the events of a turn those are told first of whose descriptors others make use (Told::First):
// who asks for a server in a turn is not given one whose end came in the same turn.
//
// Timers, signals, names, files, other threads and libpq's sockets stand on libuv; the sockets that
// are relayed stand on an epoll of the loop's own, with libuv's backend as one descriptor among
// them (uv_backend_fd(), made for that). It costs fewer instructions and system calls for each
// transaction and connection: see docs/architecture.md.
//
// Other threads never touch what the loop owns: they post() a function to it, or call() one and
// wait for its value until a deadline, which also answers whether the loop is alive. Everything
// else here is for the loop's own thread. A function is never run from inside post() or call().
//
// Lifetime: everything that stands on the loop (streams, timers, watchers) is closed before it.
#pragma once

#include <sys/epoll.h>
#include <uv.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/intrusive_list.h"
#include "base/units.h"

namespace carpool::net {

struct ForTheLoop {};

// When somebody hears of its events, among the others of a turn.
enum class Told : std::uint8_t { First, Later };

// Who stands on the loop with a descriptor. Must outlive its Loop::unwatch(), or its on_released()
// where it asks for that.
class Watched : public ListHook<ForTheLoop> {
 public:
  // `events` as in epoll(7); 0: again() was asked for.
  virtual void on_events(std::uint32_t events) = 0;
  // The turn in which it was closed has ended: its memory may go.
  virtual void on_released() {}

  Told told_when = Told::Later;  // written by Loop::watch()

 protected:
  ~Watched() = default;
};

class Loop {
 public:
  // Events that one turn takes; the others come with the next.
  static constexpr std::size_t kEventsMax = 512;
  // Read at most this much at once; shared by all connections, since bytes that must be kept are
  // copied to a buffer of their own.
  static constexpr std::size_t kReadSize = 128u << 10;
  // Functions that wait to be run; past it post() refuses.
  static constexpr std::size_t kPostedMax = 1024;

  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(), or until nothing stands on it.
  void run();
  void stop();
  // One turn, which sleeps until there is something to do, unless nothing stands on the loop.
  void run_once();

  // From now on `watched` hears of `events` of `fd`, EPOLLET among them or not. False when the
  // kernel cannot watch it.
  bool watch(int fd, std::uint32_t events, Watched& watched, Told told = Told::Later);
  // Other events; those that are there already are told again, EPOLLET or not.
  void rewatch(int fd, std::uint32_t events, Watched& watched);
  // No event comes any more, not even of this turn. `fd` is still open.
  void unwatch(int fd, Watched& watched);
  // The same where its last descriptor is closed right before or after: the kernel forgets it by
  // itself.
  void forget(Watched& watched);
  // One more on_events(0), in the next turn, which does not sleep before. Not after unwatch().
  void again(Watched& watched) {
    if (!watched.linked()) again_.push_back(watched);
  }
  // Whether there may be events from before this turn that it does not tell: it took as many as it
  // can.
  bool may_have_more() const { return full_; }
  // on_released() at the end of this turn. After unwatch().
  void release(Watched& watched) { released_.push_back(watched); }

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

  // From any thread: whether nothing that is posted will be run any more.
  bool stopped() {
    const std::lock_guard lock(mutex_);
    return stopped_;
  }

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

  // libuv's own loop. Whoever asks for it starts something: libuv looks at it before the loop
  // sleeps.
  uv_loop_t* uv() {
    uv_asked_ = true;
    return &loop_;
  }

 private:
  using WatchedList = IntrusiveList<Watched, ForTheLoop>;
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  uv_handle_t* wake_handle() { return reinterpret_cast<uv_handle_t*>(&wake_); }
  bool uv_closing() { return uv_is_closing(wake_handle()) != 0; }
  bool alive() const;
  void turn(bool may_sleep);
  void tell(epoll_event& event);
  // Sees to it that the next sleep ends in time for libuv.
  void watch_the_time();
  // The time of libuv's next timer, on the clock of uv_now(); kNever: none, 0: now.
  std::uint64_t uv_due_ms() const;
  void set_alarm(std::uint64_t due_ms);
  void run_posted();

  int epoll_ = -1;
  int alarm_ = -1;  // a timerfd: a time-out of epoll_wait() would be set and taken back each turn
  std::uint64_t alarm_ms_ = kNever;
  std::array<epoll_event, kEventsMax> events_;
  int untold_ = 0;       // of events_: all before it have been told
  int events_here_ = 0;  // how many of them this turn has
  bool full_ = false;    // as many as there is room for
  std::uint32_t watching_ = 0;
  WatchedList again_;
  WatchedList released_;

  uv_loop_t loop_;
  bool uv_asked_ = true;  // the first time, to begin with
  bool stop_ = false;
  uv_async_t wake_;
  Micros now_us_ = 0;
  std::function<void()> turn_end_;
  std::unique_ptr<std::uint8_t[]> read_buffer_;

  std::mutex mutex_;  // guards the two below
  std::vector<std::function<void()>> posted_;
  bool stopped_ = false;
};

}  // namespace carpool::net
