// Gatekeeper: what decides who may sign in: the users' secrets and the certificate that clients
// see. What PostgreSQL decides is Passthrough's. It reads the mounted files, at the start and when
// they change; a file that has become bad leaves the old content in force. It talks to no client;
// SignIn does, one for each.
//
// Once clients are served, files are read on a thread of libuv's pool: a users' file may call for
// thousands of PBKDF2. One reading at a time; what it made is taken over between two turns.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

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
  // Nothing is taken over or told any more.
  void close() { alive_.reset(); }

  // Null: TLS is not spoken here.
  const std::shared_ptr<net::TlsContext>& tls() const { return tls_; }

  // Bytes that only this process can make out of `seed`, always the same.
  pg::ScramKey derive(ByteSpan seed) const { return pg::hmac_sha256(derive_secret_, seed); }

  pg::ScramExchange::Start scram_start(const std::string& user, bool under_tls) const;

 private:
  struct Credentials;  // what the files said

  // `salt_secret`: that of now, which stays where there is nothing to derive it from.
  static Result<Credentials> read(const config::Config& config, const Bytes& salt_secret);
  void take(Credentials credentials);
  pg::ScramShape mock_shape(const std::string& user) const;

  net::Loop& loop_;
  std::string seen_;
  std::uint32_t iterations_ = 4096;
  std::shared_ptr<net::TlsContext> tls_;
  std::optional<pg::Users> users_;
  bool loading_ = false;
  Bytes salt_secret_;          // random until it is derived: see salt_secret.h
  const Bytes derive_secret_;  // of this process
  std::shared_ptr<int> alive_ = std::make_shared<int>();  // for what comes later; null: closed
};

}  // namespace carpool::proxy
