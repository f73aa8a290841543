#include "proxy/client.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "config/postgres_settings.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::RejectReason;

constexpr unsigned bit(ClientState state) {
  return 1u << static_cast<unsigned>(state);
}

// The table of edges in client.h.
constexpr std::array<unsigned, pool::kClientStates> kEdges = {
    bit(ClientState::Authenticating) | bit(ClientState::Closing),
    bit(ClientState::Idle) | bit(ClientState::Waiting) | bit(ClientState::Attached) |
        bit(ClientState::Closing),
    bit(ClientState::Waiting) | bit(ClientState::Attached) | bit(ClientState::Closing),
    bit(ClientState::Attached) | bit(ClientState::Idle) | bit(ClientState::Authenticating) |
        bit(ClientState::Closing),
    bit(ClientState::Idle) | bit(ClientState::Authenticating) | bit(ClientState::Closing),
    0,
};

bool is_request(char type) {
  switch (type) {
    case 'Q':
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
    case 'S':
    case 'H':
    case 'F':
    case 'd':
    case 'c':
    case 'f':
      return true;
    default:
      return false;
  }
}

}  // namespace

Client::Client(Proxy& proxy, std::uint32_t id, std::uint32_t secret)
    : proxy_(proxy),
      since_us_(proxy.loop().now_us()),
      connected_us_(since_us_),
      id_(id),
      secret_(secret) {}

bool Client::start(int fd) {
  if (!stream_.open(proxy_.loop(), fd, true, this)) return false;
  proxy_.startup_clients().push_back(*this);
  return true;
}

Entering* Client::entering() {
  auto* entering = std::get_if<std::unique_ptr<Entering>>(&stage_);
  return entering == nullptr ? nullptr : entering->get();
}

LivePool::ClientList* Client::list_of(ClientState state) {
  if (state == ClientState::Startup) return &proxy_.startup_clients();
  if (LivePool* pool = live_pool()) return &pool->clients(state);
  if (state == ClientState::Closing) return nullptr;
  if (at_console() != nullptr) return &proxy_.console_clients();
  return entering()->step == Entering::Step::OnTrial ? &proxy_.clients_on_trial()
                                                     : &proxy_.startup_clients();
}

void Client::set_state(ClientState state) {
  CHECK(kEdges[static_cast<std::size_t>(state_)] & bit(state));
  if (in_a_list()) list_of(state_)->remove(*this);
  state_ = state;
  since_us_ = proxy_.loop().now_us();
  if (LivePool::ClientList* list = list_of(state)) list->push_back(*this);
  // Nobody who moves a client needs to know what it has sent meanwhile.
  if (!pending_.empty() || stream_.reading_paused()) look_again();
}

void Client::look_again() {
  if (looks_again_ || state_ == ClientState::Closing) return;
  looks_again_ = true;
  proxy_.resume_later(*this);
}

bool Client::can_take() {
  if (state_ == ClientState::Closing || stream_.queued() > kQueuedMax) return false;
  if (const Entering* at = entering()) {
    return state_ == ClientState::Startup ||
           (at->step == Entering::Step::Speaks && !at->sign_in->waits_for_postgres());
  }
  if (const AtConsole* at = at_console()) return !at->console->busy();
  return !leaving() && !awaits_greeting() && state_ != ClientState::Waiting;
}

// ---- reading

