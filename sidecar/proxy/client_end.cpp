// Client, how it ends: what it is told, what still reaches it, and what becomes of its server.
#include "base/check.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/client.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

namespace carpool::proxy {

using pool::ClientState;

// It is answered what it asked, and then closed; or at once.
void Client::leave() {
  Pooled& own = *pooled();
  if (own.server == nullptr || !own.server->must_answer_first()) {
    // What was sent may have found out that the server is gone.
    return close(Ending::Terminate);
  }
  own.leaving = true;
  stream_.pause_reading();
}

void Client::on_drained() {
  if (state_ == ClientState::Closing) return part();
  if (server() != nullptr) server()->stream().resume_reading();
  if (stream_.reading_paused() || (pooled() != nullptr && pooled()->no_server != nullptr)) resume();
}

void Client::close_with_error(std::string_view sqlstate, const std::string& message) {
  if (state_ == ClientState::Closing) {
    // There is no time any more, or no room.
    if (proxy_.closed() || proxy_.memory().level() == MemoryGuard::Level::Critical) part();
    return;
  }
  if (server() != nullptr && server()->inside_reply()) return close();
  Bytes out;
  pg::append_error(out, pg::Severity::Fatal, sqlstate, message);
  stream_.write(out);
  if (live_pool() != nullptr) live_pool()->count_error(sqlstate);
  close();
}

void Client::close(Ending how) {
  if (state_ == ClientState::Closing) return;
  Pooled* own = pooled();
  if (own != nullptr && waiting()) own->pool->pool().cancel_wait(*this);
  Server* server = own == nullptr ? nullptr : std::exchange(own->server, nullptr);
  set_state(ClientState::Closing);
  // What is queued for it reaches it first.
  if (how != Ending::Gone && own != nullptr && stream_.queued() > 0 && !proxy_.closed()) {
    stream_.pause_reading();
  } else {
    part();
  }
  if (server != nullptr) server->abandoned(how, inside_message(), std::move(own->session));
}

void Client::part() {
  if (!stream_.is_open()) return;
  if (stream_.queued() > 0) {
    log::info("a client was closed before it had taken all that was for it",
              {{"pool", live_pool() == nullptr ? "" : live_pool()->describe()},
               {"bytes", stream_.queued()}});
  }
  proxy_.client_gone(*this);
  stream_.close();
}

// It can be that nothing is read from it for a long time.
void Client::on_hangup() {
  if (state_ == ClientState::Closing || leaving()) return;
  const std::span<std::uint8_t> shared = proxy_.loop().read_buffer();
  ssize_t n = 0;
  while (pending_.size() < kHangupMax) {
    n = stream_.read(shared.first(kHangupMax));
    if (n <= 0) break;
    keep(ByteSpan(shared.data(), static_cast<std::size_t>(n)));
  }
  if (n == net::Stream::kAgain) return;
  n > 0 ? close(Ending::Gone) : hung_up();
}

void Client::hung_up() {
  says_terminate() ? stream_.pause_reading() : close(Ending::Gone);
}

// Whether the last of what is kept is a Terminate: what it has asked before it is carried out.
bool Client::says_terminate() const {
  pg::Framer framer = framer_;
  ByteSpan rest = pending_.bytes();
  for (;;) {
    const pg::Frame frame = framer.next(rest);
    if (frame.kind == pg::Frame::Kind::NeedMore || frame.kind == pg::Frame::Kind::Bad) return false;
    if (frame.type == 'X' && frame.kind == pg::Frame::Kind::Whole) return true;
    framer.take(frame);
    rest = rest.subspan(frame.bytes.size());
  }
}

void Client::on_closed() {
  if (in_a_list()) live_pool()->clients(state_).remove(*this);
  proxy_.client_freed();
  delete this;
}

}  // namespace carpool::proxy
