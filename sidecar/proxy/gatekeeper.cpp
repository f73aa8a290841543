#include "proxy/gatekeeper.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "config/load.h"
#include "proxy/log.h"
#include "proxy/salt_secret.h"

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
  Bytes salt_secret;
  bool salts_last = true;  // over a restart, and in each pod
};

Gatekeeper::Gatekeeper(net::Loop& loop)
    : loop_(loop), salt_secret_(random_bytes(32)), derive_secret_(random_bytes(32)) {}

std::string Gatekeeper::fingerprint(const config::Config& config) {
  const config::Tls& tls = config.listen.tls;
  Bytes all;
  append_u32(all, static_cast<std::uint32_t>(config.auth.mode));
  append_u32(all, static_cast<std::uint32_t>(tls.mode));
  append_u32(all, config.auth.scram_iterations);
  std::vector<std::string> paths = {config.auth.users_file, tls.cert_file, tls.key_file,
                                    tls.ca_file};
  if (config.auth.mode == config::AuthMode::ScramSha256) {
    // What salts are made from.
    paths.push_back(config.auth.salt_file);
    std::vector<const config::Server*> servers = {&config.server};
    for (const config::Database& database : config.databases) servers.push_back(&database.server);
    for (const config::Server* server : servers) {
      append_cstring(all, server->password);
      append_cstring(all, server->url);
      paths.push_back(server->password_file);
    }
  }
  for (const std::string& path : paths) {
    append_cstring(all, path);
    if (path.empty()) continue;
    if (const Result<std::string> text = config::read_file(path)) append_text(all, *text);
  }
  const pg::ScramKey hash = pg::sha256(all);
  return std::string(hash.begin(), hash.end());
}

// On any thread: it touches nothing of a Gatekeeper.
Result<Gatekeeper::Credentials> Gatekeeper::read(const config::Config& config,
                                                 const Bytes& salt_secret) {
  Credentials made;
  made.iterations = config.auth.scram_iterations;
  made.users_file = config.auth.users_file;
  if (config.listen.tls.mode != config::TlsMode::Disable) {
    Result<std::unique_ptr<net::TlsContext>> loaded = net::TlsContext::load(config.listen.tls);
    if (!loaded) return loaded.error();
    made.tls = std::move(*loaded);
  }
  if (config.auth.mode == config::AuthMode::ScramSha256) {
    const Result<std::optional<Bytes>> derived = derive_salt_secret(config);
    if (!derived) return derived.error();
    made.salts_last = derived->has_value();
    made.salt_secret = derived->value_or(salt_secret);
    const Result<std::string> text = config::read_file(config.auth.users_file);
    if (!text)
      return Error{"auth.usersFile " + config.auth.users_file + ": " + text.error().message};
    Result<pg::Users> parsed =
        pg::Users::parse(*text, {made.salt_secret, config.auth.scram_iterations});
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
  salt_secret_ = std::move(credentials.salt_secret);
  if (!credentials.salts_last) {
    log::warn(
        "a restart tells which users exist: name auth.saltFile, since `server` has no password to "
        "make salts from");
  }
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
  const pg::ScramShape standard{.iterations = iterations_};
  return users_ ? pg::shape_for_user(salt_secret_, user, users_->shapes()).value_or(standard)
                : standard;
}

}  // namespace carpool::proxy
