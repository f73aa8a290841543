// Aside: blocking work on threads of its own, for what may take for ever, such as reading a file on
// a network's mount that is gone. libuv's pool has four threads, which names and cancels need: what
// hangs must not stand there.
//
// It never waits for a thread, not even at the end: what hangs is left to itself, and its `done` is
// not called any more. Whoever ends the process then ends it by _exit().
// Invariant: running() <= kThreadsMax, over all of them that hang.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "net/loop.h"

namespace carpool::net {

class Aside {
 public:
  static constexpr std::uint32_t kThreadsMax = 16;

  // `loop` must outlive it.
  explicit Aside(Loop& loop);
  ~Aside();
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

  // Runs `work` on a thread, and then `done` on the loop. `work` must own what it uses, since it
  // may outlive everything. False where kThreadsMax run, or the system gives no thread.
  bool run(std::function<void()> work, std::function<void()> done);
  std::uint32_t running() const { return running_; }

 private:
  struct Shared;
  void take_done();

  std::shared_ptr<Shared> shared_;
  std::uint32_t running_ = 0;
};

}  // namespace carpool::net