void Client::on_readable() {
  if (state_ == ClientState::Closing) return;
  // At the end of this turn there will be room, or nothing more to be done about it.
  if (server() == nullptr && proxy_.memory().level() == MemoryGuard::Level::Critical) return;
  const std::span<std::uint8_t> shared = proxy_.loop().read_buffer();
  // A byte that goes on with what has come before it begins no handshake: 0x16 is the code of an
  // SSLRequest, too.
  if (state_ == ClientState::Startup && !entering()->ssl_asked && stream_.tls() == nullptr &&
      pending_.empty() && proxy_.gatekeeper().tls() != nullptr &&
      stream_.peek() == pg::kTlsHandshake) {
    entering()->direct_tls = true;
    if (!start_tls()) return close();
  }
  if (!can_take()) {
    // A read all the same finds out whether the client is still there.
    const ssize_t n = stream_.read(shared.first(kEarlyMax));
    if (n == net::Stream::kAgain) return;
    if (n == net::Stream::kEnd) return hung_up();
    proxy_.memory().passed(static_cast<std::size_t>(n));
    keep(ByteSpan(shared.data(), static_cast<std::size_t>(n)));
    // Terminate: nobody waits for PostgreSQL's word any more.
    if (entering() != nullptr && entering()->step == Entering::Step::OnTrial &&
        pending_.bytes().front() == 'X') {
      return close(Ending::Terminate);
    }
    stream_.pause_reading();
    return;
  }
  take_more();
  fail_sent();
}

ssize_t Client::take_more() {
  const std::span<std::uint8_t> shared = proxy_.loop().read_buffer();
  const std::size_t before = pending_.size();
  if (before > pg::Framer::kHeadSize) {
    // The text of a long statement gathers where it is.
    std::uint8_t* room = pending_.reserve(static_cast<std::uint32_t>(shared.size() / 2));
    const ssize_t n = stream_.read({room, pending_.room()});
    pending_.add(n > 0 ? static_cast<std::uint32_t>(n) : 0);
    if (n == net::Stream::kEnd) close(Ending::Gone);
    if (n <= 0) return n;
    proxy_.memory().passed(static_cast<std::size_t>(n));
    process_pending();
    return n;
  }
  // What was left goes in front of what comes, so that a message is always in one piece.
  const ssize_t n = stream_.read(shared.subspan(before));
  if (n == net::Stream::kEnd) ended();
  if (n <= 0) return n;
  proxy_.memory().passed(static_cast<std::size_t>(n));
  if (before > 0) {
    std::memcpy(shared.data(), pending_.bytes().data(), before);
    pending_.clear();
  }
  const ByteSpan in(shared.data(), before + static_cast<std::size_t>(n));
  const std::size_t taken = process(in);
  if (state_ != ClientState::Closing && taken < in.size()) keep(in.subspan(taken));
  return n;
}

void Client::keep(ByteSpan bytes) {
  pending_.append(bytes);
}

void Client::process_pending() {
  if (pending_.empty() || state_ == ClientState::Closing) return;
  const std::size_t taken = process(pending_.bytes());
  if (state_ != ClientState::Closing) pending_.consume(static_cast<std::uint32_t>(taken));
}

std::size_t Client::process(ByteSpan in) {
  if (pooled() != nullptr) return process_requests(in);
  if (at_console() != nullptr) return process_console(in);
  return state_ == ClientState::Startup ? process_startup(in) : process_sign_in(in);
}

// ---- requests

