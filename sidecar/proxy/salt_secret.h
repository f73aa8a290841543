// The secret that the salts of users without a verifier are made from, be they in the users' file
// or not (pg::salt_for_user()). Who exists stays unknown only while the salt of whoever does not
// stays as it is: over a restart, in each pod, and whatever becomes of the users' file. So it is
// derived from what config::salt_source() names.
//
// It is stretched by PBKDF2, which takes some 50 ms, since a salt is shown to strangers: who tries
// to guess what it is made from pays for each guess. It changes where that does.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace carpool::proxy {

inline constexpr std::size_t kSaltFileBytesMin = 16;

// The error completes "auth.saltFile PATH: ".
Result<Bytes> salt_secret_of_file(const std::string& content);
// As it is or as a file has it, with line ends behind it. Empty where the password is.
Bytes salt_secret_of_password(std::string password);
// For want of a secret. Empty where there is no place.
Bytes salt_secret_of_place(const std::string& place);

}  // namespace carpool::proxy
