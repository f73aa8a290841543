#include <fmt/format.h>

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
#include "proxy/server.h"

// What PostgreSQL sends: whose it is, and what ends with it.

namespace carpool::proxy {

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
          passing_ = on_reply('t', 0);
          if (!passing_) break;
          passing_ = !std::exchange(repeats_description_, false);
          described_ = true;
          break;
        case 'T':
        case 'n':
          if (tracker_.front_tag() != 0) {
            session_.described(frame.type,
                               frame.kind == pg::Frame::Kind::Whole ? frame.body() : ByteSpan());
          }
          passing_ = on_reply(frame.type, 0);
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
  const bool own_query = verdict.entry.ours && verdict.entry.request == pg::Request::Query;
  if (own_query && replays_ == 0 && !own_failed_) session_.own_query_done(own_query_);
  session_.ready(status, client_session());
  if (verdict.entry.ours) {
    if (own_query && replays_ > 0) replay_done();
    if (!ready_held_ || replays_ > 0) return false;
    ready_held_ = false;  // it stands for the client's own
    return true;
  }
  if (client_ == nullptr || status == 'E' || !tracker_.idle() || !replay()) return verdict.forward;
  ready_held_ = true;
  return false;
}

void Server::replay_done() {
  if (--replays_ > 0) return;
  if (client_ == nullptr) {
    // Its client left before it was done: what it has now is known only after a reset.
    pinned_ = true;
  } else if (own_failed_) {
    // The client's request is on its way behind it, and ran without its settings.
    client_->close_with_error(
        pg::sqlstate::kConnectionFailure,
        fmt::format("the session's settings could not be restored on another server of {}: {}",
                    pool_.describe(), own_error_));
  } else {
    session_.replayed(*client_session());
  }
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
  if (terms().mode == config::PoolMode::Session) return;
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
  const config::PoolMode mode = terms().mode;
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
  std::optional<ServerSession::Instead> instead;
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
  if (instead) {
    pg::append_error(out, pg::Severity::Error, instead->sqlstate, instead->message, {}, {},
                     instead->routine);
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
        session_.request(frame, *client_session(), terms(), out, answer);
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

}  // namespace carpool::proxy
