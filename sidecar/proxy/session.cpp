#include "proxy/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "pg/query_text.h"

namespace carpool::proxy {
namespace {

using Kind = pg::SessionEffect::Kind;
using Taken = ServerSession::Taken;

// How much of a statement an error quotes.
constexpr std::size_t kQuotedMax = 120;

// Whether the effect leaves something behind that another server does not have.
bool leaves_state(Kind kind) {
  switch (kind) {
    case Kind::Set:
    case Kind::SetUnknown:
    case Kind::Listen:
    case Kind::SqlPrepare:
    case Kind::CreateTemp:
    case Kind::DeclareHold:
    case Kind::AdvisoryLock:
    case Kind::Load:
      return true;
    default:
      return false;
  }
}

bool sets_parameter(const pg::Scan& scan) {
  return std::any_of(scan.effects.begin(), scan.effects.end(), [](const pg::SessionEffect& effect) {
    return effect.kind == Kind::Set || effect.kind == Kind::SetUnknown;
  });
}

// Why the settings refuse a text; empty: they do not.
std::string why_refused(const pg::Scan& scan, std::string_view text, const config::Pool& settings) {
  const auto quoted = [&] { return pg::one_line(text.substr(0, kQuotedMax)); };
  if (settings.mode == config::PoolMode::Statement && scan.begins_transaction) {
    return fmt::format(
        "a transaction of several statements needs pool.mode transaction or session; "
        "here it is statement: {}",
        quoted());
  }
  if (settings.session_state != config::SessionState::Refuse ||
      settings.mode == config::PoolMode::Session) {
    return "";
  }
  for (const pg::SessionEffect& effect : scan.effects) {
    if (!leaves_state(effect.kind)) continue;
    return fmt::format(
        "this statement leaves state in the session ({}{}{}), which "
        "pool.sessionState: refuse does not allow: {}",
        pg::to_string(effect.kind), effect.name.empty() ? "" : " ", effect.name, quoted());
  }
  if (scan.too_complex) {
    return fmt::format(
        "this text is too complex to know what it leaves in the session, which "
        "pool.sessionState: refuse does not allow: {}",
        quoted());
  }
  return "";
}

void append_body(Bytes& out, char type, std::string_view first, std::string_view second,
                 ByteSpan rest, std::size_t rest_total) {
  append_u8(out, static_cast<std::uint8_t>(type));
  append_u32(out,
             static_cast<std::uint32_t>(4 + first.size() + 1 + second.size() + 1 + rest_total));
  append_cstring(out, first);
  append_cstring(out, second);
  append(out, rest);
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

Taken ServerSession::query(const pg::Frame& frame, ClientSession& client,
                           const config::Pool& settings, Outgoing& out, Bytes& answer) {
  std::string_view text = as_text(frame.body());
  text = text.substr(0, text.find('\0'));
  pg::Scan scan = pg::scan(text);
  if (frame.kind == pg::Frame::Kind::Head) scan.too_complex = true;  // the rest is not seen
  std::uint32_t tag = 0;
  if (!scan.effects.empty() || scan.too_complex) {
    const std::string why = why_refused(scan, text, settings);
    if (!why.empty()) {
      out.drop(frame.bytes.size());
      return refuse(true, pg::sqlstate::kFeatureNotSupported, why, answer);
    }
    if (settings.session_state == config::SessionState::Pin && sets_parameter(scan)) {
      client.pinned_by_setting = true;
    }
    if (scan.too_complex) client.pins.apply_too_complex();
    // DEALLOCATE of a name that was given through the protocol: the server knows it by another.
    const bool deallocates = scan.statements == 1 && scan.effects.size() == 1 &&
                             scan.effects[0].kind == Kind::SqlDeallocate;
    const pg::StatementRef* named =
        deallocates ? client.statements.find(scan.effects[0].name) : nullptr;
    if (named != nullptr) {
      const pg::StatementRef statement = *named;
      ensure(statement, settings, out);
      pg::append_query(out.insert(), "DEALLOCATE " + statement->server_name);
      out.drop(frame.bytes.size());
      client.statements.erase(scan.effects[0].name);
      statements_.forget(*statement.get());
      tracker_.sent(pg::Request::Query);
      return Taken::Yes;
    }
    Pending& pending = add_pending();
    pending.scan = std::make_shared<const pg::Scan>(std::move(scan));
    tag = pending.tag;
  }
  // A simple query ends the unnamed statement (manual, "Extended Query").
  unnamed_ = {};
  client.unnamed = {};
  tracker_.sent(pg::Request::Query, false, tag);
  out.pass(frame.bytes.size());
  return Taken::Yes;
}

Taken ServerSession::parse(const pg::Frame& frame, ClientSession& client,
                           const config::Pool& settings, Outgoing& out, Bytes& answer) {
  Reader reader(frame.body());
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  if (frame.kind == pg::Frame::Kind::Head) {
    if (client.statements.find(name) != nullptr) {
      let_server_refuse(frame, name, reader.rest(), client, settings, out);
      return Taken::Yes;
    }
    // Too long to keep: this server alone has it, under the client's own name.
    client.pins.apply_too_complex();
    const std::uint32_t tag = name.empty() ? note_unnamed(client) : kForeignTag;
    if (name.empty()) {
      unnamed_ = {};
      client.unnamed = {};
    }
    tracker_.sent(pg::Request::Parse, false, tag);
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  if (!name.empty() && client.statements.find(name) != nullptr) {
    let_server_refuse(frame, name, reader.rest(), client, settings, out);
    return Taken::Yes;
  }
  const pg::StatePtr& state = client.follower.current();
  pg::StatementRef statement = tables_.statements.intern(
      reader.rest(), state == nullptr ? std::string_view() : state->reading());
  if (!statement) {
    out.drop(frame.bytes.size());
    return refuse(false, "53200",
                  fmt::format("the prepared statements of this pool have reached {} MiB",
                              pg::StatementTable::kBytesMax >> 20),
                  answer);
  }
  if (statement->scan != nullptr) {
    const std::string why = why_refused(*statement->scan, statement->text(), settings);
    if (!why.empty()) {
      out.drop(frame.bytes.size());
      return refuse(false, pg::sqlstate::kFeatureNotSupported, why, answer);
    }
    // DEALLOCATE, as for a simple query above.
    const auto& effects = statement->scan->effects;
    if (statement->scan->statements == 1 && effects.size() == 1 &&
        effects[0].kind == Kind::SqlDeallocate) {
      if (const pg::StatementRef* named = client.statements.find(effects[0].name)) {
        const pg::StatementRef old = *named;
        ensure(old, settings, out);
        client.statements.erase(effects[0].name);
        Bytes body;
        append_cstring(body, "DEALLOCATE " + old->server_name);
        append_u16(body, 0);
        statement = tables_.statements.intern(body);
        if (!statement) return Taken::NotProtocol;
        if (name.empty()) {
          // What is sent is not what came.
          const std::uint32_t tag = note_unnamed(client);
          pg::append_parse(out.insert(), "", body);
          tracker_.sent(pg::Request::Parse, false, tag);
          unnamed_ = client.unnamed = statement;
          unnamed_version_ = statement->version;
          out.drop(frame.bytes.size());
          return Taken::Yes;
        }
      }
    }
  }
  if (name.empty()) {
    const std::uint32_t tag = note_unnamed(client);
    client.unnamed = statement;
    unnamed_ = std::move(statement);
    unnamed_version_ = unnamed_->version;
    tracker_.sent(pg::Request::Parse, false, tag);
    counters_.prepares_forwarded++;
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  client.statements.set(name, statement);
  out.drop(frame.bytes.size());
  // A failed transaction takes but few statements, and PostgreSQL knows which.
  if (tracker_.status() == 'E' && statements_.has_name(*statement.get())) {
    close_on_server(*statement.get(), out);
  }
  if (statements_.use(*statement.get())) {
    counters_.prepares_reused++;
    Bytes bytes;
    pg::append_empty(bytes, '1');
    Pending* pending = nullptr;
    answer_with(std::move(bytes), false, answer, &pending);
    if (pending != nullptr) {
      pending->statement = statement;
      pending->name = name;
      pending->names = true;
      ++naming_;
    }
    return Taken::Yes;
  }
  if (statements_.has_name(*statement.get())) close_on_server(*statement.get(), out);
  pg::append_parse(out.insert(), statement->server_name, as_bytes(statement->body));
  counters_.prepares_forwarded++;
  const Pending& pending = add_naming(name, statement);
  tracker_.sent(pg::Request::Parse, false, pending.tag);
  statements_.add(statement);
  make_room(settings, out);
  return Taken::Yes;
}

void ServerSession::let_server_refuse(const pg::Frame& frame, std::string_view name, ByteSpan rest,
                                      const ClientSession& client, const config::Pool& settings,
                                      Outgoing& out) {
  if (!tables_.taken) {
    // A statement that can be prepared in a failed transaction, too.
    Bytes body;
    append_cstring(body, "ROLLBACK -- a name that is taken");
    append_u16(body, 0);
    tables_.taken = tables_.statements.intern(body);
  }
  // Without room for a text that short nothing new is prepared: any name that is not there yet
  // would do worse than the client's own.
  const std::string_view server_name =
      tables_.taken ? std::string_view(tables_.taken->server_name) : name;
  if (tables_.taken) ensure(tables_.taken, settings, out);
  Bytes& bytes = out.insert();
  append_u8(bytes, 'P');
  const std::size_t rest_total = rest.size() + (frame.total - frame.bytes.size());
  append_u32(bytes, static_cast<std::uint32_t>(4 + server_name.size() + 1 + rest_total));
  append_cstring(bytes, server_name);
  append(bytes, rest);
  out.drop(frame.bytes.size());
  // Where something that is under way frees the name after all, it is the client's new one.
  const pg::StatePtr& state = client.follower.current();
  Pending& pending = add_pending();
  pending.refused = true;
  pending.name = name;
  if (frame.kind == pg::Frame::Kind::Whole) {
    pending.statement =
        tables_.statements.intern(rest, state == nullptr ? std::string_view() : state->reading());
  }
  tracker_.sent(pg::Request::Parse, false, pending.tag);
}

void ServerSession::close_on_server(const pg::Statement& statement, Outgoing& out) {
  pg::append_close(out.insert(), 'S', statement.server_name);
  tracker_.sent(pg::Request::Close, true);
  statements_.forget(statement);
}

void ServerSession::make_room(const config::Pool& settings, Outgoing& out) {
  while (const pg::StatementRef oldest = statements_.over(settings.prepared_statements_max)) {
    if (statements_.size() <= 1) return;  // the one at hand
    close_on_server(*oldest.get(), out);
  }
}

void ServerSession::ensure(const pg::StatementRef& statement, const config::Pool& settings,
                           Outgoing& out) {
  if (statements_.use(*statement.get())) {
    counters_.prepares_reused++;
    return;
  }
  if (statements_.has_name(*statement.get())) close_on_server(*statement.get(), out);
  pg::append_parse(out.insert(), statement->server_name, as_bytes(statement->body));
  counters_.prepares_forwarded++;
  Pending& pending = add_pending();
  pending.statement = statement;
  tracker_.sent(pg::Request::Parse, true, pending.tag);
  statements_.add(statement);
  make_room(settings, out);
}

void ServerSession::ensure_unnamed(ClientSession& client, Outgoing& out) {
  if (!client.unnamed) {
    if (!unnamed_) return;  // PostgreSQL says that there is none
    // It is another client's.
    const std::uint32_t tag = note_unnamed(client);
    pg::append_close(out.insert(), 'S', "");
    tracker_.sent(pg::Request::Close, true, tag);
    unnamed_ = {};
    return;
  }
  if (unnamed_ == client.unnamed && unnamed_version_ == unnamed_->version) return;
  const std::uint32_t tag = note_unnamed(client);
  pg::append_parse(out.insert(), "", as_bytes(client.unnamed->body));
  counters_.prepares_forwarded++;
  tracker_.sent(pg::Request::Parse, true, tag);
  unnamed_ = client.unnamed;
  unnamed_version_ = unnamed_->version;
}

Taken ServerSession::bind(const pg::Frame& frame, ClientSession& client,
                          const config::Pool& settings, Outgoing& out) {
  Reader reader(frame.body());
  const std::string_view portal = reader.cstring();
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  if (name.empty()) {
    ensure_unnamed(client, out);
    set_portal(portal, bound(client.unnamed, frame, reader.rest()));
    tracker_.sent(pg::Request::Bind);
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  const pg::StatementRef* found = client.statements.find(name);
  if (found == nullptr) {
    // PREPAREd in SQL, or not at all: PostgreSQL knows.
    set_portal(portal, nullptr);
    tracker_.sent(pg::Request::Bind, false, kForeignTag);
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  const pg::StatementRef statement = *found;
  ensure(statement, settings, out);
  const ByteSpan rest = reader.rest();
  set_portal(portal, bound(statement, frame, rest));
  append_body(out.insert(), 'B', portal, statement->server_name, rest,
              rest.size() + (frame.total - frame.bytes.size()));
  out.drop(frame.bytes.size());
  tracker_.sent(pg::Request::Bind, false, kBindTag | (statement->id % kBindTag));
  return Taken::Yes;
}

Taken ServerSession::describe(const pg::Frame& frame, ClientSession& client,
                              const config::Pool& settings, Outgoing& out) {
  Reader reader(frame.body());
  const char kind = static_cast<char>(reader.u8());
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  if (kind == 'S' && name.empty()) ensure_unnamed(client, out);
  const pg::StatementRef* found =
      kind == 'S' && !name.empty() ? client.statements.find(name) : nullptr;
  if (found != nullptr) {
    const pg::StatementRef statement = *found;
    ensure(statement, settings, out);
    Bytes& bytes = out.insert();
    const std::size_t start = pg::begin_message(bytes, 'D');
    append_u8(bytes, 'S');
    append_cstring(bytes, statement->server_name);
    pg::finish_message(bytes, start);
    out.drop(frame.bytes.size());
  } else {
    out.pass(frame.bytes.size());
  }
  tracker_.sent(pg::Request::Describe);
  return Taken::Yes;
}

std::shared_ptr<const pg::Scan> ServerSession::bound(const pg::StatementRef& statement,
                                                     const pg::Frame& frame, ByteSpan rest) {
  if (!statement || statement->scan == nullptr) return nullptr;
  if (frame.kind != pg::Frame::Kind::Whole || !pg::wants_values(*statement->scan)) {
    return statement->scan;
  }
  return std::make_shared<const pg::Scan>(pg::with_values(*statement->scan, rest));
}

void ServerSession::set_portal(std::string_view portal, std::shared_ptr<const pg::Scan> scan) {
  for (auto i = portals_.begin(); i != portals_.end(); ++i) {
    if (i->first != portal) continue;
    portals_.erase(i);
    break;
  }
  if (scan != nullptr) portals_.emplace_back(portal, std::move(scan));
}

Taken ServerSession::execute(const pg::Frame& frame, Outgoing& out) {
  std::uint32_t tag = 0;
  if (!portals_.empty()) {
    Reader reader(frame.body());
    const std::string_view portal = reader.cstring();
    for (const auto& [known, scan] : portals_) {
      if (known != portal) continue;
      Pending& pending = add_pending();
      pending.scan = scan;
      tag = pending.tag;
    }
  }
  tracker_.sent(pg::Request::Execute, false, tag);
  out.pass(frame.bytes.size());
  return Taken::Yes;
}

Taken ServerSession::close(const pg::Frame& frame, ClientSession& client, Outgoing& out,
                           Bytes& answer) {
  Reader reader(frame.body());
  const char kind = static_cast<char>(reader.u8());
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  const pg::StatementRef* found =
      kind == 'S' && !name.empty() ? client.statements.find(name) : nullptr;
  if (found == nullptr) {
    std::uint32_t tag = 0;
    if (kind == 'S' && name.empty()) {
      tag = note_unnamed(client);
      unnamed_ = {};
      client.unnamed = {};
    }
    tracker_.sent(pg::Request::Close, false, tag);
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  // The server keeps it for the others.
  const pg::StatementRef statement = *found;
  Bytes bytes;
  pg::append_empty(bytes, '3');
  Pending* pending = nullptr;
  answer_with(std::move(bytes), false, answer, &pending);
  if (pending != nullptr) {
    pending->statement = statement;
    pending->name = name;
    pending->closes = true;
    pending->names = true;
    ++naming_;
  }
  client.statements.erase(name);
  out.drop(frame.bytes.size());
  return Taken::Yes;
}

std::vector<std::string> ServerSession::replay_for(const ClientSession& client) const {
  if (follower_.current() == client.follower.current()) return {};
  return pg::replay(follower_.current(), client.follower.current());
}

}  // namespace carpool::proxy
