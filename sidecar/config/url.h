// A connection string taken apart as far as the loader needs it: to say what is wrong with it, to
// know what it decides by itself, and to hide its password. Both of libpq's forms: postgres://
// URLs and "host=... dbname=..." (PostgreSQL manual, "Connection Strings"). libpq itself has the
// last word when it connects; this never resolves a name or reads a service file.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/libpq.h"

namespace carpool::config {

// libpq's parameter names ("host", "port", "dbname", "user", "password", "sslmode", ...) and their
// values, percent-decoded. What the string does not give is absent, and so is what it gives as
// nothing.
using UrlParts = std::map<std::string, std::string>;

// The most parameters of one connection string.
inline constexpr std::size_t kUrlParts_max = 100;

// A parameter of libpq, and the key of ours that says the same.
struct UrlDecides {
  const char* parameter;
  const char* path;
};
inline constexpr std::array<UrlDecides, 12> kUrlDecides = {{
    {"host", "server.host"},
    {"hostaddr", "server.host"},
    {"port", "server.port"},
    {"dbname", "server.database"},
    {"user", "server.user"},
    {"password", "server.password"},
    {"sslmode", "server.sslMode"},
    {"sslrootcert", "server.sslRootCert"},
    {"sslcert", "server.sslCert"},
    {"sslkey", "server.sslKey"},
    {"target_session_attrs", "server.targetSessionAttrs"},
    {"options", "server.options"},
}};

// As that libpq takes it apart. The error completes "server.url: ..." and never holds any part of a
// password.
Result<UrlParts> parse_url(std::string_view url, const Libpq& libpq = {});

// Whether it is a postgres:// URL, and no `name=value` string; and whether that has a `?` behind
// its host and path.
bool is_uri(std::string_view url);
bool has_query(std::string_view url);

// The same string with every password in it replaced by ***, also where it cannot be parsed.
std::string mask_url(std::string_view url);

}  // namespace carpool::config
