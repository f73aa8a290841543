// Gatekeeper: what decides who may sign in: the users' secrets and the certificate that clients
// see. What PostgreSQL decides is Passthrough's. It opens no file: what they say is handed to it
// (Credentials), and holds until the next. It talks to no client; SignIn does, one for each.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/tls.h"
#include "pg/scram.h"
#include "pg/scram_verifier.h"
#include "pg/users_file.h"
#include "proxy/credentials.h"

namespace carpool::proxy {

class Gatekeeper {
 public:
  Gatekeeper();

  // In force from now on; until the first, nobody signs in by a users' file and no TLS is spoken.
  void take(const Credentials& credentials);
  // That part of them, and the other stays.
  void take(CredentialsPart part, Credentials credentials);
  // From which the salts of users are made that a users' file gives in plain, and of those that
  // there are not; for who reads the file. Random until Credentials bring one.
  const Bytes& salt_secret() const { return credentials_.salt_secret; }

  // Null: TLS is not spoken here.
  const std::shared_ptr<net::TlsContext>& tls() const { return credentials_.tls; }

  // Bytes that only this process can make out of `seed`, always the same.
  pg::ScramKey derive(ByteSpan seed) const { return pg::hmac_sha256(derive_secret_, seed); }

  // `shown`: what the client's handshake was with, which may not be tls() any more; null: it came
  // in clear.
  pg::ScramExchange::Start scram_start(const std::string& user, const net::TlsContext* shown) const;
  // Whether the users' file that is in force now has this user with this very secret.
  bool still_knows(const std::string& user, const pg::ScramVerifier& verifier) const;

 private:
  pg::ScramShape mock_shape(const std::string& user) const;

  Credentials credentials_;
  const Bytes derive_secret_;  // of this process
};

}  // namespace carpool::proxy
