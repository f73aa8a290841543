#include "proxy/sign_in.h"

#include <fmt/format.h>

#include "pg/messages.h"
#include "proxy/log.h"

namespace carpool::proxy {
namespace {

constexpr std::uint32_t kAuthenticationCleartextPassword = 3;
constexpr std::size_t kPasswordMax = 1024;

}  // namespace

SignIn::SignIn(net::Loop& loop, Gatekeeper& gatekeeper, Where where, std::string database,
               std::string user, Done done)
    : loop_(loop),
      gatekeeper_(gatekeeper),
      where_(std::move(where)),
      database_(std::move(database)),
      user_(std::move(user)),
      done_(std::move(done)) {}

SignIn::~SignIn() {
  if (trying_) gatekeeper_.end_trial();
}

void SignIn::begin(config::AuthMode mode, bool under_tls, Bytes& out) {
  if (mode == config::AuthMode::ScramSha256) {
    pg::ScramExchange::Start start = gatekeeper_.scram_start(user_, under_tls);
    verifier_ = start.verifier;
    scram_.emplace(std::move(start));
    scram_->append_request(out);
    return;
  }
  const std::size_t start = pg::begin_message(out, 'R');
  append_u32(out, kAuthenticationCleartextPassword);
  pg::finish_message(out, start);
}

void SignIn::on_message(ByteSpan body, Bytes& out) {
  if (scram_) {
    const pg::ScramOutcome outcome = scram_->on_message(body, out);
    switch (outcome.step) {
      case pg::ScramOutcome::Step::Continue:
        return;
      case pg::ScramOutcome::Step::Done:
        return done_(nullptr);
      case pg::ScramOutcome::Step::Failed: {
        const Refusal refusal{std::string(outcome.sqlstate), outcome.message,
                              outcome.sqlstate == "08P01"};
        return done_(&refusal);
      }
    }
  }
  Reader reader(body);
  const std::string_view password = reader.cstring();
  if (trial_ != nullptr || !reader.ok() || !reader.rest().empty() ||
      password.size() > kPasswordMax) {
    const Refusal refusal{"08P01", "a password message that cannot be read", true};
    return done_(&refusal);
  }
  password_ = password;
  if (password_.empty()) return refuse_password();
  // It is tried again at the latest when a server opened with it would be replaced.
  const std::optional<config::Database> settings = where_();
  if (settings &&
      gatekeeper_.vouched(database_, user_, password_, settings->pool.max_lifetime_us)) {
    return done_(nullptr);
  }
  trial_ = std::make_shared<std::function<void()>>([this] { try_password(); });
  gatekeeper_.begin_trial(trial_);
}

void SignIn::try_password() {
  trying_ = true;
  era_ = gatekeeper_.era();
  const std::optional<config::Database> settings = where_();
  if (!settings) {
    const Refusal refusal{"3D000", fmt::format("database \"{}\" is not configured", database_),
                          false};
    return done_(&refusal);
  }
  connector_ =
      std::make_unique<Connector>(loop_, [this](const ConnectFailure* failure) { tried(failure); });
  config::Server as_client = settings->server;
  as_client.user = user_;
  as_client.password = password_;
  as_client.password_file.clear();
  connector_->start(as_client, database_, user_, "", 0);
}

void SignIn::tried(const ConnectFailure* failure) {
  if (gatekeeper_.era() != era_) {
    // Where the database was when this began, it may be no more. The Connector is on the stack.
    loop_.post([trial = std::weak_ptr(trial_)] {
      if (const auto again = trial.lock()) (*again)();
    });
    return;
  }
  if (failure == nullptr && !connector_->used_password()) {
    log::warn(
        "PostgreSQL lets this user in without a password, so that it vouches for none: "
        "passthrough needs a line in pg_hba.conf that asks for one",
        {{"database", database_}, {"user", user_}});
    return refuse_password();
  }
  if (failure == nullptr) {
    gatekeeper_.vouch(database_, user_, password_);
    return done_(nullptr);
  }
  if (failure->sqlstate.starts_with("28")) return refuse_password();
  const Refusal refusal{failure->sqlstate.empty() ? "08001" : failure->sqlstate, failure->message,
                        false};
  done_(&refusal);
}

// PostgreSQL's own words, whatever the reason is.
void SignIn::refuse_password() {
  const Refusal refusal{
      "28P01", fmt::format("password authentication failed for user \"{}\"", user_), false};
  done_(&refusal);
}

}  // namespace carpool::proxy
