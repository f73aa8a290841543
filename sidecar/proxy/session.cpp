// ServerSession, what its requests have in common: which is whose, which must wait, and what is
// known of those that are under way. The rest is in session_texts.cpp, session_statements.cpp and
// session_replies.cpp.
#include "proxy/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "pg/error_response.h"
#include "pg/messages.h"

namespace carpool::proxy {

using Kind = pg::SessionEffect::Kind;
using Taken = ServerSession::Taken;

namespace {

constexpr std::string_view kStrings = "standard_conforming_strings";
constexpr std::string_view kEncoding = "client_encoding";

// What a SET of it means; none where it is spelled in a rarer way (parse_bool() takes prefixes,
// too).
std::optional<bool> boolean_of(std::string_view set) {
  for (const char* on : {"on", "true", "yes", "1"}) {
    if (set == pg::set_sql(kStrings, on)) return true;
  }
  for (const char* off : {"off", "false", "no", "0"}) {
    if (set == pg::set_sql(kStrings, off)) return false;
  }
  return std::nullopt;
}

}  // namespace

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
  if (const std::string* encoding = reported_.find(kEncoding)) {
    usual_encoding_ = pg::text_encoding(*encoding);
  }
  pg::ReportedValues values = reported_.of_reading();
  if (tables_.defaults == nullptr || *tables_.defaults != values) {
    tables_.defaults = std::make_shared<pg::ReportedValues>(std::move(values));
  }
  defaults_ = tables_.defaults;
}

