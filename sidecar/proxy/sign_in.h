// SignIn: one client's way in, from its startup packet until it is known or turned away, as
// auth.mode says. Messages in, messages out; it neither reads nor writes the client itself.
//
//   trust           nothing is asked
//   scram-sha-256   SASL, against the users' file
//   passthrough     its password, which PostgreSQL has taken before, or is tried on it
//
// Where PostgreSQL is full or cannot be reached, it waits as a client that is trusted waits: until
// pool.acquireTimeout.
//
// Lifetime: owned by its client, only while that is Authenticating. After `done` has been called
// it is to be destroyed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "config/config.h"
#include "net/loop.h"
#include "net/timer.h"
#include "pg/framer.h"
#include "pg/scram.h"
#include "proxy/gatekeeper.h"
#include "proxy/passthrough.h"

namespace carpool::proxy {

// PostgreSQL's own words, whatever the reason is.
std::string wrong_password(const std::string& user);

class SignIn {
 public:
  struct Refusal {
    std::string sqlstate;
    std::string message;
    bool protocol_error = false;
  };
  // Null: the client is who it says. Called once, and never from inside begin().
  using Done = std::function<void(const Refusal*)>;
  // Who decides.
  struct Doors {
    net::Loop& loop;
    Gatekeeper& gatekeeper;
    Passthrough& passthrough;
  };
  // The doors must outlive it. `asked_for`: the database by the name that the client gave.
  SignIn(const Doors& doors, Claimant who, std::string asked_for, Done done);
  SignIn(const SignIn&) = delete;
  SignIn& operator=(const SignIn&) = delete;

  // What to ask the client first. `shown`: the context of its TLS; null: it came in clear.
  void begin(const config::Auth& auth, const net::TlsContext* shown, Bytes& out);
  // A message of type 'p' (its body). Appends what to answer.
  void on_message(ByteSpan body, Bytes& out);
  // The longest message that is taken now, its type included.
  std::uint32_t message_max() const;

  // The password that PostgreSQL has taken, in passthrough, and when; else empty.
  const std::string& password() const { return claim_.password; }
  Micros taken_us() const { return taken_us_; }

  // What stands for that password, in passthrough.
  const std::optional<Passthrough::Word>& word() const { return word_; }
  // What its password was checked against, in scram-sha-256.
  const std::optional<pg::ScramVerifier>& verifier() const { return verifier_; }

  // The client has said all, and PostgreSQL has not answered yet.
  bool waits_for_postgres() const { return waiting_ != nullptr; }

 private:
  void take_password(ByteSpan body);
  void ask_postgres();
  void told(const Passthrough::Verdict& verdict);
  void let_in(Micros taken_us);
  void refuse(const Refusal& refusal);
  void refuse_password();
  void refuse_as_postgres(const Passthrough::Verdict& verdict);
  void be_late(Micros limit_us);
  void refuse_late(Micros limit_us);

  const Doors doors_;
  const std::string asked_for_;
  Done done_;
  std::optional<pg::ScramExchange> scram_;
  std::optional<pg::ScramVerifier> verifier_;
  Passthrough::Claim claim_;
  std::optional<Passthrough::Word> word_;
  std::shared_ptr<Passthrough::Waiting> waiting_;  // set while PostgreSQL is being asked
  net::Timer deadline_;
  ConnectFailure no_answer_;  // why there has been none yet
  Micros recheck_us_ = 0;
  Micros taken_us_ = 0;
};

}  // namespace carpool::proxy
