// The Gatekeeper by itself: whom it knows.
#include "proxy/gatekeeper.h"

#include <gtest/gtest.h>

#include "../net/certificates.h"

namespace carpool::proxy {
namespace {

class GatekeeperTest : public testing::Test {
 protected:
  void take(const std::string& users_file) {
    Credentials credentials;
    Result<pg::Users> users = pg::Users::parse(users_file, {keeper_.salt_secret(), 4096});
    ASSERT_TRUE(users);
    credentials.users = std::move(*users);
    keeper_.take(credentials);
  }

  Gatekeeper keeper_;
};

// A client that was let in by a secret, and is not greeted yet.
TEST_F(GatekeeperTest, StillKnowsWhoHasKeptItsSecret) {
  take("\"alice\" \"secret\"\n\"bob\" \"secret\"\n\"carol\" \"secret\"\n");
  const pg::ScramVerifier alice = keeper_.scram_start("alice", nullptr).verifier;
  const pg::ScramVerifier bob = keeper_.scram_start("bob", nullptr).verifier;
  const pg::ScramVerifier carol = keeper_.scram_start("carol", nullptr).verifier;
  take("\"alice\" \"secret\"\n\"bob\" \"changed\"\n");
  EXPECT_TRUE(keeper_.still_knows("alice", alice));
  EXPECT_FALSE(keeper_.still_knows("bob", bob));
  EXPECT_FALSE(keeper_.still_knows("carol", carol));
  keeper_.take(Credentials{});
  EXPECT_FALSE(keeper_.still_knows("alice", alice));
}

// Their certificate is renewed between a client's handshake and its password.
TEST_F(GatekeeperTest, AChannelIsBoundToTheCertificateThatItsClientHasSeen) {
  const auto context = [](const char* name) {
    const net::Key key = net::make_key();
    auto made = net::TlsContext::make({"certFile", net::certificate_of(key.get(), name)},
                                      {"keyFile", net::pem_of(key.get())}, std::nullopt);
    EXPECT_TRUE(made);
    return std::shared_ptr<net::TlsContext>(std::move(*made));
  };
  Credentials credentials;
  credentials.tls = context("first");
  keeper_.take(credentials);
  const std::shared_ptr<net::TlsContext> seen = keeper_.tls();
  const auto first = keeper_.scram_start("alice", seen.get()).channel_binding;
  ASSERT_TRUE(first);
  credentials.tls = context("second");
  keeper_.take(CredentialsPart::Tls, credentials);
  EXPECT_EQ(keeper_.scram_start("alice", seen.get()).channel_binding, first);
  EXPECT_NE(keeper_.scram_start("alice", keeper_.tls().get()).channel_binding, first);
  EXPECT_EQ(keeper_.scram_start("alice", nullptr).channel_binding, std::nullopt);
}

TEST_F(GatekeeperTest, APartThatIsTakenLeavesTheOtherAsItIs) {
  take("\"alice\" \"secret\"\n");
  const pg::ScramVerifier alice = keeper_.scram_start("alice", nullptr).verifier;
  keeper_.take(CredentialsPart::Tls, Credentials{});
  EXPECT_TRUE(keeper_.still_knows("alice", alice));
  keeper_.take(CredentialsPart::Users, Credentials{});
  EXPECT_FALSE(keeper_.still_knows("alice", alice));
}

TEST_F(GatekeeperTest, AnUnknownUserLooksAsTheUsersDo) {
  // A verifier with a salt of 12 bytes and 7000 iterations.
  const Bytes salt(12, 7);
  take("\"alice\" \"" + to_string(pg::make_verifier("secret", salt, 7000)) + "\"\n");
  for (const std::string user : {"nobody", "someone", "alicf"}) {
    const pg::ScramExchange::Start start = keeper_.scram_start(user, nullptr);
    EXPECT_FALSE(start.user_exists);
    EXPECT_EQ(start.verifier.iterations, 7000u);
    EXPECT_EQ(start.verifier.salt.size(), salt.size());
    EXPECT_EQ(keeper_.scram_start(user, nullptr).verifier, start.verifier) << "always the same";
  }
}

}  // namespace
}  // namespace carpool::proxy
