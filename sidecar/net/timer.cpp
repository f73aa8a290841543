#include "net/timer.h"

#include <algorithm>

#include "base/check.h"

namespace carpool::net {

struct Timer::State {
  uv_timer_t handle;
  std::function<void()> fn;
};

namespace {
// libuv counts in milliseconds; at least one, so that a short delay is not a busy loop.
std::uint64_t millis(Micros us) {
  return us == 0 ? 0 : static_cast<std::uint64_t>(std::max<Micros>(1, us / kMicrosPerMilli));
}
}  // namespace

void Timer::start(Loop& loop, Micros delay_us, Micros repeat_us, std::function<void()> fn) {
  stop();
  state_ = new State{{}, std::move(fn)};
  CHECK(uv_timer_init(loop.uv(), &state_->handle) == 0);
  uv_update_time(loop.uv());  // it counts from there, and libuv may have had no turn for a while
  state_->handle.data = state_;
  CHECK(uv_timer_start(
            &state_->handle, [](uv_timer_t* handle) { static_cast<State*>(handle->data)->fn(); },
            millis(delay_us), millis(repeat_us)) == 0);
}

void Timer::stop() {
  if (state_ == nullptr) return;
  State* state = state_;
  state_ = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&state->handle),
           [](uv_handle_t* handle) { delete static_cast<State*>(handle->data); });
}

}  // namespace carpool::net
