#include "net/aside.h"

#include <pthread.h>
#include <signal.h>

#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace carpool::net {

// Of the threads and their owner; the last one of them frees it.
struct Aside::Shared {
  std::mutex mutex;                         // guards all below
  uv_async_t* wake = nullptr;               // null: the owner is gone
  std::vector<std::function<void()>> done;  // to be called on the loop
};

Aside::Aside(Loop& loop) : shared_(std::make_shared<Shared>()) {
  auto* wake = new uv_async_t;
  uv_async_init(loop.uv(), wake,
                [](uv_async_t* handle) { static_cast<Aside*>(handle->data)->take_done(); });
  wake->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(wake));
  shared_->wake = wake;
}

Aside::~Aside() {
  const std::lock_guard lock(shared_->mutex);
  uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(shared_->wake, nullptr)),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_async_t*>(handle); });
}

bool Aside::run(std::function<void()> work, std::function<void()> done) {
  if (running_ == kThreadsMax) return false;
  // Signals are the loop's: a new thread inherits a mask that blocks them all.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    std::thread([shared = shared_, work = std::move(work), done = std::move(done)]() mutable {
      work();
      work = nullptr;  // what it owns goes here, and not under the lock
      const std::lock_guard lock(shared->mutex);
      shared->done.push_back(std::move(done));
      if (shared->wake != nullptr) uv_async_send(shared->wake);
    }).detach();
  } catch (const std::system_error&) {
    started = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  running_ += started ? 1 : 0;
  return started;
}

void Aside::take_done() {
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(shared_->mutex);
    batch.swap(shared_->done);
  }
  running_ -= static_cast<std::uint32_t>(batch.size());
  // One of them may end this.
  for (const auto& done : batch) done();
}

}  // namespace carpool::net
