// Server, its lease: how it begins, what is sent for it, and how it ends.
#include <fmt/format.h>

#include "base/check.h"
#include "pg/messages.h"
#include "proxy/client.h"
#include "proxy/live_pool.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

namespace carpool::proxy {

using pool::SlotState;

namespace {

// A restore that something of another client's has cut off: a timeout, a cancel, the end of the
// server. It says nothing of the settings.
bool is_cut_off(std::string_view sqlstate) {
  return sqlstate.starts_with("57") || sqlstate.starts_with("25P") || sqlstate.starts_with("53");
}

}  // namespace

bool Server::still_there() {
  if (!pool_.proxy().loop().may_have_more()) return true;
  const int next = stream_.peek();
  // It owes nothing: an error is its farewell.
  if (next != net::Stream::kEnded && next != 'E') return true;
  on_farewell("seen before it was lent", Life::Gone);
  return false;
}

void Server::lend(Client& client, Micros waited_us) {
  CHECK(client_ == nullptr && !lease_ && slot_state() == SlotState::Leased);
  client_ = &client;
  pool_.counters().wait.observe(waited_us);
  if (waited_us > 0) pool_.counters().waits++;
  session_.reset_by.clear();
  was_lent_ = true;
  lease_.emplace(pool_.tables(), session_, client.session(), pool_.counters(), pool_.terms(),
                 pool_.proxy().loop().now_us(), waited_us);
  if (!restore(Lease::Restoring::First) && client.awaits_greeting()) let_go();
}

// Nobody's lease, which is over at once.
void Server::terms_changed() {
  if (!was_lent_) return;
  auto nobody = std::make_unique<ClientSession>(pool_.tables().states, pg::StatePtr());
  lease_.emplace(pool_.tables(), session_, *nobody, pool_.counters(), pool_.terms(),
                 pool_.proxy().loop().now_us(), 0);
  lease_->client_left(std::move(nobody));
  if (next(lease_->remains(pool_.settings().pool)) == Next::Lend) return lease_.reset();
  clean();
}

// ---- restoring

// Nothing when the sessions are equal, which is the rule. They also differ after a RESET: it leads
// a client to the values of its startup packet, and a server to its own.
bool Server::restore(Lease::Restoring which) {
  if (lease_->in_step()) return false;
  pool_.counters().restores++;
  Bytes bytes;
  Outgoing out({}, bytes);
  lease_->restore(which, out);
  send(out.bytes());
  return true;
}

bool Server::on_restored() {
  const Lease::Restoring which = lease_->restoring();
  lease_->restored(!lease_->own_error);
  if (client_ == nullptr) return false;  // clean() looks at what is left
  if (lease_->own_error) {
    restore_failed(which);
    return false;
  }
  if (client_->awaits_greeting()) let_go();
  return which == Lease::Restoring::Behind;
}

void Server::restore_failed(Lease::Restoring which) {
  const Lease::OwnError error = *std::exchange(lease_->own_error, std::nullopt);
  const std::string message =
      fmt::format("the session's settings could not be restored on another server of {}: {}",
                  pool_.describe(), error.message);
  Client* client = client_;
  if (which == Lease::Restoring::Behind) {
    return client->close_with_error(error.sqlstate, message);
  }
  if (is_cut_off(error.sqlstate)) {
    // Another server may do it; this one is not known any more.
    if (client->may_try_again()) {
      client_ = nullptr;
      client->try_again();
    } else {
      client->close_with_error(pg::sqlstate::kConnectionFailure, message);
    }
    if (!closing()) close(message);
    return;
  }
  // What was to run has not been sent. The settings of the server are as they were, since one text
  // is one transaction; where there were two, the first may have been carried out.
  const bool same = lease_->restores_in_one();
  if (client->awaits_greeting()) {
    client->refuse_values(error.sqlstate, error.message);
    if (!same && !closing()) close(message);
    return;
  }
  end_lease();
  client->fail_query(error.sqlstate, message);
  pool_.proxy().resume_later(*client);
  if (!same && !closing()) close(message);
}

// ---- the client's part ends

bool Server::must_answer_first() {
  const Steps steps =
      leave(Ending::Terminate, lease_->under_way(false), !pool_.startup().replication.empty());
  if (!steps.has(Step::Wait)) return false;
  carry_out(steps);
  return true;
}

void Server::abandoned(Ending how, bool inside_message, std::unique_ptr<ClientSession> session) {
  client_ = nullptr;
  lease_->client_left(std::move(session));
  if (closing()) return;
  const Steps steps =
      leave(how, lease_->under_way(inside_message), !pool_.startup().replication.empty());
  if (steps.has(Step::Close)) {
    return close(inside_message ? "its client left in the middle of a message"
                                : "its client has left");
  }
  if (stream_.reading_paused()) stream_.resume_reading();
  carry_out(steps);
  // What is restored for nobody may wait for a lock.
  if (!closing() && lease_->restoring() != Lease::Restoring::No && !rests()) {
    lease_->cancels.repeat();
    if (!lease_->cancels.asked()) cancel(nullptr);
  }
  if (!closing()) clean();
}

void Server::carry_out(Steps steps) {
  Bytes bytes;
  Outgoing out({}, bytes);
  if (steps.has(Step::FailCopy)) lease_->fail_copy(out);
  if (steps.has(Step::Rollback)) lease_->roll_back_batch(out);
  if (steps.has(Step::Fence) && !lease_->requests().has_fence()) {
    lease_->fence(pool_.proxy().token(), out);
  }
  if (!out.empty() && !send(out.bytes())) return;
  if (steps.has(Step::Cancel)) {
    lease_->cancels.repeat();
    if (!lease_->cancels.asked()) cancel(nullptr);
  }
}

// Nothing of Carpool's own goes into the midst of a client's message: then it is due behind it.
void Server::fence_if_due() {
  if (client_ != nullptr && client_->inside_message()) return;
  const bool flush = lease_->requests().needs_flush();
  if (!flush && !lease_->requests().needs_fence()) return;
  Bytes bytes;
  Outgoing out({}, bytes);
  if (flush) {
    pg::append_empty(out.insert(), 'H');
  } else {
    lease_->fence(pool_.proxy().token(), out);
  }
  send(out.bytes());
}

void Server::look_at_lease() {
  if (closing()) return;
  if (client_ == nullptr) return clean();
  fence_if_due();
  if (closing() || client_ == nullptr) return;
  // One that has carried nothing yet has only begun.
  if (!rests() || client_->inside_message() || lease_->is_fresh()) return;
  if (client_->leaving()) return client_->close(Ending::Terminate);
  if (holds_transaction()) {
    if (lease_->terms().mode != config::PoolMode::Statement || lease_->requests().status() == 'I') {
      return;
    }
    return client_->close_with_error(
        pg::sqlstate::kFeatureNotSupported,
        "a transaction of several statements needs pool.mode transaction or session; here it is "
        "statement");
  }
  const bool keeps =
      lease_->terms().mode == config::PoolMode::Session || client_->must_keep_server();
  if (!keeps) return let_go();
  if (pool_.proxy().ending_clients()) {
    client_->close_with_error(pg::sqlstate::kAdminShutdown, "Carpool is shutting down");
  }
}

void Server::let_go() {
  Client* client = client_;
  end_lease();
  if (pool_.proxy().ending_clients()) {
    client->close_with_error(pg::sqlstate::kAdminShutdown, "Carpool is shutting down");
  }
}

// The client stays, and the server has nothing of it.
void Server::end_lease() {
  if (!lease_->is_fresh()) {
    pool_.counters().transaction.observe(pool_.proxy().loop().now_us() - lease_->times.lent_us());
  }
  Client* client = client_;
  client_ = nullptr;
  client->detach();
  if (stream_.reading_paused()) stream_.resume_reading();
  if (lease_->cancels.in_flight() > 0 ||
      next(lease_->remains(pool_.settings().pool)) != Next::Lend) {
    lease_->client_left(std::make_unique<ClientSession>(pool_.tables().states, pg::StatePtr()));
  }
  clean();
}

void Server::clean() {
  if (closing()) return;
  const Micros now = pool_.proxy().loop().now_us();
  if (!rests() || lease_->cancels.in_flight() > 0) {
    // ReadyForQuery comes back here. A cancel must not hit the next client's query.
    if (slot_state() == SlotState::Leased) pool_.pool().set_canceling(*this, now);
    return;
  }
  if (lease_->own_error) return close("it could not be cleaned: " + lease_->own_error->message);
  const Next step = next(lease_->remains(pool_.settings().pool));
  if (step == Next::Lend) {
    lease_.reset();
    set_affinity(session_.follower.current().get());  // the settings that are in force
    if (pool_.pool().release(*this, now)) pool_.mark_dirty();
    return;
  }
  if (step == Next::Close) return close("what its client left behind cannot be undone");
  if (slot_state() != SlotState::Resetting) pool_.pool().set_resetting(*this, now);
  Bytes bytes;
  Outgoing out({}, bytes);
  switch (step) {
    case Next::EndBatch:
      lease_->roll_back_batch(out);
      break;
    case Next::Rollback:
      lease_->clean("ROLLBACK", out);
      break;
    case Next::Settle:
      lease_->clean(fmt::format("RESET {}", ServerSession::kIdleTimeout), out);
      break;
    case Next::Discard:
      lease_->reset("DISCARD ALL", out);
      break;
    default:
      lease_->reset(lease_->due_reset(pool_.settings().pool), out);
      break;
  }
  send(out.bytes());
}

}  // namespace carpool::proxy
