// Vouchers: which passwords PostgreSQL has taken, of whom, and when last: what `auth.mode:
// passthrough` lets clients in by. Pure decisions: `now` is an argument, passwords are seen as
// marks only, and nothing is tried here.
//
//   PostgreSQL takes it       now             + recheck                     + kLastWordRechecks x
//   ------------------------- | --- Fresh ---- | ------------ Old ---------- | ---- Unknown ---->
//
//   Fresh     lets in at once; the password is tried again behind the client
//   Old       waits for a trial; where PostgreSQL gives no answer, its last word stands
//   Unknown   waits for a trial
//
// Invariants. Only a refusal of a password ends what that password vouched for: a wrong guess, or a
// refusal for another reason, ends nothing. Passwords that are good at once stand side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/units.h"
#include "pg/scram_verifier.h"

namespace carpool::proxy {

// Who signs in, and where. The same password may be good for one and not for another.
struct Claimant {
  std::string database;  // as clients name it
  std::string user;
  std::string replication;  // as pg::replication_meant() says: pg_hba.conf has lines of its own
  auto operator<=>(const Claimant&) const = default;
};

class Vouchers {
 public:
  // A hash of a password that tells nothing of it.
  using Mark = pg::ScramKey;

  // Claimants that are remembered; the one that PostgreSQL has answered for longest ago goes.
  static constexpr std::size_t kClaimantsMax = 10'000;
  // Passwords of one claimant: tokens that a cloud hands out are good for minutes, and many.
  static constexpr std::size_t kPasswordsMax = 8;
  // While PostgreSQL cannot be asked, its last word stands for so many times `auth.recheck`.
  static constexpr Micros kLastWordRechecks = 10;

  enum class Word : std::uint8_t { Unknown, Old, Fresh };
  struct Answer {
    Word word = Word::Unknown;
    Micros taken_us = 0;  // when PostgreSQL took it last; not for Unknown
  };

  // `recheck_us` 0: nothing is ever Fresh, and the last word never stands.
  Answer ask(const Claimant& who, const Mark& mark, Micros now, Micros recheck_us) const;

  // Whether PostgreSQL has taken it at any time, and not refused it since.
  bool knows(const Claimant& who, const Mark& mark) const;

  void taken(const Claimant& who, const Mark& mark, Micros now);
  // PostgreSQL refuses this password of this user, so that it holds for replication, too. Whether
  // it vouched for anything.
  bool refused(const Claimant& who, const Mark& mark);
  // Those of whom that is true: their database is elsewhere now, where nobody has vouched for
  // anybody.
  template <typename Of>
  void forget(const Of& of) {
    std::erase_if(passwords_, [&of](const auto& entry) { return of(entry.first); });
  }

 private:
  struct Password {
    Mark mark;
    Micros taken_us;
  };
  void make_room();

  // No list is empty; the newest stands last.
  std::map<Claimant, std::vector<Password>> passwords_;
};

}  // namespace carpool::proxy
