#include "proxy/connect_failure.h"

#include <algorithm>
#include <utility>

namespace carpool::proxy {
namespace {

// With PQERRORS_VERBOSE libpq says "SEVERITY:  SQLSTATE: text".
std::string find_sqlstate(const std::string& message) {
  for (std::size_t i = message.rfind(":  "); i != std::string::npos && i + 9 <= message.size();
       i = i == 0 ? std::string::npos : message.rfind(":  ", i - 1)) {
    std::string code = message.substr(i + 3, 5);
    if (message[i + 8] == ':' &&
        code.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos) {
      return code;
    }
  }
  return "";
}

}  // namespace

ConnectFailure describe_failure(std::string message) {
  ConnectFailure failure;
  failure.sqlstate = find_sqlstate(message);
  if (failure.sqlstate == "53300") {
    failure.kind = pool::ConnectError::TooManyConnections;
  } else if (failure.sqlstate == "57P03") {
    failure.kind = pool::ConnectError::CannotConnectNow;
  } else if (failure.sqlstate.starts_with("28")) {
    failure.kind = pool::ConnectError::Auth;
  } else if (failure.sqlstate.empty()) {
    // In libpq's own words: a host or a folder may have any name.
    const bool asked = message.find("fe_sendauth: no password supplied") != std::string::npos;
    failure.kind = asked ? pool::ConnectError::Auth : pool::ConnectError::Refused;
  }
  // Where it happened inside PostgreSQL helps nobody.
  if (const std::size_t location = message.find("\nLOCATION:"); location != std::string::npos) {
    message.resize(location);
  }
  if (!failure.sqlstate.empty()) {
    const std::size_t at = message.rfind(failure.sqlstate + ": ");
    if (at != std::string::npos) {
      message.erase(at, failure.sqlstate.size() + 2);
      failure.said = message.substr(at);
      for (const char* more : {"\nDETAIL:", "\nHINT:"}) {
        failure.said.resize(std::min(failure.said.find(more), failure.said.size()));
      }
      while (failure.said.ends_with('\n')) failure.said.pop_back();
    }
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
