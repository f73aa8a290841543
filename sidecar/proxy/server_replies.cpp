// Server, what PostgreSQL sends: whose it is, and what ends with it.
#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "base/check.h"
#include "pg/query_text.h"
#include "proxy/client.h"
#include "proxy/live_pool.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

namespace carpool::proxy {

void Server::on_readable() {
  net::Loop& loop = pool_.proxy().loop();
  const std::span<std::uint8_t> shared = loop.read_buffer();
  const std::size_t before = pending_.size();
  const ssize_t n = stream_.read(shared.subspan(before));
  if (n == net::Stream::kAgain) return;
  if (n == net::Stream::kEnd) {
    if (life_ != Life::Farewell) life_ = Life::Gone;
    return closing() ? disconnect() : close("PostgreSQL closed the connection");
  }
  if (closing()) return;  // nobody wants it any more
  pool_.proxy().memory().passed(static_cast<std::size_t>(n));
  if (before > 0) {
    std::memcpy(shared.data(), pending_.bytes().data(), before);
    pending_.clear();
  }
  if (lease_) lease_->times.heard(loop.now_us());
  const ByteSpan in(shared.data(), before + static_cast<std::size_t>(n));
  const std::size_t taken = process(in);
  if (closing()) return;
  if (taken < in.size()) pending_.append(in.subspan(taken));
  // A client that was stopped, because of what it asked or how much at once, goes on.
  if (client_ != nullptr && client_->stream().reading_paused() && stream_.queued() == 0 &&
      lease_->requests().outstanding() < Requests::kOutstandingMax / 2) {
    client_->resume();
  }
}

std::size_t Server::process(ByteSpan in) {
  std::size_t taken = 0;
  std::size_t run = 0;    // [run, taken) goes to the client
  bool long_one = false;  // and ends with the body of a message whose head has gone before
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
      life_ = Life::Gone;  // whoever this is will not answer a Terminate
      close("PostgreSQL sent what is not the protocol");
      return in.size();
    }
    framer_.take(frame);
    if (frame.kind != pg::Frame::Kind::Body) {
      // What is said instead, or closes the client, comes behind it; and what has been restored may
      // be all that there was.
      const bool restored =
          frame.type == 'Z' && lease_ && lease_->restoring() != Lease::Restoring::No;
      if (frame.type == 'E' || long_one || restored) flush();
      long_one = false;
      if (closing()) return in.size();
      passing_ = take(frame);
    }
    if (!passing_) flush();
    long_one = frame.kind == pg::Frame::Kind::Body;
    taken += frame.bytes.size();
    if (!passing_) run = taken;
    if (closing()) return in.size();
    // An error that skips is the last answer to all that it skips: no ReadyForQuery comes.
    if (frame.type == 'E' && frame.last && lease_ && lease_->requests().skipping() && rests()) {
      flush();
      look_at_lease();
      if (closing()) return in.size();
    }
    if (!lease_ || frame.kind == pg::Frame::Kind::Body) continue;
    if (frame.type == 'Z') {
      flush();
      // The client may have gone with that, and the lease with it.
      if (lease_ && !closing()) on_ready(pool_.proxy().loop().now_us());
    }
    if (closing()) return in.size();
    if (lease_ && lease_->requests().front_is_local()) {
      flush();
      answer_locals();
      if (closing()) return in.size();
    }
  }
  flush();
  return closing() ? in.size() : taken;
}

