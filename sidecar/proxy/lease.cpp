// Lease, what its requests have in common: which is whose, which must wait, and what is known of
// those that are under way. The rest is in lease_texts.cpp, lease_statements.cpp and
// lease_replies.cpp.
#include "proxy/lease.h"

#include <fmt/format.h>

#include <algorithm>

#include "pg/error_response.h"
#include "pg/messages.h"

namespace carpool::proxy {

using Taken = Lease::Taken;

Lease::Lease(SessionTables& tables, ServerSession& server, ClientSession& client,
             pool::PoolCounters& counters, Terms terms, Micros now, Micros waited_us)
    : times(now, waited_us),
      tables_(tables),
      server_(server),
      client_(&client),
      counters_(counters),
      terms_(std::move(terms)),
      transaction_terms_(terms_),
      reading_(server),
      batch_(std::move(server.spare)) {
  client.meet(server.defaults);
}

Lease::~Lease() {
  server_.spare = batch_.take();
}

// ---- what is under way

UnnamedBefore Lease::unnamed_before(std::string_view text) {
  server_.unnamed.unknown = false;
  // The first of a batch is not skipped, and an error leaves none to go back to. Only where the
  // text cannot be converted PostgreSQL has not come so far as to drop the one before.
  if (requests_.idle() && pg::is_ascii(text)) return {{}, {}, true};
  return {client_->unnamed, server_.unnamed.statement, false};
}

template <typename Fn>
bool Lease::any_mention(Fn&& fn) const {
  std::uint32_t left = mentions_;
  return left > 0 && requests_.any_of([&](const Request& request) {
    const std::optional<Mention> said = mention(request);
    if (said && fn(*said)) return true;
    if (said) --left;
    return left == 0;
  }) && left > 0;
}

// ---- requests

Taken Lease::request(const pg::Frame& frame, Outgoing& out, Bytes& answer) {
  const std::size_t size = frame.bytes.size();
  if (stage_ == Stage::Fresh) stage_ = Stage::Lent;
  if (requests_.drops() && frame.type != 'S') {
    out.drop(size);  // the server would ignore it
    return Taken::Yes;
  }
  flushed_ = frame.type == 'H';
  if (batch_.wants(frame.type)) {
    batch_.note(frame,
                requests_.status() == 'I' && !requests_.batch_open() && requests_.owes_only_ours());
  }
  switch (frame.type) {
    case 'Q':
      return query(frame, out, answer);
    case 'P':
      return parse(frame, out, answer);
    case 'B':
      return bind(frame, out);
    case 'D':
      return describe(frame, out);
    case 'E':
      return execute(frame, out);
    case 'C':
      return close(frame, out, answer);
    case 'S':
      batch_.ended();
      sent(ask::Sync{});
      break;
    case 'F':
      sent(ask::FunctionCall{});
      break;
    case 'c':
    case 'f':
      sent(ask::CopyEnd{});
      break;
    default:  // CopyData and Flush are owed nothing
      break;
  }
  out.pass(size);
  return Taken::Yes;
}

namespace {

// What PostgreSQL reads while it takes the data of a COPY.
bool is_copys(char type) {
  return type == 'd' || type == 'c' || type == 'f' || type == 'H' || type == 'S';
}

}  // namespace

void Lease::flush(Outgoing& out) {
  if (flushed_ || !(requests_.batch_open() || requests_.passes_over_syncs())) return;
  pg::append_empty(out.insert(), 'H');
  flushed_ = true;
}

bool Lease::must_wait(const pg::Frame& frame) const {
  if (shape_ == Shape::Asked || restoring_ != Restoring::No || requests_.has_fence()) return true;
  if (cancels.in_flight() > 0) return true;  // it is for what was sent before
  // What goes into a COPY that takes data ends the connection, as PostgreSQL does it: nothing that
  // could be waited for would come.
  if (requests_.copying() && !requests_.copy_in() && !is_copys(frame.type)) return true;
  // What is prepared behind it would be taken for dropped with the rest, or the other way round.
  if (dropping_ > 0 && !is_copys(frame.type)) return true;
  if (!requests_.owes_ready()) return false;
  // Its session's settings are not in force before that has been answered, and restored.
  const bool in_doubt = resetting_ > 0 || !in_step();
  if (in_doubt && !requests_.batch_open() && !is_copys(frame.type)) return true;
  // What is cut off by its time must take nothing else along: PostgreSQL sends a cancel's signal
  // twice (signal_child() of postmaster.c), and the second would meet what was pipelined.
  if (transaction_terms().query_timeout_us > 0 && !requests_.batch_open() &&
      !is_copys(frame.type)) {
    return true;
  }
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
      // May hold a DEALLOCATE.
      return any_mention([](const Mention& said) { return said.name != nullptr; });
    default:
      return false;
  }
  if (mentions_ == 0) return false;
  const std::string_view name = frame.type == 'P' ? std::string_view() : reader.cstring();
  const pg::StatementRef* named = name.empty() ? nullptr : client_->statements.find(name);
  return any_mention([&](const Mention& said) {
    return (said.name != nullptr && *said.name == name) ||
           (named != nullptr && said.statement != nullptr && *said.statement == *named);
  });
}

