#include "pg/query_text.h"
#include "proxy/client.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

// Client, as others see it.

namespace carpool::proxy {

pool::ClientSnapshot Client::snapshot(Micros now) const {
  pool::ClientSnapshot snapshot;
  snapshot.id = id_;
  if (pool_ != nullptr) {
    snapshot.database = pool_->database();
    snapshot.user = pool_->user();
  } else if (console_ != nullptr) {
    snapshot.database = Console::kDatabase;
    snapshot.user = console_->user();
  } else if (entrance_ != nullptr) {
    snapshot.database = entrance_->database;
    snapshot.user = entrance_->user;
  }
  snapshot.age_us = now - connected_us_;
  snapshot.address = stream_.peer();
  snapshot.state = pool::kClientStateNames[static_cast<std::size_t>(state_)];
  snapshot.in_state_us = now - since_us_;
  if (session_) {
    snapshot.application_name = pg::value_of(session_->follower.current(), "application_name");
  }
  if (server_ != nullptr) {
    const Lease& lease = server_->lease();
    const LeaseTimes& times = lease.times;
    if (lease.pinned()) {
      snapshot.pinned_by = pool::kPinCauseNames[static_cast<std::size_t>(lease.pin_cause())];
      snapshot.pinned_us = lease.pinned_us() == 0 ? 0 : now - lease.pinned_us();
    }
    const config::QueryText text = proxy_.config().log.query_text;
    snapshot.query = text == config::QueryText::Off    ? ""
                     : text == config::QueryText::Full ? pg::one_line(times.query())
                                                       : pg::masked(times.query());
    if (server_->rests()) {
      snapshot.state = server_->holds_transaction() ? "idle_in_transaction" : "idle_in_session";
      snapshot.in_state_us = now - times.heard_us();
    } else if (times.query_us() != 0) {
      snapshot.in_state_us = now - times.query_us();
    }
  }
  return snapshot;
}

}  // namespace carpool::proxy
