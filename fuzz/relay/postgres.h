// Postgres: one backend of an honest PostgreSQL, as its clients see it: messages in, answers out,
// with the rules of the protocol (what is skipped after an error, what a Sync ends, what a COPY
// reads, what is kept until a flush). Statements are SqlSession's. Pure: it owns no socket.
//
// A row, a notice, an error carries the tag of what it answers. While something of somebody else's
// is left in the session, nobody's statement may run: that is a CHECK.
//
// Source: PostgreSQL manual, "Message Flow"; src/backend/tcop/postgres.c, PostgresMain();
// src/backend/commands/copyfromparse.c, CopyGetData().
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "relay/sql_session.h"

namespace carpool::fuzz {

class Postgres {
 public:
  // What follows the startup packet.
  Postgres(std::uint32_t pid, std::map<std::string, std::string> startup);
  void greet();

  void message(char type, ByteSpan body);
  // What is to go out now; taken by the caller.
  Bytes sent;
  // It has said that it goes, or was told to.
  bool ended() const { return ended_; }

  // The next statement, or the COPY at hand, fails so: by which of those it may.
  void fail_next(std::size_t which) { failure_ = which % kFailures; }
  // The next answers of that kind have so many rows, so long.
  void set_rows(std::uint32_t count, std::uint32_t size) {
    rows_ = count;
    row_size_ = size;
  }
  // What comes unasked: a notice, a parameter, a notification.
  void say_unasked(std::uint8_t kind);
  void end(const char* sqlstate);
  // A cancel has come: it meets what runs, as the caller knows, or a COPY, or nothing.
  void cancel(bool runs);
  // Its word is worth nothing any more: it tells no tag, and nothing is asked of who it serves.
  void believe_no_more() { believed_ = false; }

 private:
  static constexpr std::uint32_t kTextType = 25;
  static constexpr std::size_t kFailures = 8;
  static constexpr std::size_t kCanceled = 1;
  static constexpr std::size_t kLost = 2;

  struct Portal {
    std::string text;
    std::string tag;
    bool done = false;
  };
  enum class In : std::uint8_t { Nothing, Query, Batch };  // which protocol's message

  void query(ByteSpan body);
  void run_rest_of_query();
  void parse(ByteSpan body);
  void bind(ByteSpan body);
  void describe(ByteSpan body);
  void execute(ByteSpan body);
  void close(ByteSpan body);
  void copy_message(char type, ByteSpan body);
  // Whether it went well.
  bool run(const Statement& statement, std::string_view tag, bool alone, bool row_description);
  void begin_copy(SqlSession::Copy copy, std::string_view tag);
  bool fails(std::string_view tag);
  void error(std::string_view sqlstate, std::string_view tag, std::string_view message = "");
  void fatal(std::string_view sqlstate);
  void ready();
  void row(std::string_view value);
  void row_description();
  void complete(std::string_view tag);
  void empty(char type);
  void flush();
  std::string shown(std::string_view text) const;

  const std::uint32_t pid_;
  SqlSession session_;
  std::map<std::string, Portal> portals_;
  std::map<std::string, std::string> reported_;
  std::vector<Statement> rest_;  // of a simple query, while a COPY runs
  Bytes out_;                    // until a flush
  std::optional<std::size_t> failure_;
  SqlSession::Copy copy_ = SqlSession::Copy::None;
  std::string copy_tag_;
  In in_ = In::Nothing;
  std::uint32_t rows_ = 1;
  std::uint32_t row_size_ = 0;
  bool skipping_ = false;
  bool executed_ = false;  // something, in this batch
  bool canceled_ = false;
  bool ended_ = false;
  bool believed_ = true;
};

}  // namespace carpool::fuzz