Taken Lease::refuse(const pg::Frame& frame, std::string_view sqlstate, const std::string& message,
                    Outgoing& out, Bytes& answer) {
  // No client has a statement of that name.
  constexpr std::string_view kNoStatement = "carpool: refused";
  out.drop(frame.bytes.size());
  const bool simple = frame.type == 'Q';
  if (requests_.idle() && requests_.status() == 'I' && !requests_.batch_open()) {
    // Nothing fails but this, and PostgreSQL need not know.
    pg::append_error(answer, pg::Severity::Error, sqlstate, message);
    if (simple) pg::append_ready_for_query(answer, requests_.status());
    return simple ? Taken::RefusedQuery : Taken::RefusedBatch;
  }
  if (simple) {
    pg::append_query(out.insert(), fmt::format("EXECUTE \"{}\"", kNoStatement));
    server_.unnamed.set({});
    client_->unnamed = {};
    sent(ask::Refused<pg::Wire::Query>{{}, {std::string(sqlstate), message}});
  } else {
    pg::append_bind(out.insert(), "", kNoStatement);
    sent(ask::Refused<pg::Wire::Bind>{{}, {std::string(sqlstate), message}});
  }
  return Taken::Replaced;
}

bool Lease::resets(const pg::Scan& scan) {
  using Kind = pg::SessionEffect::Kind;
  return std::any_of(scan.effects.begin(), scan.effects.end(), [](const auto& effect) {
    return effect.kind == Kind::Reset || effect.kind == Kind::ResetAll ||
           effect.kind == Kind::DiscardAll;
  });
}

bool Lease::drops_statements(const pg::Scan& scan) {
  using Kind = pg::SessionEffect::Kind;
  return std::any_of(scan.effects.begin(), scan.effects.end(), [](const auto& effect) {
    return effect.kind == Kind::DeallocateAll || effect.kind == Kind::DiscardAll;
  });
}

void Lease::over(const Request& request) {
  if (mention(request)) --mentions_;
  if (queued_bytes_ == 0) return;  // so has each that resets or drops something
  std::visit(
      [this](const auto& kind) {
        queued_bytes_ -= bytes_of(kind);
        const pg::Scan* scan = scan_of(kind);
        if (scan == nullptr) return;
        if (resetting_ > 0 && resets(*scan)) --resetting_;
        if (dropping_ > 0 && drops_statements(*scan)) --dropping_;
      },
      request);
}

