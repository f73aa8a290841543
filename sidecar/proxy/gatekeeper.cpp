#include "proxy/gatekeeper.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "config/load.h"
#include "proxy/log.h"

namespace carpool::proxy {
namespace {

Bytes random_bytes(std::size_t n) {
  Bytes bytes(n);
  CHECK(RAND_bytes(bytes.data(), static_cast<int>(n)) == 1);
  return bytes;
}

// Of all files that matter; one that cannot be read counts as empty.
std::string fingerprint(const config::Config& config) {
  const config::Tls& tls = config.listen.tls;
  Bytes all;
  for (const std::string* path :
       {&config.auth.users_file, &tls.cert_file, &tls.key_file, &tls.ca_file}) {
    append_cstring(all, *path);
    if (path->empty()) continue;
    if (const Result<std::string> text = config::read_file(*path)) append_text(all, *text);
  }
  const pg::ScramKey hash = pg::sha256(all);
  return std::string(hash.begin(), hash.end());
}

}  // namespace

Gatekeeper::Gatekeeper(net::Loop& loop)
    : loop_(loop), salt_secret_(random_bytes(32)), derive_secret_(random_bytes(32)) {}

bool Gatekeeper::changed(const config::Config& config) {
  return fingerprint(config) != seen_;
}

Status Gatekeeper::load(const config::Config& config) {
  seen_ = fingerprint(config);
  std::shared_ptr<net::TlsContext> tls;
  if (config.listen.tls.mode != config::TlsMode::Disable) {
    Result<std::unique_ptr<net::TlsContext>> loaded = net::TlsContext::load(config.listen.tls);
    if (!loaded) return loaded.error();
    tls = std::move(*loaded);
  }
  std::optional<pg::Users> users;
  if (config.auth.mode == config::AuthMode::ScramSha256) {
    Result<std::string> text = config::read_file(config.auth.users_file);
    if (!text) return Error{"auth.usersFile: " + text.error().message};
    Result<pg::Users> parsed =
        pg::Users::parse(*text, {salt_secret_, config.auth.scram_iterations});
    if (!parsed)
      return Error{"auth.usersFile " + config.auth.users_file + ": " + parsed.error().message};
    for (const std::string& warning : parsed->warnings()) {
      log::warn("auth.usersFile", {{"file", config.auth.users_file}, {"warning", warning}});
    }
    users = std::move(*parsed);
  }
  mode_ = config.auth.mode;
  iterations_ = config.auth.scram_iterations;
  tls_ = std::move(tls);
  users_ = std::move(users);
  return Ok{};
}

pg::ScramExchange::Start Gatekeeper::scram_start(const std::string& user, bool under_tls) const {
  pg::ScramExchange::Start start;
  start.user = user;
  const pg::ScramVerifier* verifier = users_ ? users_->find(user) : nullptr;
  start.user_exists = verifier != nullptr;
  // The same work either way, whether the user exists or not.
  const pg::ScramVerifier mock = pg::mock_verifier(salt_secret_, user, iterations_);
  start.verifier = verifier != nullptr ? *verifier : mock;
  start.server_nonce = pg::encode_base64(random_bytes(pg::kScramNonceBytes));
  if (under_tls && tls_ != nullptr) {
    start.channel_binding = pg::tls_server_end_point(tls_->certificate());
  }
  return start;
}

bool Gatekeeper::vouched(const std::string& database, const std::string& user,
                         const std::string& password) const {
  const auto found = vouched_.find({database, user});
  if (found == vouched_.end()) return false;
  const pg::ScramKey key = pg::hmac_sha256(salt_secret_, as_bytes(password));
  return CRYPTO_memcmp(key.data(), found->second.data(), key.size()) == 0;
}

void Gatekeeper::vouch(const std::string& database, const std::string& user,
                       const std::string& password) {
  if (vouched_.size() >= kVouchedMax) vouched_.clear();
  vouched_[{database, user}] = pg::hmac_sha256(salt_secret_, as_bytes(password));
}

void Gatekeeper::disown(const std::string& database, const std::string& user) {
  vouched_.erase({database, user});
}

void Gatekeeper::begin_trial(std::weak_ptr<std::function<void()>> trial) {
  if (trials_ >= kTrialsMax) {
    trials_waiting_.push_back(std::move(trial));
    return;
  }
  trials_++;
  (*trial.lock())();
}

void Gatekeeper::end_trial() {
  CHECK(trials_ > 0);
  trials_--;
  while (!trials_waiting_.empty() && trials_ < kTrialsMax) {
    const auto next = trials_waiting_.front().lock();
    trials_waiting_.pop_front();
    if (next == nullptr) continue;  // its client has gone
    trials_++;
    // Never from inside: the one that ends is still on the stack.
    loop_.post([next] { (*next)(); });
  }
}

}  // namespace carpool::proxy
