#include "proxy/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/client.h"
#include "proxy/live_pool.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool::proxy {

using pool::SlotState;

namespace {

// What runs between two clients; empty: nothing.
std::string_view reset_between_clients(const config::Database& terms) {
  return terms.pool.mode == config::PoolMode::Session ? std::string_view(terms.pool.reset_query)
                                                      : std::string_view();
}

}  // namespace

Server::Server(LivePool& pool, std::uint64_t id)
    : pool_(pool),
      id_(id),
      connector_(pool.proxy().loop(), pool.proxy().server_files(),
                 [this](const ConnectFailure* failure) { on_connected(failure); }),
      session_(pool.tables(), tracker_, pool.counters()) {}

Server::~Server() {
  CHECK(client_ == nullptr);
}

// ---- opening

void Server::open() {
  const config::Database& settings = pool_.settings();
  client_password_ = pool_.client_passwords().best();
  connector_.start(settings.server, pool_.database(), pool_.user(), client_password_,
                   settings.pool.statement_timeout_us, pool_.startup());
  if (!connector_.shows_given_password()) client_password_.clear();
}

void Server::on_connected(const ConnectFailure* failure) {
  const Micros now = pool_.proxy().loop().now_us();
  if (failure != nullptr) return pool_.server_failed(*this, *failure, now);
  if (!stream_.open(pool_.proxy().loop(), connector_.fd(), false, this)) {
    return pool_.server_failed(
        *this, {pool::ConnectError::Other, "", "the loop cannot watch the socket"}, now);
  }
  stream_.pace_not_if_local();
  stream_.set_tls(connector_.tls(), false);
  backend_pid_ = connector_.backend_pid();
  peer_ = connector_.peer();
  cancel_ticket_ = connector_.cancel_ticket();
  ready_ = true;
  const auto parameters = connector_.parameters();
  session_.opened(parameters);
  pool_.server_opened(*this, parameters, now);
}

// ---- the lease

void Server::lend(Client& client, Micros waited_us) {
  CHECK(client_ == nullptr && slot_state() == SlotState::Leased);
  client_ = &client;
  waited_us_ = waited_us;
  described_ = repeats_description_ = false;
  session_.lent(client.session());
  lent_us_ = ready_us_ = pool_.proxy().loop().now_us();
  pool_.counters().wait.observe(waited_us);
  if (waited_us > 0) pool_.counters().waits++;
  lease_terms_ = transaction_terms_ = pool_.terms();
  reset_by_.clear();
  replay();
}

// Nothing when the sessions are equal, which is the rule; else one message ahead of the client's.
// They also differ after a RESET: it leads a client to the values of its startup packet, and a
// server to its own. The client's ReadyForQuery is held back until that is put right.
bool Server::replay() {
  if (session_.in_step(*client_session())) return false;
  const std::vector<std::string> texts = session_.replay_for(*client_session());
  if (texts.empty()) return false;
  Bytes out;
  for (const std::string& text : texts) {
    pg::append_query(out, text);
    tracker_.sent(pg::Request::Query, true);
  }
  replays_ = static_cast<std::uint32_t>(texts.size());
  session_.own_query_sent();
  send(out);
  return true;
}

ClientSession* Server::client_session() {
  return client_ == nullptr ? nullptr : &client_->session();
}

void Server::end_lease() {
  const Micros now = pool_.proxy().loop().now_us();
  pool_.counters().transaction.observe(now - lent_us_);
  Client* client = client_;
  client_ = nullptr;
  client->detach();
  if (stream_.reading_paused()) stream_.resume_reading();
  cleaning_ = true;
  clean();
}

void Server::abandoned(bool inside_message, bool polite) {
  if (client_session() != nullptr && client_session()->pinned()) pinned_ = true;
  client_ = nullptr;
  cleaning_ = true;
  polite_ = polite;
  if (closing()) return;
  if (inside_message) return close("its client left in the middle of a message");
  if (!pool_.startup().replication.empty()) return close("its client has left");
  if (stream_.reading_paused()) stream_.resume_reading();
  clean();
}

