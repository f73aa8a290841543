// The Gatekeeper by itself: whom it knows, and for whom it vouches.
#include "proxy/gatekeeper.h"

#include <gtest/gtest.h>

namespace carpool::proxy {
namespace {

class GatekeeperTest : public testing::Test {
 protected:
  void take(const std::string& users_file) {
    Credentials credentials;
    Result<pg::Users> users = pg::Users::parse(users_file, {keeper_.salt_secret(), 4096});
    ASSERT_TRUE(users);
    credentials.users = std::move(*users);
    keeper_.take(std::move(credentials));
  }

  net::Loop loop_;
  Gatekeeper keeper_{loop_};
};

// A client that was let in by a secret, and is not greeted yet.
TEST_F(GatekeeperTest, StillKnowsWhoHasKeptItsSecret) {
  take("\"alice\" \"secret\"\n\"bob\" \"secret\"\n\"carol\" \"secret\"\n");
  const pg::ScramVerifier alice = keeper_.scram_start("alice", false).verifier;
  const pg::ScramVerifier bob = keeper_.scram_start("bob", false).verifier;
  const pg::ScramVerifier carol = keeper_.scram_start("carol", false).verifier;
  take("\"alice\" \"secret\"\n\"bob\" \"changed\"\n");
  EXPECT_TRUE(keeper_.still_knows("alice", alice));
  EXPECT_FALSE(keeper_.still_knows("bob", bob));
  EXPECT_FALSE(keeper_.still_knows("carol", carol));
  keeper_.take(Credentials{});
  EXPECT_FALSE(keeper_.still_knows("alice", alice));
}

TEST_F(GatekeeperTest, AnUnknownUserLooksAsTheUsersDo) {
  // A verifier with a salt of 12 bytes and 7000 iterations.
  const Bytes salt(12, 7);
  take("\"alice\" \"" + to_string(pg::make_verifier("secret", salt, 7000)) + "\"\n");
  for (const std::string user : {"nobody", "someone", "alicf"}) {
    const pg::ScramExchange::Start start = keeper_.scram_start(user, false);
    EXPECT_FALSE(start.user_exists);
    EXPECT_EQ(start.verifier.iterations, 7000u);
    EXPECT_EQ(start.verifier.salt.size(), salt.size());
    EXPECT_EQ(keeper_.scram_start(user, false).verifier, start.verifier) << "always the same";
  }
}

TEST_F(GatekeeperTest, VouchesForAPasswordUntilItIsOldDisownedOrOfAnotherEra) {
  keeper_.vouch("app", "alice", "secret");
  EXPECT_TRUE(keeper_.vouched("app", "alice", "secret", 0));
  EXPECT_TRUE(keeper_.vouched("app", "alice", "secret", kMicrosPerSecond * 3600));
  EXPECT_FALSE(keeper_.vouched("app", "alice", "secreT", 0));
  EXPECT_FALSE(keeper_.vouched("app", "bob", "secret", 0));
  EXPECT_FALSE(keeper_.vouched("other", "alice", "secret", 0));
  const Micros vouched_us = loop_.now_us();
  while (net::Loop::clock_us() < vouched_us + 2 * kMicrosPerMilli) {
  }
  loop_.post([] {});
  loop_.run_once();  // the loop reads the clock anew
  EXPECT_FALSE(keeper_.vouched("app", "alice", "secret", kMicrosPerMilli));
  EXPECT_TRUE(keeper_.vouched("app", "alice", "secret", 0));
  keeper_.disown("app", "alice");
  EXPECT_FALSE(keeper_.vouched("app", "alice", "secret", 0));
  keeper_.vouch("app", "alice", "secret");
  const std::uint64_t era = keeper_.era();
  keeper_.begin_era();
  EXPECT_NE(keeper_.era(), era);
  EXPECT_FALSE(keeper_.vouched("app", "alice", "secret", 0));
}

TEST_F(GatekeeperTest, TriesAFewAtOnceAndPassesOverThoseThatHaveGone) {
  using Trial = std::function<void()>;
  int running = 0;
  std::vector<std::shared_ptr<Trial>> trials;
  for (int i = 0; i < 8; ++i) {
    trials.push_back(std::make_shared<Trial>([&] { ++running; }));
    keeper_.begin_trial(trials.back());
  }
  EXPECT_EQ(running, static_cast<int>(Gatekeeper::kTrialsMax));
  trials[4].reset();
  trials[5].reset();
  keeper_.end_trial();
  // One that goes between the end of another and its own turn.
  trials[6].reset();
  EXPECT_EQ(running, static_cast<int>(Gatekeeper::kTrialsMax)) << "never from inside";
  loop_.post([] {});
  loop_.run_once();
  EXPECT_EQ(running, static_cast<int>(Gatekeeper::kTrialsMax) + 1) << "the last one";
  for (std::uint32_t i = 0; i < Gatekeeper::kTrialsMax; ++i) keeper_.end_trial();
  bool again = false;
  const auto one_more = std::make_shared<Trial>([&] { again = true; });
  keeper_.begin_trial(one_more);
  EXPECT_TRUE(again) << "no turn was lost";
}

}  // namespace
}  // namespace carpool::proxy
