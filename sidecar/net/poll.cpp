#include "net/poll.h"

namespace carpool::net {

struct Poll::State {
  uv_poll_t handle;
  Callback on_event;
};

int Poll::open(Loop& loop, int fd, int events, Callback on_event) {
  close();
  auto* state = new State{{}, std::move(on_event)};
  const int rc = uv_poll_init(loop.uv(), &state->handle, fd);
  if (rc != 0) {
    delete state;
    return rc;
  }
  state->handle.data = state;
  state_ = state;
  return uv_poll_start(&state->handle, events, [](uv_poll_t* handle, int status, int ready) {
    // The callback may close() this Poll, which leaves the State alive until uv_close is done.
    const Callback& callback = static_cast<State*>(handle->data)->on_event;
    callback(status < 0 ? status : ready);
  });
}

void Poll::close() {
  if (state_ == nullptr) return;
  State* state = state_;
  state_ = nullptr;
  uv_poll_stop(&state->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&state->handle),
           [](uv_handle_t* handle) { delete static_cast<State*>(handle->data); });
}

}  // namespace carpool::net
