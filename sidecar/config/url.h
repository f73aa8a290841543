// A connection string taken apart as far as the loader needs it: to say what is wrong with it, to
// know what it decides by itself, and to hide its password. Both of libpq's forms: postgres://
// URLs and "host=... dbname=..." (PostgreSQL manual, "Connection Strings"). libpq itself has the
// last word when it connects; this never resolves a name or reads a service file.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace carpool::config {

// libpq's parameter names ("host", "port", "dbname", "user", "password", "sslmode", ...) and their
// values, percent-decoded. What the string does not give is absent.
using UrlParts = std::map<std::string, std::string>;

// The most parameters of one connection string.
inline constexpr std::size_t kUrlParts_max = 100;

// The error completes "server.url: ..." and never holds any part of a password.
Result<UrlParts> parse_url(std::string_view url);

// The same string with every password in it replaced by ***, also where it cannot be parsed.
std::string mask_url(std::string_view url);

}  // namespace carpool::config
