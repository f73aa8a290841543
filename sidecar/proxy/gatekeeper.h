// Gatekeeper: what decides who may sign in: the users' secrets, the certificate that clients see,
// and the passwords that PostgreSQL has vouched for. It reads the mounted files, at the start and
// when they change; a file that has become bad leaves the old content in force. It talks to no
// client; SignIn does, one for each.
//
// Once clients are served, files are read on a thread of libuv's pool: a users' file may call for
// thousands of PBKDF2. One reading at a time; what it made is taken over between two turns.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/units.h"
#include "config/config.h"
#include "net/loop.h"
#include "net/tls.h"
#include "pg/scram.h"
#include "pg/scram_verifier.h"
#include "pg/users_file.h"

namespace carpool::proxy {

class Gatekeeper {
 public:
  // Passwords that are tried on PostgreSQL at once; the others wait for their turn.
  static constexpr std::uint32_t kTrialsMax = 4;
  static constexpr std::size_t kVouchedMax = 10'000;

  explicit Gatekeeper(net::Loop& loop);

  // What the configuration and its files say about signing in, as a hash; a file that cannot be
  // read counts as empty.
  static std::string fingerprint(const config::Config& config);
  // Of what was read last, be it good or bad.
  const std::string& fingerprint() const { return seen_; }

  // At the start: reads the files, and blocks meanwhile.
  Status load(const config::Config& config);
  // Later: `done` is called on the loop, once, unless this is closed by then. Not while loading().
  void load_later(const config::Config& config, std::function<void(const Status&)> done);
  bool loading() const { return loading_; }
  // Nothing is taken over, tried or told any more.
  void close() { alive_.reset(); }

  // Null: TLS is not spoken here.
  const std::shared_ptr<net::TlsContext>& tls() const { return tls_; }

  // Bytes that only this process can make out of `seed`, always the same.
  pg::ScramKey derive(ByteSpan seed) const { return pg::hmac_sha256(derive_secret_, seed); }

  pg::ScramExchange::Start scram_start(const std::string& user, bool under_tls) const;

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
  struct Credentials;  // what the files said

  static Result<Credentials> read(const config::Config& config, ByteSpan salt_secret);
  void take(Credentials credentials);
  void run_trials();
  pg::ScramShape mock_shape(const std::string& user) const;

  net::Loop& loop_;
  std::string seen_;
  std::uint32_t iterations_ = 4096;
  std::shared_ptr<net::TlsContext> tls_;
  std::optional<pg::Users> users_;
  bool loading_ = false;
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
