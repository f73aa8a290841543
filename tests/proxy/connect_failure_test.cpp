// What libpq has said, and what that means.
#include "proxy/connect_failure.h"

#include <gtest/gtest.h>

namespace carpool::proxy {
namespace {

TEST(ConnectFailure, HasPostgresqlsWordsAndCode) {
  const ConnectFailure failure = describe_failure(
      "connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL:  53300: sorry, too many "
      "clients already\nLOCATION:  InitProcess, proc.c:355\n");
  EXPECT_EQ(failure.sqlstate, "53300");
  EXPECT_EQ(failure.kind, pool::ConnectError::TooManyConnections);
  EXPECT_EQ(failure.said, "sorry, too many clients already");
  EXPECT_EQ(failure.message,
            "connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL:  sorry, too many "
            "clients already");
  EXPECT_TRUE(failure.passing());
}

TEST(ConnectFailure, OfSeveralAttemptsTellsAllAndMeansTheLast) {
  const ConnectFailure failure = describe_failure(
      "connection to server at \"a\", port 1 failed: FATAL:  57P03: the database system is "
      "starting "
      "up\nLOCATION:  ProcessStartupPacket, postmaster.c:2392\nconnection to server at \"b\", port "
      "2 "
      "failed: FATAL:  28000: no pg_hba.conf entry for host \"x\"\nHINT:  more\nLOCATION:  "
      "ClientAuthentication, auth.c:536\n");
  EXPECT_EQ(failure.sqlstate, "28000");
  EXPECT_EQ(failure.said, "no pg_hba.conf entry for host \"x\"");
  EXPECT_EQ(
      failure.message,
      "connection to server at \"a\", port 1 failed: FATAL:  the database system is starting "
      "up\nconnection to server at \"b\", port 2 failed: FATAL:  no pg_hba.conf entry for host "
      "\"x\"\nHINT:  more");
}

// PostgreSQL takes no TLS by its pg_hba.conf, and in clear it is a standby where a primary is
// meant.
TEST(ConnectFailure, IsNoRefusalWhereOnlyAnEarlierAttemptWasRefused) {
  const ConnectFailure failure = describe_failure(
      "connection to server at \"a\", port 1 failed: FATAL:  28000: pg_hba.conf rejects "
      "connection, "
      "SSL encryption\nLOCATION:  ClientAuthentication, auth.c:536\nconnection to server at \"a\", "
      "port 1 failed: session is read-only\n");
  EXPECT_EQ(failure.sqlstate, "");
  EXPECT_EQ(failure.said, "");
  EXPECT_TRUE(failure.passing());
  EXPECT_EQ(failure.message,
            "connection to server at \"a\", port 1 failed: FATAL:  pg_hba.conf rejects connection, "
            "SSL encryption\nconnection to server at \"a\", port 1 failed: session is read-only");
}

TEST(ConnectFailure, IsOfAPasswordByLibpqsWordsAndByNoName) {
  const ConnectFailure asked = describe_failure(
      "connection to server at \"db\" (10.0.0.1), port 5432 failed: fe_sendauth: no password "
      "supplied\n");
  EXPECT_EQ(asked.kind, pool::ConnectError::Auth);
  EXPECT_TRUE(asked.permanent());
  for (const std::string text :
       {"connection to server at \"passwords-db\" (10.0.0.1), port 5432 failed: Connection "
        "refused\n"
        "\tIs the server running on that host and accepting TCP/IP connections?\n",
        "connection to server on socket \"/run/password/.s.PGSQL.5432\" failed: No such file or "
        "directory\n\tIs the server running locally and accepting connections on that socket?\n"}) {
    const ConnectFailure failure = describe_failure(text);
    EXPECT_EQ(failure.kind, pool::ConnectError::Refused) << text;
    EXPECT_TRUE(failure.passing()) << text;
    EXPECT_FALSE(failure.permanent()) << text;
  }
}

}  // namespace
}  // namespace carpool::proxy
