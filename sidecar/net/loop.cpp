#include "net/loop.h"

#include "base/check.h"

namespace carpool::net {

Loop::Loop() : read_buffer_(new std::uint8_t[kReadSize]) {
  CHECK(uv_loop_init(&loop_) == 0);
  loop_.data = this;
  CHECK(uv_prepare_init(&loop_, &prepare_) == 0);
  prepare_.data = this;
  uv_prepare_start(&prepare_, [](uv_prepare_t* handle) {
    Loop* self = static_cast<Loop*>(handle->data);
    if (self->turn_end_) self->turn_end_();
    self->now_us_ = 0;
  });
  CHECK(uv_async_init(&loop_, &wake_, [](uv_async_t* handle) {
          static_cast<Loop*>(handle->data)->run_posted();
        }) == 0);
  wake_.data = this;
  // These two do not keep run() from ending.
  uv_unref(reinterpret_cast<uv_handle_t*>(&prepare_));
  uv_unref(reinterpret_cast<uv_handle_t*>(&wake_));
}

Loop::~Loop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    posted_.clear();
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&wake_), nullptr);
  // A stop() that no run() has seen yet makes the first of these return at once.
  while (uv_loop_close(&loop_) == UV_EBUSY) uv_run(&loop_, UV_RUN_DEFAULT);
}

void Loop::run() {
  uv_run(&loop_, UV_RUN_DEFAULT);
}

void Loop::run_once() {
  uv_run(&loop_, UV_RUN_ONCE);
}

void Loop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    posted_.clear();
  }
  uv_stop(&loop_);
}

bool Loop::post(std::function<void()> fn) {
  const std::lock_guard lock(mutex_);
  if (stopped_ || posted_.size() >= kPostedMax) return false;
  posted_.push_back(std::move(fn));
  uv_async_send(&wake_);
  return true;
}

void Loop::run_posted() {
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(posted_);
  }
  for (auto& fn : batch) fn();
}

void Loop::run_blocking(std::function<void()> work, std::function<void()> done) {
  struct Job {
    uv_work_t request;
    std::function<void()> work;
    std::function<void()> done;
  };
  auto* job = new Job{{}, std::move(work), std::move(done)};
  job->request.data = job;
  const int rc = uv_queue_work(
      &loop_, &job->request, [](uv_work_t* request) { static_cast<Job*>(request->data)->work(); },
      [](uv_work_t* request, int) {
        std::unique_ptr<Job> owned(static_cast<Job*>(request->data));
        owned->done();
      });
  CHECK(rc == 0);
}

}  // namespace carpool::net
