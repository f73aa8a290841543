#include "proxy/gatekeeper.h"

#include <openssl/rand.h>

#include <utility>

#include "base/check.h"

namespace carpool::proxy {
namespace {

Bytes random_bytes(std::size_t n) {
  Bytes bytes(n);
  CHECK(RAND_bytes(bytes.data(), static_cast<int>(n)) == 1);
  return bytes;
}

}  // namespace

Gatekeeper::Gatekeeper() : derive_secret_(random_bytes(32)) {
  credentials_.salt_secret = random_bytes(32);
}

void Gatekeeper::take(const Credentials& credentials) {
  for (const CredentialsPart part : kCredentialsParts) take(part, credentials);
}

void Gatekeeper::take(CredentialsPart part, Credentials credentials) {
  credentials_.take(part, std::move(credentials));
}

bool Gatekeeper::still_knows(const std::string& user, const pg::ScramVerifier& verifier) const {
  const std::optional<pg::Users>& users = credentials_.users;
  const pg::ScramVerifier* now = users ? users->find(user) : nullptr;
  return now != nullptr && *now == verifier;
}

pg::ScramExchange::Start Gatekeeper::scram_start(const std::string& user,
                                                 const net::TlsContext* shown) const {
  pg::ScramExchange::Start start;
  start.user = user;
  const std::optional<pg::Users>& users = credentials_.users;
  const pg::ScramVerifier* verifier = users ? users->find(user) : nullptr;
  start.user_exists = verifier != nullptr;
  // The same work either way, whether the user exists or not.
  const pg::ScramVerifier mock =
      pg::mock_verifier(credentials_.salt_secret, user, mock_shape(user));
  start.verifier = verifier != nullptr ? *verifier : mock;
  start.server_nonce = pg::encode_base64(random_bytes(pg::kScramNonceBytes));
  if (shown != nullptr) start.channel_binding = pg::tls_server_end_point(shown->certificate());
  return start;
}

// A user that does not exist looks as those do that exist, and always the same: else an iteration
// count or a salt's length that only real users have would tell them apart.
pg::ScramShape Gatekeeper::mock_shape(const std::string& user) const {
  const pg::ScramShape standard{.iterations = credentials_.scram_iterations};
  const std::optional<pg::Users>& users = credentials_.users;
  return users ? pg::shape_for_user(credentials_.salt_secret, user, users->shapes())
                     .value_or(standard)
               : standard;
}

}  // namespace carpool::proxy
