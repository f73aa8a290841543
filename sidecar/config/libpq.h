// What Carpool knows of libpq without including it: the parameters of a connection, the variables
// of the environment that stand for them, and which of their values libpq refuses. Pure values and
// functions. It never connects, and never reads a file; libpq has the last word, and tests hold
// these lists against it (tests/proxy/libpq_test.cpp).
// Invariant: no message holds any part of a value, which may be the end of a mistyped password.
//
// Source: PostgreSQL manual, "Parameter Key Words" and "Environment Variables" of libpq, 15 to 18.
#pragma once

#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace carpool::config {

// The newest of which the lists know everything.
inline constexpr int kNewestLibpq = 18;

// The libpq that will read what is configured.
struct Libpq {
  int version = kNewestLibpq;                   // its major one
  std::set<std::string, std::less<>> keywords;  // its parameters; empty: the list's, of `version`

  bool knows(std::string_view keyword) const;
};

struct LibpqParameter {
  std::string_view name;
  int since = 0;              // libpq's major version; 0: each that Carpool is built with
  std::string_view variable;  // of the environment; empty: none
  bool secret = false;        // its value is never shown
  // What is wrong with a value, to stand behind the parameter's name; empty: nothing.
  std::string (*problem)(std::string_view value, const Libpq& libpq) = nullptr;
};

std::span<const LibpqParameter> libpq_parameters();

// Null where no libpq up to kNewestLibpq has it.
const LibpqParameter* find_parameter(std::string_view name);

// How `sslmode` was called before there was one, and is still taken by libpq: "1..." is require.
inline constexpr std::string_view kRequireSsl = "requiressl";
inline constexpr const char* kRequireSslVariable = "PGREQUIRESSL";
inline bool asks_for_tls(std::string_view require_ssl) {
  return require_ssl.starts_with('1');
}

// What libpq sends of the environment besides its parameters, and the setting that it is.
struct LibpqSetting {
  const char* variable;
  const char* setting;
};
std::span<const LibpqSetting> libpq_settings();

// A whole number as libpq reads one: with spaces around it, within 32 bits.
std::optional<int> libpq_number(std::string_view text);

// The methods that `require_auth` leaves, "none" among them; empty where it is not valid.
std::set<std::string_view> methods_left(std::string_view require_auth);

}  // namespace carpool::config
