// SignIn: one client's way in, from its startup packet until it is known or turned away, as
// auth.mode says. Messages in, messages out; it neither reads nor writes the client itself.
//
//   trust           nothing is asked
//   scram-sha-256   SASL, against the users' file
//   passthrough     its password, tried on PostgreSQL unless PostgreSQL has vouched for it before
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
#include "pg/scram.h"
#include "proxy/connector.h"
#include "proxy/gatekeeper.h"

namespace carpool::proxy {

class SignIn {
 public:
  struct Refusal {
    std::string sqlstate;
    std::string message;
    bool protocol_error = false;
  };
  // Null: the client is who it says. Called once, and never from inside begin().
  using Done = std::function<void(const Refusal*)>;
  // The settings of the client's database as they are now; none where it is configured no more.
  using Where = std::function<std::optional<config::Database>()>;

  // All must outlive it.
  SignIn(net::Loop& loop, Gatekeeper& gatekeeper, Where where, std::string database,
         std::string user, Done done);
  ~SignIn();
  SignIn(const SignIn&) = delete;
  SignIn& operator=(const SignIn&) = delete;

  // What to ask the client first.
  void begin(config::AuthMode mode, bool under_tls, Bytes& out);
  // A message of type 'p' (its body). Appends what to answer.
  void on_message(ByteSpan body, Bytes& out);

  // The password that PostgreSQL has taken, in passthrough; else empty.
  const std::string& password() const { return password_; }

  // What its password was checked against, in scram-sha-256.
  const std::optional<pg::ScramVerifier>& verifier() const { return verifier_; }

  // The client has said all, and PostgreSQL has not answered yet.
  bool waits_for_postgres() const { return trial_ != nullptr; }

 private:
  void try_password();
  void tried(const ConnectFailure* failure);
  void refuse_password();

  net::Loop& loop_;
  Gatekeeper& gatekeeper_;
  const Where where_;
  const std::string database_;
  const std::string user_;
  Done done_;
  std::optional<pg::ScramExchange> scram_;
  std::optional<pg::ScramVerifier> verifier_;
  std::string password_;
  std::shared_ptr<std::function<void()>> trial_;  // while it waits for its turn, or runs
  std::unique_ptr<Connector> connector_;
  std::uint64_t era_ = 0;  // of the Gatekeeper, when the trial began
  bool trying_ = false;
};

}  // namespace carpool::proxy
