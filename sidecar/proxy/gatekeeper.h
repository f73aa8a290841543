// Gatekeeper: what decides who may sign in: the users' secrets, the certificate that clients see,
// and the passwords that PostgreSQL has vouched for. It reads the mounted files, at the start and
// when they change; a file that has become bad leaves the old content in force. It talks to no
// client; SignIn does, one for each.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
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

  // Reads the files. At the start an error is the end; later the old content stays.
  Status load(const config::Config& config);

  // Whether the files say something else than when they were looked at last.
  bool changed(const config::Config& config);

  // Null: TLS is not spoken here.
  const std::shared_ptr<net::TlsContext>& tls() const { return tls_; }

  // Bytes that only this process can make out of `seed`, always the same.
  pg::ScramKey derive(ByteSpan seed) const { return pg::hmac_sha256(derive_secret_, seed); }

  pg::ScramExchange::Start scram_start(const std::string& user, bool under_tls) const;

  // Whether PostgreSQL has taken this password for this database and user.
  bool vouched(const std::string& database, const std::string& user,
               const std::string& password) const;
  void vouch(const std::string& database, const std::string& user, const std::string& password);
  // PostgreSQL no longer takes it.
  void disown(const std::string& database, const std::string& user);

  // Runs `trial` when there is room for one more; end_trial() must follow. One that is gone by then
  // is passed over.
  void begin_trial(std::weak_ptr<std::function<void()>> trial);
  void end_trial();

 private:
  using Key = std::pair<std::string, std::string>;

  net::Loop& loop_;
  std::string seen_;  // the files' contents, as a hash
  config::AuthMode mode_ = config::AuthMode::Trust;
  std::uint32_t iterations_ = 4096;
  std::shared_ptr<net::TlsContext> tls_;
  std::optional<pg::Users> users_;
  // Of this process.
  const Bytes salt_secret_;
  const Bytes derive_secret_;
  std::map<Key, pg::ScramKey> vouched_;
  std::deque<std::weak_ptr<std::function<void()>>> trials_waiting_;
  std::uint32_t trials_ = 0;
};

}  // namespace carpool::proxy