std::size_t Client::process_requests(ByteSpan in) {
  Outgoing out(in, proxy_.scratch());
  Pooled& own = *pooled();
  const auto flush = [&] {
    if (own.server != nullptr && !out.empty()) own.server->send(out.bytes());
    out.sent();
  };
  own.held = false;
  // Up to here it had sent when it got no server.
  std::size_t sent = 0;
  if (own.no_server != nullptr) {
    sent = own.no_server->more ? in.size() : own.no_server->left.value_or(in.size());
  }
  while (out.taken() < in.size()) {
    const pg::Frame frame = framer_.next(out.rest());
    if (frame.kind == pg::Frame::Kind::NeedMore) break;
    if (frame.kind == pg::Frame::Kind::Bad) {
      flush();
      reject(RejectReason::ProtocolError, "08P01", "a message of impossible length");
      return in.size();
    }
    if (frame.kind == pg::Frame::Kind::Body) {
      framer_.take(frame);
      own.dropping ? out.drop(frame.bytes.size()) : out.pass(frame.bytes.size());
      if (frame.last) own.dropping = false;
      continue;
    }
    if (frame.type == 'X') {
      flush();
      leave();
      return in.size();
    }
    if (!is_request(frame.type)) {
      flush();
      reject(RejectReason::ProtocolError, "08P01",
             fmt::format("invalid frontend message type {}", static_cast<int>(frame.type)));
      return in.size();
    }
    // The Sync that ends a failed batch is the server's to answer, where there is one.
    if (own.failing != Pooled::Failing::No && own.server != nullptr && frame.type == 'S')
      own.failing = Pooled::Failing::No;
    // COPY data may still come after the COPY has failed, and a Flush asks for nothing by itself.
    const bool nothing_to_do = own.server == nullptr && (frame.type == 'd' || frame.type == 'c' ||
                                                         frame.type == 'f' || frame.type == 'H');
    if (own.failing != Pooled::Failing::No || nothing_to_do) {
      framer_.take(frame);
      out.drop(frame.bytes.size());
      own.dropping = !frame.last;
      if (own.failing != Pooled::Failing::No) drop_failed(frame.type);
      continue;
    }
    if (own.server == nullptr && out.taken() < sent) {
      if (frame.type == 'S') {
        own.failing = Pooled::Failing::NextMessage;  // there is nothing in it that could fail
      } else {
        fail_request(own.no_server->sqlstate, own.no_server->message);
      }
      continue;
    }
    if (own.server == nullptr && !attach()) {
      if (state_ == ClientState::Closing) return in.size();
      if (own.failing == Pooled::Failing::No) break;
      sent = in.size();  // refused at once: this request is to be dropped
      continue;
    }
    Lease& lease = own.server->lease();
    if (lease.breaks_copy(frame)) {
      flush();
      reject(RejectReason::ProtocolError, "08P01",
             fmt::format("unexpected message type 0x{:02X} during COPY from stdin",
                         static_cast<unsigned>(frame.type)));
      return in.size();
    }
    own.held = lease.full() || lease.must_wait(frame) ||
               lease.must_ask(frame, out.rest().subspan(frame.bytes.size()), out);
    if (own.held) {
      lease.flush(out);
      lease.times.waits(proxy_.loop().now_us());
      stream_.pause_reading();
      break;
    }
    note_request(frame);
    framer_.take(frame);
    Bytes answer;
    const bool drops = lease.requests().drops() && frame.type != 'S';
    const Lease::Taken taken = lease.request(frame, out, answer);
    own.dropping = !frame.last && (drops || taken != Lease::Taken::Yes);
    if (!answer.empty()) stream_.write(answer);
    switch (taken) {
      case Lease::Taken::Yes:
      case Lease::Taken::Replaced:
      case Lease::Taken::RefusedQuery:
        break;
      case Lease::Taken::RefusedBatch:
        own.failing = Pooled::Failing::UntilSync;
        break;
      case Lease::Taken::NotProtocol:
        flush();
        reject(RejectReason::ProtocolError, "08P01", "a message that cannot be read");
        return in.size();
    }
  }
  flush();
  if (own.no_server != nullptr) {
    own.no_server->left = 0;
    // What has begun goes on, and something may stand right behind it.
    const bool midst =
        out.taken() < in.size() || own.failing != Pooled::Failing::No || !framer_.at_boundary();
    own.no_server->more = own.no_server->more || midst;
    if (!own.no_server->more) own.no_server.reset();
  }
  // Nothing of it may have gone to the server, or the end of a message that it had to wait for.
  if (own.server != nullptr) own.server->look_at_lease();
  return state_ == ClientState::Closing ? in.size() : out.taken();
}

