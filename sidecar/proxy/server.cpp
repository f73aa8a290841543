#include "proxy/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "pg/query_text.h"
#include "proxy/client.h"
#include "proxy/live_pool.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool::proxy {

using pool::SlotState;

Server::Server(LivePool& pool, std::uint64_t id)
    : pool_(pool),
      id_(id),
      connector_(pool.proxy().loop(),
                 [this](const ConnectFailure* failure) { on_connected(failure); }),
      session_(pool.tables(), tracker_, pool.counters()) {}

Server::~Server() {
  CHECK(client_ == nullptr);
}

// ---- opening

void Server::open() {
  const config::Database& settings = pool_.settings();
  connector_.start(settings.server, pool_.database(), pool_.user(), pool_.client_password(),
                   settings.pool.statement_timeout_us, pool_.startup());
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
  lent_us_ = ready_us_ = pool_.proxy().loop().now_us();
  pool_.counters().wait.observe(waited_us);
  if (waited_us > 0) pool_.counters().waits++;
  needs_reset_ = pool_.settings().pool.mode == config::PoolMode::Session &&
                 !pool_.settings().pool.reset_query.empty();
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
  if (client_session() != nullptr && client_session()->pinned()) pinned_ = needs_reset_ = true;
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
  if (needs_reset_) {
    needs_reset_ = false;
    return run_own(pinned_ ? "DISCARD ALL" : pool_.settings().pool.reset_query);
  }
  pinned_ = false;
  cleaning_ = false;
  polite_ = false;
  cancel_asked_ = false;
  if (pool_.pool().release(*this, now)) pool_.mark_dirty();
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

// ---- replies

void Server::on_readable() {
  net::Loop& loop = pool_.proxy().loop();
  const std::span<std::uint8_t> shared = loop.read_buffer();
  const std::size_t before = pending_.size();
  const ssize_t n = stream_.read(shared.subspan(before));
  if (n == net::Stream::kAgain) return;
  if (n == net::Stream::kEnd) {
    gone_ = true;
    return closing() ? disconnect() : close("PostgreSQL closed the connection");
  }
  if (closing()) return;  // nobody wants it any more
  pool_.proxy().memory().passed(static_cast<std::size_t>(n));
  if (before > 0) {
    std::memcpy(shared.data(), pending_.bytes().data(), before);
    pending_.clear();
  }
  if (query_us_ != 0 && first_reply_us_ == 0) first_reply_us_ = loop.now_us();
  const ByteSpan in(shared.data(), before + static_cast<std::size_t>(n));
  const std::size_t taken = process(in);
  if (closing()) return;
  if (taken < in.size()) pending_.append(in.subspan(taken));
  // A client that was stopped for having asked too much at once goes on.
  if (client_ != nullptr && client_->stream().reading_paused() && stream_.queued() == 0 &&
      tracker_.outstanding() < pg::ReplyTracker::kOutstandingMax / 2) {
    client_->resume();
  }
}

std::size_t Server::process(ByteSpan in) {
  std::size_t taken = 0;
  std::size_t run = 0;  // [run, taken) goes to the client
  const auto flush = [&] {
    if (taken > run && client_ != nullptr) pass_to_client(in.subspan(run, taken - run));
    run = taken;
  };
  while (taken < in.size()) {
    const pg::Frame frame = framer_.next(in.subspan(taken));
    if (frame.kind == pg::Frame::Kind::NeedMore) break;
    const bool bad_ready = frame.type == 'Z' && frame.kind != pg::Frame::Kind::Bad &&
                           framer_.at_boundary() && frame.bytes.size() != 6;
    if (frame.kind == pg::Frame::Kind::Bad || bad_ready) {
      flush();
      gone_ = true;  // whoever this is will not answer a Terminate
      close("PostgreSQL sent what is not the protocol");
      return in.size();
    }
    framer_.take(frame);
    if (frame.kind != pg::Frame::Kind::Body) {
      switch (frame.type) {
        case 'D':  // DataRow
          if (tracker_.front_tag() != 0) {
            session_.row(frame.kind == pg::Frame::Kind::Whole ? frame.body() : ByteSpan());
          }
          [[fallthrough]];
        case 'd':  // CopyData
        case 'N':  // NoticeResponse
          passing_ = !tracker_.front_is_ours();
          break;
        case 'A':  // NotificationResponse
          passing_ = true;
          break;
        case 'S':  // ParameterStatus: also of our own replay, whose values are the client's
          passing_ = true;
          on_parameter(frame.body());
          break;
        case 'K':
        case 'R':
        case 'v':
          passing_ = false;  // of signing in, which is over
          break;
        case 'E':
          flush();  // what on_error() says comes behind it
          passing_ = on_error(frame);
          break;
        case 't':
          passing_ = on_reply('t', 0) && !std::exchange(repeats_description_, false);
          described_ = true;
          break;
        case 'Z':
          passing_ = on_reply('Z', static_cast<char>(frame.body()[0]));
          if (passing_) described_ = repeats_description_ = false;
          break;
        default:
          passing_ = on_reply(frame.type, 0);
          break;
      }
    }
    if (!passing_) flush();
    taken += frame.bytes.size();
    if (!passing_) run = taken;
    if (closing()) return in.size();
    if (tracker_.front_is_local()) {
      flush();
      answer_locals();
    }
    if (frame.type == 'Z') {
      flush();
      on_ready();
    } else if (cleaning_ && (frame.type == 'G' || frame.type == 'W')) {
      clean();  // it waits for data that nobody will send
    }
    if (closing()) return in.size();
  }
  flush();
  return closing() ? in.size() : taken;
}

bool Server::on_reply(char type, char status) {
  const auto verdict = tracker_.reply(
      type, status, [this](const pg::ReplyTracker::Entry& entry) { session_.skipped(entry); });
  if (type == 'C' || type == 'I' || type == 's') {
    // Also where a row limit suspended it: what it does to the session it has done.
    if (verdict.entry.tag != 0) session_.completed(verdict.entry, client_session());
  }
  if (verdict.ended && verdict.entry.tag != 0) session_.ended(verdict.entry, client_session());
  if (type != 'Z') return verdict.forward;
  session_.ready(status, client_session());
  if (verdict.entry.ours) {
    if (verdict.entry.request == pg::Request::Query) own_query_done();
    if (!ready_held_ || replays_ > 0) return false;
    ready_held_ = false;  // it stands for the client's own
    return true;
  }
  if (client_ == nullptr || status == 'E' || !tracker_.idle() || !replay()) return verdict.forward;
  ready_held_ = true;
  return false;
}

void Server::own_query_done() {
  if (replays_ > 0) {
    if (--replays_ > 0) return;
    if (client_ == nullptr) {
      // Its client left before it was done: what it has now is known only after a reset.
      pinned_ = needs_reset_ = true;
    } else if (own_failed_) {
      // The client's request is on its way behind it, and ran without its settings.
      client_->close_with_error(
          pg::sqlstate::kConnectionFailure,
          fmt::format("the session's settings could not be restored on another server of {}: {}",
                      pool_.describe(), own_error_));
    } else {
      session_.replayed(*client_session());
    }
    return;
  }
  if (!own_failed_ && !own_query_.empty()) session_.own_query_done(own_query_);
  own_query_.clear();
}

void Server::answer_locals() {
  while (tracker_.front_is_local()) {
    bool ends_query = false;
    const Bytes bytes = session_.local_answer(tracker_.pop_local(), &ends_query);
    if (client_ != nullptr) pass_to_client(bytes);
    if (ends_query && client_ != nullptr) end_lease_if_over();
  }
}

void Server::end_lease_if_over() {
  if (client_ == nullptr || !tracker_.idle() || tracker_.skipping() || in_transaction()) return;
  if (tracker_.needs_sync()) return;
  if (client_->must_keep_server() || client_->inside_message()) return;
  if (pool_.settings().pool.mode == config::PoolMode::Session) return;
  end_lease();
}

void Server::on_parameter(ByteSpan body) {
  Reader reader(body);
  const std::string_view name = reader.cstring();
  const std::string_view value = reader.cstring();
  if (reader.ok()) session_.parameter(name, value, client_session());
}

void Server::pass_to_client(ByteSpan bytes) {
  pool_.counters().bytes_to_clients += bytes.size();
  net::Stream& stream = client_->stream();
  if (!stream.write(bytes)) return client_->close();
  if (stream.queued() > 0) stream_.pause_reading();
}

void Server::on_ready() {
  const Micros now = pool_.proxy().loop().now_us();
  ready_us_ = now;
  if (client_ == nullptr) {
    if (cleaning_) clean();
    return;
  }
  finish_query(now);
  client_->session().note_pinned(now);
  if (tracker_.idle() && !in_transaction()) pool_.counters().transactions++;
  if (client_->leaving() && tracker_.idle()) return client_->close(true);
  const config::PoolMode mode = pool_.settings().pool.mode;
  if (mode == config::PoolMode::Session) {
    if (pool_.proxy().ending_clients() && tracker_.idle() && !in_transaction()) {
      client_->close_with_error(pg::sqlstate::kAdminShutdown, "Carpool is shutting down");
    }
    return;
  }
  if (!tracker_.idle() || client_->inside_message()) return;
  if (!in_transaction()) {
    Client* client = client_;
    if (!client->must_keep_server()) end_lease();
    if (pool_.proxy().ending_clients()) {
      client->close_with_error(pg::sqlstate::kAdminShutdown, "Carpool is shutting down");
    }
    return;
  }
  if (mode == config::PoolMode::Statement) {
    client_->close_with_error(pg::sqlstate::kFeatureNotSupported,
                              "a transaction of several statements needs pool.mode transaction or "
                              "session; here it is statement");
  }
}

bool Server::on_error(const pg::Frame& frame) {
  const std::optional<pg::ErrorFields> error = pg::parse_error(frame.body());
  const std::string_view sqlstate = error ? error->sqlstate : "";
  const bool expected = !tracker_.idle();
  std::string instead;
  const auto verdict = tracker_.reply(
      'E', 0, [this](const pg::ReplyTracker::Entry& entry) { session_.skipped(entry); });
  bool heals = false;
  if (expected) {
    heals = client_ != nullptr && verdict.forward &&
            session_.can_heal(verdict.entry, sqlstate, error ? error->message : "");
    instead =
        session_.failed(verdict.entry, client_session(), sqlstate, error ? error->message : "");
  }
  if (heals) {
    heal();
    return false;
  }
  const bool fatal = error && (error->severity == "FATAL" || error->severity == "PANIC");
  // A Parse of ours that fails is the failure of the client's request that needed it.
  const bool ours = expected && !verdict.forward && verdict.entry.request == pg::Request::Query;
  if (client_ == nullptr || ours) {
    if (ours) {
      own_failed_ = true;
      own_error_ = error ? error->message : "";
    }
    log::debug("an error while cleaning a server",
               {{"pool", pool_.describe()}, {"error", error ? error->message : ""}});
    return false;
  }
  pool_.count_error(sqlstate);
  fatal_passed_ = fatal;
  Bytes out;
  if (!instead.empty()) {
    pg::append_error(out, pg::Severity::Error, sqlstate, instead);
    pass_to_client(out);
    return false;
  }
  if (canceled_by_ == nullptr || sqlstate != pg::sqlstate::kQueryCanceled) return true;
  pg::append_error(
      out, pg::Severity::Error, pg::sqlstate::kQueryCanceled,
      fmt::format("canceling statement due to {} of {}", canceled_by_, pool_.describe()));
  pass_to_client(out);
  return false;
}

// The client's batch once more. Its statement is prepared again on the way, and its first Sync has
// already been sent.
void Server::heal() {
  const Bytes batch = session_.take_batch();
  repeats_description_ = described_;
  Outgoing out(batch, pool_.proxy().scratch());
  pg::Framer framer(pg::Framer::Side::FromClient);
  Bytes answer;
  while (out.taken() < batch.size()) {
    const pg::Frame frame = framer.next(out.rest());
    framer.take(frame);
    const ServerSession::Taken taken =
        session_.request(frame, *client_session(), pool_.settings().pool, out, answer);
    CHECK(taken == ServerSession::Taken::Yes && answer.empty());
  }
  send(out.bytes());
}

void Server::finish_query(Micros now) {
  pool_.counters().queries++;
  if (query_us_ == 0) return;
  const Micros took_us = now - query_us_;
  pool_.counters().query.observe(took_us);
  const config::Log& settings = pool_.proxy().config().log;
  if (settings.slow_query_us > 0 && took_us + waited_us_ >= settings.slow_query_us) log_slow(now);
  waited_us_ = 0;
  // What was pipelined behind it begins to count now.
  query_us_ = tracker_.idle() ? 0 : now;
  first_reply_us_ = 0;
}

void Server::log_slow(Micros now) {
  const Micros answered_us = first_reply_us_ == 0 ? now : first_reply_us_;
  const config::QueryText text = pool_.proxy().config().log.query_text;
  log::warn("slow query",
            {{"database", pool_.database()},
             {"user", pool_.user()},
             {"waited_ms", static_cast<double>(waited_us_) / 1000},
             {"ran_ms", static_cast<double>(answered_us - query_us_) / 1000},
             {"sent_ms", static_cast<double>(now - answered_us) / 1000},
             {"client", client_->stream().peer()},
             {"backend_pid", backend_pid_},
             {"query", text == config::QueryText::Off    ? ""
                       : text == config::QueryText::Full ? pg::one_line(query_text())
                                                         : pg::masked(query_text())}});
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
  const config::Pool& settings = pool_.settings().pool;
  switch (slot_state()) {
    case SlotState::Leased:
      if (client_ == nullptr) break;
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
