// What the parameter `replication` of a startup packet means: bytes in, a value out.
//
// PostgreSQL takes "database", in lower case, or a boolean in any of its spellings: a unique prefix
// of true, false, yes, no, on or off, in either case, or 1 or 0. Whatever else stands there it
// refuses before it asks who the client is.
//
// Source: src/backend/tcop/backend_startup.c, ProcessStartupPacket(); src/backend/utils/adt/bool.c,
// parse_bool_with_len().
#pragma once

#include <string>
#include <string_view>

namespace carpool::pg {

// Spellings of one meaning become one text, so that who means the same shares the same:
//   ""          an ordinary session
//   "true"      physical replication, which is of no database
//   "database"  logical replication
//   as it came  PostgreSQL's to refuse
// `value` is not empty.
std::string replication_meant(std::string_view value);

inline bool is_physical(std::string_view meant) {
  return meant == "true";
}

}  // namespace carpool::pg
