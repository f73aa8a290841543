#include "net/loop.h"

#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/check.h"

namespace carpool::net {

namespace {

// The data of an event is its Watched's address, with kFirst where it is Told::First. What the loop
// itself watches is told from the rest by these, which are no addresses; and what has been told.
constexpr std::uint64_t kFirst = 1;
constexpr std::uint64_t kToldData = 0;
constexpr std::uint64_t kUvData = 2;
constexpr std::uint64_t kAlarmData = 4;
static_assert(alignof(Watched) > kFirst);

std::uint64_t data_of(Watched& watched) {
  return reinterpret_cast<std::uintptr_t>(&watched) |
         (watched.told_when == Told::First ? kFirst : 0);
}

}  // namespace

Loop::Loop() : read_buffer_(new std::uint8_t[kReadSize]) {
  CHECK(uv_loop_init(&loop_) == 0);
  loop_.data = this;
  CHECK(uv_async_init(&loop_, &wake_, [](uv_async_t* handle) {
          static_cast<Loop*>(handle->data)->run_posted();
        }) == 0);
  wake_.data = this;
  uv_unref(wake_handle());  // it does not keep run() from ending

  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  alarm_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  CHECK(epoll_ >= 0 && alarm_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kUvData;
  CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, uv_backend_fd(&loop_), &event) == 0);
  event.events = EPOLLIN | EPOLLET;  // it is set anew, not read
  event.data.u64 = kAlarmData;
  CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, alarm_, &event) == 0);
}

Loop::~Loop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    posted_.clear();
  }
  uv_close(wake_handle(), nullptr);
  while (alive()) turn(true);
  CHECK(uv_loop_close(&loop_) == 0);
  ::close(alarm_);
  ::close(epoll_);
}

bool Loop::alive() const {
  return watching_ > 0 || !released_.empty() || uv_loop_alive(&loop_) != 0;
}

void Loop::run() {
  while (!stop_ && alive()) turn(true);
  stop_ = false;
}

void Loop::run_once() {
  turn(alive());
}

void Loop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    posted_.clear();
  }
  stop_ = true;
}

// ---- a turn

void Loop::turn(bool may_sleep) {
  watch_the_time();
  const bool sleeps = may_sleep && !uv_asked_ && again_.empty() && released_.empty();
  // The system call itself: epoll_wait(3) is a cancellation point, which takes its time. arm64 has
  // it under this name only.
  events_here_ = static_cast<int>(syscall(SYS_epoll_pwait, epoll_, events_.data(),
                                          static_cast<int>(kEventsMax), sleeps ? -1 : 0, nullptr,
                                          std::size_t{0}));
  now_us_ = 0;
  full_ = events_here_ == static_cast<int>(kEventsMax);
  // Those that asked in the last turn, and not those that ask in this.
  const std::uint32_t asked = again_.size();

  untold_ = 0;
  for (int i = 0; i < events_here_; ++i) {
    epoll_event& event = events_[static_cast<std::size_t>(i)];
    if ((event.data.u64 & kFirst) != 0) tell(event);
  }
  while (untold_ < events_here_) tell(events_[static_cast<std::size_t>(untold_++)]);
  events_here_ = 0;
  for (std::uint32_t i = 0; i < asked; ++i) {
    Watched* watched = again_.front();
    if (watched == nullptr) break;
    again_.remove(*watched);
    watched->on_events(0);
  }
  if (uv_asked_) {
    uv_asked_ = false;  // what its callbacks start is for the next turn
    // libuv looks at nothing while nothing is alive on it; what was posted is looked at all the
    // same.
    if (!uv_closing()) uv_ref(wake_handle());
    uv_run(&loop_, UV_RUN_NOWAIT);
    if (!uv_closing()) uv_unref(wake_handle());
  }
  if (turn_end_) turn_end_();
  while (Watched* watched = released_.front()) {
    released_.remove(*watched);
    watched->on_released();
  }
}

void Loop::tell(epoll_event& event) {
  const epoll_data_t data = event.data;  // which is packed
  event.data.u64 = kToldData;
  if (data.u64 == kToldData) return;
  if (data.u64 == kUvData) {
    uv_asked_ = true;
  } else if (data.u64 == kAlarmData) {
    alarm_ms_ = kNever;
    uv_asked_ = true;
  } else {
    char* const address = static_cast<char*>(data.ptr) - (data.u64 & kFirst);
    reinterpret_cast<Watched*>(address)->on_events(event.events);
  }
}

void Loop::watch_the_time() {
  const std::uint64_t due_ms = uv_due_ms();
  if (due_ms == 0) {
    uv_asked_ = true;
  } else if (due_ms != alarm_ms_) {
    set_alarm(due_ms);
  }
}

std::uint64_t Loop::uv_due_ms() const {
  if (uv_loop_alive(&loop_) == 0) return kNever;
  const int timeout_ms = uv_backend_timeout(&loop_);
  if (timeout_ms == 0) return 0;
  // The time that libuv knows is that of its last turn, and the time-out counts from there.
  return timeout_ms < 0 ? kNever : uv_now(&loop_) + static_cast<std::uint64_t>(timeout_ms);
}

void Loop::set_alarm(std::uint64_t due_ms) {
  alarm_ms_ = due_ms;
  itimerspec spec{};  // all zero: none
  if (due_ms != kNever) {
    // Once libuv's clock, which may be behind by the coarseness of the kernel's, says so too.
    const std::uint64_t at_ms = due_ms + 1;
    spec.it_value.tv_sec = static_cast<time_t>(at_ms / 1000);
    spec.it_value.tv_nsec = static_cast<long>(at_ms % 1000 * 1'000'000);
  }
  CHECK(timerfd_settime(alarm_, TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
}

// ---- what stands on it

bool Loop::watch(int fd, std::uint32_t events, Watched& watched, Told told) {
  watched.told_when = told;
  epoll_event event{};
  event.events = events;
  event.data.u64 = data_of(watched);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  ++watching_;
  return true;
}

void Loop::rewatch(int fd, std::uint32_t events, Watched& watched) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data_of(watched);
  CHECK(epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) == 0);
}

void Loop::unwatch(int fd, Watched& watched) {
  CHECK(epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr) == 0);
  forget(watched);
}

void Loop::forget(Watched& watched) {
  --watching_;
  if (watched.linked()) again_.remove(watched);
  // Its events of this turn that have not been told yet.
  const std::uint64_t data = data_of(watched);
  for (int i = untold_; i < events_here_; ++i) {
    epoll_event& event = events_[static_cast<std::size_t>(i)];
    if (event.data.u64 == data) event.data.u64 = kToldData;
  }
}

// ---- other threads

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
