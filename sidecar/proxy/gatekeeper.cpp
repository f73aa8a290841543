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

}  // namespace

struct Gatekeeper::Credentials {
  std::uint32_t iterations = 4096;
  std::shared_ptr<net::TlsContext> tls;
  std::optional<pg::Users> users;
  std::string users_file;
};

Gatekeeper::Gatekeeper(net::Loop& loop)
    : loop_(loop), salt_secret_(random_bytes(32)), derive_secret_(random_bytes(32)) {}

std::string Gatekeeper::fingerprint(const config::Config& config) {
  const config::Tls& tls = config.listen.tls;
  Bytes all;
  append_u32(all, static_cast<std::uint32_t>(config.auth.mode));
  append_u32(all, static_cast<std::uint32_t>(tls.mode));
  append_u32(all, config.auth.scram_iterations);
  for (const std::string* path :
       {&config.auth.users_file, &tls.cert_file, &tls.key_file, &tls.ca_file}) {
    append_cstring(all, *path);
    if (path->empty()) continue;
    if (const Result<std::string> text = config::read_file(*path)) append_text(all, *text);
  }
  const pg::ScramKey hash = pg::sha256(all);
  return std::string(hash.begin(), hash.end());
}

// On any thread: it touches nothing of a Gatekeeper.
Result<Gatekeeper::Credentials> Gatekeeper::read(const config::Config& config,
                                                 ByteSpan salt_secret) {
  Credentials made;
  made.iterations = config.auth.scram_iterations;
  made.users_file = config.auth.users_file;
  if (config.listen.tls.mode != config::TlsMode::Disable) {
    Result<std::unique_ptr<net::TlsContext>> loaded = net::TlsContext::load(config.listen.tls);
    if (!loaded) return loaded.error();
    made.tls = std::move(*loaded);
  }
  if (config.auth.mode == config::AuthMode::ScramSha256) {
    const Result<std::string> text = config::read_file(config.auth.users_file);
    if (!text)
      return Error{"auth.usersFile " + config.auth.users_file + ": " + text.error().message};
    Result<pg::Users> parsed = pg::Users::parse(*text, {salt_secret, config.auth.scram_iterations});
    if (!parsed)
      return Error{"auth.usersFile " + config.auth.users_file + ": " + parsed.error().message};
    made.users = std::move(*parsed);
  }
  return made;
}

void Gatekeeper::take(Credentials credentials) {
  iterations_ = credentials.iterations;
  tls_ = std::move(credentials.tls);
  users_ = std::move(credentials.users);
  if (!users_) return;
  for (const std::string& warning : users_->warnings()) {
    log::warn("auth.usersFile", {{"file", credentials.users_file}, {"warning", warning}});
  }
}

Status Gatekeeper::load(const config::Config& config) {
  seen_ = fingerprint(config);
  Result<Credentials> made = read(config, salt_secret_);
  if (!made) return made.error();
  take(std::move(*made));
  return Ok{};
}

void Gatekeeper::load_later(const config::Config& config, std::function<void(const Status&)> done) {
  CHECK(!loading_);
  loading_ = true;
  struct Job {
    config::Config config;
    Bytes salt_secret;
    std::string fingerprint;
    std::optional<Result<Credentials>> made;
  };
  auto job = std::make_shared<Job>(Job{config, salt_secret_, {}, {}});
  loop_.run_blocking(
      [job] {
        job->fingerprint = fingerprint(job->config);
        job->made = read(job->config, job->salt_secret);
      },
      [this, job, done = std::move(done), alive = std::weak_ptr(alive_)] {
        if (alive.expired()) return;
        loading_ = false;
        seen_ = job->fingerprint;
        if (!*job->made) return done(job->made->error());
        take(std::move(**job->made));
        done(Ok{});
      });
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