void Client::note_request(const pg::Frame& frame) {
  Server& server = *pooled()->server;
  const auto begins = [&](ByteSpan text) {
    Lease& lease = server.lease();
    if (server.rests() && !server.holds_transaction()) {
      lease.transaction_begins(server.live_pool().terms());
    }
    if (server.rests() && !lease.requests().batch_open()) lease.times.rests();
    lease.times.begins(proxy_.loop().now_us(), text);
  };
  switch (frame.type) {
    case 'Q':
      begins(frame.body());
      break;
    case 'P': {
      Reader reader(frame.body());
      reader.cstring();
      begins(reader.rest());
      break;
    }
    case 'B': {
      Reader reader(frame.body());
      reader.cstring();
      const std::string_view name = reader.cstring();
      const pg::StatementRef* named = name.empty() ? nullptr : session().statements.find(name);
      begins(named == nullptr ? ByteSpan() : as_bytes((*named)->body));
      break;
    }
    case 'F':
      begins({});
      break;
    default:
      break;
  }
}

bool Client::attach() {
  Pooled& own = *pooled();
  pool::Pool& pool = own.pool->pool();
  pool::Slot* slot = nullptr;
  set_affinity(own.session->follower.current().get());  // the settings that it wants in force
  switch (pool.acquire(*this, proxy_.loop().now_us(), &slot)) {
    case pool::Acquired::Granted:
      if (!static_cast<Server&>(*slot).still_there()) return attach();
      attached(static_cast<Server&>(*slot));
      own.server->lend(*this, 0);
      // What it sent first may have found out that the server is gone, and with it this client.
      return own.server != nullptr;
    case pool::Acquired::Queued:
      set_state(ClientState::Waiting);
      own.pool->mark_dirty();
      return false;
    case pool::Acquired::Rejected:
      set_state(ClientState::Waiting);
      if (awaits_greeting()) {
        fail_query("53300", "");
      } else {
        proxy_.client_refused(RejectReason::WaitersMax, own.pool);
        fail_request("53300", fmt::format("{} has {} clients waiting already, as many as "
                                          "pool.waitersMax allows",
                                          own.pool->describe(), pool.waiting()));
      }
      return false;
  }
  return false;
}

void Client::attached(Server& server) {
  pooled()->server = &server;
  set_state(ClientState::Attached);
}

void Client::granted(Server& server, Micros waited_us) {
  if (!server.still_there()) {
    set_state(awaits_greeting() ? ClientState::Authenticating : ClientState::Idle);
    return look_again();  // and asks again
  }
  attached(server);
  server.lend(*this, waited_us);
}

void Client::resume() {
  looks_again_ = false;
  if (state_ == ClientState::Closing) return;
  if (const Entering* at = entering(); at != nullptr && at->step == Entering::Step::SignedIn) {
    return enter();
  }
  if (Pooled* own = pooled()) {
    if (own->leaving) {
      // Of one that has a server, that tells when all is answered.
      if (own->server == nullptr) close(Ending::Terminate);
      return;
    }
    // Its server could not take its settings over.
    if (awaits_greeting() && state_ == ClientState::Authenticating) return seek_greeting();
  }
  if (!can_take()) return;
  if (pooled() != nullptr && pooled()->no_server != nullptr) read_what_was_sent();
  process_pending();
  fail_sent();
  if (can_take() && (pooled() == nullptr || !pooled()->held)) stream_.resume_reading();
}

void Client::detach() {
  Pooled& own = *pooled();
  CHECK(own.server != nullptr);
  const Server& server = *std::exchange(own.server, nullptr);
  own.tries = 0;
  own.held = false;
  if (awaits_greeting()) {
    own.pool->known_values().taken(own.session->follower.current(), server.session().now);
    own.greeting->settled = true;
    set_state(ClientState::Authenticating);
    return seek_greeting();
  }
  note_idle_limit();
  set_state(ClientState::Idle);
}

