#include "proxy/salt_secret.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace carpool::proxy {
namespace {

class SaltSecretTest : public testing::Test {
 protected:
  ~SaltSecretTest() override { std::remove(path_.c_str()); }
  void write(const std::string& text) { std::ofstream(path_) << text; }
  std::optional<Bytes> secret() {
    const Result<std::optional<Bytes>> derived = derive_salt_secret(config_);
    EXPECT_TRUE(derived);
    return derived ? *derived : std::nullopt;
  }

  config::Config config_;
  const std::string path_ = testing::TempDir() + "salt." + std::to_string(getpid());
};

TEST_F(SaltSecretTest, IsMadeFromTheServersPasswordHoweverThatIsGiven) {
  EXPECT_EQ(secret(), std::nullopt);
  config_.server.password = "server's";
  const std::optional<Bytes> plain = secret();
  ASSERT_TRUE(plain);
  EXPECT_EQ(secret(), plain) << "always the same";
  config_.server.password.clear();
  write("server's\n");
  config_.server.password_file = path_;
  EXPECT_EQ(secret(), plain);
  config_.server.password_file.clear();
  config_.server.url = "postgres://app:server%27s@db/app";
  EXPECT_EQ(secret(), plain);
  config_.server.url = "postgres://app@db/app";
  EXPECT_EQ(secret(), std::nullopt);
}

TEST_F(SaltSecretTest, ComesFromTheSectionServerElseFromTheFirstDatabaseThatHasAPassword) {
  config::Database without;
  config::Database first;
  first.server.password = "first";
  config::Database second;
  second.server.password = "second";
  config_.databases = {without, first, second};
  const std::optional<Bytes> of_first = secret();
  ASSERT_TRUE(of_first);
  config_.databases = {first};
  EXPECT_EQ(secret(), of_first);
  config_.server.password = "first";
  config_.databases = {second};
  EXPECT_EQ(secret(), of_first);
}

TEST_F(SaltSecretTest, ComesFromTheSaltFileWhereThereIsOneAndARotationChangesNothing) {
  config_.server.password = "before";
  write("0123456789abcdef");
  config_.auth.salt_file = path_;
  const std::optional<Bytes> before = secret();
  config_.server.password = "after";
  config_.auth.users_file = "another";
  EXPECT_EQ(secret(), before);
  config_.auth.salt_file.clear();
  EXPECT_NE(secret(), before);
}

TEST_F(SaltSecretTest, ASaltFileThatIsNoGoodIsAnError) {
  config_.server.password = "there all the same";
  config_.auth.salt_file = path_;
  EXPECT_FALSE(derive_salt_secret(config_)) << "not there";
  write("0123456789abcde");
  const Result<std::optional<Bytes>> derived = derive_salt_secret(config_);
  ASSERT_FALSE(derived);
  EXPECT_EQ(derived.error().message, "auth.saltFile " + path_ + ": has fewer than 16 bytes");
}

TEST_F(SaltSecretTest, APasswordFileThatCannotBeReadIsAsNone) {
  config_.server.password_file = path_ + ".none";
  EXPECT_EQ(secret(), std::nullopt);
}

}  // namespace
}  // namespace carpool::proxy
