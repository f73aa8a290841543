// Server: the connection itself. server_lease.cpp has what its lease asks for, server_replies.cpp
// what PostgreSQL sends.
#include "proxy/server.h"

#include <fmt/format.h>

#include "base/check.h"
#include "pg/messages.h"
#include "proxy/client.h"
#include "proxy/live_pool.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool::proxy {

using pool::SlotState;

Server::Server(LivePool& pool, std::uint64_t id)
    : pool_(pool),
      id_(id),
      connector_(pool.proxy().loop(), pool.proxy().server_files(),
                 [this](const ConnectFailure* failure) { on_connected(failure); }),
      session_(pool.tables()) {}

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
  if (!stream_.open(pool_.proxy().loop(), connector_.fd(), false, this, net::Told::First)) {
    return pool_.server_failed(
        *this, {pool::ConnectError::Other, "", "the loop cannot watch the socket"}, now);
  }
  stream_.pace_not_if_local();
  stream_.set_tls(connector_.tls(), false);
  backend_pid_ = connector_.backend_pid();
  peer_ = connector_.peer();
  life_ = Life::Open;
  const auto parameters = connector_.parameters();
  session_.opened(pool_.tables(), parameters);
  pool_.server_opened(*this, parameters, now);
}

// ---- requests

bool Server::send(ByteSpan bytes) {
  if (closing()) return false;
  pool_.counters().bytes_from_clients += bytes.size();
  lease_->times.said(pool_.proxy().loop().now_us());
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

// ---- cancels and timeouts

void Server::cancel(const char* why) {
  if (closing() || lease_->cancels.in_flight() > 0) return;  // the one in flight does
  lease_->cancels.sent(pool_.proxy().loop().now_us(), why);
  pool_.proxy().cancels().run(*this);
}

bool Server::cancel_for(const Client& asking) {
  cancel(nullptr);
  if (closing()) return false;
  lease_->cancels.asked_by(asking.id());
  return true;
}

void Server::cancel_is_over() {
  if (!lease_) return;
  for (const std::uint32_t id : lease_->cancels.take_asking()) pool_.proxy().cancel_is_over(id);
}

void Server::cancel_begins() {
  if (!closing()) lease_->cancels.begins(pool_.proxy().loop().now_us());
}

void Server::cancel_landed() {
  if (closing()) return;
  lease_->cancels.landed();
  cancel_is_over();
  if (client_ == nullptr) return clean();
  if (client_->stream().reading_paused()) client_->resume();
}

void Server::check_timeouts(Micros now) {
  switch (slot_state()) {
    case SlotState::Leased:
      if (client_ != nullptr) check_client(now);
      break;
    case SlotState::Resetting:
    case SlotState::Canceling: {
      const CancelsOf& cancels = lease_->cancels;
      if (now - in_state_since_us() >= kCleanupMax_us) {
        close("it could not be cleaned in time");
      } else if (cancels.repeats() && !rests() && cancels.in_flight() == 0 &&
                 now - cancels.sent_us() >= kCancelAgain_us) {
        cancel(nullptr);
      }
      break;
    }
    case SlotState::Closing:
      if (stream_.is_open() && now - in_state_since_us() >= kLingerMax_us) disconnect();
      break;
    default:
      break;
  }
}

void Server::check_client(Micros now) {
  const config::Pool& settings = lease_->transaction_terms();
  const LeaseTimes& times = lease_->times;
  const CancelsOf& cancels = lease_->cancels;
  if (cancels.in_flight() > 0 && now - cancels.sent_us() >= cancels.limit_us()) {
    return time_out(
        pg::sqlstate::kQueryCanceled,
        fmt::format("PostgreSQL takes no cancel: the server of {} is given up", pool_.describe()));
  }
  if (client_->awaits_greeting()) {
    const Micros limit_us = settings.acquire_timeout_us;
    if (limit_us == 0 || now - times.lent_us() < limit_us) return;
    client_->greet_untried();
    return close("it does not answer to the settings of a client that signs in");
  }
  const Micros statement_us = times.statement_us();
  if (!rests() && statement_us != 0 && settings.query_timeout_us > 0 &&
      now - statement_us >= settings.query_timeout_us) {
    if (!cancels.asked()) return cancel("pool.queryTimeout");
    if (cancels.why() != nullptr && now - cancels.sent_us() >= cancels.limit_us()) {
      return time_out(pg::sqlstate::kQueryCanceled,
                      fmt::format("canceling statement due to {} of {}: PostgreSQL has not "
                                  "answered its cancel",
                                  cancels.why(), pool_.describe()));
    }
  }
  // Of a batch without its Sync nobody can tell whether it runs or is over, unless it was flushed.
  const bool waits_for_client = rests() || (lease_->requests().batch_open() && !lease_->flushed());
  const bool holds_server = holds_transaction() || client_->inside_message();
  if (waits_for_client && holds_server && settings.idle_transaction_timeout_us > 0 &&
      now - times.heard_us() >= settings.idle_transaction_timeout_us) {
    client_->close_with_error(
        pg::sqlstate::kIdleInTransactionTimeout,
        fmt::format("idle in a transaction for {:.1f} s: pool.idleTransactionTimeout of {}",
                    seconds(now - times.heard_us()), pool_.describe()));
  }
}

void Server::time_out(std::string_view sqlstate, const std::string& message) {
  client_->close_with_error(sqlstate, message);
  if (!closing()) close(message);
}

// ---- the end

void Server::close(const std::string& why) {
  if (!closing()) pool_.pool().closing(*this, pool_.proxy().loop().now_us());
  finish_closing(why);
}

void Server::finish_closing(const std::string& why) {
  CHECK(closing());
  pool_.mark_dirty();
  cancel_is_over();
  if (client_ != nullptr) {
    log::warn("server lost under a client", {{"pool", pool_.describe()},
                                             {"server", peer_},
                                             {"backend_pid", backend_pid_},
                                             {"error", why}});
    Client* client = client_;
    if (lease_->restoring() == Lease::Restoring::First && client->may_try_again()) {
      // Nothing of its own has been sent.
      client_ = nullptr;
      client->try_again();
    } else if (life_ == Life::Farewell) {
      client->close(Ending::Refused);  // it has been told
    } else {
      client->close_with_error(
          pg::sqlstate::kConnectionFailure,
          fmt::format("the server was lost under {}: {}", pool_.describe(), why));
    }
    CHECK(client_ == nullptr);  // by abandoned()
  }
  if (!stream_.is_open()) {
    connector_.finish();
    pool_.proxy().bury(*this);
  } else if (life_ == Life::Gone || life_ == Life::Farewell || pool_.proxy().closed()) {
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
  snapshot.age_us = life_ == Life::Opening ? 0 : now - opened_us();
  snapshot.client_id = client_ == nullptr ? 0 : client_->id();
  return snapshot;
}

}  // namespace carpool::proxy