// A server that idles has it no more: it would end that, whoever comes next.
void Client::note_idle_limit() {
  Pooled& own = *pooled();
  const pg::StatePtr& state = own.session->follower.current();
  const std::string* sql = state == nullptr ? nullptr : state->find(ServerSession::kIdleTimeout);
  const auto limit = sql == nullptr ? std::nullopt : pg::value_set_by(*sql);
  own.idle_limit_us = limit ? config::time_of_setting(*limit).value_or(0) : 0;
  if (own.idle_limit_us > 0) own.pool->idle_limit_set();
}

void Client::end_if_idle(Micros now) {
  const Micros limit_us = pooled()->idle_limit_us;
  if (limit_us == 0 || now - since_us_ < limit_us) return;
  close_with_error(pg::sqlstate::kIdleSessionTimeout,
                   "terminating connection due to idle-session timeout");
}

void Client::try_again() {
  Pooled& own = *pooled();
  own.server = nullptr;
  own.held = false;
  if (awaits_greeting() && own.tries >= kTriesMax) own.greeting->settled = true;
  set_state(awaits_greeting() ? ClientState::Authenticating : ClientState::Idle);
  look_again();
}

// What stands behind a BEGIN that got no server must not run by itself.
void Client::fail_sent() {
  const Pooled* own = pooled();
  if (own == nullptr) return;
  for (int reads = 0; own->no_server != nullptr && own->no_server->more && can_take(); ++reads) {
    if (reads == kReadsMax) return look_again();
    if (take_more() != net::Stream::kAgain) continue;
    // All that it had sent has been read, unless it is in the midst of something.
    const bool all =
        pending_.empty() && framer_.at_boundary() && own->failing == Pooled::Failing::No;
    if (all) pooled()->no_server.reset();
    return;
  }
}

// Before it is told that it may go on: what comes after that is something else.
void Client::read_what_was_sent() {
  if (pooled()->no_server->left) return;
  const std::span<std::uint8_t> shared = proxy_.loop().read_buffer();
  ssize_t n = 0;
  while (pending_.size() < kHangupMax) {
    n = stream_.read(shared.first(kEarlyMax));
    if (n <= 0) break;
    keep(ByteSpan(shared.data(), static_cast<std::size_t>(n)));
  }
  pooled()->no_server->left = pending_.size();
  pooled()->no_server->more = n > 0;
}

bool Client::must_keep_server() const {
  return pooled()->server->lease().pinned() || pooled()->failing != Pooled::Failing::No;
}

void Client::fail_query(std::string_view sqlstate, const std::string& message) {
  Pooled& own = *pooled();
  CHECK(own.server == nullptr && !waiting());
  if (awaits_greeting()) {  // its first query meets the same
    own.greeting->settled = true;
    set_state(ClientState::Authenticating);
    return seek_greeting();
  }
  fail_request(sqlstate, message);
}

void Client::fail_request(std::string_view sqlstate, const std::string& message) {
  Pooled& own = *pooled();
  own.pool->count_error(sqlstate);
  Bytes out;
  pg::append_error(out, pg::Severity::Error, sqlstate, message);
  stream_.write(out);
  own.failing = Pooled::Failing::NextMessage;
  if (own.no_server == nullptr) {
    own.no_server = std::make_unique<Pooled::NoServer>(
        Pooled::NoServer{.sqlstate = std::string(sqlstate), .message = message, .left = {}});
  }
  if (state_ == ClientState::Waiting) set_state(ClientState::Idle);
  look_again();
}

void Client::drop_failed(char type) {
  const bool ends = type == 'S' || (pooled()->failing == Pooled::Failing::NextMessage &&
                                    (type == 'Q' || type == 'F'));
  if (!ends) {
    pooled()->failing = Pooled::Failing::UntilSync;
    return;
  }
  pooled()->failing = Pooled::Failing::No;
  say_ready();
}

void Client::say_ready() {
  Bytes out;
  pg::append_ready_for_query(out, 'I');
  stream_.write(out);
}

}  // namespace carpool::proxy
