// ServerSession, the requests that bring a text: Query and Parse.
#include <fmt/format.h>

#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/session.h"
#include "proxy/session_refusal.h"

namespace carpool::proxy {

using Kind = pg::SessionEffect::Kind;
using Taken = ServerSession::Taken;

namespace {

// Of a text whose rest is not seen.
std::shared_ptr<const pg::Scan> scan_of_part(std::string_view text) {
  pg::Scan scan = pg::scan(text);
  scan.too_complex = true;
  return std::make_shared<const pg::Scan>(std::move(scan));
}

}  // namespace

Taken ServerSession::query(const pg::Frame& frame, ClientSession& client,
                           const config::Pool& settings, Outgoing& out, Bytes& answer) {
  std::string_view text = as_text(frame.body());
  text = text.substr(0, text.find('\0'));
  std::shared_ptr<const pg::Scan> shared = frame.kind == pg::Frame::Kind::Head
                                               ? scan_of_part(text)
                                               : tables_.scans.scan(text, how_read(text, client));
  std::uint32_t tag = 0;
  if (shared != nullptr) {
    const pg::Scan& scan = *shared;
    const std::string why = why_refused(scan, text, settings);
    if (!why.empty()) {
      out.drop(frame.bytes.size());
      return refuse(true, pg::sqlstate::kFeatureNotSupported, why, answer);
    }
    if (settings.session_state == config::SessionState::Pin && sets_parameter(scan)) {
      client.pinned_by_setting = true;
    }
    if (scan.too_complex) pin_too_complex(client);
    note_reading(scan, client);
    if (const pg::StatementRef statement = deallocated(scan, client)) {
      const pg::StatementRef& theirs = on_server(statement, settings, out);
      pg::append_query(out.insert(), "DEALLOCATE " + theirs->server_name);
      out.drop(frame.bytes.size());
      Pending& pending = add_naming(scan.effects[0].name, statement);
      pending.closes = true;
      pending.version = statements_.version(*theirs.get());
      pending.server_had = statements_.forget(*theirs.get());
      client.statements.erase(pending.name);
      unnamed_ = {};
      client.unnamed = {};
      tracker_.sent(pg::Request::Query, false, pending.tag);
      return Taken::Yes;
    }
    Pending& pending = add_pending();
    pending.scan = std::move(shared);
    tag = pending.tag;
  }
  if ((client.unnamed || unnamed_) && !pg::is_ascii(text)) {
    Pending& pending = tag == 0 ? add_pending() : pending_.back();
    pending.unnamed = true;
    pending.statement = client.unnamed;
    pending.server_had = unnamed_;
    tag = pending.tag;
  }
  // A simple query ends the unnamed statement (manual, "Extended Query").
  unnamed_ = {};
  client.unnamed = {};
  tracker_.sent(pg::Request::Query, false, tag);
  out.pass(frame.bytes.size());
  return Taken::Yes;
}

pg::StatementRef ServerSession::deallocated(const pg::Scan& scan, const ClientSession& client) {
  const bool one = scan.statements == 1 && scan.effects.size() == 1 &&
                   scan.effects[0].kind == Kind::SqlDeallocate;
  const pg::StatementRef* named = one ? client.statements.find(scan.effects[0].name) : nullptr;
  return named == nullptr ? pg::StatementRef() : *named;
}

const pg::StatementRef& ServerSession::on_server(const pg::StatementRef& statement,
                                                 const config::Pool& settings, Outgoing& out) {
  if (statements_.has_name(*statement.get()) || !stand_in()) return statement;
  ensure(stand_in(), settings, out);
  return stand_in();
}

const pg::StatementRef& ServerSession::stand_in() {
  if (!tables_.stand_in) {
    // A statement that can be prepared in a failed transaction, too.
    Bytes body;
    append_cstring(body, "ROLLBACK -- stands in for another");
    append_u16(body, 0);
    tables_.stand_in = tables_.statements.intern(body);
  }
  return tables_.stand_in;
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
    pin_too_complex(client);
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
  const bool has_room =
      name.empty() || tables_.statements.bytes() + pg::ClientStatements::cost(name) <=
                          tables_.statements.bytes_max();
  pg::StatementRef statement;
  if (has_room) statement = intern(reader.rest(), client, name.empty());
  if (!statement) {
    out.drop(frame.bytes.size());
    return refuse(false, "53200",
                  fmt::format("the prepared statements of this pool have reached {} MiB",
                              tables_.statements.bytes_max() >> 20),
                  answer);
  }
  if (statement->scan != nullptr) {
    const std::string why = why_refused(*statement->scan, statement->text(), settings);
    if (!why.empty()) {
      out.drop(frame.bytes.size());
      return refuse(false, pg::sqlstate::kFeatureNotSupported, why, answer);
    }
    // As for a simple query above. In a transaction that has failed PostgreSQL takes none.
    const pg::StatementRef old =
        tracker_.status() == 'E' ? pg::StatementRef() : deallocated(*statement->scan, client);
    if (old) {
      client.statements.erase(statement->scan->effects[0].name);
      Bytes body;
      append_cstring(body, "DEALLOCATE " + on_server(old, settings, out)->server_name);
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
  if (name.empty()) {
    const std::uint32_t tag = note_unnamed(client, statement->text());
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
    if (tracker_.owes_only_ours()) parsed_here_ = name;
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
  // Without room for a text that short nothing new is prepared: any name that is not there yet
  // would do worse than the client's own.
  const pg::StatementRef& other = stand_in();
  const std::string_view server_name = other ? std::string_view(other->server_name) : name;
  if (other) ensure(other, settings, out);
  Bytes& bytes = out.insert();
  append_u8(bytes, 'P');
  const std::size_t rest_total = rest.size() + (frame.total - frame.bytes.size());
  append_u32(bytes, static_cast<std::uint32_t>(4 + server_name.size() + 1 + rest_total));
  append_cstring(bytes, server_name);
  append(bytes, rest);
  out.drop(frame.bytes.size());
  // Where something that is under way frees the name after all, it is the client's new one.
  Pending& pending = add_pending();
  pending.refused = true;
  pending.name = name;
  if (frame.kind == pg::Frame::Kind::Whole) pending.statement = intern(rest, client, false);
  tracker_.sent(pg::Request::Parse, false, pending.tag);
}

}  // namespace carpool::proxy
