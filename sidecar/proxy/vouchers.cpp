#include "proxy/vouchers.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <iterator>

namespace carpool::proxy {
namespace {

bool equal(const Vouchers::Mark& one, const Vouchers::Mark& other) {
  return CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

}  // namespace

Vouchers::Answer Vouchers::ask(const Claimant& who, const Mark& mark, Micros now,
                               Micros recheck_us) const {
  const auto known = passwords_.find(who);
  if (known == passwords_.end()) return {};
  for (const Password& password : known->second) {
    if (!equal(password.mark, mark)) continue;
    const Micros age_us = now - password.taken_us;
    if (age_us < recheck_us) return {Word::Fresh, password.taken_us};
    if (age_us / kLastWordRechecks < recheck_us) return {Word::Old, password.taken_us};
  }
  return {};
}

bool Vouchers::knows(const Claimant& who, const Mark& mark) const {
  const auto known = passwords_.find(who);
  return known != passwords_.end() &&
         std::any_of(known->second.begin(), known->second.end(),
                     [&](const Password& password) { return equal(password.mark, mark); });
}

void Vouchers::taken(const Claimant& who, const Mark& mark, Micros now) {
  if (!passwords_.contains(who) && passwords_.size() >= kClaimantsMax) make_room();
  std::vector<Password>& known = passwords_[who];
  std::erase_if(known, [&](const Password& password) { return equal(password.mark, mark); });
  if (known.size() >= kPasswordsMax) known.erase(known.begin());
  known.push_back({mark, now});
}

bool Vouchers::refused(const Claimant& who, const Mark& mark) {
  std::size_t ended = 0;
  // Those of one database and user stand together.
  auto at = passwords_.lower_bound({who.database, who.user, ""});
  while (at != passwords_.end() && at->first.database == who.database &&
         at->first.user == who.user) {
    ended += std::erase_if(at->second,
                           [&](const Password& password) { return equal(password.mark, mark); });
    at = at->second.empty() ? passwords_.erase(at) : std::next(at);
  }
  return ended > 0;
}

void Vouchers::make_room() {
  passwords_.erase(std::min_element(
      passwords_.begin(), passwords_.end(), [](const auto& one, const auto& other) {
        return one.second.back().taken_us < other.second.back().taken_us;
      }));
}

}  // namespace carpool::proxy
