// ConnectFailure: why a server could not be opened, and what that means for who waits for one.
// Values only.
#pragma once

#include <string>

#include "pool/counters.h"

namespace carpool::proxy {

struct ConnectFailure {
  pool::ConnectError kind = pool::ConnectError::Other;
  std::string sqlstate;  // PostgreSQL's own, where it said one
  std::string message;
  std::string said;             // PostgreSQL's own words alone, where it said something
  bool password_asked = false;  // and PostgreSQL had a password by then
  bool unfit = false;           // a file that the configuration names is no good

  // PostgreSQL refuses this user or database: trying again does not help.
  bool permanent() const;
  // PostgreSQL refuses this very password, or its role for good (NOLOGIN, past its VALID UNTIL),
  // and not the address, database or TLS: a line of pg_hba.conf refuses before a password is asked
  // for.
  bool of_password() const;
  // PostgreSQL is full, starts or ends, or cannot be reached: waiting may help.
  bool passing() const;
};

// What libpq has said, with PQERRORS_VERBOSE.
ConnectFailure describe_failure(std::string message);

}  // namespace carpool::proxy