bool Server::take(const pg::Frame& frame) {
  const ByteSpan whole = frame.kind == pg::Frame::Kind::Whole ? frame.body() : ByteSpan();
  if (!lease_) {
    // Nobody has it: only what comes unasked is expected.
    if (frame.type == 'E') {
      const auto error = pg::parse_error(frame.body());
      on_farewell(error ? error->message : "", Life::Gone);
    } else if (frame.type == 'S') {
      Reader reader(frame.body());
      const std::string_view name = reader.cstring();
      const std::string_view value = reader.cstring();
      if (reader.ok()) session_.now.set(name, value);
    } else if (frame.type != 'N' && frame.type != 'A') {
      life_ = Life::Gone;
      close("PostgreSQL answered what nobody has asked");
    }
    return false;
  }
  Lease& lease = *lease_;
  switch (frame.type) {
    case 'D':  // DataRow
      lease.row(whole);
      [[fallthrough]];
    case 'd':  // CopyData
    case 'N':  // NoticeResponse
      return !lease.requests().front_is_ours();
    case 'A':  // NotificationResponse
      return true;
    case 'S': {  // ParameterStatus: also of what restores settings, whose values are the client's
      Reader reader(frame.body());
      const std::string_view name = reader.cstring();
      const std::string_view value = reader.cstring();
      if (reader.ok()) lease.parameter(name, value);
      return true;
    }
    case 'K':
    case 'R':
    case 'v':
      return false;  // of signing in, which is over
    case 'E':
      return on_error(frame);
    case 't':
      lease.maybe_fence(whole);
      if (!on_reply('t', 0)) return false;
      return std::exchange(lease.described, Lease::Described::Passed) != Lease::Described::Again;
    case 'T':
    case 'n':
      lease.described_as(frame.type, whole);
      return on_reply(frame.type, 0);
    case 'Z':
      return on_reply('Z', static_cast<char>(frame.body()[0]));
    default:
      return on_reply(frame.type, 0);
  }
}

bool Server::on_reply(char type, char status) {
  Lease& lease = *lease_;
  const bool executes = lease.requests().front_is(pg::Wire::Execute);
  const Requests::Verdict verdict = lease.reply(type, status);
  if (verdict.broken) {
    lose_count();
    return false;
  }
  bool forward = verdict.forward;
  if (verdict.ended && executes) {
    lease.times.statement_over(pool_.proxy().loop().now_us());
    lease.cancels.met();
  }
  if (type != 'Z') {
    fence_if_due();
    return forward;
  }
  if (forward) lease.described = Lease::Described::No;
  if (verdict.entry != nullptr) {
    if (const auto* restore = std::get_if<ask::Restore>(verdict.entry)) {
      return restore->last && on_restored();
    }
  }
  fence_if_due();
  if (client_ == nullptr || closing() || !forward || status == 'E' || !lease.requests().idle()) {
    return forward;
  }
  if (client_->inside_message() && !lease.in_step()) {
    // Nothing can be restored in the midst of what belongs to nothing.
    lose_count();
    return false;
  }
  return !restore(Lease::Restoring::Behind);
}

void Server::lose_count() {
  constexpr const char* kWhy = "what was sent with a COPY, or out of form, cannot be told apart";
  if (client_ != nullptr) client_->close_with_error("08P01", kWhy);
  if (!closing()) close(kWhy);
}

// They are over with what is before them, whether anybody is still there to hear of it or not.
void Server::answer_locals() {
  while (lease_ && !closing() && lease_->requests().front_is_local()) {
    const Bytes bytes = lease_->local_answer();
    if (client_ != nullptr) pass_to_client(bytes);
  }
  // The last of them may have been the last of all.
  if (lease_) look_at_lease();
}

void Server::pass_to_client(ByteSpan bytes) {
  if (client_->awaits_greeting()) return client_->keep_for_greeting(bytes);
  pool_.counters().bytes_to_clients += bytes.size();
  net::Stream& stream = client_->stream();
  if (!stream.write(bytes)) return client_->close(Ending::Gone);
  if (stream.queued() > 0) stream_.pause_reading();
}

void Server::tell_client(const Lease::Instead& error) {
  Bytes out;
  pg::append_error(out, pg::Severity::Error, error.sqlstate, error.message, {}, {}, error.routine);
  pass_to_client(out);
}

void Server::on_ready(Micros now) {
  Lease& lease = *lease_;
  if (client_ != nullptr && passing_) {
    pool_.counters().queries++;
    if (lease.times.query_us() != 0) {
      const Micros took_us = now - lease.times.query_us();
      pool_.counters().query.observe(took_us);
      const Micros slow_us = pool_.proxy().config().log.slow_query_us;
      if (slow_us > 0 && took_us + lease.times.waited_us() >= slow_us) log_slow(now);
    }
    lease.times.ready(now, !rests());
    lease.note_pinned(now);
    if (rests() && lease.requests().status() == 'I') pool_.counters().transactions++;
  }
  lease.cancels.met();
  look_at_lease();
}

