#include "config/salt_source.h"

#include <gtest/gtest.h>

namespace carpool::config {
namespace {

TEST(SaltSource, IsTheServersPasswordHoweverThatIsGiven) {
  Config config;
  EXPECT_FALSE(salt_source(config, Libpq()).secret());
  config.server.url = "postgres://app:server%27s@db/app";
  EXPECT_EQ(salt_source(config, Libpq()).password, "server's");
  config.server.password_file = "/password";
  EXPECT_EQ(salt_source(config, Libpq()), (SaltSource{.password_file = "/password"}));
  config.server.password_file.clear();
  config.server.password = "other";
  EXPECT_EQ(salt_source(config, Libpq()).password, "other");
  config.server = {};
  config.server.url = "postgres://app@db/app";
  EXPECT_FALSE(salt_source(config, Libpq()).secret());
}

// libpq takes raw spaces in a url until 17.
TEST(SaltSource, IsThePasswordThatTheLibpqSeesThatWillConnect) {
  Libpq older;
  older.version = 15;
  Config config;
  config.server.url = "postgres://app:secret@db/app?options=-c geqo%3Doff";
  EXPECT_EQ(salt_source(config, older).password, "secret");
}

TEST(SaltSource, ForWantOfASecretIsWhereTheServerIs) {
  Config config;
  config.server.url = "postgres://app@db/app";
  const SaltSource source = salt_source(config, Libpq());
  EXPECT_FALSE(source.secret());
  EXPECT_EQ(source.place, "host=db\nport=5432\nuser=app\ndbname=app\n");
  config.auth.users_file = "another";
  config.server.ssl_mode = "require";
  EXPECT_EQ(salt_source(config, Libpq()), source) << "what else is edited is of no concern";
  Config of_database;
  of_database.databases = {Database{"app", config.server, {}}};
  EXPECT_EQ(salt_source(of_database, Libpq()).place, source.place);
}

TEST(SaltSource, IsOfTheSectionServerElseOfTheFirstDatabaseThatHasAPassword) {
  Config config;
  Database without;
  Database first;
  first.server.password = "first";
  Database second;
  second.server.password = "second";
  config.databases = {without, first, second};
  EXPECT_EQ(salt_source(config, Libpq()).password, "first");
  config.server.password = "section's";
  EXPECT_EQ(salt_source(config, Libpq()).password, "section's");
}

TEST(SaltSource, IsTheSaltFileWhereThereIsOneSoThatARotationChangesNothing) {
  Config config;
  config.server.password = "rotates";
  config.auth.salt_file = "/salt";
  EXPECT_EQ(salt_source(config, Libpq()), (SaltSource{.file = "/salt"}));
}

}  // namespace
}  // namespace carpool::config
