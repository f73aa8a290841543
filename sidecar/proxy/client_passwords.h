// ClientPasswords: the passwords by which a pool's clients have signed in, in passthrough, so that
// its servers can be opened with them. PostgreSQL's latest word counts, not the client that came
// last: one that was let in by an older word must not hand the pool a password that is revoked.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"

namespace carpool::proxy {

class ClientPasswords {
 public:
  static constexpr std::size_t kMax = 4;

  // PostgreSQL has taken it, at that time.
  void taken(const std::string& password, Micros taken_us) {
    const auto known = find(password);
    const Micros latest_us =
        known == passwords_.end() ? taken_us : std::max(known->taken_us, taken_us);
    if (known != passwords_.end()) passwords_.erase(known);
    const auto at = std::find_if(passwords_.begin(), passwords_.end(),
                                 [&](const Password& one) { return one.taken_us <= latest_us; });
    passwords_.insert(at, {password, latest_us});
    if (passwords_.size() > kMax) passwords_.pop_back();
  }
  // PostgreSQL refuses it.
  void refused(const std::string& password) {
    if (const auto known = find(password); known != passwords_.end()) passwords_.erase(known);
  }
  // The one that PostgreSQL took last; empty: there is none.
  std::string best() const { return passwords_.empty() ? "" : passwords_.front().text; }

 private:
  struct Password {
    std::string text;
    Micros taken_us;
  };
  std::vector<Password>::iterator find(const std::string& password) {
    return std::find_if(passwords_.begin(), passwords_.end(),
                        [&](const Password& one) { return one.text == password; });
  }

  std::vector<Password> passwords_;  // the latest first
};

}  // namespace carpool::proxy
