// What libpq says of an attempt, and what that means for who waits for one.
#include "proxy/connect_failure.h"

#include <gtest/gtest.h>

namespace carpool::proxy {
namespace {

TEST(ConnectFailure, IsAboutAPasswordWhereLibpqSaysSo) {
  const ConnectFailure asked = describe_failure(
      "connection to server at \"db\" (10.0.0.1), port 5432 failed: fe_sendauth: no password "
      "supplied\n");
  EXPECT_EQ(asked.kind, pool::ConnectError::Auth);
  EXPECT_TRUE(asked.permanent());
}

TEST(ConnectFailure, IsNotAboutAPasswordWhereAHostOrAFolderIsCalledSo) {
  for (const char* message :
       {"connection to server at \"password-store\" (10.0.0.1), port 5432 failed: Connection "
        "refused\n",
        "connection to server on socket \"/run/password/.s.PGSQL.5432\" failed: No such file or "
        "directory\n"}) {
    const ConnectFailure away = describe_failure(message);
    EXPECT_EQ(away.kind, pool::ConnectError::Refused) << message;
    EXPECT_FALSE(away.permanent()) << message;
    EXPECT_TRUE(away.passing()) << message;
  }
}

}  // namespace
}  // namespace carpool::proxy
