// Session: what outlives a lease. A ClientSession is what a client believes its session to be; a
// ServerSession is what a server's session is. A Lease (lease.h) translates the one to the other;
// both change only when PostgreSQL's reply says that it came true.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "pg/prepared_statements.h"
#include "pg/scan_memo.h"
#include "pg/session_follower.h"
#include "pg/session_state.h"
#include "pg/text_encoding.h"

namespace carpool::proxy {

// What servers begin with of that by which values are read and written: one object for equal ones,
// ReportedValues::of_reading(). Null: no server has been opened.
using SessionDefaults = std::shared_ptr<const pg::ReportedValues>;

// What all sessions of one pool share.
struct SessionTables {
  explicit SessionTables(std::size_t statement_bytes_max = pg::StatementTable::kBytesMax)
      : statements(statement_bytes_max) {}

  pg::StateTable states;
  pg::StatementTable statements;
  pg::ScanMemo scans;          // of simple queries
  SessionDefaults defaults;    // of the server that was opened last
  pg::StatementRef stand_in;   // see Lease::stand_in()
  std::uint64_t readings = 0;  // numbers those that are not known
};

// Its names, its wishes, and what it was told. Lifetime: its Client's, or, where a lease outlives
// that, its Lease's.
struct ClientSession {
  ClientSession(pg::StateTable& states, pg::StatePtr initial)
      : follower(states, std::move(initial)) {}

  // Another server of the pool: where it began with other values than the client was told at
  // sign-in (a default of the database's has been changed since), those are the client's own from
  // now on.
  void meet(const SessionDefaults& defaults);

  pg::SessionFollower follower;
  pg::ClientStatements statements;
  pg::StatementRef unnamed;
  SessionDefaults told;  // at sign-in
  SessionDefaults met;   // the other defaults that it has met last
};

// Invariant: `statements` and `unnamed` are what the server will have once it has carried out all
// that was sent, if nothing fails; what did is taken back by its Lease.
struct ServerSession {
  // Which unnamed statement the server has.
  struct Unnamed {
    void set(pg::StatementRef now) {
      statement = std::move(now);
      version = statement ? statement->version : 0;
    }
    pg::StatementRef statement;  // none: none, or one that is not known
    std::uint32_t version = 0;
    bool unknown = false;  // an error has left that of somebody, or none
  };

  // `tables` must outlive it.
  explicit ServerSession(SessionTables& tables) : follower(tables.states, nullptr) {}
  // The values that the server reported when it was opened.
  void opened(SessionTables& tables,
              const std::vector<std::pair<std::string, std::string>>& parameters);

  // Whether PostgreSQL would end it, idle and nobody's, for a setting of its last client's.
  bool ends_when_idle() const {
    const pg::StatePtr& state = follower.current();
    return state != nullptr && state->find(kIdleTimeout) != nullptr;
  }
  static constexpr std::string_view kIdleTimeout = "idle_session_timeout";

  pg::SessionFollower follower;
  pg::ReportedValues reported;  // when it was opened
  pg::ReportedValues now;       // and since
  SessionDefaults defaults;
  pg::TextEncoding usual_encoding = pg::TextEncoding::AsciiSafe;  // of them
  pg::ServerStatements statements;
  Unnamed unnamed;
  std::string reset_by;  // what has run since the last lease to reset it
  bool tainted = false;  // LOAD is for the life of a server: it must not be lent to another
  Bytes spare;           // memory that one lease leaves to the next
};

}  // namespace carpool::proxy
