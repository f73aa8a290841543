// What the salts of a users' file are made from: something that all pods share and that no edit of
// the users' file changes.
#pragma once

#include <string>

#include "config/config.h"
#include "config/libpq.h"

namespace carpool::config {

// One of them is set.
struct SaltSource {
  std::string file;           // auth.saltFile
  std::string password;       // a server's
  std::string password_file;  // likewise
  std::string place;          // for want of a secret: where the server is, and as whom

  bool secret() const { return !file.empty() || !password.empty() || !password_file.empty(); }
  bool operator==(const SaltSource&) const = default;
};

// auth.saltFile, else the password of the section `server` (its password, passwordFile or that of
// the url), else that of the first of `databases` that has one. Where nobody has any, what is left
// keeps salts as they are over a restart, but who guesses it can tell who exists.
SaltSource salt_source(const Config& config, const Libpq& libpq);

}  // namespace carpool::config
