// ScramExchange: the server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, bytes in and bytes out.
// It draws no random numbers, keeps no password and does not say AuthenticationOk.
//
//   client                                            this
//     <-- AuthenticationSASL                          append_request()
//     --> SASLInitialResponse: mechanism, client-first-message
//     <-- AuthenticationSASLContinue: server-first-message
//     --> SASLResponse: client-final-message
//     <-- AuthenticationSASLFinal: server-final-message, and Done
//
// Invariants. Done only when the proof fits the verifier of a user that exists. A wrong password
// and an unknown user give the same bytes after the same work, given verifiers of equal iterations
// and salt lengths. Whatever arrives costs a few hashes, never PBKDF2. After Done or Failed nothing
// is accepted any more.
//
// RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point); PostgreSQL manual, "SASL Authentication".
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "pg/scram_verifier.h"

namespace carpool::pg {

inline constexpr std::size_t kScramMessageBytesMax = 1024;  // PG_MAX_SASL_MESSAGE_LENGTH
inline constexpr std::size_t kScramNonceBytes = 18;         // random ones, before base64

struct ScramOutcome {
  enum class Step : std::uint8_t { Continue, Done, Failed };
  Step step = Step::Continue;
  // Failed only: 28P01, or 08P01 for what no honest client sends.
  std::string_view sqlstate;
  std::string message;
  std::string detail;
};

class ScramExchange {
 public:
  struct Start {
    std::string user;  // as the startup packet says; the name inside SCRAM is passed over
    ScramVerifier verifier;
    bool user_exists = true;  // false with a mock_verifier()
    // base64 of kScramNonceBytes random bytes, never used before.
    std::string server_nonce;
    // The hash of the certificate that this side has shown (tls_server_end_point()); nullopt
    // without TLS, and then SCRAM-SHA-256-PLUS is neither offered nor taken.
    std::optional<Bytes> channel_binding;
  };
  explicit ScramExchange(Start start) : start_(std::move(start)) {}

  // AuthenticationSASL with the mechanisms that are taken.
  void append_request(Bytes& out) const;

  // `body` of a message 'p', without type and length. On Continue and Done, appends the message to
  // send; on Failed nothing, since the ErrorResponse is the caller's.
  ScramOutcome on_message(ByteSpan body, Bytes& out);

 private:
  enum class State : std::uint8_t { Initial, First, Final, Closed };

  ScramOutcome on_initial(ByteSpan body, Bytes& out);
  ScramOutcome on_first(std::string_view message, Bytes& out);
  ScramOutcome on_final(std::string_view message, Bytes& out);
  ScramOutcome broken(std::string detail);
  ScramOutcome refused(std::string detail);

  Start start_;
  State state_ = State::Initial;
  bool plus_ = false;       // the client chose SCRAM-SHA-256-PLUS
  std::string gs2_header_;  // "n,,", "y,," or "p=tls-server-end-point,,"
  std::string client_first_bare_;
  std::string nonce_;  // the client's and the server's
  std::string server_first_;
};

// The channel binding data of a certificate in DER: its hash by the algorithm of its signature,
// SHA-256 where that is MD5 or SHA-1. Nullopt where the certificate or its algorithm (Ed25519 has
// none) gives no such data; then there is no channel binding.
std::optional<Bytes> tls_server_end_point(ByteSpan certificate_der);

}  // namespace carpool::pg
