// Requests: what a server has been asked and has not answered, each a kind of its own that carries
// what it will change when its answer comes, or what must be put back when it fails or is skipped.
// Values without behaviour; Lease knows what each means.
//
// Lifetime: the tables of the statements must outlive it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "pg/prepared_statements.h"
#include "pg/reply_queue.h"
#include "pg/result_shape.h"
#include "pg/sql_scan.h"

namespace carpool::proxy {

// What the unnamed statement was before a request that ends it, to the client and on the server.
struct UnnamedBefore {
  pg::StatementRef client;
  pg::StatementRef server;
  // It is the first of its batch, which is never skipped, and where it fails nothing is left.
  bool first = false;
};

// A text that runs, and what it does to its session. Null: nothing.
struct Running {
  std::shared_ptr<const pg::Scan> scan;
  std::uint32_t statements_done = 0;  // of the scan
  Bytes row;                          // the last of the statement at hand, where it tells
};

template <pg::Wire W, bool Ours = false>
struct OnWire {
  static constexpr pg::Wire kWire = W;
  static constexpr bool kOurs = Ours;
};

// What a portal's statement does to the session: that of the portal that a Bind takes the name of.
struct PortalBefore {
  std::string name;
  std::shared_ptr<const pg::Scan> scan;
  std::size_t bytes = 0;  // of both
};

// The error that a client is told instead of PostgreSQL's.
struct RefusedAs {
  std::string sqlstate;
  std::string message;
};

namespace ask {

// ---- the client's

struct Query : OnWire<pg::Wire::Query> {
  Running running;
  // Of a text beyond ASCII: where that cannot be converted the unnamed statement stays.
  std::unique_ptr<UnnamedBefore> before;
};
// One that deallocates, by SQL, a statement that the server knows by another name.
struct Deallocate : OnWire<pg::Wire::Query> {
  std::string name;
  pg::StatementRef statement;
  pg::StatementRef on_server;  // what went there in its place
  std::uint32_t version = 0;   // of that
};
struct FunctionCall : OnWire<pg::Wire::FunctionCall> {};
struct Parse : OnWire<pg::Wire::Parse> {
  std::string name;
  pg::StatementRef statement;
};
// Its name is taken: PostgreSQL is to say so. Where the name has become free, `statement` is what
// it names; none where the text was not kept.
struct ParseRefused : OnWire<pg::Wire::Parse> {
  std::string name;
  pg::StatementRef statement;
};
struct ParseUnnamed : OnWire<pg::Wire::Parse> {
  UnnamedBefore before;
};
// `statement`: none for the unnamed one. `before`: null where there was nothing to know.
struct Bind : OnWire<pg::Wire::Bind> {
  pg::StatementRef statement;
  std::unique_ptr<PortalBefore> before;
};
// Of a statement that Carpool does not follow.
struct BindOther : OnWire<pg::Wire::Bind> {
  std::unique_ptr<PortalBefore> before;
};
// One that must not be, since the result is not like what the client was told.
struct BindChanged : OnWire<pg::Wire::Bind> {
  pg::StatementRef statement;
};
struct Describe : OnWire<pg::Wire::Describe> {
  pg::StatementRef statement;
};
// Of a statement, or of a portal of it, whose result the client is told for the first time.
struct DescribeNew : OnWire<pg::Wire::Describe> {
  std::string name;
  pg::StatementRef statement;
  std::uint32_t version = 0;
  pg::ResultShape shape = pg::kShapeUnknown;
};
struct Execute : OnWire<pg::Wire::Execute> {
  Running running;
};
struct CloseUnnamed : OnWire<pg::Wire::Close> {
  UnnamedBefore before;
};
// In place of a request that Carpool refuses where that fails more than itself, a transaction or a
// batch: one that PostgreSQL refuses, and whose error is told as this one.
template <pg::Wire W>
struct Refused : OnWire<W> {
  RefusedAs as;
};
// Of what Carpool does not follow: the server has it under the client's own name, or in a portal.
template <pg::Wire W>
struct Other : OnWire<W> {};
struct Sync : OnWire<pg::Wire::Sync> {};
struct CopyEnd : OnWire<pg::Wire::CopyEnd> {};

// ---- the client's, that Carpool answers itself

struct Prepared : OnWire<pg::Wire::Local> {
  std::string name;
  pg::StatementRef statement;
};
struct Closed : OnWire<pg::Wire::Local> {
  std::string name;
  pg::StatementRef statement;
};

// ---- Carpool's own

struct Prepare : OnWire<pg::Wire::Parse, true> {
  pg::StatementRef statement;
};
struct PrepareUnnamed : OnWire<pg::Wire::Parse, true> {
  UnnamedBefore before;
};
struct DropUnnamed : OnWire<pg::Wire::Close, true> {
  UnnamedBefore before;
};
struct Drop : OnWire<pg::Wire::Close, true> {
  pg::StatementRef statement;
  std::uint32_t version = 0;
};
// What a statement's result is like here: see Lease::must_ask().
struct Shape : OnWire<pg::Wire::Describe, true> {
  pg::StatementRef statement;
  std::uint32_t version = 0;
  pg::ResultShape shape = pg::kShapeUnknown;
};
struct OwnSync : OnWire<pg::Wire::Sync, true> {};
struct CopyFail : OnWire<pg::Wire::CopyEnd, true> {};
// A query that cleans: a ROLLBACK, the resetQuery.
struct Clean : OnWire<pg::Wire::Query, true> {
  std::string sql;
};
// What restores the client's settings; `last` of its texts.
struct Restore : OnWire<pg::Wire::Query, true> {
  bool last = true;
};
struct Fence : OnWire<pg::Wire::Fence, true> {
  std::array<std::uint32_t, 4> token{};
};

}  // namespace ask

using Request =
    std::variant<ask::Query, ask::Deallocate, ask::FunctionCall, ask::Parse, ask::ParseRefused,
                 ask::ParseUnnamed, ask::Bind, ask::BindChanged, ask::Describe, ask::DescribeNew,
                 ask::Execute, ask::CloseUnnamed, ask::BindOther, ask::Other<pg::Wire::Parse>,
                 ask::Other<pg::Wire::Describe>, ask::Other<pg::Wire::Close>,
                 ask::Refused<pg::Wire::Query>, ask::Refused<pg::Wire::Bind>, ask::Sync,
                 ask::CopyEnd, ask::Prepared, ask::Closed, ask::Prepare, ask::PrepareUnnamed,
                 ask::DropUnnamed, ask::Drop, ask::Shape, ask::OwnSync, ask::CopyFail, ask::Clean,
                 ask::Restore, ask::Fence>;

namespace detail {
template <typename... Kinds>
struct Tables {
  explicit Tables(const std::variant<Kinds...>*) {}
  static constexpr std::array<pg::Wire, sizeof...(Kinds)> kWires = {Kinds::kWire...};
  static constexpr std::array<bool, sizeof...(Kinds)> kOurs = {Kinds::kOurs...};
};
using RequestTables = decltype(Tables(static_cast<const Request*>(nullptr)));
}  // namespace detail

inline pg::Wire wire_of(const Request& request) {
  return detail::RequestTables::kWires[request.index()];
}
inline bool is_ours(const Request& request) {
  return detail::RequestTables::kOurs[request.index()];
}
template <pg::Wire W, bool Ours>
constexpr pg::Wire wire_of(const OnWire<W, Ours>&) {
  return W;
}
template <pg::Wire W, bool Ours>
constexpr bool is_ours(const OnWire<W, Ours>&) {
  return Ours;
}

using Requests = pg::ReplyQueue<Request>;

}  // namespace carpool::proxy
