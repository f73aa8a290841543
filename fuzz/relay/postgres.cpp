#include "relay/postgres.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "pg/error_response.h"
#include "pg/framer.h"
#include "pg/messages.h"
#include "relay/tag.h"

namespace carpool::fuzz {

using Copy = SqlSession::Copy;

namespace {

// PostgreSQL keeps answers until a flush, or so many bytes (PQ_SEND_BUFFER_SIZE).
constexpr std::size_t kKeptMax = 8192;

// Those that PostgreSQL reports, of what the statements at hand may set.
constexpr std::array<std::pair<const char*, const char*>, 4> kReported = {{
    {"APPLICATION_NAME", "application_name"},
    {"CLIENT_ENCODING", "client_encoding"},
    {"STANDARD_CONFORMING_STRINGS", "standard_conforming_strings"},
    {"TIMEZONE", "TimeZone"},
}};

std::map<std::string, std::string> with_defaults(std::map<std::string, std::string> startup) {
  startup.emplace("APPLICATION_NAME", "");
  startup.emplace("CLIENT_ENCODING", "UTF8");
  startup.emplace("STANDARD_CONFORMING_STRINGS", "on");
  startup.emplace("TIMEZONE", "UTC");
  return startup;
}

}  // namespace

Postgres::Postgres(std::uint32_t pid, std::map<std::string, std::string> startup)
    : pid_(pid), session_(with_defaults(std::move(startup))) {}

void Postgres::greet() {
  pg::append_authentication_ok(out_);
  pg::append_parameter_status(out_, "server_version", "15.4");
  pg::append_parameter_status(out_, "DateStyle", "ISO, MDY");
  reported_ = session_.settings();
  for (const auto& [name, shown_as] : kReported) {
    pg::append_parameter_status(out_, shown_as, shown(reported_[name]));
  }
  Bytes secret;
  append_u32(secret, pid_ * 7);
  pg::append_backend_key_data(out_, pid_, secret);
  ready();
}

// ---- what it says

std::string Postgres::shown(std::string_view text) const {
  std::string all(text);
  if (believed_) return all;
  for (std::size_t at = find_tag(all); at != std::string::npos; at = find_tag(all, at)) {
    all.erase(at, kTagSize);
  }
  return all;
}

void Postgres::flush() {
  append(sent, out_);
  out_.clear();
}

void Postgres::ready() {
  for (const auto& [name, shown_as] : kReported) {
    const auto found = session_.settings().find(name);
    const std::string value = found == session_.settings().end() ? "" : found->second;
    if (std::exchange(reported_[name], value) == value) continue;
    pg::append_parameter_status(out_, shown_as, shown(value));
  }
  pg::append_ready_for_query(out_, session_.status());
  if (!session_.in_transaction()) portals_.clear();
  executed_ = false;
  canceled_ = false;
  in_ = In::Nothing;
  flush();
}

void Postgres::error(std::string_view sqlstate, std::string_view tag, std::string_view message) {
  const std::string text = shown(std::string(message) + " " + std::string(tag));
  pg::append_error(out_, pg::Severity::Error, sqlstate, text);
  session_.failed();
  copy_ = Copy::None;
  rest_.clear();
  if (!session_.in_transaction()) portals_.clear();
  if (in_ == In::Query) return ready();
  skipping_ = true;
  flush();
}

void Postgres::fatal(std::string_view sqlstate) {
  pg::append_error(out_, pg::Severity::Fatal, sqlstate, "this connection ends");
  flush();
  ended_ = true;
}

void Postgres::end(const char* sqlstate) {
  if (!ended_) fatal(sqlstate);
}

void Postgres::row(std::string_view value) {
  const std::string text = shown(value) + std::string(row_size_, 'x');
  const std::size_t start = pg::begin_message(out_, 'D');
  append_u16(out_, 1);
  append_u32(out_, static_cast<std::uint32_t>(text.size()));
  append_text(out_, text);
  pg::finish_message(out_, start);
  if (out_.size() > kKeptMax) flush();
}

void Postgres::row_description() {
  const std::size_t start = pg::begin_message(out_, 'T');
  append_u16(out_, 1);
  append_cstring(out_, "column");
  append_u32(out_, 0);
  append_u16(out_, 0);
  append_u32(out_, kTextType);
  append_u16(out_, 0xffff);
  append_u32(out_, 0xffffffff);
  append_u16(out_, 0);
  pg::finish_message(out_, start);
}

void Postgres::complete(std::string_view tag) {
  pg::append_command_complete(out_, shown(tag));
}

void Postgres::empty(char type) {
  pg::append_empty(out_, type);
}

void Postgres::say_unasked(std::uint8_t kind) {
  if (ended_) return;
  switch (kind % 3) {
    case 0: {
      const std::size_t start = pg::begin_message(out_, 'N');
      for (const char* field : {"SNOTICE", "C01000", "Munasked"}) append_cstring(out_, field);
      append_u8(out_, 0);
      pg::finish_message(out_, start);
      break;
    }
    case 1:
      pg::append_parameter_status(out_, "in_hot_standby", (kind & 4) != 0 ? "on" : "off");
      break;
    default: {
      if (session_.listens().empty()) return;
      const std::size_t start = pg::begin_message(out_, 'A');
      append_u32(out_, pid_);
      append_cstring(out_, "channel");
      append_cstring(out_, shown(session_.listens()));
      pg::finish_message(out_, start);
      break;
    }
  }
  // Between two batches they come at once, else with what is answered.
  if (in_ == In::Nothing && !session_.in_transaction()) flush();
}

void Postgres::cancel(bool runs) {
  canceled_ = runs || copy_ != Copy::None;
}

// Whether what is about to run fails, canceled or by what the input has said.
bool Postgres::fails(std::string_view tag) {
  static constexpr std::array<std::pair<const char*, const char*>, kFailures> kWords = {{
      {"22012", "division by zero"},
      {"57014", "canceling statement due to user request"},
      {"26000", "prepared statement does not exist"},
      {"0A000", "cached plan must not change result type"},
      {"40001", "could not serialize access"},
      {"53200", "out of memory"},
      {"22021", "invalid byte sequence"},
      {"57P01", "terminating connection due to administrator command"},
  }};
  if (!failure_ && !canceled_) return false;
  const std::size_t which =
      std::exchange(canceled_, false) ? kCanceled : *std::exchange(failure_, std::nullopt);
  const auto& [sqlstate, message] = kWords[which];
  if (which == kFailures - 1) {
    fatal(sqlstate);
  } else {
    error(sqlstate, tag, message);
  }
  return true;
}

// ---- what it is asked

void Postgres::message(char type, ByteSpan body) {
  if (ended_) return;
  if (copy_ == Copy::In || copy_ == Copy::Both) return copy_message(type, body);
  if (type == 'X') {
    ended_ = true;
    return;
  }
  if (skipping_ && type != 'S') return;
  switch (type) {
    case 'Q':
      in_ = In::Query;
      return query(body);
    case 'F':
      in_ = In::Query;
      if (session_.status() == 'E') return error("25P02", "");
      session_.begin();
      if (fails("")) return;
      append_u8(out_, 'V');
      append_u32(out_, 8);
      append_u32(out_, 0xffffffff);
      session_.end_of_batch();
      return ready();
    case 'S':
      skipping_ = false;
      session_.end_of_batch();
      return ready();
    case 'H':
      return flush();
    case 'd':
    case 'c':
    case 'f':
      return;  // of a COPY that has failed
    default:
      break;
  }
  in_ = In::Batch;
  switch (type) {
    case 'P':
      return parse(body);
    case 'B':
      return bind(body);
    case 'D':
      return describe(body);
    case 'E':
      return execute(body);
    case 'C':
      return close(body);
    default:
      return fatal("08P01");
  }
}

void Postgres::query(ByteSpan body) {
  Reader reader(body);
  const std::string_view text = reader.cstring();
  session_.prepared().erase("");
  portals_.erase("");
  if (!reader.ok() || !reader.rest().empty()) return error("08P01", "");
  rest_ = split(text);
  if (rest_.empty()) {
    empty('I');
    return ready();
  }
  // From the back.
  std::reverse(rest_.begin(), rest_.end());
  executed_ = rest_.size() > 1;
  run_rest_of_query();
}

void Postgres::run_rest_of_query() {
  while (!rest_.empty()) {
    const Statement statement = std::move(rest_.back());
    rest_.pop_back();
    if (!run(statement, tag_in(statement.text), !executed_, true)) return;
    if (copy_ != Copy::None) return;
  }
  session_.end_of_batch();
  ready();
}

bool Postgres::run(const Statement& statement, std::string_view tag, bool alone,
                   bool with_description) {
  // One that sets may be Carpool's, on the way from one's session to another's.
  if (believed_ && isolation_promised && !tag.empty() && !SqlSession::sets(statement)) {
    const std::string_view foreign = session_.foreign(tag);
    if (!foreign.empty()) {
      std::fprintf(stderr, "%.*s runs where this is left: %.*s\n", static_cast<int>(tag.size()),
                   tag.data(), static_cast<int>(foreign.size()), foreign.data());
    }
    CHECK(foreign.empty());
  }
  if (session_.status() != 'E' && fails(tag)) return false;
  const SqlSession::Done done = session_.run(statement, tag, alone);
  if (done.sqlstate != nullptr) {
    error(done.sqlstate, tag);
    return false;
  }
  if (done.copy != Copy::None) {
    begin_copy(done.copy, done.row);
    return true;
  }
  if (done.has_rows) {
    if (with_description) row_description();
    for (std::uint32_t i = 0; i < rows_; ++i) row(done.row);
  }
  complete(done.complete);
  return true;
}

void Postgres::begin_copy(Copy copy, std::string_view tag) {
  const char type = copy == Copy::In ? 'G' : copy == Copy::Out ? 'H' : 'W';
  const std::size_t start = pg::begin_message(out_, type);
  append_u8(out_, 0);
  append_u16(out_, 0);
  pg::finish_message(out_, start);
  copy_tag_ = tag;
  if (copy != Copy::In) {
    for (std::uint32_t i = 0; i < rows_; ++i) {
      const std::size_t data = pg::begin_message(out_, 'd');
      append_text(out_, shown(tag) + std::string(row_size_, 'x'));
      pg::finish_message(out_, data);
    }
  }
  if (copy == Copy::Out) {
    empty('c');
    return complete("COPY 1");
  }
  copy_ = copy;
  flush();
}

void Postgres::copy_message(char type, ByteSpan) {
  switch (type) {
    case 'd':
      fails(copy_tag_);
      return;
    case 'H':
    case 'S':
      return;
    case 'c':
      if (fails(copy_tag_)) return;
      if (std::exchange(copy_, Copy::None) == Copy::Both) empty('c');
      complete("COPY 1");
      if (in_ == In::Query) run_rest_of_query();
      return;
    case 'f':
      return error("57014", copy_tag_, "COPY from stdin failed");
    case 'X':
      ended_ = true;
      return;
    default:
      error("08P01", copy_tag_, "unexpected message type during COPY from stdin");
      return fatal("08P01");
  }
}

}  // namespace carpool::fuzz
