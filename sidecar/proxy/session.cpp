// ServerSession, what its requests have in common: which is whose, which must wait, and what is
// known of those that are under way. The rest is in session_texts.cpp, session_statements.cpp and
// session_replies.cpp.
#include "proxy/session.h"

#include <algorithm>

#include "pg/error_response.h"
#include "pg/messages.h"

namespace carpool::proxy {

using Taken = ServerSession::Taken;

pool::PinCause ClientSession::pin_cause() const {
  if (pins.any()) {
    // The two lists name the same things in the same order.
    return static_cast<pool::PinCause>(pins.cause());
  }
  return pinned_by_setting ? pool::PinCause::SessionParameter : pool::PinCause::Other;
}

ServerSession::ServerSession(SessionTables& tables, pg::ReplyTracker& tracker,
                             pool::PoolCounters& counters)
    : tables_(tables), tracker_(tracker), counters_(counters), follower_(tables.states, nullptr) {}

void ServerSession::opened(const std::vector<std::pair<std::string, std::string>>& parameters) {
  for (const auto& [name, value] : parameters) reported_.set(name, value);
  now_ = reported_;
}

// ---- what is under way

ServerSession::Pending& ServerSession::add_pending() {
  tags_ = (tags_ + 1) % kBindTag;
  if (tags_ == 0) ++tags_;  // 0 means none
  Pending& pending = pending_.emplace_back();
  pending.tag = tags_;
  return pending;
}

ServerSession::Pending& ServerSession::add_naming(std::string_view name,
                                                  pg::StatementRef statement) {
  Pending& pending = add_pending();
  pending.name = name;
  pending.statement = std::move(statement);
  pending.names = true;
  ++naming_;
  return pending;
}

std::uint32_t ServerSession::note_unnamed(const ClientSession& client) {
  // The first of a batch may fail, but it is not skipped: there is nothing to go back to.
  if (tracker_.idle()) return 0;
  Pending& pending = add_naming("", client.unnamed);
  pending.unnamed = true;
  pending.server_unnamed = unnamed_;
  return pending.tag;
}

ServerSession::Pending* ServerSession::find_pending(std::uint32_t tag) {
  if (tag == 0 || (tag & kBindTag) != 0) return nullptr;
  for (Pending& pending : pending_) {
    if (pending.tag == tag) return &pending;
  }
  return nullptr;
}

void ServerSession::drop_pending(std::uint32_t tag) {
  if (tag == 0 || (tag & kBindTag) != 0) return;
  // Requests end in the order in which they were sent: it is the first, or nearly.
  for (auto i = pending_.begin(); i != pending_.end(); ++i) {
    if (i->tag != tag) continue;
    if (i->names) --naming_;
    pending_.erase(i);
    return;
  }
}

// ---- requests

void ServerSession::note_batch(const pg::Frame& frame) {
  const bool whole = frame.kind == pg::Frame::Kind::Whole;
  const bool begins = tracker_.idle() && !tracker_.needs_sync() && tracker_.status() == 'I';
  if (begins) {
    batch_.clear();
    batch_state_ = frame.type == 'B' ? Batch::Open : Batch::None;
    batch_describes_ = false;
  }
  if (batch_state_ != Batch::Open) return;
  const bool describes =
      frame.type == 'D' && whole && !frame.body().empty() && frame.body()[0] == 'P';
  const bool belongs = begins || describes || frame.type == 'E' || frame.type == 'S';
  if (!whole || !belongs || batch_.size() + frame.bytes.size() > kBatchBytesMax) {
    batch_state_ = Batch::None;
    return;
  }
  append(batch_, frame.bytes);
  if (describes) batch_describes_ = true;
  if (frame.type == 'S') batch_state_ = Batch::Whole;
}

Taken ServerSession::request(const pg::Frame& frame, ClientSession& client,
                             const config::Pool& settings, Outgoing& out, Bytes& answer) {
  const std::size_t size = frame.bytes.size();
  if (tracker_.skipping() && frame.type != 'S') {
    out.pass(size);  // the server ignores it
    return Taken::Yes;
  }
  if (batch_state_ == Batch::Open || frame.type == 'B') note_batch(frame);
  switch (frame.type) {
    case 'Q':
      return query(frame, client, settings, out, answer);
    case 'P':
      return parse(frame, client, settings, out, answer);
    case 'B':
      return bind(frame, client, settings, out);
    case 'D':
      return describe(frame, client, settings, out);
    case 'E':
      return execute(frame, out);
    case 'C':
      return close(frame, client, out, answer);
    case 'S':
      tracker_.sent(pg::Request::Sync);
      break;
    case 'F':
      tracker_.sent(pg::Request::FunctionCall);
      break;
    case 'c':
    case 'f':
      tracker_.sent(pg::Request::CopyEnd);
      break;
    default:  // CopyData and Flush are owed nothing
      break;
  }
  out.pass(size);
  return Taken::Yes;
}

bool ServerSession::must_wait(const pg::Frame& frame, const ClientSession& client) const {
  if (!tracker_.owes_ready()) return false;
  Reader reader(frame.body());
  switch (frame.type) {
    case 'P':
      // May be answered here, if the transaction has not failed by then and the text is known to be
      // good.
      if (!reader.cstring().empty()) return true;
      break;
    case 'B':
      reader.cstring();
      break;
    case 'D':
    case 'C':
      if (static_cast<char>(reader.u8()) != 'S') return false;
      break;
    case 'Q':
      return naming_ > 0;  // may hold a DEALLOCATE
    default:
      return false;
  }
  if (pending_.empty()) return false;
  const std::string_view name = frame.type == 'P' ? std::string_view() : reader.cstring();
  const pg::StatementRef* named = name.empty() ? nullptr : client.statements.find(name);
  return std::any_of(pending_.begin(), pending_.end(), [&](const Pending& pending) {
    return (pending.names && pending.name == name) ||
           (named != nullptr && pending.statement == *named);
  });
}

Taken ServerSession::refuse(bool simple, std::string_view sqlstate, const std::string& message,
                            Bytes& answer) {
  Bytes bytes;
  pg::append_error(bytes, pg::Severity::Error, sqlstate, message);
  if (simple) pg::append_ready_for_query(bytes, tracker_.status());
  answer_with(std::move(bytes), simple, answer, nullptr);
  return simple ? Taken::RefusedQuery : Taken::RefusedBatch;
}

void ServerSession::answer_with(Bytes bytes, bool ends_query, Bytes& answer, Pending** pending) {
  if (tracker_.idle()) {
    append(answer, bytes);
    return;
  }
  Pending& added = add_pending();
  added.answer = std::move(bytes);
  added.ends_query = ends_query;
  tracker_.sent(pg::Request::Local, false, added.tag);
  if (pending != nullptr) *pending = &added;
}

std::vector<std::string> ServerSession::replay_for(const ClientSession& client) const {
  if (in_step(client)) return {};
  return pg::replay(follower_.current(), client.follower.current());
}

}  // namespace carpool::proxy
