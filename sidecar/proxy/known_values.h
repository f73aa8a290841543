// KnownValues: what PostgreSQL has taken of what clients set in their startup packets, for one
// pool, which is one database and one user: it will take it again. Bounded; what is not in it is
// asked again, and nothing else follows from that.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "pg/session_state.h"

namespace carpool::proxy {

class KnownValues {
 public:
  // The texts that it keeps, in bytes.
  static constexpr std::size_t kBytesMax = 16 * 1024;
  static constexpr std::size_t kOneMax = 512;

  // Whether there is nothing in `state` of which it is not known. Null: nothing is set.
  bool knows(const pg::StatePtr& state) const;
  // A server has it in force, which reports `now`.
  void taken(const pg::StatePtr& state, const pg::ReportedValues& now);
  // How PostgreSQL spells the value of one, where it reports that; else null.
  const std::string* spelling(const pg::Parameter& parameter) const;
  void clear();

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  // By the statement that sets it: what is reported then; empty: nothing.
  std::unordered_map<std::string, std::string, Hash, std::equal_to<>> values_;
  std::size_t bytes_ = 0;
};

}  // namespace carpool::proxy
