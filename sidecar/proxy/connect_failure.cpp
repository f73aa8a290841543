#include "proxy/connect_failure.h"

#include <algorithm>
#include <utility>

namespace carpool::proxy {
namespace {

constexpr std::size_t kCodeSize = 5;

// Where the next SQLSTATE stands: with PQERRORS_VERBOSE libpq says "SEVERITY:  SQLSTATE: text".
std::size_t find_code(const std::string& message, std::size_t from) {
  for (std::size_t i = message.find(":  ", from); i != std::string::npos && i + 9 <= message.size();
       i = message.find(":  ", i + 1)) {
    const std::string code = message.substr(i + 3, kCodeSize);
    if (message[i + 8] == ':' &&
        code.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos) {
      return i + 3;
    }
  }
  return std::string::npos;
}

// libpq gathers what several attempts have said, each with its lines.
void remove_lines(std::string& message, const std::string& start) {
  const std::string begin = "\n" + start;
  for (std::size_t at = message.find(begin); at != std::string::npos;
       at = message.find(begin, at)) {
    message.erase(at, std::min(message.find('\n', at + 1), message.size()) - at);
  }
}

// Without what stands in quotes: names of hosts, folders and files, which are anybody's words.
std::string without_names(const std::string& message) {
  std::string rest;
  bool quoted = false;
  for (const char c : message) {
    if (c == '"') quoted = !quoted;
    if (!quoted) rest += c;
  }
  return rest;
}

}  // namespace

ConnectFailure describe_failure(std::string message) {
  ConnectFailure failure;
  // Where it happened inside PostgreSQL helps nobody.
  remove_lines(message, "LOCATION:");
  // What the last attempt has said counts, be it a code or not.
  std::size_t last = message.rfind("\nconnection to server ");
  if (last == std::string::npos) last = 0;
  std::size_t said_at = std::string::npos;
  for (std::size_t at = find_code(message, 0); at != std::string::npos;
       at = find_code(message, at)) {
    if (at > last) {
      failure.sqlstate = message.substr(at, kCodeSize);
      said_at = at;
    } else {
      last -= kCodeSize + 2;
    }
    message.erase(at, kCodeSize + 2);
  }
  if (failure.sqlstate == "53300") {
    failure.kind = pool::ConnectError::TooManyConnections;
  } else if (failure.sqlstate == "57P03") {
    failure.kind = pool::ConnectError::CannotConnectNow;
  } else if (failure.sqlstate.starts_with("28")) {
    failure.kind = pool::ConnectError::Auth;
  } else if (failure.sqlstate.empty()) {
    failure.kind = without_names(message).find("password") != std::string::npos
                       ? pool::ConnectError::Auth
                       : pool::ConnectError::Refused;
  }
  if (said_at < message.size()) {
    failure.said = message.substr(said_at);
    for (const char* more : {"\nDETAIL:", "\nHINT:"}) {
      failure.said.resize(std::min(failure.said.find(more), failure.said.size()));
    }
    while (failure.said.ends_with('\n')) failure.said.pop_back();
  }
  while (!message.empty() && message.back() == '\n') message.pop_back();
  failure.message = std::move(message);
  return failure;
}

bool ConnectFailure::permanent() const {
  // Wrong password, no such user, no such database, no right to connect.
  return unfit || kind == pool::ConnectError::Auth || sqlstate == "3D000" || sqlstate == "42501";
}

bool ConnectFailure::of_password() const {
  return sqlstate == "28P01" || (sqlstate.starts_with("28") && password_asked);
}

bool ConnectFailure::passing() const {
  if (sqlstate.empty()) return !unfit && kind != pool::ConnectError::Auth;
  // Insufficient resources, operator intervention, connection exceptions (manual, appendix A).
  return sqlstate.starts_with("53") || sqlstate.starts_with("57P") || sqlstate.starts_with("08");
}

}  // namespace carpool::proxy
