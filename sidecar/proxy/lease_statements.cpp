// Lease, the requests that use a prepared statement: Bind, Describe, Execute and Close; and
// how a server comes to have the statement.
#include <utility>

#include "pg/messages.h"
#include "proxy/lease.h"

namespace carpool::proxy {

using Taken = Lease::Taken;

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

void Lease::close_on_server(const pg::Statement& statement, Outgoing& out) {
  pg::append_close(out.insert(), 'S', statement.server_name);
  const std::uint32_t version = server_.statements.version(statement);
  sent(ask::Drop{{}, server_.statements.forget(statement), version});
}

void Lease::free_name(std::string_view name, Outgoing& out) {
  if (!name.starts_with(pg::Statement::kServerNamePrefix)) return;
  if (const pg::StatementRef ours = server_.statements.find_name(name)) {
    close_on_server(*ours.get(), out);
  }
}

void Lease::make_room(Outgoing& out) {
  while (const pg::StatementRef oldest = server_.statements.over(terms().prepared_statements_max)) {
    if (server_.statements.size() <= 1) return;  // the one at hand
    close_on_server(*oldest.get(), out);
  }
}

void Lease::ensure(const pg::StatementRef& statement, Outgoing& out) {
  if (server_.statements.use(*statement.get())) {
    counters_.prepares_reused++;
    return;
  }
  if (server_.statements.has_name(*statement.get())) close_on_server(*statement.get(), out);
  pg::append_parse(out.insert(), statement->server_name, as_bytes(statement->body));
  counters_.prepares_forwarded++;
  sent(ask::Prepare{{}, statement});
  server_.statements.add(statement);
  make_room(out);
}

void Lease::ensure_unnamed(Outgoing& out) {
  ServerSession::Unnamed& unnamed = server_.unnamed;
  if (!client_->unnamed) {
    if (!unnamed.statement && !unnamed.unknown) return;  // PostgreSQL says that there is none
    // It is another client's.
    pg::append_close(out.insert(), 'S', "");
    sent(ask::DropUnnamed{{}, unnamed_before()});
    unnamed.set({});
    return;
  }
  const pg::StatementRef& wanted = client_->unnamed;
  if (unnamed.statement == wanted && unnamed.version == wanted->version) return;
  pg::append_parse(out.insert(), "", as_bytes(wanted->body));
  counters_.prepares_forwarded++;
  sent(ask::PrepareUnnamed{{}, unnamed_before()});
  unnamed.set(wanted);
}

// It costs a round trip, once for a statement on a server: nothing else keeps what was run in the
// meantime from being run, were it found out later that its rows cannot be understood.
bool Lease::must_ask(const pg::Frame& frame, ByteSpan behind, Outgoing& out) {
  shape_ = Shape::Trusted;
  if (frame.type != 'B' || requests_.drops() || requests_.copy_in()) return false;
  // Followed by a Describe of its portal: the client will know.
  constexpr std::size_t kKindAt = 5;
  if (behind.size() > kKindAt && behind[0] == 'D' && behind[kKindAt] == 'P') return false;
  Reader reader(frame.body());
  reader.cstring();
  const std::string_view name = reader.cstring();
  const pg::ClientStatements::Named* named = client_->statements.entry(name);
  if (named == nullptr || named->told == pg::kShapeUnknown || named->told == pg::kShapeUnseen) {
    return false;
  }
  // What it was told is about to be told anew, and it will go by that.
  if (mentions_ > 0 && requests_.any_of([&](const Request& request) {
        const auto* describe = std::get_if<ask::DescribeNew>(&request);
        return describe != nullptr && describe->name == name;
      })) {
    return false;
  }
  // In a transaction that has failed nothing can be asked, and PostgreSQL binds nothing.
  const bool failed = requests_.status() == 'E' && requests_.idle() && !requests_.batch_open();
  if (failed) return false;
  shape_ = Shape::ReliedOn;
  if (server_.statements.shape(*named->statement.get()) != pg::kShapeUnknown) return false;
  const pg::StatementRef statement = named->statement;
  ensure(statement, out);
  pg::append_describe(out.insert(), 'S', statement->server_name);
  sent(ask::Shape{{}, statement, statement->version});
  pg::append_empty(out.insert(), 'H');
  flushed_ = true;
  shape_ = Shape::Asked;
  return true;
}

void Lease::refuse_changed(const pg::Frame& frame, std::string_view portal, ByteSpan rest,
                           const pg::StatementRef& statement, Outgoing& out) {
  // No client has such a name.
  constexpr std::string_view kNoStatement = "carpool: the result type has changed";
  append_body(out.insert(), 'B', portal, kNoStatement, rest,
              rest.size() + (frame.total - frame.bytes.size()));
  out.drop(frame.bytes.size());
  sent(ask::BindChanged{{}, statement});
}

Taken Lease::bind(const pg::Frame& frame, Outgoing& out) {
  Reader reader(frame.body());
  const std::string_view portal = reader.cstring();
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  const bool relies = std::exchange(shape_, Shape::Trusted) == Shape::ReliedOn;
  if (bound_.statement) bound_ = {};
  const ByteSpan rest = reader.rest();
  if (name.empty()) {
    ensure_unnamed(out);
    sent(ask::Bind{{}, {}, set_portal(portal, bound(client_->unnamed, frame, rest))});
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  const pg::ClientStatements::Named* found = client_->statements.entry(name);
  if (found == nullptr) {
    // PREPAREd in SQL, or not at all: PostgreSQL knows.
    free_name(name, out);
    sent(ask::BindOther{{}, set_portal(portal, nullptr)});
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  const pg::StatementRef statement = found->statement;
  ensure(statement, out);
  if (relies && pg::differs(found->told, server_.statements.shape(*statement.get()))) {
    refuse_changed(frame, portal, rest, statement, out);
    return Taken::Yes;
  }
  if (found->told == pg::kShapeUnknown && name.size() <= kToldNameMax &&
      portal.size() <= kToldNameMax) {
    bound_.statement = statement;
    bound_.portal = portal;
    bound_.name = name;
  }
  append_body(out.insert(), 'B', portal, statement->server_name, rest,
              rest.size() + (frame.total - frame.bytes.size()));
  out.drop(frame.bytes.size());
  sent(ask::Bind{{}, statement, set_portal(portal, bound(statement, frame, rest))});
  return Taken::Yes;
}

Taken Lease::describe(const pg::Frame& frame, Outgoing& out) {
  Reader reader(frame.body());
  const char kind = static_cast<char>(reader.u8());
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  const bool of_named = kind == 'S' && !name.empty();
  if (kind == 'S' && name.empty()) ensure_unnamed(out);
  if (const auto* found = of_named ? client_->statements.entry(name) : nullptr) {
    const pg::StatementRef statement = found->statement;
    ensure(statement, out);
    pg::append_describe(out.insert(), 'S', statement->server_name);
    out.drop(frame.bytes.size());
    // Where the answer is known there is nothing to learn from it.
    const pg::ResultShape shape = server_.statements.shape(*statement.get());
    if ((shape != pg::kShapeUnknown && found->told == shape) || name.size() > kToldNameMax) {
      sent(ask::Describe{{}, statement});
    } else {
      sent(ask::DescribeNew{{}, std::string(name), statement, statement->version});
    }
    return Taken::Yes;
  }
  if (kind == 'S') free_name(name, out);
  out.pass(frame.bytes.size());
  if (of_named) {
    sent(ask::Other<pg::Wire::Describe>{});
  } else if (kind == 'P' && bound_.statement && name == bound_.portal) {
    const std::uint32_t version = bound_.statement->version;
    sent(ask::DescribeNew{{}, std::move(bound_.name), std::move(bound_.statement), version});
    bound_ = {};
  } else {
    sent(ask::Describe{});
  }
  return Taken::Yes;
}

Lease::ScanPtr Lease::bound(const pg::StatementRef& statement, const pg::Frame& frame,
                            ByteSpan rest) const {
  if (!statement || statement->scan == nullptr) return nullptr;
  if (frame.kind != pg::Frame::Kind::Whole || !pg::wants_values(*statement->scan)) {
    return statement->scan;
  }
  // Not known: as if it were the worst.
  const pg::TextEncoding encoding = reading_.encoding(client_->follower, requests_.owes_ready())
                                        .value_or(pg::TextEncoding::TwoBytes);
  return std::make_shared<const pg::Scan>(pg::with_values(*statement->scan, rest, encoding));
}

std::unique_ptr<PortalBefore> Lease::set_portal(std::string_view portal, ScanPtr scan) {
  std::unique_ptr<PortalBefore> before;
  for (auto i = portals_.begin(); i != portals_.end(); ++i) {
    if (i->first != portal) continue;
    const std::size_t bytes = pg::bytes_of(*i->second);
    before = std::make_unique<PortalBefore>(
        PortalBefore{i->first, std::move(i->second), i->first.size() + bytes});
    portals_.erase(i);
    portal_bytes_ -= bytes;
    break;
  }
  if (scan == nullptr) return before;
  portal_bytes_ += pg::bytes_of(*scan);
  if (portals_.size() >= kPortalsMax || portal_bytes_ > kPortalBytesMax) {
    // The client keeps its server, so that what they do need not be known.
    portal_bytes_ -= pg::bytes_of(*scan);
    pin_too_complex();
  } else {
    portals_.emplace_back(portal, std::move(scan));
  }
  return before;
}

Taken Lease::execute(const pg::Frame& frame, Outgoing& out) {
  ask::Execute execute;
  if (!portals_.empty()) {
    Reader reader(frame.body());
    const std::string_view portal = reader.cstring();
    for (const auto& [known, scan] : portals_) {
      if (known != portal) continue;
      execute.running.scan = scan;
      runs(*scan);
    }
  }
  const bool drops = execute.running.scan != nullptr && drops_statements(*execute.running.scan);
  sent(std::move(execute));
  out.pass(frame.bytes.size());
  // What comes behind it waits for its answer.
  if (drops) flush(out);
  return Taken::Yes;
}

Taken Lease::close(const pg::Frame& frame, Outgoing& out, Bytes& answer) {
  Reader reader(frame.body());
  const char kind = static_cast<char>(reader.u8());
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  const pg::StatementRef* found =
      kind == 'S' && !name.empty() ? client_->statements.find(name) : nullptr;
  if (found == nullptr) {
    if (kind == 'S' && name.empty()) {
      sent(ask::CloseUnnamed{{}, unnamed_before()});
      server_.unnamed.set({});
      client_->unnamed = {};
    } else {
      if (kind == 'S') free_name(name, out);
      sent(ask::Other<pg::Wire::Close>{});
    }
    out.pass(frame.bytes.size());
    return Taken::Yes;
  }
  // The server keeps it for the others.
  if (requests_.idle()) {
    pg::append_empty(answer, '3');
  } else {
    sent(ask::Closed{{}, std::string(name), *found});
  }
  client_->statements.erase(name);
  out.drop(frame.bytes.size());
  return Taken::Yes;
}

}  // namespace carpool::proxy
