// Lease, the requests that bring a text: Query and Parse.
#include <fmt/format.h>

#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/lease.h"
#include "proxy/session_refusal.h"

namespace carpool::proxy {

using Kind = pg::SessionEffect::Kind;
using Taken = Lease::Taken;

namespace {

// Of a text whose rest is not seen.
std::shared_ptr<const pg::Scan> scan_of_part(std::string_view text) {
  pg::Scan scan = pg::scan(text);
  scan.too_complex = true;
  return std::make_shared<const pg::Scan>(std::move(scan));
}

}  // namespace

Taken Lease::query(const pg::Frame& frame, Outgoing& out, Bytes& answer) {
  std::string_view text = as_text(frame.body());
  text = text.substr(0, text.find('\0'));
  ScanPtr scan = frame.kind == pg::Frame::Kind::Head
                     ? scan_of_part(text)
                     : tables_.scans.scan(
                           text, reading_.options(text, client_->follower, requests_.owes_ready()));
  if (scan != nullptr) {
    const std::string why = why_refused(*scan, text, terms().mode, terms().session_state);
    if (!why.empty()) {
      return refuse(frame, pg::sqlstate::kFeatureNotSupported, why, out, answer);
    }
    runs(*scan);
    const bool whole = frame.kind == pg::Frame::Kind::Whole;
    if (const pg::StatementRef statement = whole ? deallocated(*scan) : pg::StatementRef()) {
      const pg::StatementRef theirs = on_server(statement, out);
      pg::append_query(out.insert(), "DEALLOCATE " + theirs->server_name);
      out.drop(frame.bytes.size());
      const std::string& name = scan->effects[0].name;
      const std::uint32_t version = server_.statements.version(*theirs.get());
      sent(ask::Deallocate{{}, name, statement, server_.statements.forget(*theirs.get()), version});
      client_->statements.erase(name);
      server_.unnamed.set({});
      client_->unnamed = {};
      return Taken::Yes;
    }
  }
  ask::Query query{{}, {std::move(scan)}, {}};
  if ((client_->unnamed || server_.unnamed.statement) && !pg::is_ascii(text)) {
    query.before =
        std::make_unique<UnnamedBefore>(UnnamedBefore{client_->unnamed, server_.unnamed.statement});
  }
  // A simple query ends the unnamed statement (manual, "Extended Query").
  server_.unnamed.set({});
  client_->unnamed = {};
  sent(std::move(query));
  out.pass(frame.bytes.size());
  return Taken::Yes;
}

void Lease::runs(const pg::Scan& scan) {
  if (terms().session_state == config::SessionState::Pin && sets_parameter(scan)) {
    pinned_by_setting_ = true;
  }
  if (scan.too_complex) pin_too_complex();
  reading_.runs(scan, client_->follower);
}

pg::StatementRef Lease::deallocated(const pg::Scan& scan) const {
  const bool one = scan.statements == 1 && scan.effects.size() == 1 &&
                   scan.effects[0].kind == Kind::SqlDeallocate;
  const pg::StatementRef* named = one ? client_->statements.find(scan.effects[0].name) : nullptr;
  return named == nullptr ? pg::StatementRef() : *named;
}

const pg::StatementRef& Lease::on_server(const pg::StatementRef& statement, Outgoing& out) {
  if (server_.statements.has_name(*statement.get()) || !stand_in()) return statement;
  ensure(stand_in(), out);
  return stand_in();
}

const pg::StatementRef& Lease::stand_in() {
  if (!tables_.stand_in) {
    // A statement that can be prepared in a failed transaction, too.
    Bytes body;
    append_cstring(body, "ROLLBACK -- stands in for another");
    append_u16(body, 0);
    tables_.stand_in = tables_.statements.intern(body);
  }
  return tables_.stand_in;
}

// Too long to keep: this server alone has it, under the client's own name.
Taken Lease::parse_long(const pg::Frame& frame, std::string_view name, ByteSpan rest, Outgoing& out,
                        Bytes& answer) {
  const std::string_view text = as_text(rest);
  const std::string why =
      why_refused(*scan_of_part(text), text, terms().mode, terms().session_state);
  if (!why.empty()) {
    return refuse(frame, pg::sqlstate::kFeatureNotSupported, why, out, answer);
  }
  if (client_->statements.find(name) != nullptr) {
    let_server_refuse(frame, name, rest, out);
    return Taken::Yes;
  }
  pin_too_complex();
  if (name.empty()) {
    sent(ask::ParseUnnamed{{}, unnamed_before()});
    server_.unnamed.set({});
    client_->unnamed = {};
  } else {
    sent(ask::Other<pg::Wire::Parse>{});
  }
  out.pass(frame.bytes.size());
  return Taken::Yes;
}

std::optional<pg::StatementRef> Lease::deallocates(const pg::StatementRef& statement,
                                                   Outgoing& out) {
  // In a transaction that has failed PostgreSQL takes none.
  if (statement->scan == nullptr || requests_.status() == 'E') return statement;
  const pg::StatementRef old = deallocated(*statement->scan);
  if (!old) return statement;
  client_->statements.erase(statement->scan->effects[0].name);
  Bytes body;
  append_cstring(body, "DEALLOCATE " + on_server(old, out)->server_name);
  append_u16(body, 0);
  pg::StatementRef instead = tables_.statements.intern(body);
  if (!instead) return std::nullopt;
  return instead;
}

Taken Lease::parse(const pg::Frame& frame, Outgoing& out, Bytes& answer) {
  Reader reader(frame.body());
  const std::string_view name = reader.cstring();
  if (!reader.ok()) return Taken::NotProtocol;
  const std::size_t size = frame.bytes.size();
  if (frame.kind == pg::Frame::Kind::Head) {
    return parse_long(frame, name, reader.rest(), out, answer);
  }
  if (!name.empty() && client_->statements.find(name) != nullptr) {
    let_server_refuse(frame, name, reader.rest(), out);
    return Taken::Yes;
  }
  const bool has_room =
      name.empty() || tables_.statements.bytes() + pg::ClientStatements::cost(name) <=
                          tables_.statements.bytes_max();
  const pg::StatementRef came = has_room ? intern(reader.rest(), name.empty()) : pg::StatementRef();
  if (!came) {
    return refuse(frame, "53200",
                  fmt::format("the prepared statements of this pool have reached {} MiB",
                              tables_.statements.bytes_max() >> 20),
                  out, answer);
  }
  if (came->scan != nullptr) {
    const std::string why =
        why_refused(*came->scan, came->text(), terms().mode, terms().session_state);
    if (!why.empty()) {
      return refuse(frame, pg::sqlstate::kFeatureNotSupported, why, out, answer);
    }
  }
  const std::optional<pg::StatementRef> goes = deallocates(came, out);
  if (!goes) return Taken::NotProtocol;
  const pg::StatementRef& statement = *goes;
  if (name.empty()) {
    UnnamedBefore before = unnamed_before(statement == came ? statement->text() : "");
    server_.unnamed.set(statement);
    client_->unnamed = statement;
    sent(ask::ParseUnnamed{{}, std::move(before)});
    if (statement == came) {
      counters_.prepares_forwarded++;
      out.pass(size);
    } else {
      pg::append_parse(out.insert(), "", as_bytes(statement->body));
      out.drop(size);
    }
    return Taken::Yes;
  }
  client_->statements.set(name, statement);
  out.drop(size);
  // A failed transaction takes but few statements, and PostgreSQL knows which.
  if (requests_.status() == 'E' && server_.statements.has_name(*statement.get())) {
    close_on_server(*statement.get(), out);
  }
  if (server_.statements.use(*statement.get())) {
    counters_.prepares_reused++;
    if (requests_.owes_only_ours()) batch_.parsed(name);
    if (requests_.idle()) {
      pg::append_empty(answer, '1');
    } else {
      sent(ask::Prepared{{}, std::string(name), statement});
    }
    return Taken::Yes;
  }
  if (server_.statements.has_name(*statement.get())) close_on_server(*statement.get(), out);
  pg::append_parse(out.insert(), statement->server_name, as_bytes(statement->body));
  counters_.prepares_forwarded++;
  sent(ask::Parse{{}, std::string(name), statement});
  server_.statements.add(statement);
  make_room(out);
  return Taken::Yes;
}

void Lease::let_server_refuse(const pg::Frame& frame, std::string_view name, ByteSpan rest,
                              Outgoing& out) {
  // Without room for a text that short nothing new is prepared: any name that is not there yet
  // would do worse than the client's own.
  const pg::StatementRef& other = stand_in();
  const std::string_view server_name = other ? std::string_view(other->server_name) : name;
  if (other) ensure(other, out);
  Bytes& bytes = out.insert();
  append_u8(bytes, 'P');
  const std::size_t rest_total = rest.size() + (frame.total - frame.bytes.size());
  append_u32(bytes, static_cast<std::uint32_t>(4 + server_name.size() + 1 + rest_total));
  append_cstring(bytes, server_name);
  append(bytes, rest);
  out.drop(frame.bytes.size());
  // Where something that is under way frees the name after all, it is the client's new one.
  ask::ParseRefused parse{{}, std::string(name), {}};
  if (frame.kind == pg::Frame::Kind::Whole) parse.statement = intern(rest, false);
  sent(std::move(parse));
}

}  // namespace carpool::proxy
