// ScramVerifier: what a server keeps of a password to check SCRAM-SHA-256, as PostgreSQL's
// pg_authid.rolpassword has it. From it the password cannot be read, but it is secret all the
// same: who has it and listens to one exchange can pose as the user.
//
//   SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>      salt and keys in base64
//
// RFC 5802 (SCRAM), RFC 7677 (SHA-256); PostgreSQL's src/common/scram-common.c.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace carpool::pg {

inline constexpr std::size_t kScramKeyBytes = 32;
inline constexpr std::size_t kScramSaltBytes = 16;  // of the salts made here; others may differ
inline constexpr std::size_t kScramSaltBytesMax = 256;
inline constexpr std::uint32_t kScramIterationsMax = 100'000'000;

using ScramKey = std::array<std::uint8_t, kScramKeyBytes>;

struct ScramVerifier {
  std::uint32_t iterations = 0;
  Bytes salt;
  ScramKey stored_key{};
  ScramKey server_key{};

  bool operator==(const ScramVerifier&) const = default;
};

// Whether the text is meant as a verifier, be it a good one or not.
bool looks_like_verifier(std::string_view text);

Result<ScramVerifier> parse_verifier(std::string_view text);
std::string to_string(const ScramVerifier& verifier);

// From a password; takes about a millisecond for 4096 iterations.
//
// PostgreSQL and libpq pass the password through SASLprep first, and take it raw where that refuses
// it. For ASCII, control characters included, both come to the password itself, which is what this
// takes. Of other passwords it takes the bytes as they are, too: right for what is not UTF-8 and
// for what SASLprep leaves alone (it folds compatibility forms, no-break spaces and soft hyphens).
// For the rest, needs_saslprep() says that a verifier made by PostgreSQL is the safe choice.
// `salt` is neither empty nor longer than kScramSaltBytesMax, `iterations` from 1 to
// kScramIterationsMax; both are CHECKed.
ScramVerifier make_verifier(std::string_view password, ByteSpan salt, std::uint32_t iterations);

// Whether SASLprep could change the password: it is UTF-8 and not ASCII.
bool needs_saslprep(std::string_view password);

// A salt that is always the same for a user and tells nothing without the secret. The same for
// users with a password and for users that do not exist, so that neither a first look nor the
// adding of a user shows which is which.
Bytes salt_for_user(ByteSpan secret, std::string_view user);

// What a stranger sees of a verifier before the proof.
struct ScramShape {
  std::uint32_t iterations = 0;
  std::size_t salt_bytes = kScramSaltBytes;
  auto operator<=>(const ScramShape&) const = default;
};

// One of those shapes for a user that does not exist, by a draw of lots among all of them: where
// one comes or goes, only who drew that one changes. Nullopt where there are none.
std::optional<ScramShape> shape_for_user(ByteSpan secret, std::string_view user,
                                         std::span<const ScramShape> shapes);

// For a user that does not exist: looks like one that has that shape, and no password fits.
ScramVerifier mock_verifier(ByteSpan secret, std::string_view user, ScramShape shape);

// Strict: no white space, and only the text that encode_base64 gives.
std::string encode_base64(ByteSpan bytes);
Result<Bytes> decode_base64(std::string_view text);

// HMAC-SHA-256 of the parts joined.
ScramKey hmac_sha256(ByteSpan key, ByteSpan message);

// SHA-256.
ScramKey sha256(ByteSpan message);

}  // namespace carpool::pg
