// ServerSession, the requests that use a prepared statement: Bind, Describe, Execute and Close; and
// how a server comes to have the statement.
#include "pg/messages.h"
#include "proxy/session.h"

namespace carpool::proxy {

using Taken = ServerSession::Taken;

namespace {

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

void ServerSession::close_on_server(const pg::Statement& statement, Outgoing& out) {
  pg::append_close(out.insert(), 'S', statement.server_name);
  Pending& pending = add_pending();
  pending.closes = true;
  pending.version = statements_.version(statement);
  pending.statement = statements_.forget(statement);
  tracker_.sent(pg::Request::Close, true, pending.tag);
}

void ServerSession::free_name(std::string_view name, Outgoing& out) {
  if (!name.starts_with(pg::Statement::kServerNamePrefix)) return;
  if (const pg::StatementRef ours = statements_.find_name(name)) close_on_server(*ours.get(), out);
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
    if (!unnamed_ && !unnamed_unknown_) return;  // PostgreSQL says that there is none
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

// It costs a round trip, once for a statement on a server: nothing else keeps what was run in the
// meantime from being run, were it found out later that its rows cannot be understood.
bool ServerSession::must_ask(const pg::Frame& frame, ByteSpan behind, const ClientSession& client,
                             const config::Pool& settings, Outgoing& out) {
  relies_ = false;
  if (frame.type != 'B' || tracker_.skipping() || tracker_.copy_in()) return false;
  // Followed by a Describe of its portal: the client will know.
  constexpr std::size_t kKindAt = 5;
  if (behind.size() > kKindAt && behind[0] == 'D' && behind[kKindAt] == 'P') return false;
  Reader reader(frame.body());
  reader.cstring();
  const std::string_view name = reader.cstring();
  const pg::ClientStatements::Named* named = client.statements.entry(name);
  if (named == nullptr || named->told == pg::kShapeUnknown || named->told == pg::kShapeUnseen) {
    return false;
  }
  // What it was told is about to be told anew, and it will go by that.
  for (const Pending& pending : pending_) {
    if (pending.describes && pending.name == name) return false;
  }
  // In a transaction that has failed nothing can be asked, and PostgreSQL binds nothing.
  const bool failed = tracker_.status() == 'E' && tracker_.idle() && !tracker_.needs_sync();
  if (failed) return false;
  relies_ = true;
  if (statements_.shape(*named->statement.get()) != pg::kShapeUnknown) return false;
  const pg::StatementRef statement = named->statement;
  ensure(statement, settings, out);
  pg::append_describe(out.insert(), 'S', statement->server_name);
  Pending& pending = add_describing(statement, {});
  pending.asks = true;
  tracker_.sent(pg::Request::Describe, true, pending.tag);
  pg::append_empty(out.insert(), 'H');
  asking_ = true;
  return true;
}

void ServerSession::refuse_changed(const pg::Frame& frame, std::string_view portal, ByteSpan rest,
                                   const pg::StatementRef& statement, Outgoing& out) {
  // No client has such a name.
  constexpr std::string_view kNoStatement = "carpool: the result type has changed";
  append_body(out.insert(), 'B', portal, kNoStatement, rest,
              rest.size() + (frame.total - frame.bytes.size()));
  out.drop(frame.bytes.size());
  Pending& pending = add_pending();
  pending.statement = statement;
  pending.changed = true;
  tracker_.sent(pg::Request::Bind, false, pending.tag);
}

ServerSession::Pending& ServerSession::add_describing(const pg::StatementRef& statement,
                                                      std::string_view name) {
  Pending& pending = add_pending();
  pending.statement = statement;
  pending.name = name;
  pending.describes = true;
  pending.version = statement->version;
  return pending;
}

Taken ServerSession::bind(const pg::Frame& frame, ClientSession& client,
                          const config::Pool& settings, Outgoing& out) {
  Reader reader(frame.body());
  const std::string_view portal = reader.cstring();
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  const bool relies = std::exchange(relies_, false);
  bound_ = {};
  if (name.empty()) {
    ensure_unnamed(client, out);
    set_portal(portal, bound(client.unnamed, frame, reader.rest(), client), client);
    tracker_.sent(pg::Request::Bind);
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  const pg::ClientStatements::Named* found = client.statements.entry(name);
  if (found == nullptr) {
    // PREPAREd in SQL, or not at all: PostgreSQL knows.
    free_name(name, out);
    set_portal(portal, nullptr, client);
    tracker_.sent(pg::Request::Bind, false, kForeignTag);
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  const pg::StatementRef statement = found->statement;
  ensure(statement, settings, out);
  const ByteSpan rest = reader.rest();
  if (relies && pg::differs(found->told, statements_.shape(*statement.get()))) {
    refuse_changed(frame, portal, rest, statement, out);
    return Taken::Yes;
  }
  if (found->told == pg::kShapeUnknown && name.size() <= kToldNameMax &&
      portal.size() <= kToldNameMax) {
    bound_ = statement;
    bound_portal_ = portal;
    bound_name_ = name;
  }
  set_portal(portal, bound(statement, frame, rest, client), client);
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
  const pg::ClientStatements::Named* found =
      kind == 'S' && !name.empty() ? client.statements.entry(name) : nullptr;
  std::uint32_t tag = kind == 'S' && !name.empty() ? kForeignTag : 0;
  if (found != nullptr) {
    const pg::StatementRef statement = found->statement;
    ensure(statement, settings, out);
    pg::append_describe(out.insert(), 'S', statement->server_name);
    // Where the answer is known there is nothing to learn from it.
    const pg::ResultShape shape = statements_.shape(*statement.get());
    const bool known = shape != pg::kShapeUnknown && found->told == shape;
    tag = known || name.size() > kToldNameMax ? kBindTag | (statement->id % kBindTag)
                                              : add_describing(statement, name).tag;
    out.drop(frame.bytes.size());
  } else {
    if (kind == 'P' && bound_ && name == bound_portal_) {
      tag = add_describing(bound_, bound_name_).tag;
      bound_ = {};
    }
    if (kind == 'S') free_name(name, out);
    out.pass(frame.bytes.size());
  }
  tracker_.sent(pg::Request::Describe, false, tag);
  return Taken::Yes;
}

std::shared_ptr<const pg::Scan> ServerSession::bound(const pg::StatementRef& statement,
                                                     const pg::Frame& frame, ByteSpan rest,
                                                     const ClientSession& client) const {
  if (!statement || statement->scan == nullptr) return nullptr;
  if (frame.kind != pg::Frame::Kind::Whole || !pg::wants_values(*statement->scan)) {
    return statement->scan;
  }
  // Not known: as if it were the worst.
  const pg::TextEncoding encoding = encoding_of(client).value_or(pg::TextEncoding::TwoBytes);
  return std::make_shared<const pg::Scan>(pg::with_values(*statement->scan, rest, encoding));
}

void ServerSession::set_portal(std::string_view portal, std::shared_ptr<const pg::Scan> scan,
                               ClientSession& client) {
  for (auto i = portals_.begin(); i != portals_.end(); ++i) {
    if (i->first != portal) continue;
    portals_.erase(i);
    break;
  }
  if (scan == nullptr) return;
  // The client keeps its server, so that what they do need not be known.
  if (portals_.size() >= kPortalsMax) return pin_too_complex(client);
  portals_.emplace_back(portal, std::move(scan));
}

Taken ServerSession::execute(const pg::Frame& frame, ClientSession& client, Outgoing& out) {
  std::uint32_t tag = 0;
  if (!portals_.empty()) {
    Reader reader(frame.body());
    const std::string_view portal = reader.cstring();
    for (const auto& [known, scan] : portals_) {
      if (known != portal) continue;
      Pending& pending = add_pending();
      pending.scan = scan;
      tag = pending.tag;
      if (scan->too_complex) pin_too_complex(client);
      note_reading(*scan, client);
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
    } else if (kind == 'S') {
      free_name(name, out);
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

}  // namespace carpool::proxy
