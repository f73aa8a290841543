#include "net/signals.h"

#include <csignal>

namespace carpool::net {

namespace {
constexpr std::array kSignals = {SIGTERM, SIGINT, SIGHUP};
}

struct Signals::State {
  std::array<uv_signal_t, kSignals.size()> handles;
  std::size_t open = kSignals.size();
  std::function<void(int)> on_signal;
};

Signals::Signals(Loop& loop, std::function<void(int)> on_signal) : state_(new State) {
  state_->on_signal = std::move(on_signal);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    uv_signal_t& handle = state_->handles[i];
    uv_signal_init(loop.uv(), &handle);
    handle.data = state_;
    uv_signal_start(
        &handle,
        [](uv_signal_t* h, int signal) { static_cast<State*>(h->data)->on_signal(signal); },
        kSignals[i]);
  }
}

Signals::~Signals() {
  for (uv_signal_t& handle : state_->handles) {
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), [](uv_handle_t* h) {
      State* state = static_cast<State*>(h->data);
      if (--state->open == 0) delete state;
    });
  }
}

}  // namespace carpool::net
