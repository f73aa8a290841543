#include "pg/query_text.h"
#include "proxy/client.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

// Client, as others see it.

namespace carpool::proxy {

pool::ClientSnapshot Client::snapshot(Micros now) const {
  pool::ClientSnapshot snapshot;
  snapshot.id = id_;
  const Pooled* own = pooled();
  if (own != nullptr) {
    snapshot.database = own->pool->database();
    snapshot.user = own->pool->user();
  } else if (const auto* at = std::get_if<AtConsole>(&stage_)) {
    snapshot.database = Console::kDatabase;
    snapshot.user = at->console->user();
  } else {
    const Entering& entering = *std::get<std::unique_ptr<Entering>>(stage_);
    if (entering.console != nullptr) {
      snapshot.database = Console::kDatabase;
      snapshot.user = entering.console->user();
    } else if (entering.destination) {
      snapshot.database = entering.destination->database;
      snapshot.user = entering.destination->user;
    }
  }
  snapshot.age_us = now - connected_us_;
  snapshot.address = stream_.peer();
  snapshot.state = pool::kClientStateNames[static_cast<std::size_t>(state_)];
  snapshot.in_state_us = now - since_us_;
  if (own != nullptr && own->session) {
    snapshot.application_name = pg::value_of(own->session->follower.current(), "application_name");
  }
  if (own != nullptr && own->server != nullptr) {
    const Server& server = *own->server;
    const Lease& lease = server.lease();
    const LeaseTimes& times = lease.times;
    if (lease.pinned()) {
      snapshot.pinned_by = pool::kPinCauseNames[static_cast<std::size_t>(lease.pin_cause())];
      snapshot.pinned_us = lease.pinned_us() == 0 ? 0 : now - lease.pinned_us();
    }
    const config::QueryText text = proxy_.config().log.query_text;
    snapshot.query = text == config::QueryText::Off    ? ""
                     : text == config::QueryText::Full ? pg::one_line(times.query())
                                                       : pg::masked(times.query());
    if (server.rests()) {
      snapshot.state = server.holds_transaction() ? "idle_in_transaction" : "idle_in_session";
      snapshot.in_state_us = now - times.heard_us();
    } else if (times.query_us() != 0) {
      snapshot.in_state_us = now - times.query_us();
    }
  }
  return snapshot;
}

}  // namespace carpool::proxy