pg::StatementRef Lease::intern(ByteSpan body, bool unnamed) {
  const pg::StatePtr& state = client_->follower.current();
  std::string_view text = as_text(body);
  text = text.substr(0, text.find('\0'));
  const pg::ScanOptions options = reading_.options(text, client_->follower, requests_.owes_ready());
  const auto strings = options.standard_conforming_strings;
  const bool known = strings && options.encoding && reading_.certain();
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

// ---- Carpool's own

void Lease::restore(Restoring which, Outgoing& out) {
  const std::vector<std::string> texts =
      pg::replay(server_.follower.current(), client_->follower.current());
  for (const std::string& text : texts) {
    pg::append_query(out.insert(), text);
    sent(ask::Restore{{}, &text == &texts.back()});
  }
  // It ends the unnamed statement, as a client's query does.
  server_.unnamed.set({});
  restoring_ = which;
  restore_texts_ = static_cast<std::uint8_t>(texts.size());
}

bool Lease::breaks_copy(const pg::Frame& frame) const {
  return requests_.copy_in() && requests_.passes_over_syncs() && !is_copys(frame.type);
}

void Lease::fail_copy(Outgoing& out) {
  pg::append_copy_fail(out.insert(), "the client has left");
  sent(ask::CopyFail{});
}

// The server passes the ROLLBACK over while it skips to the Sync, and has nothing to roll back
// then.
void Lease::roll_back_batch(Outgoing& out) {
  clean("ROLLBACK", out);
  pg::append_sync(out.insert());
  sent(ask::OwnSync{});
}

// A statement that takes parameters of types that nobody else asks for: PostgreSQL says them back
// in its ParameterDescription. It can be prepared and described in any transaction, also in one
// that has failed, and leaves nothing.
void Lease::fence(const std::array<std::uint32_t, 4>& token, Outgoing& out) {
  const std::string name = fmt::format("carpool_fence_{:08x}", token[0]);
  Bytes& bytes = out.insert();
  pg::append_sync(bytes);
  sent(ask::OwnSync{});
  Bytes body;
  append_cstring(body, "ROLLBACK");
  append_u16(body, static_cast<std::uint16_t>(token.size()));
  for (const std::uint32_t type : token) append_u32(body, type);
  pg::append_parse(bytes, name, body);
  pg::append_describe(bytes, 'S', name);
  pg::append_close(bytes, 'S', name);
  pg::append_sync(bytes);
  sent(ask::Fence{{}, token});
  stage_ = Stage::Uncertain;
}

void Lease::clean(std::string_view sql, Outgoing& out) {
  pg::append_query(out.insert(), sql);
  sent(ask::Clean{{}, std::string(sql)});
  server_.unnamed.set({});
}

// ---- its end

UnderWay Lease::under_way(bool inside_message) const {
  UnderWay now;
  // What restores the settings is Carpool's own, and nothing of the client's is behind it.
  now.owed = !requests_.idle() && restoring_ == Restoring::No;
  now.owes_sync = requests_.owes_sync();
  now.uncut = !inside_message;
  now.batch = requests_.batch_open() ? UnderWay::Batch::Open
              : requests_.skipping() ? UnderWay::Batch::Skipping
                                     : UnderWay::Batch::Closed;
  return now;
}

namespace {

// What runs between two clients; empty: nothing.
std::string_view reset_between_clients(const config::Pool& terms) {
  return terms.mode == config::PoolMode::Session ? std::string_view(terms.reset_query)
                                                 : std::string_view();
}

}  // namespace

std::string_view Lease::due_reset(const config::Pool& settings) const {
  const std::string_view now = reset_between_clients(settings);
  const std::string& done = server_.reset_by;
  if (!now.empty()) return done == now ? std::string_view() : now;
  return done.empty() ? reset_between_clients(terms()) : std::string_view();
}

Remains Lease::remains(const config::Pool& now) const {
  using Left = Remains::Left;
  const bool fresh = stage_ != Stage::Reset;
  Left left = Left::Nothing;
  if (server_.tainted) {
    left = Left::Forever;
  } else if (fresh && (pinned() || stage_ == Stage::Uncertain)) {
    left = Left::Pins;
  } else if (!due_reset(now).empty()) {
    left = Left::Session;
  } else if (server_.ends_when_idle()) {
    left = Left::Settings;
  }
  return {requests_.status(), left, requests_.batch_open() || requests_.skipping()};
}

void Lease::reset(std::string_view sql, Outgoing& out) {
  stage_ = Stage::Reset;
  server_.reset_by = sql;
  clean(server_.reset_by, out);
}

// ---- pins

pool::PinCause Lease::pin_cause() const {
  if (pins_.any()) {
    // The two lists name the same things in the same order.
    return static_cast<pool::PinCause>(pins_.cause());
  }
  return pinned_by_setting_ ? pool::PinCause::SessionParameter : pool::PinCause::Other;
}

void Lease::count_pin(bool was_pinned) {
  if (!was_pinned && pins_.any()) counters_.pins[static_cast<std::size_t>(pin_cause())]++;
}

void Lease::pin_too_complex() {
  const bool was_pinned = pins_.any();
  pins_.apply_too_complex();
  count_pin(was_pinned);
}

}  // namespace carpool::proxy
