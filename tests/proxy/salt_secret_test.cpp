#include "proxy/salt_secret.h"

#include <gtest/gtest.h>

namespace carpool::proxy {
namespace {

TEST(SaltSecret, OfAPasswordIsTheSameHoweverThatIsGiven) {
  const Bytes secret = salt_secret_of_password("server's");
  EXPECT_EQ(secret.size(), 32U);
  EXPECT_EQ(salt_secret_of_password("server's"), secret) << "always the same";
  EXPECT_EQ(salt_secret_of_password("server's\r\n"), secret) << "as a file has it";
  EXPECT_NE(salt_secret_of_password("another"), secret);
  EXPECT_TRUE(salt_secret_of_password("\n").empty());
}

TEST(SaltSecret, OfAFileNeedsSixteenBytes) {
  EXPECT_TRUE(salt_secret_of_file("0123456789abcdef"));
  const Result<Bytes> refused = salt_secret_of_file("0123456789abcde");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "has fewer than 16 bytes");
}

TEST(SaltSecret, OfAPlaceIsNotThatOfAPassword) {
  EXPECT_NE(salt_secret_of_place("db"), salt_secret_of_password("db"));
  EXPECT_EQ(salt_secret_of_place("db"), salt_secret_of_place("db"));
  EXPECT_TRUE(salt_secret_of_place("").empty());
}

}  // namespace
}  // namespace carpool::proxy
