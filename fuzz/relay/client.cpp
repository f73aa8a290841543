#include "relay/client.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>
#include <vector>

#include "base/check.h"
#include "pg/messages.h"
#include "relay/tag.h"
#include "relay/trace.h"

namespace carpool::fuzz {
namespace {

constexpr std::uint32_t kLengthMax = 1u << 30;
constexpr std::uint32_t kCancelCode = 80877102;
constexpr std::uint32_t kSslCode = 80877103;
constexpr std::uint32_t kGssCode = 80877104;

// `@` stands for the client's tag.
constexpr const char* kTexts[] = {
    "SELECT '@'",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SELECT $1",
    "COPY t FROM STDIN /* @ */",
    "COPY t TO STDOUT /* @ */",
    "SET application_name = '@'",
    "SET search_path = '@'",
    "RESET application_name",
    "RESET ALL",
    "DISCARD ALL",
    "SELECT 1/0",
    "INSERT INTO t VALUES ('@')",
    "BEGIN /* @ */",
    "SET LOCAL application_name = '@'",
    "SELECT set_config('application_name', '@', false)",
    "SELECT set_config('application_name', $1, false)",
    "LISTEN c /* @ */",
    "UNLISTEN *",
    "PREPARE p AS SELECT '@'",
    "EXECUTE p",
    "DEALLOCATE p",
    "DEALLOCATE ALL",
    "DEALLOCATE s1",
    "CREATE TEMP TABLE tmp (x text) /* @ */",
    "SELECT x FROM tmp",
    "DROP TABLE tmp",
    "DECLARE c CURSOR WITH HOLD FOR SELECT '@'",
    "FETCH c",
    "CLOSE c",
    "SELECT pg_advisory_lock(1) /* @ */",
    "SELECT pg_advisory_unlock(1) /* @ */",
    "SELECT pg_advisory_unlock_all()",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "LOAD 'x' /* @ */",
    "",
    "SELECT '@'; SELECT '@'",
    "BEGIN; INSERT INTO t VALUES ('@'); COMMIT; SELECT '@'",
    "SELECT '@'; COPY t FROM STDIN /* @ */; SELECT '@'",
    "SHOW application_name",
    "SET idle_session_timeout = 1000",
    "SET client_encoding = 'SJIS'",
    "SET standard_conforming_strings = off",
    "SELECT '@', E'\\'', '\xc3\xa4'",
    "START_REPLICATION SLOT s LOGICAL 0/0 /* @ */",
    "SHOW POOLS",
    "SHOW CLIENTS",
    "PAUSE",
    "RESUME",
    "RECONNECT",
    "KILL app",
    "RELOAD",
    "no statement at all '@'",
};

constexpr const char* kNames[] = {"", "s1", "s2", "carpool_1"};
constexpr std::string_view kTypes = "QPBDECSHFdcfXQQS";

// Upper case as messages are; the text is that of each Parse and Query.
constexpr std::string_view kBursts[] = {
    "PBES",      "PBDES", "PDS", "BES",   "BDES", "PBEH",   "PBE",   "PBEQ",    "PBESPBES",
    "BESBESBES", "PS",    "CS",  "PBEcS", "QdcQ", "PBEdcS", "QdfQ",  "PBESdcS", "QQQ",
    "PBESX",     "QX",    "ddd", "HS",    "SSS",  "PBESQS", "PPBES", "PCPBES",
};

struct Entry {
  const char* database;
  std::vector<std::pair<const char*, const char*>> parameters;
  std::uint32_t version = 3u << 16;
};

const Entry& entry_of(std::uint8_t which) {
  static const std::vector<Entry> entries = {
      {"app", {}},
      {"app", {{"application_name", "@"}}},
      {"other", {}},
      {"app", {{"options", "-c search_path=@"}}},
      {"pgbouncer", {}},
      {"app", {{"replication", "database"}}},
      {"app", {{"options", "-S 5000"}}},
      {"app", {{"_pq_.x", "1"}}, (3u << 16) + 9999},
      {"app", {{"client_encoding", "SJIS"}, {"application_name", "@"}}},
      {"nothing", {}},
      {"app", {{"TimeZone", "@"}, {"idle_session_timeout", "5000"}}},
      {"app", {{"application_name", "@"}}, (3u << 16) + 2},
  };
  return entries[which % entries.size()];
}

void fill_in(std::string& text, const std::string& tag) {
  for (std::size_t at = text.find(kTagPlace); at != std::string::npos; at = text.find(kTagPlace)) {
    text.replace(at, 1, tag);
  }
}

}  // namespace

// ---- what it sends

void RelayClient::start(std::uint8_t which) {
  const Entry& entry = entry_of(which & 0x3f);
  Bytes out;
  // libpq asks for encryption first, and waits for the answer; this one does not.
  if ((which & 0x80) != 0) {
    append_u32(out, 8);
    append_u32(out, (which & 0x40) != 0 ? kGssCode : kSslCode);
    say(out);
    orderly_ = false;
    return;
  }
  at_console_ = std::string_view(entry.database) == "pgbouncer";
  Bytes body;
  append_u32(body, entry.version);
  for (const char* text : {"user", "alice", "database", entry.database}) append_cstring(body, text);
  for (const auto& [name, value] : entry.parameters) {
    std::string filled = value;
    fill_in(filled, tag_);
    append_cstring(body, name);
    append_cstring(body, filled);
  }
  append_u8(body, 0);
  append_u32(out, static_cast<std::uint32_t>(body.size() + 4));
  append(out, body);
  say(out);
}

std::string RelayClient::text(std::uint8_t which) const {
  std::string text = kTexts[which % std::size(kTexts)];
  fill_in(text, tag_);
  return text;
}

void RelayClient::append_one(Bytes& out, char type, std::size_t name, std::uint8_t detail) {
  const std::size_t start = pg::begin_message(out, type);
  switch (type) {
    case 'Q':
      append_cstring(out, text(detail));
      break;
    case 'P': {
      const std::string sql = text(detail);
      parameters_[name] = sql.find("$1") == std::string::npos ? 0 : 1;
      append_cstring(out, kNames[name]);
      append_cstring(out, sql);
      append_u16(out, 0);
      break;
    }
    case 'B':
      append_cstring(out, (detail & 0x40) != 0 ? "portal" : "");
      append_cstring(out, kNames[name]);
      append_u16(out, 0);
      append_u16(out, parameters_[name]);
      for (int i = 0; i < parameters_[name]; ++i) {
        append_u32(out, static_cast<std::uint32_t>(tag_.size()));
        append_text(out, tag_);
      }
      append_u16(out, 0);
      break;
    case 'D':
    case 'C':
      append_u8(out, (detail & 0x80) != 0 ? 'S' : 'P');
      append_cstring(out, (detail & 0x80) != 0   ? kNames[name]
                          : (detail & 0x40) != 0 ? "portal"
                                                 : "");
      break;
    case 'E':
      append_cstring(out, (detail & 0x40) != 0 ? "portal" : "");
      append_u32(out, detail & 1);
      break;
    case 'F':
      append_u32(out, 1);
      append_u16(out, 0);
      append_u16(out, 0);
      append_u16(out, 0);
      break;
    case 'd':
      out.resize(out.size() + (std::size_t{1} << (detail % 17)), 'd');
      break;
    case 'f':
      append_cstring(out, "no more");
      break;
    case 'X':
      leaves_ = true;
      break;
    default:
      break;
  }
  pg::finish_message(out, start);
}

void RelayClient::say_message(std::uint8_t kind, std::uint8_t detail) {
  Bytes out;
  append_one(out, kTypes[kind % kTypes.size()], (kind >> 4) % std::size(kNames), detail);
  say(out);
}

void RelayClient::say_burst(std::uint8_t which, std::uint8_t detail) {
  constexpr std::uint8_t kOfStatement = 0x80;
  const std::string_view types = kBursts[which % 64 % std::size(kBursts)];
  const bool binds = types.find('B') != std::string_view::npos;
  Bytes out;
  for (const char type : types) {
    // What follows a Parse or a Query is about what that has prepared.
    const bool has_text = type == 'P' || type == 'Q';
    const bool of_statement = type == 'C' || (type == 'D' && !binds);
    append_one(out, type, which >> 6, has_text ? detail : of_statement ? kOfStatement : 0);
  }
  say(out);
}

void RelayClient::say_raw(ByteSpan bytes) {
  orderly_ = false;
  say(bytes);
}

void RelayClient::say_probe() {
  Bytes out;
  append_one(out, 'f', 0, 0);
  append_one(out, 'S', 0, 0);
  append_one(out, 'Q', 0, 0);
  say(out);
}

void RelayClient::ask_to_cancel(const RelayClient& other, bool wrong_key) {
  asks_ = true;
  Bytes out;
  append_u32(out, static_cast<std::uint32_t>(12 + other.key_.size()));
  append_u32(out, kCancelCode);
  append_u32(out, other.pid_);
  append(out, other.key_);
  if (wrong_key) out.back() ^= 1;
  say(out);
}

// ---- what it gets

bool RelayClient::pump(bool comes) {
  if (!is_open()) return false;
  const bool moved = move(comes);
  for (;;) {
    const ByteSpan in = rest();
    // The answer to a request for encryption is one byte, and comes before any message.
    if (!got_message_ && !in.empty() && in[0] == 'N' && asked_for_encryption_ < 2) {
      ++asked_for_encryption_;
      take(1);
      continue;
    }
    if (in.size() < 5) break;
    const std::uint32_t length = load_u32(in.data() + 1);
    CHECK(length >= 4 && length < kLengthMax);
    if (in.size() < length + 1) break;
    received(static_cast<char>(in[0]), in.subspan(5, length - 4));
    take(length + 1);
  }
  return moved;
}

void RelayClient::received(char type, ByteSpan body) {
  trace("client " + tag_ + " <-", type, body);
  got_message_ = true;
  CHECK(!asks_);  // a cancel request gets no answer
  // The console tells of everybody.
  const bool is_own = isolation_promised && !at_console_;
  const std::string_view foreign = is_own ? foreign_tag(as_text(body), tag_) : std::string_view();
  if (!foreign.empty()) {
    std::fprintf(stderr, "%s is told of %.*s in a message '%c'\n", tag_.c_str(),
                 static_cast<int>(foreign.size()), foreign.data(), type);
  }
  CHECK(foreign.empty());
  if (type == 'Z') ++readies_;
  if (type == 'K' && !greeted()) {
    CHECK(body.size() >= 8);
    pid_ = load_u32(body.data());
    key_.assign(body.begin() + 4, body.end());
  }
}

}  // namespace carpool::fuzz
