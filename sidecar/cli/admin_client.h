// Asks a running sidecar over HTTP. It keeps no connection and never retries; whoever wants that
// (wait, --watch) asks again.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/units.h"

namespace carpool::cli {

inline constexpr const char* kDefaultAdmin = "127.0.0.1:9930";
inline constexpr const char* kDefaultControl = "127.0.0.1:9931";
// The sidecar gives its loop a second; past this it is not going to answer.
inline constexpr Micros kAnswer_us_max = 3 * kMicrosPerSecond;

// Exit codes of the commands that ask a sidecar; status --check uses Nagios' 0 to 3.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUnreachable = 3;

struct Endpoint {
  std::string host;  // without brackets
  std::uint16_t port = 0;
  std::string text() const;  // "127.0.0.1:9930", "[::1]:9930"
};

// "HOST:PORT", "[::1]:9930" or "http://HOST:PORT/".
Result<Endpoint> parse_endpoint(const std::string& text);

struct Reply {
  int status = 0;
  std::string body;
};

// `path` with its query, encoded. An Error says that nobody answered, and what could help.
Result<Reply> get(const Endpoint& endpoint, const std::string& path);
Result<Reply> post(const Endpoint& endpoint, const std::string& path);

// For a query's value: everything but letters, digits and -._~ becomes %XX (RFC 3986).
std::string percent_encoded(const std::string& text);

// The "error" of a JSON answer, or the status where there is none.
std::string error_of(const Reply& reply);

}  // namespace carpool::cli