void Server::on_farewell(std::string_view why, Life life) {
  life_ = life;
  close("PostgreSQL has ended it: " + std::string(why));
}

bool Server::on_error(const pg::Frame& frame) {
  Lease& lease = *lease_;
  const std::optional<pg::ErrorFields> error = pg::parse_error(frame.body());
  const Lease::Failure failure{error ? error->sqlstate : "", error ? error->message : ""};
  const bool fatal = error && (error->severity == "FATAL" || error->severity == "PANIC");
  Requests::Verdict verdict = lease.reply('E', 0);
  std::optional<Lease::Instead> instead;
  bool heals = false;
  if (verdict.entry != nullptr) {
    heals = client_ != nullptr && !client_->inside_message() && verdict.forward &&
            lease.can_heal(*verdict.entry, failure);
    instead = lease.failed(verdict, failure);
  }
  const bool own_query = verdict.entry != nullptr && is_ours(*verdict.entry) &&
                         wire_of(*verdict.entry) == pg::Wire::Query;
  if (heals) {
    heal();
    return false;
  }
  if (!fatal && verdict.broken) {
    if (client_ != nullptr) pass_to_client(frame.bytes);
    if (!closing()) lose_count();
    return false;
  }
  if (!fatal && verdict.entry != nullptr && wire_of(*verdict.entry) == pg::Wire::Fence) {
    // What is to tell when all before it is over does not: nothing is known any more.
    close("it could not be cleaned: " + std::string(failure.message));
    return false;
  }
  // A Parse of ours that fails is the failure of the client's request that needed it.
  if (own_query || client_ == nullptr) {
    if (own_query) lease.own_error = {std::string(failure.sqlstate), std::string(failure.message)};
    log::debug("an error while cleaning a server",
               {{"pool", pool_.describe()}, {"error", failure.message}});
    if (fatal) on_farewell(failure.message, Life::Gone);
    if (!closing()) fence_if_due();
    return false;
  }
  pool_.count_error(instead ? instead->sqlstate : failure.sqlstate);
  if (instead) {
    tell_client(*instead);
    return false;
  }
  if (lease.cancels.why() != nullptr && failure.sqlstate == pg::sqlstate::kQueryCanceled) {
    tell_client(
        {pg::sqlstate::kQueryCanceled,
         fmt::format("canceling statement due to {} of {}", lease.cancels.why(), pool_.describe()),
         {}});
    return false;
  }
  if (!fatal) {
    fence_if_due();
    return !closing();
  }
  pass_to_client(frame.bytes);
  if (!closing()) on_farewell(failure.message, Life::Farewell);
  return false;
}

// The client's batch once more. Its statement is prepared again on the way, and its first Sync has
// already been sent.
void Server::heal() {
  const Bytes batch = lease_->take_batch();
  if (lease_->described == Lease::Described::Passed) lease_->described = Lease::Described::Again;
  Outgoing out(batch, pool_.proxy().scratch());
  pg::Framer framer(pg::Framer::Side::FromClient);
  Bytes answer;
  while (out.taken() < batch.size()) {
    const pg::Frame frame = framer.next(out.rest());
    framer.take(frame);
    const Lease::Taken taken = lease_->request(frame, out, answer);
    CHECK(taken == Lease::Taken::Yes && answer.empty());
  }
  send(out.bytes());
}

void Server::log_slow(Micros now) {
  const LeaseTimes& times = lease_->times;
  const Micros answered_us = times.first_reply_us() == 0 ? now : times.first_reply_us();
  const config::QueryText text = pool_.proxy().config().log.query_text;
  log::warn("slow query",
            {{"database", pool_.database()},
             {"user", pool_.user()},
             {"waited_ms", static_cast<double>(times.waited_us()) / 1000},
             {"ran_ms", static_cast<double>(answered_us - times.query_us()) / 1000},
             {"sent_ms", static_cast<double>(now - answered_us) / 1000},
             {"client", client_->stream().peer()},
             {"backend_pid", backend_pid_},
             {"query", text == config::QueryText::Off    ? ""
                       : text == config::QueryText::Full ? pg::one_line(times.query())
                                                         : pg::masked(times.query())}});
}

}  // namespace carpool::proxy