void Server::clean() {
  if (closing()) return;
  const Micros now = pool_.proxy().loop().now_us();
  const bool busy = !tracker_.idle();
  if (busy || tracker_.skipping() || tracker_.needs_sync()) {
    if (slot_state() == SlotState::Leased) pool_.pool().set_canceling(*this, now);
    Bytes out;
    if (tracker_.copy_in()) {
      pg::append_copy_fail(out, "the client has left");
      tracker_.sent(pg::Request::CopyEnd, true);
    }
    if (tracker_.skipping() || tracker_.needs_sync()) {
      pg::append_sync(out);
      tracker_.sent(pg::Request::Sync, true);
    }
    if (!out.empty() && !send(out)) return;
    if (busy && !polite_ && !cancel_asked_) cancel(nullptr);
    return;  // ReadyForQuery comes back here
  }
  if (cancels_in_flight_ > 0) {
    // The cancel must not hit the next client's query.
    if (slot_state() != SlotState::Canceling) pool_.pool().set_canceling(*this, now);
    return;
  }
  if (own_failed_) return close("it could not be cleaned: " + own_error_);
  if (tracker_.status() != 'I') return run_own("ROLLBACK");
  if (session_.tainted()) return close("what its client left behind cannot be undone");
  if (const std::string_view query = due_reset(); !query.empty()) {
    pinned_ = false;
    reset_by_ = query;
    return run_own(query);
  }
  cleaning_ = false;
  polite_ = false;
  cancel_asked_ = false;
  if (pool_.pool().release(*this, now)) pool_.mark_dirty();
}

// By what its lease did, and by what holds now, since the next client relies on that; where nothing
// holds any more, by what its lease began with.
std::string_view Server::due_reset() const {
  if (pinned_) return "DISCARD ALL";
  const std::string_view now = reset_between_clients(pool_.settings());
  if (!now.empty()) return reset_by_ == now ? std::string_view() : now;
  return reset_by_.empty() ? reset_between_clients(*lease_terms_) : std::string_view();
}

void Server::terms_changed() {
  if (lease_terms_ == nullptr || due_reset().empty()) return;
  cleaning_ = true;
  clean();
}

void Server::run_own(std::string_view sql) {
  if (slot_state() != SlotState::Resetting) {
    pool_.pool().set_resetting(*this, pool_.proxy().loop().now_us());
  }
  Bytes out;
  pg::append_query(out, sql);
  tracker_.sent(pg::Request::Query, true);
  own_query_ = sql;
  session_.own_query_sent();
  send(out);
}

// ---- requests

void Server::query_begins(ByteSpan text) {
  if (tracker_.idle() && !in_transaction()) transaction_terms_ = pool_.terms();
  if (query_us_ == 0) {
    query_us_ = pool_.proxy().loop().now_us();
    first_reply_us_ = 0;
    canceled_by_ = nullptr;
    cancel_asked_ = false;
  }
  if (text.empty()) return;
  query_size_ = static_cast<std::uint16_t>(std::min(text.size(), kQueryPrefixMax));
  std::memcpy(query_.data(), text.data(), query_size_);
}

bool Server::send(ByteSpan bytes) {
  if (closing()) return false;
  pool_.counters().bytes_from_clients += bytes.size();
  if (!stream_.write(bytes)) {
    close("the connection broke");
    return false;
  }
  if (stream_.queued() > 0 && client_ != nullptr) client_->stream().pause_reading();
  return true;
}

void Server::on_drained() {
  if (closing()) return;
  if (client_ != nullptr && client_->stream().reading_paused()) client_->resume();
}

// ---- cancel, timeouts, the end