void ServerSession::meet(ClientSession& client) const {
  client.met = defaults_;
  if (client.told == nullptr) return;
  for (const auto& [name, value] : client.told->values()) {
    const std::string* here = defaults_->find(name);
    if (here != nullptr && *here != value) client.follower.keep(name, value);
  }
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

std::uint32_t ServerSession::note_unnamed(const ClientSession& client, std::string_view text) {
  unnamed_unknown_ = false;
  // The first of a batch is not skipped, and an error leaves none to go back to. Only where the
  // text cannot be converted PostgreSQL has not come so far as to drop the one before.
  if (tracker_.idle() && pg::is_ascii(text)) return 0;
  Pending& pending = add_naming("", client.unnamed);
  pending.unnamed = true;
  pending.server_had = unnamed_;
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
  const bool begins =
      tracker_.status() == 'I' && !tracker_.needs_sync() && tracker_.owes_only_ours();
  const bool describes = frame.type == 'D' && whole && !frame.body().empty();
  const bool of_portal = describes && frame.body()[0] == 'P';
  if (begins) {
    // What follows on a Parse that was answered here: PostgreSQL would have planned it anew.
    batch_.clear();
    batch_state_ = frame.type == 'B' || (describes && !of_portal) ? Batch::Open : Batch::None;
    batch_takes_any_ = false;
    if (frame.type == 'B' && whole && !parsed_here_.empty()) {
      Reader reader(frame.body());
      reader.cstring();
      batch_takes_any_ = reader.cstring() == parsed_here_;
    }
  }
  if (batch_state_ != Batch::Open) return;
  const bool belongs = begins || of_portal || frame.type == 'E' || frame.type == 'S';
  if (!whole || !belongs || batch_.size() + frame.bytes.size() > kBatchBytesMax) {
    batch_state_ = Batch::None;
    return;
  }
  append(batch_, frame.bytes);
  if (describes) batch_takes_any_ = true;
  if (frame.type == 'S') batch_state_ = Batch::Whole;
}

Taken ServerSession::request(const pg::Frame& frame, ClientSession& client,
                             const config::Pool& settings, Outgoing& out, Bytes& answer) {
  const std::size_t size = frame.bytes.size();
  if (tracker_.skipping() && frame.type != 'S') {
    out.pass(size);  // the server ignores it
    return Taken::Yes;
  }
  // What follows is another batch, be it healed or not.
  if (batch_state_ == Batch::Whole) batch_state_ = Batch::None;
  if (batch_state_ == Batch::Open || frame.type == 'B' || frame.type == 'D') note_batch(frame);
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
      return execute(frame, client, out);
    case 'C':
      return close(frame, client, out, answer);
    case 'S':
      parsed_here_.clear();
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
  if (asking_) return true;
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

// ---- how texts are read

void ServerSession::note_change(std::string_view name) {
  reading_changes_ = true;
  if (name.empty() || name == kEncoding) encoding_changes_ = true;
}

void ServerSession::note_reading(const pg::Scan& scan, const ClientSession& client) {
  const pg::SessionFollower& follower = client.follower;
  for (const pg::SessionEffect& effect : scan.effects) {
    switch (effect.kind) {
      case Kind::SetLocal:
        // PostgreSQL looks names up anew when these two differ: such a statement can be shared.
        if (effect.name == "search_path" || effect.name == "role") break;
        if (!effect.name.empty() && !pg::decides_reading(effect.name)) break;
        note_change(effect.name);
        reading_ends_ = true;
        if (reported_.find(effect.name) == nullptr) reading_unseen_ = true;
        break;
      case Kind::Set:
      case Kind::SetUnknown:
      case Kind::Reset:
        if (effect.name.empty() || pg::decides_reading(effect.name)) note_change(effect.name);
        break;
      case Kind::Commit:
      case Kind::PrepareTransaction:
        if (reading_ends_) note_change({});
        break;
      case Kind::Rollback:
      case Kind::RollbackTo:
        if (reading_ends_ || follower.current() != follower.committed()) note_change({});
        break;
      case Kind::ResetAll:
      case Kind::DiscardAll:
        if (follower.current() != follower.initial()) note_change({});
        break;
      default:
        break;
    }
  }
  if (scan.too_complex) note_change({});
}

std::optional<pg::TextEncoding> ServerSession::encoding_of(const ClientSession& client) const {
  if (encoding_changes_) return std::nullopt;
  const pg::StatePtr& state = client.follower.current();
  const auto set = state == nullptr ? std::nullopt : state->encoding();
  if (!set) return usual_encoding_;
  // An error in what is under way may take it back.
  if (tracker_.owes_ready() && *set != usual_encoding_) return std::nullopt;
  return set;
}

pg::ScanOptions ServerSession::how_read(std::string_view text, const ClientSession& client) const {
  pg::ScanOptions options;
  options.encoding = encoding_of(client);
  if (options.encoding != pg::TextEncoding::AsciiSafe && pg::is_ascii(text)) {
    options.encoding = pg::TextEncoding::AsciiSafe;
  }
  if (text.find('\\') == std::string_view::npos) return options;
  if (reading_changes_ || reading_unseen_) {
    options.standard_conforming_strings.reset();
    return options;
  }
  const pg::StatePtr& state = client.follower.current();
  const std::string* set = state == nullptr ? nullptr : state->find(kStrings);
  if (set == nullptr) {
    const std::string* usual = reported_.find(kStrings);
    options.standard_conforming_strings = usual == nullptr || *usual != "off";
  } else if (tracker_.owes_ready()) {
    // An error in what is under way may take it back.
    options.standard_conforming_strings.reset();
  } else {
    options.standard_conforming_strings = boolean_of(*set);
  }
  return options;
}

pg::StatementRef ServerSession::intern(ByteSpan body, const ClientSession& client, bool unnamed) {
  const pg::StatePtr& state = client.follower.current();
  std::string_view text = as_text(body);
  text = text.substr(0, text.find('\0'));
  const pg::ScanOptions options = how_read(text, client);
  const auto strings = options.standard_conforming_strings;
  const bool known = strings && options.encoding && !reading_changes_ && !reading_unseen_;
  const bool usual = known && *strings && *options.encoding == pg::TextEncoding::AsciiSafe;
  const std::string_view settings = state == nullptr ? std::string_view() : state->reading();
  if (usual) return tables_.statements.intern(body, settings, options, unnamed);
  std::string own(settings);
  // Where it is not known how it will be read, it is no other client's.
  own +=
      known ? fmt::format("encoding {}, escapes {}", static_cast<int>(*options.encoding), !*strings)
            : "under way " + std::to_string(tables_.readings++);
  return tables_.statements.intern(body, own, options, unnamed);
}

void ServerSession::pin_too_complex(ClientSession& client) {
  const bool was_pinned = client.pins.any();
  client.pins.apply_too_complex();
  if (!was_pinned) counters_.pins[static_cast<std::size_t>(client.pin_cause())]++;
}

std::vector<std::string> ServerSession::replay_for(const ClientSession& client) const {
  if (in_step(client)) return {};
  return pg::replay(follower_.current(), client.follower.current());
}

}  // namespace carpool::proxy
