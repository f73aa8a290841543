#include "proxy/client_passwords.h"

#include <gtest/gtest.h>

namespace carpool::proxy {
namespace {

TEST(ClientPasswords, TheOneThatPostgresTookLastOpensServersWhoeverComesLast) {
  ClientPasswords passwords;
  EXPECT_EQ(passwords.best(), "");
  passwords.taken("old", 10);
  passwords.taken("new", 20);
  passwords.taken("old", 10);  // one that was let in by an older word
  EXPECT_EQ(passwords.best(), "new");
  passwords.taken("old", 30);
  EXPECT_EQ(passwords.best(), "old");
  passwords.taken("old", 10);
  EXPECT_EQ(passwords.best(), "old") << "what was said once stays said";
}

TEST(ClientPasswords, AfterARefusalTheNextBestOpensServers) {
  ClientPasswords passwords;
  passwords.taken("first", 10);
  passwords.taken("second", 20);
  passwords.refused("guess");
  EXPECT_EQ(passwords.best(), "second");
  passwords.refused("second");
  EXPECT_EQ(passwords.best(), "first");
  passwords.refused("first");
  EXPECT_EQ(passwords.best(), "");
}

TEST(ClientPasswords, OfManyTheLatestStay) {
  ClientPasswords passwords;
  for (std::size_t i = 0; i <= ClientPasswords::kMax; ++i) {
    passwords.taken(std::to_string(i), static_cast<Micros>(i));
  }
  for (std::size_t i = ClientPasswords::kMax; i > 0; --i) {
    EXPECT_EQ(passwords.best(), std::to_string(i));
    passwords.refused(std::to_string(i));
  }
  EXPECT_EQ(passwords.best(), "");
}

}  // namespace
}  // namespace carpool::proxy
