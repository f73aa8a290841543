// Lease, the replies: what came true of the requests, and what did not.
#include "base/check.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/lease.h"

namespace carpool::proxy {

using Effect = pg::SessionEffect::Kind;

namespace {

constexpr std::string_view kChanged = "cached plan must not change result type";
constexpr std::string_view kChangedRoutine = "RevalidateCachedQuery";

bool is_lost(std::string_view sqlstate) {
  return sqlstate == pg::sqlstate::kInvalidSqlStatementName;
}

// The message could not be converted from the client's encoding, and so was not looked at; or a
// string in it, which is later.
bool may_be_unread(std::string_view sqlstate) {
  return sqlstate == pg::sqlstate::kCharacterNotInRepertoire ||
         sqlstate == pg::sqlstate::kUntranslatableCharacter;
}

bool has_changed(const Lease::Failure& failure) {
  // A server that translates its messages (lc_messages) is not understood: its error is passed on.
  return failure.sqlstate == pg::sqlstate::kFeatureNotSupported &&
         failure.message.find(kChanged) != std::string_view::npos;
}

Running* running_of(Request* request) {
  if (request == nullptr) return nullptr;
  if (auto* query = std::get_if<ask::Query>(request)) return &query->running;
  if (auto* execute = std::get_if<ask::Execute>(request)) return &execute->running;
  return nullptr;
}

// What a row says of the text that runs, and how far that is.
Running* telling(Request* request) {
  Running* running = running_of(request);
  return running == nullptr || running->scan == nullptr ? nullptr : running;
}

// Null where Carpool has not refused it.
const RefusedAs* refused(const Request& request) {
  if (const auto* query = std::get_if<ask::Refused<pg::Wire::Query>>(&request)) return &query->as;
  if (const auto* batch = std::get_if<ask::Refused<pg::Wire::Bind>>(&request)) return &batch->as;
  return nullptr;
}

template <typename... Fns>
struct Overloaded : Fns... {
  using Fns::operator()...;
};
template <typename... Fns>
Overloaded(Fns...) -> Overloaded<Fns...>;

}  // namespace

// ---- what is under way

std::optional<Lease::Mention> Lease::mention(const Request& request) {
  static const std::string kUnnamed;
  const auto unnamed = [](const UnnamedBefore& before) -> std::optional<Mention> {
    if (before.first) return std::nullopt;
    return Mention{&kUnnamed, &before.client};
  };
  const auto named = [](const auto& one) -> std::optional<Mention> {
    return Mention{&one.name, &one.statement};
  };
  const auto about = [](const auto& one) -> std::optional<Mention> {
    return Mention{nullptr, &one.statement};
  };
  return std::visit(
      Overloaded{[&](const ask::Deallocate& query) { return named(query); },
                 [&](const ask::Parse& parse) { return named(parse); },
                 [&](const ask::Prepared& prepared) { return named(prepared); },
                 [&](const ask::Closed& closed) { return named(closed); },
                 [&](const ask::ParseUnnamed& parse) { return unnamed(parse.before); },
                 [&](const ask::CloseUnnamed& close) { return unnamed(close.before); },
                 [&](const ask::PrepareUnnamed& parse) { return unnamed(parse.before); },
                 [&](const ask::DropUnnamed& close) { return unnamed(close.before); },
                 [&](const ask::ParseRefused& parse) { return about(parse); },
                 [&](const ask::BindChanged& bind) { return about(bind); },
                 [&](const ask::DescribeNew& describe) { return about(describe); },
                 [&](const ask::Prepare& parse) { return about(parse); },
                 [&](const ask::Drop& close) { return about(close); },
                 [&](const ask::Shape& describe) { return about(describe); },
                 [](const auto&) -> std::optional<Mention> { return std::nullopt; }},
      request);
}

// ---- what came true

void Lease::apply_to_server(const pg::SessionEffect& effect) {
  server_.follower.apply(effect);
  switch (effect.kind) {
    case Effect::Load:
      server_.tainted = true;
      break;
    case Effect::SqlDeallocate:
      if (const pg::StatementRef statement = server_.statements.find_name(effect.name)) {
        server_.statements.forget(*statement.get());
      }
      break;
    case Effect::DiscardAll:
    case Effect::DeallocateAll:
      // Not the unnamed one: PostgreSQL's DropAllPreparedStatements() leaves it.
      server_.statements.clear();
      break;
    default:
      break;
  }
}

void Lease::apply(const pg::SessionEffect& effect) {
  apply_to_server(effect);
  const bool was_pinned = pins_.any();
  client_->follower.apply(effect);
  pins_.apply(effect, server_.reported);
  count_pin(was_pinned);
  if (effect.kind == Effect::DiscardAll || effect.kind == Effect::DeallocateAll) {
    client_->statements.clear();
    if (effect.kind == Effect::DiscardAll) pinned_by_setting_ = false;
  }
}

void Lease::row(ByteSpan body) {
  Running* running = telling(requests_.front());
  if (running == nullptr) return;
  // No columns: there was a row, and what it says is not known.
  const Bytes unknown = {0, 0};
  if (body.empty() || body.size() > kRowBytesMax) body = unknown;
  for (const pg::SessionEffect& effect : running->scan->effects) {
    if (effect.column == 0 || effect.statement != running->statements_done) continue;
    running->row.assign(body.begin(), body.end());
    return;
  }
}

void Lease::completed(Running& running) {
  // A text of several statements is told of one by one.
  for (const pg::SessionEffect& effect : running.scan->effects) {
    if (effect.statement != running.statements_done) continue;
    if (pg::came_true(effect, running.row)) apply(effect);
  }
  running.row.clear();
  running.statements_done++;
}

void Lease::described_as(char type, ByteSpan body) {
  Request* front = requests_.front();
  if (front == nullptr) return;
  if (auto* describe = std::get_if<ask::DescribeNew>(front)) {
    describe->shape = pg::result_shape(type, body);
  } else if (auto* shape = std::get_if<ask::Shape>(front)) {
    shape->shape = pg::result_shape(type, body);
  }
}

Requests::Verdict Lease::reply(char type, char status) {
  const Requests::Verdict verdict = requests_.reply(type, status, [this](Request& skipped) {
    undo_any(skipped, false);
    over(skipped);
  });
  if (type == 'C' || type == 'I' || type == 's') {
    // Also where a row limit suspended it: what it does to the session it has done.
    if (Running* running = telling(verdict.entry)) completed(*running);
  }
  if (verdict.ended) {
    if (!verdict.failed) std::visit([this](auto& kind) { ended(kind); }, *verdict.entry);
    over(*verdict.entry);
  }
  if (type == 'Z') ready(status);
  return verdict;
}

void Lease::ended(ask::ParseRefused& parse) {
  // The name had become free, and what is now under the one that stands for it is the client's.
  if (parse.statement) client_->statements.set(parse.name, parse.statement);
  if (tables_.stand_in) tables_.stand_in->version++;
}

void Lease::ended(ask::DescribeNew& describe) {
  if (describe.shape == pg::kShapeUnknown) return;
  server_.statements.set_shape(*describe.statement.get(), describe.version, describe.shape);
  client_->statements.tell(describe.name, describe.statement, describe.shape);
}

void Lease::ended(ask::Shape& describe) {
  shape_ = Shape::Trusted;
  if (describe.shape == pg::kShapeUnknown) return;
  server_.statements.set_shape(*describe.statement.get(), describe.version, describe.shape);
}

// Before ready(), which would take what a ROLLBACK has undone for committed.
void Lease::ended(ask::Clean& query) {
  const pg::Scan scan = pg::scan(query.sql);
  for (const pg::SessionEffect& effect : scan.effects) apply_to_server(effect);
  // What the server says of itself counts for more.
  for (const auto& [name, value] : server_.now.values()) {
    if (!server_.follower.expects(name, value, server_.reported)) {
      server_.follower.learn(name, value, server_.reported);
    }
  }
}

void Lease::ready(char status) {
  if (requests_.idle()) {
    // Not those of a batch that has been sent meanwhile: their Execute may be still to come.
    if (status == 'I') {
      portals_.clear();
      portal_bytes_ = 0;
    }
    reading_.settled(status);
  }
  for (pg::SessionFollower* follower : {&server_.follower, &client_->follower}) {
    follower->settle(server_.now);
    follower->on_ready(status);
  }
  pins_.on_ready(status);
}

void Lease::parameter(std::string_view name, std::string_view value) {
  server_.now.set(name, value);
  // Known once it is done.
  if (requests_.front_is_ours() && requests_.front_is(pg::Wire::Query)) return;
  if (server_.follower.expects(name, value, server_.reported)) return;
  server_.follower.learn(name, value, server_.reported);
  client_->follower.learn(name, value, server_.reported);
}

Bytes Lease::local_answer() {
  const Request& request = requests_.pop_local();
  over(request);
  Bytes bytes;
  pg::append_empty(bytes, std::holds_alternative<ask::Prepared>(request) ? '1' : '3');
  return bytes;
}

void Lease::maybe_fence(ByteSpan body) {
  const auto is_it = [&](const Request& request) {
    const auto* fence = std::get_if<ask::Fence>(&request);
    if (fence == nullptr) return false;
    Reader reader(body);
    bool same = reader.u16() == fence->token.size();
    for (const std::uint32_t part : fence->token) same = reader.u32() == part && same;
    return same && reader.ok();
  };
  if (!requests_.has_fence() || !requests_.any_of(is_it)) return;
  requests_.fence_came([this](Request& skipped) {
    undo_any(skipped, false);
    over(skipped);
  });
}

// ---- what did not

pg::StatementRef Lease::statement_of(const Request& request) const {
  return std::visit(Overloaded{[](const ask::Bind& bind) { return bind.statement; },
                               [](const ask::Describe& describe) { return describe.statement; },
                               [](const ask::DescribeNew& describe) { return describe.statement; },
                               [](const ask::Shape& describe) { return describe.statement; },
                               [](const auto&) { return pg::StatementRef(); }},
                    request);
}

bool Lease::can_heal(const Request& request, const Failure& failure) const {
  // What came before it in the transaction, or behind it in a pipeline, would be out of order.
  if (!batch_.whole() || !requests_.owes_only_sync() || requests_.status() != 'I') return false;
  if (!is_lost(failure.sqlstate) && !has_changed(failure)) return false;
  if (!statement_of(request)) return false;
  return is_lost(failure.sqlstate) || batch_.takes_any();
}

Bytes Lease::take_batch() {
  requests_.swallow_sync(ask::OwnSync{});
  return batch_.take();
}

std::optional<Lease::Instead> Lease::failed(Requests::Verdict& verdict, const Failure& failure) {
  Request& request = *verdict.entry;
  std::optional<Instead> instead;
  const bool lost = is_lost(failure.sqlstate);
  if (std::holds_alternative<ask::BindChanged>(request)) {
    if (lost) {
      instead = {pg::sqlstate::kFeatureNotSupported, std::string(kChanged), kChangedRoutine};
    }
  } else if (lost || has_changed(failure)) {
    // Every server's plan for it is old, or gone: each prepares it again before its next use.
    const bool foreign = std::holds_alternative<ask::Other<pg::Wire::Parse>>(request) ||
                         std::holds_alternative<ask::BindOther>(request) ||
                         std::holds_alternative<ask::Other<pg::Wire::Describe>>(request) ||
                         refused(request) != nullptr;
    pg::StatementRef statement = statement_of(request);
    if (!statement && !foreign) statement = server_.unnamed.statement;
    if (statement) statement->version++;
  }
  if (const RefusedAs* told = refused(request); told != nullptr && lost) {
    instead = {told->sqlstate, told->message, {}};
  }
  if (const auto* parse = std::get_if<ask::ParseRefused>(&request)) {
    if (failure.sqlstate == pg::sqlstate::kDuplicatePreparedStatement) {
      instead = {failure.sqlstate, "prepared statement \"" + parse->name + "\" already exists", {}};
    }
  }
  if (const Running* running = telling(&request)) {
    std::vector<pg::SessionEffect> effects;
    for (const pg::SessionEffect& effect : running->scan->effects) {
      if (effect.statement == running->statements_done) effects.push_back(effect);
    }
    pins_.apply_failed(effects);
  }
  server_.follower.on_error();
  client_->follower.on_error();
  pins_.on_error();
  const bool unread = may_be_unread(failure.sqlstate);
  if (const auto* query = std::get_if<ask::Query>(&request)) {
    // More replies come.
    if (unread) keep_unnamed(*query);
  } else {
    undo_any(request, !unread);
  }
  return instead;
}

void Lease::undo_any(Request& request, bool failed) {
  std::visit([this, failed](auto& kind) { undo(kind, failed); }, request);
}

void Lease::keep_unnamed(const ask::Query& query) {
  if (server_.unnamed.statement) return;  // a later one is under way
  server_.unnamed.unknown = true;
  if (query.before == nullptr || client_->unnamed) return;
  server_.unnamed.set(query.before->server);
  client_->unnamed = query.before->client;
}

void Lease::lose_unnamed(bool clients) {
  // What a later one would be put back to is not there any more.
  const auto forget = [clients](auto& kind) {
    if constexpr (requires { kind.before.first; }) {
      if (kind.before.first) return false;
      if (clients) kind.before.client = {};
      kind.before.server = {};
      return true;
    }
    return false;
  };
  if (requests_.any_of([&](Request& later) { return std::visit(forget, later); })) return;
  server_.unnamed.set({});
  server_.unnamed.unknown = true;
  if (clients) client_->unnamed = {};
}

// A Parse that fails leaves no unnamed statement; one that is skipped leaves the one before it.
void Lease::undo_unnamed(const UnnamedBefore& before, bool failed, bool clients) {
  server_.unnamed.set(failed ? pg::StatementRef() : before.server);
  if (!server_.unnamed.statement) server_.unnamed.unknown = true;
  if (clients) client_->unnamed = failed ? pg::StatementRef() : before.client;
}

void Lease::undo_parse_unnamed(const UnnamedBefore& before, bool failed, bool clients) {
  before.first ? lose_unnamed(clients) : undo_unnamed(before, failed, clients);
}

void Lease::undo(ask::ParseUnnamed& parse, bool failed) {
  undo_parse_unnamed(parse.before, failed, true);
}
void Lease::undo(ask::PrepareUnnamed& parse, bool failed) {
  undo_parse_unnamed(parse.before, failed, false);
}
void Lease::undo(ask::CloseUnnamed& close, bool failed) {
  if (!close.before.first) undo_unnamed(close.before, failed, true);
}
void Lease::undo(ask::DropUnnamed& close, bool failed) {
  if (!close.before.first) undo_unnamed(close.before, failed, false);
}

void Lease::undo(ask::Bind& bind, bool /*failed*/) {
  if (bind.before) set_portal(bind.before->name, std::move(bind.before->scan));
}
void Lease::undo(ask::BindOther& bind, bool /*failed*/) {
  if (bind.before) set_portal(bind.before->name, std::move(bind.before->scan));
}
void Lease::undo(ask::Deallocate& query, bool /*failed*/) {
  if (query.on_server) server_.statements.restore(query.on_server, query.version);
  client_->statements.set(query.name, query.statement);
}
void Lease::undo(ask::Parse& parse, bool /*failed*/) {
  server_.statements.forget(*parse.statement.get());
  client_->statements.erase(parse.name);
}
void Lease::undo(ask::Prepare& parse, bool /*failed*/) {
  server_.statements.forget(*parse.statement.get());
}
// What was answered in the client's name is not so: PostgreSQL skips to the Sync.
void Lease::undo(ask::Prepared& prepared, bool /*failed*/) {
  client_->statements.erase(prepared.name);
}
void Lease::undo(ask::Closed& closed, bool /*failed*/) {
  client_->statements.set(closed.name, closed.statement);
}
// The server still has it.
void Lease::undo(ask::Drop& close, bool /*failed*/) {
  server_.statements.restore(close.statement, close.version);
}
void Lease::undo(ask::Clean& query, bool /*failed*/) {
  query.sql.clear();
}
void Lease::undo(ask::Shape& /*describe*/, bool /*failed*/) {
  shape_ = Shape::Trusted;
}

}  // namespace carpool::proxy
