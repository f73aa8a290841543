#include "proxy/gatekeeper.h"

#include <openssl/rand.h>

#include "base/check.h"

namespace carpool::proxy {
namespace {

Bytes random_bytes(std::size_t n) {
  Bytes bytes(n);
  CHECK(RAND_bytes(bytes.data(), static_cast<int>(n)) == 1);
  return bytes;
}

}  // namespace

Gatekeeper::Gatekeeper() : salt_secret_(random_bytes(32)), derive_secret_(random_bytes(32)) {}

void Gatekeeper::take(Credentials credentials) {
  iterations_ = credentials.scram_iterations;
  tls_ = std::move(credentials.tls);
  users_ = std::move(credentials.users);
  if (!credentials.salt_secret.empty()) salt_secret_ = std::move(credentials.salt_secret);
}

bool Gatekeeper::still_knows(const std::string& user, const pg::ScramVerifier& verifier) const {
  const pg::ScramVerifier* now = users_ ? users_->find(user) : nullptr;
  return now != nullptr && *now == verifier;
}

pg::ScramExchange::Start Gatekeeper::scram_start(const std::string& user, bool under_tls) const {
  pg::ScramExchange::Start start;
  start.user = user;
  const pg::ScramVerifier* verifier = users_ ? users_->find(user) : nullptr;
  start.user_exists = verifier != nullptr;
  // The same work either way, whether the user exists or not.
  const pg::ScramVerifier mock = pg::mock_verifier(salt_secret_, user, mock_shape(user));
  start.verifier = verifier != nullptr ? *verifier : mock;
  start.server_nonce = pg::encode_base64(random_bytes(pg::kScramNonceBytes));
  if (under_tls && tls_ != nullptr) {
    start.channel_binding = pg::tls_server_end_point(tls_->certificate());
  }
  return start;
}

// A user that does not exist looks as those do that exist, and always the same: else an iteration
// count or a salt's length that only real users have would tell them apart.
pg::ScramShape Gatekeeper::mock_shape(const std::string& user) const {
  const pg::ScramShape standard{.iterations = iterations_};
  return users_ ? pg::shape_for_user(salt_secret_, user, users_->shapes()).value_or(standard)
                : standard;
}

}  // namespace carpool::proxy