void Server::cancel(const char* why) {
  if (closing() || cancels_in_flight_ > 0) return;  // the one in flight does
  canceled_by_ = why;
  cancel_asked_ = true;
  cancels_in_flight_++;
  canceled_us_ = pool_.proxy().loop().now_us();
  pool_.proxy().run_cancel(*this);
}

void Server::cancel_landed() {
  CHECK(cancels_in_flight_ > 0);
  cancels_in_flight_--;
  if (cleaning_) clean();
}

void Server::check_timeouts(Micros now) {
  switch (slot_state()) {
    case SlotState::Leased: {
      if (client_ == nullptr) break;
      const config::Pool& settings = transaction_terms_->pool;
      if (!tracker_.idle()) {
        if (settings.query_timeout_us > 0 && query_us_ != 0 && !cancel_asked_ &&
            now - query_us_ >= settings.query_timeout_us) {
          cancel("pool.queryTimeout");
        }
      } else if (in_transaction() && settings.idle_transaction_timeout_us > 0 &&
                 now - ready_us_ >= settings.idle_transaction_timeout_us) {
        client_->close_with_error(
            pg::sqlstate::kIdleInTransactionTimeout,
            fmt::format("idle in a transaction for {:.1f} s: pool.idleTransactionTimeout of {}",
                        seconds(now - ready_us_), pool_.describe()));
      }
      break;
    }
    case SlotState::Resetting:
    case SlotState::Canceling:
      if (now - in_state_since_us() >= kCleanupMax_us) {
        close("it could not be cleaned in time");
      } else if (!tracker_.idle() && !polite_ && cancels_in_flight_ == 0 &&
                 now - canceled_us_ >= kCancelAgain_us) {
        cancel(nullptr);
      }
      break;
    case SlotState::Closing:
      if (stream_.is_open() && now - in_state_since_us() >= kLingerMax_us) disconnect();
      break;
    default:
      break;
  }
}

void Server::close(const std::string& why) {
  if (!closing()) pool_.pool().closing(*this, pool_.proxy().loop().now_us());
  finish_closing(why);
}

void Server::finish_closing(const std::string& why) {
  CHECK(closing());
  pool_.mark_dirty();
  if (client_ != nullptr) {
    log::warn("server lost under a client", {{"pool", pool_.describe()},
                                             {"server", peer_},
                                             {"backend_pid", backend_pid_},
                                             {"error", why}});
    Client* client = client_;
    // Inside a reply the client would take the error for a part of it.
    const bool can_tell = !fatal_passed_ && framer_.at_boundary();
    if (can_tell) {
      client->close_with_error(
          pg::sqlstate::kConnectionFailure,
          fmt::format("the server was lost under {}: {}", pool_.describe(), why));
    } else {
      client->close();
    }
    CHECK(client_ == nullptr);  // by abandoned()
  }
  if (!stream_.is_open()) {
    connector_.finish();
    pool_.proxy().bury(*this);
  } else if (gone_ || pool_.proxy().closed()) {
    disconnect();
  } else {
    pool_.pool().lingers(*this);
    Bytes out;
    pg::append_empty(out, 'X');
    stream_.write(out);
    stream_.shutdown_write();
    if (stream_.reading_paused()) stream_.resume_reading();
  }
}

void Server::disconnect() {
  stream_.close();
  connector_.finish();
}

void Server::on_closed() {
  pool_.proxy().bury(*this);
}

pool::ServerSnapshot Server::snapshot(Micros now) const {
  pool::ServerSnapshot snapshot;
  snapshot.id = id_;
  snapshot.database = pool_.database();
  snapshot.user = pool_.user();
  snapshot.address = peer_;
  snapshot.backend_pid = backend_pid_;
  snapshot.state = pool::kSlotStateNames[static_cast<std::size_t>(slot_state())];
  snapshot.in_state_us = now - in_state_since_us();
  snapshot.age_us = ready_ ? now - opened_us() : 0;
  snapshot.client_id = client_ == nullptr ? 0 : client_->id();
  return snapshot;
}

}  // namespace carpool::proxy
