// Users: who may sign in and with what, from a file in the format of PgBouncer's userlist.txt. The
// text goes in, a value comes out; reading and watching the file is another's.
//
//   "alice" "SCRAM-SHA-256$4096:...$...:..."     ; a verifier, as in pg_authid.rolpassword
//   "bob"   "a plain password"
//   "carol" ""                                   ; lets nobody in, and is warned of
//
// A quote inside a text is doubled. Empty lines and lines that start with ";" or "#" are passed
// over, and so is what follows the second text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "pg/scram_verifier.h"

namespace carpool::pg {

inline constexpr std::size_t kUsersMax = 100'000;
inline constexpr std::size_t kUserNameBytesMax = 1024;
// As long as PostgreSQL takes one in a message (PG_MAX_AUTH_TOKEN_LENGTH, less length and zero).
inline constexpr std::size_t kUserPasswordBytesMax = 65'535 - 4 - 1;

class Users {
 public:
  struct Secrets {
    ByteSpan salt_secret;  // see salt_for_user(); read during parse() only
    std::uint32_t iterations;
  };

  // An error names the line and never a secret. Takes a PBKDF2 for each plain password (about a
  // millisecond each): for a thread of its own, but at the start.
  static Result<Users> parse(std::string_view text, const Secrets& secrets);

  // Null: no such user. Valid as long as this.
  const ScramVerifier* find(std::string_view user) const;
  std::size_t size() const { return verifiers_.size(); }
  // What the challenges of the users look like, each look once; empty where there is no user.
  const std::vector<ScramShape>& shapes() const { return shapes_; }
  // For people, by line: passwords that SASLprep could change (see make_verifier()), and empty
  // ones.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void note_shape(ScramShape shape);
  void warn(std::size_t line, const std::string& what);

  std::unordered_map<std::string, ScramVerifier> verifiers_;
  std::vector<ScramShape> shapes_;  // in their order
  std::vector<std::string> warnings_;
};

}  // namespace carpool::pg
