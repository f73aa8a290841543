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
    bit(ClientState::Idle) | bit(ClientState::Closing),
    bit(ClientState::Waiting) | bit(ClientState::Attached) | bit(ClientState::Closing),
    bit(ClientState::Attached) | bit(ClientState::Idle) | bit(ClientState::Closing),
    bit(ClientState::Idle) | bit(ClientState::Closing),
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

LivePool::ClientList* Client::list_of(ClientState state) {
  if (state == ClientState::Startup) return &proxy_.startup_clients();
  if (pool_ != nullptr) return &pool_->clients(state);
  if (state == ClientState::Closing) return nullptr;
  if (state != ClientState::Authenticating) return &proxy_.console_clients();
  // One that signs in has as long as one that has said nothing, until PostgreSQL has its password.
  return on_trial_ ? &proxy_.clients_on_trial() : &proxy_.startup_clients();
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

bool Client::can_take() const {
  if (leaving_ || stream_.queued() > kQueuedMax) return false;
  switch (state_) {
    case ClientState::Startup:
      return true;
    case ClientState::Authenticating:
      return sign_in_ != nullptr && !signed_in_ && !sign_in_->waits_for_postgres();
    case ClientState::Idle:
    case ClientState::Attached:
      return console_ == nullptr || !console_->busy();
    default:
      return false;
  }
}

// ---- reading

void Client::on_readable() {
  if (state_ == ClientState::Closing) return;
  // At the end of this turn there will be room, or nothing more to be done about it.
  if (server_ == nullptr && proxy_.memory().level() == MemoryGuard::Level::Critical) return;
  const std::span<std::uint8_t> shared = proxy_.loop().read_buffer();
  // A byte that goes on with what has come before it begins no handshake: 0x16 is the code of an
  // SSLRequest, too.
  if (state_ == ClientState::Startup && !ssl_asked_ && stream_.tls() == nullptr &&
      pending_.empty() && proxy_.gatekeeper().tls() != nullptr &&
      stream_.peek() == pg::kTlsHandshake) {
    direct_tls_ = true;
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
    if (on_trial_ && !signed_in_ && pending_.bytes().front() == 'X')
      return close(Ending::Terminate);
    stream_.pause_reading();
    return;
  }
  const std::size_t before = pending_.size();
  if (before > pg::Framer::kHeadSize) {
    // The text of a long statement gathers where it is.
    std::uint8_t* room = pending_.reserve(static_cast<std::uint32_t>(shared.size() / 2));
    const ssize_t n = stream_.read({room, pending_.room()});
    pending_.add(n > 0 ? static_cast<std::uint32_t>(n) : 0);
    if (n == net::Stream::kEnd) return close(Ending::Gone);
    if (n == net::Stream::kAgain) return;
    proxy_.memory().passed(static_cast<std::size_t>(n));
    return process_pending();
  }
  // What was left goes in front of what comes, so that a message is always in one piece.
  const ssize_t n = stream_.read(shared.subspan(before));
  if (n == net::Stream::kEnd) return ended();
  if (n == net::Stream::kAgain) return;
  proxy_.memory().passed(static_cast<std::size_t>(n));
  if (before > 0) {
    std::memcpy(shared.data(), pending_.bytes().data(), before);
    pending_.clear();
  }
  const ByteSpan in(shared.data(), before + static_cast<std::size_t>(n));
  const std::size_t taken = process(in);
  if (state_ == ClientState::Closing) return;
  if (taken < in.size()) keep(in.subspan(taken));
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
  switch (state_) {
    case ClientState::Startup:
      return process_startup(in);
    case ClientState::Authenticating:
      return process_sign_in(in);
    case ClientState::Idle:
    case ClientState::Attached:
      return console_ == nullptr ? process_requests(in) : process_console(in);
    default:
      return 0;
  }
}

// ---- requests

std::size_t Client::process_requests(ByteSpan in) {
  Outgoing out(in, proxy_.scratch());
  const auto flush = [&] {
    if (server_ != nullptr && !out.empty()) server_->send(out.bytes());
    out.sent();
  };
  held_ = false;
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
      dropping_ ? out.drop(frame.bytes.size()) : out.pass(frame.bytes.size());
      if (frame.last) dropping_ = false;
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
    if (failing_ != Failing::No && server_ != nullptr && frame.type == 'S') failing_ = Failing::No;
    // COPY data may still come after the COPY has failed, and a Flush asks for nothing by itself.
    const bool nothing_to_do = server_ == nullptr && (frame.type == 'd' || frame.type == 'c' ||
                                                      frame.type == 'f' || frame.type == 'H');
    if (failing_ != Failing::No || nothing_to_do) {
      framer_.take(frame);
      out.drop(frame.bytes.size());
      dropping_ = !frame.last;
      if (failing_ != Failing::No) drop_failed(frame.type);
      continue;
    }
    if (server_ == nullptr && fails_too(frame.type, out.taken())) continue;
    if (server_ == nullptr && !attach()) {
      if (state_ == ClientState::Closing) return in.size();
      if (failing_ == Failing::No) break;
      refusal_->bytes = in.size();  // refused at once: this request is to be dropped
      continue;
    }
    Lease& lease = server_->lease();
    if (lease.breaks_copy(frame)) {
      flush();
      reject(RejectReason::ProtocolError, "08P01",
             fmt::format("unexpected message type 0x{:02X} during COPY from stdin",
                         static_cast<unsigned>(frame.type)));
      return in.size();
    }
    held_ = lease.full() || lease.must_wait(frame) ||
            lease.must_ask(frame, out.rest().subspan(frame.bytes.size()), out);
    if (held_) {
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
    dropping_ = !frame.last && (drops || taken != Lease::Taken::Yes);
    if (!answer.empty()) stream_.write(answer);
    switch (taken) {
      case Lease::Taken::Yes:
      case Lease::Taken::Replaced:
      case Lease::Taken::RefusedQuery:
        break;
      case Lease::Taken::RefusedBatch:
        failing_ = Failing::UntilSync;
        break;
      case Lease::Taken::NotProtocol:
        flush();
        reject(RejectReason::ProtocolError, "08P01", "a message that cannot be read");
        return in.size();
    }
  }
  flush();
  if (refusal_ != nullptr) {
    refusal_->bytes -= std::min(refusal_->bytes, out.taken());
    if (refusal_->bytes == 0) refusal_.reset();
  }
  // Nothing of it may have gone to the server, or the end of a message that it had to wait for.
  if (server_ != nullptr) server_->look_at_lease();
  return state_ == ClientState::Closing ? in.size() : out.taken();
}

void Client::note_request(const pg::Frame& frame) {
  const auto begins = [this](ByteSpan text) {
    Lease& lease = server_->lease();
    if (server_->rests() && !server_->holds_transaction()) {
      lease.transaction_begins(pool_->terms());
    }
    if (server_->rests() && !lease.requests().batch_open()) lease.times.rests();
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
      const pg::StatementRef* named = name.empty() ? nullptr : session_->statements.find(name);
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
  pool::Slot* slot = nullptr;
  switch (pool_->pool().acquire(*this, proxy_.loop().now_us(), &slot)) {
    case pool::Acquired::Granted:
      if (!static_cast<Server&>(*slot).still_there()) return attach();
      attached(static_cast<Server&>(*slot));
      server_->lend(*this, 0);
      // What it sent first may have found out that the server is gone, and with it this client.
      return server_ != nullptr;
    case pool::Acquired::Queued:
      set_state(ClientState::Waiting);
      pool_->mark_dirty();
      return false;
    case pool::Acquired::Rejected:
      proxy_.client_refused(RejectReason::WaitersMax, pool_);
      set_state(ClientState::Waiting);
      fail_query("53300", fmt::format("{} has {} clients waiting already, as many as "
                                      "pool.waitersMax allows",
                                      pool_->describe(), pool_->pool().waiting()));
      return false;
  }
  return false;
}

void Client::attached(Server& server) {
  server_ = &server;
  set_state(ClientState::Attached);
}

void Client::granted(Server& server, Micros waited_us) {
  if (!server.still_there()) return set_state(ClientState::Idle);  // and asks again
  attached(server);
  server.lend(*this, waited_us);
}

void Client::resume() {
  looks_again_ = false;
  if (state_ == ClientState::Closing) return;
  if (leaving_) {
    // Of one that has a server, that tells when all is answered.
    if (server_ == nullptr) close(Ending::Terminate);
    return;
  }
  if (signed_in_ && sign_in_ != nullptr) return enter();
  if (!can_take()) return;
  process_pending();
  if (can_take() && !held_) stream_.resume_reading();
}

void Client::detach() {
  CHECK(server_ != nullptr);
  server_ = nullptr;
  tries_ = 0;
  held_ = false;
  // A server that idles has it no more: it would end that, whoever comes next.
  const pg::StatePtr& state = session_->follower.current();
  const std::string* sql = state == nullptr ? nullptr : state->find(ServerSession::kIdleTimeout);
  const auto limit = sql == nullptr ? std::nullopt : pg::value_set_by(*sql);
  idle_limit_us_ = limit ? config::time_of_setting(*limit).value_or(0) : 0;
  if (idle_limit_us_ > 0) pool_->idle_limit_set();
  set_state(ClientState::Idle);
}

void Client::end_if_idle(Micros now) {
  if (idle_limit_us_ == 0 || now - since_us_ < idle_limit_us_) return;
  close_with_error(pg::sqlstate::kIdleSessionTimeout,
                   "terminating connection due to idle-session timeout");
}

void Client::try_again() {
  server_ = nullptr;
  held_ = false;
  set_state(ClientState::Idle);
  look_again();
}

bool Client::must_keep_server() const {
  return server_->lease().pinned() || failing_ != Failing::No;
}

void Client::fail_query(std::string_view sqlstate, const std::string& message) {
  CHECK(server_ == nullptr && !waiting());
  refusal_ = std::make_unique<Refusal>(Refusal{std::string(sqlstate), message, pending_.size()});
  say_refused();
  if (state_ == ClientState::Waiting) set_state(ClientState::Idle);
}

void Client::say_refused() {
  pool_->count_error(refusal_->sqlstate);
  Bytes out;
  pg::append_error(out, pg::Severity::Error, refusal_->sqlstate, refusal_->message);
  stream_.write(out);
  failing_ = Failing::NextMessage;
}

bool Client::fails_too(char type, std::size_t at) {
  if (refusal_ == nullptr || at >= refusal_->bytes) return false;
  if (type == 'S') {
    failing_ = Failing::NextMessage;  // there is nothing in it that could fail
  } else {
    say_refused();
  }
  return true;
}

void Client::drop_failed(char type) {
  const bool ends =
      type == 'S' || (failing_ == Failing::NextMessage && (type == 'Q' || type == 'F'));
  if (!ends) {
    failing_ = Failing::UntilSync;
    return;
  }
  failing_ = Failing::No;
  say_ready();
}

void Client::say_ready() {
  Bytes out;
  pg::append_ready_for_query(out, 'I');
  stream_.write(out);
}

}  // namespace carpool::proxy
