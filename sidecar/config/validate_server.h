// What is wrong with one server's settings by themselves: values with which libpq or PostgreSQL
// refuses every connection, whatever the server is, and such as mean nothing. Pure: it takes plain
// values, and says which keys are to blame; where they stand in the file is validate.h's question.
// Invariant: no message holds any part of a password or of a url's value.
#pragma once

#include <string>
#include <vector>

#include "base/units.h"
#include "config/config.h"
#include "config/url.h"

namespace carpool::config {

struct ServerFinding {
  std::vector<const char*> keys;  // the one to blame first
  std::string message;
  bool is_error = true;  // else a warning
};
std::vector<ServerFinding> check_server(const Server& server, const Libpq& libpq);

// The first value that libpq or PostgreSQL refuses, as a message; empty: none.
std::string parameter_problem(const UrlParts& parts, const Libpq& libpq);

// libpq's seconds as `server.connectTimeout`; empty for 0 and less, which mean "for ever" to libpq,
// and for what is no number.
std::optional<Micros> connect_timeout_of(std::string_view seconds);

}  // namespace carpool::config
