// SaltSecret: what the salts of users without a verifier are made from, be they in the users' file
// or not. Who exists stays unknown only while the salt of whoever does not stays as it is: over a
// restart, in each pod, and whatever becomes of the users' file. So it is derived from what all
// pods share, and never from that file:
//
//   auth.saltFile        where it is named
//   a server's password  config::salt_source() says whose
//   neither              nullopt: it is random, and ends with this process
//
// A password is stretched by PBKDF2, since a salt is shown to strangers: who tries to guess the
// password by it pays for each guess. It changes where the password does; a saltFile need not.
#pragma once

#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "config/config.h"

namespace carpool::proxy {

inline constexpr std::size_t kSaltFileBytesMin = 16;

// Reads files, and takes some 50 ms: for a thread of its own, but at the start. An error is the
// saltFile's; a passwordFile that cannot be read is as none.
Result<std::optional<Bytes>> derive_salt_secret(const config::Config& config);

}  // namespace carpool::proxy
