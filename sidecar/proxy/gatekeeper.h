// Gatekeeper: what decides who may sign in: the users' secrets, the certificate that clients see,
// and the passwords that PostgreSQL has vouched for. It opens no file: what they say is handed to
// it (Credentials), and holds until the next. It talks to no client; SignIn does, one for each.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/units.h"
#include "net/loop.h"
#include "net/tls.h"
#include "pg/scram.h"
#include "pg/scram_verifier.h"
#include "pg/users_file.h"
#include "proxy/credentials.h"

namespace carpool::proxy {

class Gatekeeper {
 public:
  // Passwords that are tried on PostgreSQL at once; the others wait for their turn.
  static constexpr std::uint32_t kTrialsMax = 4;
  static constexpr std::size_t kVouchedMax = 10'000;

  explicit Gatekeeper(net::Loop& loop);

  // In force from now on; until the first, nobody signs in by a users' file and no TLS is spoken.
  void take(Credentials credentials);
  // From which the salts of users are made that a users' file gives in plain, and of those that
  // there are not; for who reads the file.
  const Bytes& salt_secret() const { return salt_secret_; }
  // Nothing is tried or told any more.
  void close() { alive_.reset(); }

  // Null: TLS is not spoken here.
  const std::shared_ptr<net::TlsContext>& tls() const { return tls_; }

  // Bytes that only this process can make out of `seed`, always the same.
  pg::ScramKey derive(ByteSpan seed) const { return pg::hmac_sha256(derive_secret_, seed); }

  pg::ScramExchange::Start scram_start(const std::string& user, bool under_tls) const;
  // Whether the users' file that is in force now has this user with this very secret.
  bool still_knows(const std::string& user, const pg::ScramVerifier& verifier) const;

  // Whether PostgreSQL has taken this password for this database and user, not longer ago than
  // `age_max_us`; 0: at any time.
  bool vouched(const std::string& database, const std::string& user, const std::string& password,
               Micros age_max_us) const;
  void vouch(const std::string& database, const std::string& user, const std::string& password);
  // PostgreSQL no longer takes it.
  void disown(const std::string& database, const std::string& user);
  // Databases may be somewhere else now, where nobody has vouched for anybody: a trial that began
  // under another era says nothing any more.
  void begin_era();
  std::uint64_t era() const { return era_; }

  // Runs `trial` when there is room for one more; end_trial() must follow. One that is gone by then
  // is passed over.
  void begin_trial(std::weak_ptr<std::function<void()>> trial);
  void end_trial();

 private:
  using Key = std::pair<std::string, std::string>;
  struct Vouched {
    pg::ScramKey hash;
    Micros since_us;
  };
  void run_trials();
  pg::ScramShape mock_shape(const std::string& user) const;

  net::Loop& loop_;
  std::uint32_t iterations_ = 4096;
  std::shared_ptr<net::TlsContext> tls_;
  std::optional<pg::Users> users_;
  // Of this process.
  const Bytes salt_secret_;
  const Bytes derive_secret_;
  std::map<Key, Vouched> vouched_;
  std::uint64_t era_ = 0;
  std::deque<std::weak_ptr<std::function<void()>>> trials_waiting_;
  std::uint32_t trials_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>();  // for what comes later; null: closed
};

}  // namespace carpool::proxy
