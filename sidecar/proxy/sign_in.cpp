#include "proxy/sign_in.h"

#include <fmt/format.h>

#include <utility>

#include "pg/messages.h"
#include "proxy/log.h"

namespace carpool::proxy {
namespace {

constexpr std::uint32_t kAuthenticationCleartextPassword = 3;

// The last `name` in quotes becomes `other`.
void rename(std::string& text, const std::string& name, const std::string& other) {
  const std::size_t at = text.rfind("\"" + name + "\"");
  if (at != std::string::npos) text.replace(at + 1, name.size(), other);
}

}  // namespace

std::string wrong_password(const std::string& user) {
  return fmt::format("password authentication failed for user \"{}\"", user);
}

SignIn::SignIn(const Doors& doors, Claimant who, std::string asked_for, Done done)
    : doors_(doors),
      asked_for_(std::move(asked_for)),
      done_(std::move(done)),
      claim_{std::move(who), ""} {}

void SignIn::begin(const config::Auth& auth, const net::TlsContext* shown, Bytes& out) {
  recheck_us_ = auth.recheck_us;
  if (auth.mode == config::AuthMode::ScramSha256) {
    pg::ScramExchange::Start start = doors_.gatekeeper.scram_start(claim_.who.user, shown);
    verifier_ = start.verifier;
    scram_.emplace(std::move(start));
    scram_->append_request(out);
    return;
  }
  const std::size_t start = pg::begin_message(out, 'R');
  append_u32(out, kAuthenticationCleartextPassword);
  pg::finish_message(out, start);
}

std::uint32_t SignIn::message_max() const {
  return scram_ ? pg::Framer::kHeaderSize + pg::kScramMessageBytesMax : pg::Framer::kPasswordMax;
}

void SignIn::on_message(ByteSpan body, Bytes& out) {
  if (!scram_) return take_password(body);
  const pg::ScramOutcome outcome = scram_->on_message(body, out);
  switch (outcome.step) {
    case pg::ScramOutcome::Step::Continue:
      return;
    case pg::ScramOutcome::Step::Done:
      return done_(nullptr);
    case pg::ScramOutcome::Step::Failed:
      return refuse({std::string(outcome.sqlstate), outcome.message, outcome.sqlstate == "08P01"});
  }
}

// ---- passthrough

void SignIn::take_password(ByteSpan body) {
  Reader reader(body);
  const std::string_view password = reader.cstring();
  if (waiting_ != nullptr || !reader.ok() || !reader.rest().empty()) {
    return refuse({"08P01", "a password message that cannot be read", true});
  }
  claim_.password = password;
  if (claim_.password.empty()) return refuse_password();
  const Vouchers::Answer answer = doors_.passthrough.ask(claim_, recheck_us_);
  if (answer.word == Vouchers::Word::Fresh) return let_in(answer.taken_us);
  ask_postgres();
  const Micros limit_us = doors_.passthrough.where(claim_.who).pool.acquire_timeout_us;
  deadline_.start(doors_.loop, limit_us, 0, [this, limit_us] { be_late(limit_us); });
}

void SignIn::ask_postgres() {
  waiting_ = doors_.passthrough.wait(
      claim_, [this](const Passthrough::Verdict& verdict) { told(verdict); });
}

void SignIn::told(const Passthrough::Verdict& verdict) {
  using Kind = Passthrough::Verdict::Kind;
  switch (verdict.kind) {
    case Kind::Taken:
      return let_in(verdict.taken_us);
    case Kind::NotAsked:
      log::warn(
          "PostgreSQL lets this user in without a password, so that it vouches for none: "
          "passthrough needs a line in pg_hba.conf that asks for one",
          {{"database", claim_.who.database}, {"user", claim_.who.user}});
      return refuse_password();
    case Kind::Refused:
      return refuse_as_postgres(verdict);
    case Kind::NoAnswer:
      break;
  }
  no_answer_ = verdict.failure;
  const Vouchers::Answer last = doors_.passthrough.ask(claim_, recheck_us_);
  if (last.word != Vouchers::Word::Unknown) return let_in(last.taken_us);
  ask_postgres();
}

void SignIn::let_in(Micros taken_us) {
  taken_us_ = taken_us;
  word_ = doors_.passthrough.word_on(claim_);
  deadline_.stop();
  waiting_.reset();
  done_(nullptr);
}

void SignIn::refuse(const Refusal& refusal) {
  deadline_.stop();
  waiting_.reset();
  done_(&refusal);
}

void SignIn::refuse_password() {
  refuse({"28P01", wrong_password(claim_.who.user), false});
}

void SignIn::refuse_as_postgres(const Passthrough::Verdict& verdict) {
  const ConnectFailure& failure = verdict.failure;
  if (failure.sqlstate == "28P01") return refuse_password();
  Refusal refusal{failure.sqlstate, failure.said, false};
  if (refusal.sqlstate.empty()) refusal = {"08001", failure.message, false};
  // Who has shown no password yet reads the name that it gave, be that configured or not.
  if (!failure.password_asked) rename(refusal.message, verdict.database, asked_for_);
  refuse(refusal);
}

// Silence is no answer, too: a trial may hang longer than this, or wait for its turn.
void SignIn::be_late(Micros limit_us) {
  const Vouchers::Answer last = doors_.passthrough.ask(claim_, recheck_us_);
  if (last.word != Vouchers::Word::Unknown) return let_in(last.taken_us);
  refuse_late(limit_us);
}

void SignIn::refuse_late(Micros limit_us) {
  // PostgreSQL being full is not PostgreSQL being away.
  const bool full = no_answer_.kind == pool::ConnectError::TooManyConnections;
  const std::string why = no_answer_.message.empty() ? "it keeps silent" : no_answer_.message;
  refuse({full ? "53300" : "08001",
          fmt::format("PostgreSQL has not said within {:.1f} s (pool.acquireTimeout) whether it "
                      "takes the password of user \"{}\": {}",
                      seconds(limit_us), claim_.who.user, why),
          false});
}

}  // namespace carpool::proxy
