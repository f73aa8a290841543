#include "proxy/cancels.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "proxy/server.h"

namespace carpool::proxy {

void Cancels::run(Server& server) {
  const auto cancel = cancels_.insert(cancels_.end(), {server.peer(), &server, nullptr, {}, false});
  if (CancelRequest::available()) {
    cancel->request = server.connector().cancel_request([this, cancel] { landed(cancel); });
    server.cancel_begins();
  } else {
    cancel->ticket = server.connector().cancel_ticket();
    start();
  }
}

void Cancels::forget(const Server& server) {
  std::erase_if(cancels_, [&](const Cancel& cancel) {
    return cancel.server == &server && !cancel.on_thread;
  });
  for (Cancel& cancel : cancels_) {
    if (cancel.server == &server) cancel.server = nullptr;
  }
}

bool Cancels::may_run(const Cancel& cancel) const {
  std::uint32_t all = 0;
  std::uint32_t there = 0;
  for (const Cancel& other : cancels_) {
    if (!other.on_thread) continue;
    ++all;
    if (other.place == cancel.place) ++there;
  }
  return all < kMax && there < kPlaceMax;
}

void Cancels::start() {
  for (auto i = cancels_.begin(); i != cancels_.end();) {
    const auto cancel = i++;
    if (cancel->request == nullptr && !cancel->on_thread && may_run(*cancel)) {
      run_on_a_thread(cancel);
    }
  }
}

void Cancels::run_on_a_thread(std::list<Cancel>::iterator cancel) {
  cancel->on_thread = true;
  cancel->server->cancel_begins();
  try {
    std::thread([this, cancel, ticket = cancel->ticket] {
      ticket.run();
      // The loop takes it unless too many wait, and then soon; or it has ended, and nobody does.
      while (!loop_.post([this, cancel] { landed(cancel); }) && !loop_.stopped()) {
        std::this_thread::yield();
      }
    }).detach();
  } catch (const std::system_error&) {
    // No thread is to be had: as if PostgreSQL could not be reached. Not from inside run().
    loop_.post([this, cancel] { landed(cancel); });
  }
}

void Cancels::landed(std::list<Cancel>::iterator cancel) {
  Server* server = cancel->server;
  const std::unique_ptr<CancelRequest> request = std::move(cancel->request);  // it is what calls
  cancels_.erase(cancel);
  if (server != nullptr) server->cancel_landed();
  start();
}

}  // namespace carpool::proxy
