#include "config/salt_source.h"

#include <gtest/gtest.h>

namespace carpool::config {
namespace {

TEST(SaltSource, IsTheServersPasswordHoweverThatIsGiven) {
  Config config;
  EXPECT_TRUE(salt_source(config).empty());
  config.server.url = "postgres://app:server%27s@db/app";
  EXPECT_EQ(salt_source(config).password, "server's");
  config.server.password_file = "/password";
  EXPECT_EQ(salt_source(config), (SaltSource{.password_file = "/password"}));
  config.server.password_file.clear();
  config.server.password = "other";
  EXPECT_EQ(salt_source(config).password, "other");
  config.server = {};
  config.server.url = "postgres://app@db/app";
  EXPECT_TRUE(salt_source(config).empty());
}

TEST(SaltSource, IsOfTheSectionServerElseOfTheFirstDatabaseThatHasAPassword) {
  Config config;
  Database without;
  Database first;
  first.server.password = "first";
  Database second;
  second.server.password = "second";
  config.databases = {without, first, second};
  EXPECT_EQ(salt_source(config).password, "first");
  config.server.password = "section's";
  EXPECT_EQ(salt_source(config).password, "section's");
}

TEST(SaltSource, IsTheSaltFileWhereThereIsOneSoThatARotationChangesNothing) {
  Config config;
  config.server.password = "rotates";
  config.auth.salt_file = "/salt";
  EXPECT_EQ(salt_source(config), (SaltSource{.file = "/salt"}));
}

}  // namespace
}  // namespace carpool::config
