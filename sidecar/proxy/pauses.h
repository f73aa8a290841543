// Pauses: which databases are paused, as PgBouncer's console means it: a name, whether it has pools
// or not, and all of them, those to come too. The console, the control port and the command line go
// by this one state. Pure: it never touches a pool.
//
// A word about one database after a word about all holds for that one; a word about all is the last
// one about each.
// Invariant: paused(name) is all() for every name but the exceptions.
#pragma once

#include <cstddef>
#include <functional>
#include <set>
#include <string>

#include "base/result.h"

namespace carpool::proxy {

class Pauses {
 public:
  static constexpr std::size_t kNamesMax = 1000;

  // Empty: all. An error, in words for whoever asked, where there are kNamesMax already.
  Status pause(const std::string& database) { return set(database, true); }
  Status resume(const std::string& database) { return set(database, false); }

  bool all() const { return all_; }
  bool paused(const std::string& database) const { return all_ != exceptions_.contains(database); }
  // The databases that are told apart: paused, or, where all are, not paused.
  const std::set<std::string>& exceptions() const { return exceptions_; }

  // Forgets the exceptions that are no databases any more.
  void keep(const std::function<bool(const std::string&)>& is_database) {
    std::erase_if(exceptions_, [&](const std::string& name) { return !is_database(name); });
  }

 private:
  Status set(const std::string& database, bool paused);

  bool all_ = false;
  std::set<std::string> exceptions_;
};

}  // namespace carpool::proxy
