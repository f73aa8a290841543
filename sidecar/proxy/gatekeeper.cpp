#include "proxy/gatekeeper.h"

#include <openssl/crypto.h>
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

Gatekeeper::Gatekeeper(net::Loop& loop)
    : loop_(loop), salt_secret_(random_bytes(32)), derive_secret_(random_bytes(32)) {}

void Gatekeeper::take(Credentials credentials) {
  iterations_ = credentials.scram_iterations;
  tls_ = std::move(credentials.tls);
  users_ = std::move(credentials.users);
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
  if (!users_ || users_->shapes().empty()) return {.iterations = iterations_};
  Bytes message;
  append_text(message, "shape ");
  append_text(message, user);
  const pg::ScramKey key = pg::hmac_sha256(salt_secret_, message);
  return users_->shapes()[load_u32(key.data()) % users_->shapes().size()];
}

bool Gatekeeper::vouched(const std::string& database, const std::string& user,
                         const std::string& password, Micros age_max_us) const {
  const auto found = vouched_.find({database, user});
  if (found == vouched_.end()) return false;
  if (age_max_us > 0 && loop_.now_us() - found->second.since_us >= age_max_us) return false;
  const pg::ScramKey key = pg::hmac_sha256(salt_secret_, as_bytes(password));
  return CRYPTO_memcmp(key.data(), found->second.hash.data(), key.size()) == 0;
}

void Gatekeeper::vouch(const std::string& database, const std::string& user,
                       const std::string& password) {
  if (vouched_.size() >= kVouchedMax) vouched_.clear();
  vouched_[{database, user}] = {pg::hmac_sha256(salt_secret_, as_bytes(password)), loop_.now_us()};
}

void Gatekeeper::begin_era() {
  ++era_;
  vouched_.clear();
}

void Gatekeeper::disown(const std::string& database, const std::string& user) {
  vouched_.erase({database, user});
}

void Gatekeeper::begin_trial(std::weak_ptr<std::function<void()>> trial) {
  trials_waiting_.push_back(std::move(trial));
  run_trials();
}

void Gatekeeper::end_trial() {
  CHECK(trials_ > 0);
  trials_--;
  if (trials_waiting_.empty()) return;
  // Not from inside: the one that ends is still on the stack.
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) run_trials();
  });
}

void Gatekeeper::run_trials() {
  while (!trials_waiting_.empty() && trials_ < kTrialsMax) {
    const auto next = trials_waiting_.front().lock();
    trials_waiting_.pop_front();
    if (next == nullptr) continue;  // its client has gone
    trials_++;
    (*next)();
  }
}

}  // namespace carpool::proxy
