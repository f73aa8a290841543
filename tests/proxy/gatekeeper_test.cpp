// The Gatekeeper by itself: what it reads, when, and on which thread.
#include "proxy/gatekeeper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "net/timer.h"
#include "proxy/log.h"

namespace carpool::proxy {
namespace {

class GatekeeperTest : public testing::Test {
 protected:
  GatekeeperTest() {
    config::Log quiet;
    quiet.level = config::LogLevel::Error;
    log::configure(quiet);
    config_.auth.mode = config::AuthMode::ScramSha256;
    config_.auth.users_file = path_;
  }
  ~GatekeeperTest() override { std::remove(path_.c_str()); }

  void write(const std::string& text) { std::ofstream(path_) << text; }
  // Whether `user` with `password` would be let in.
  bool knows(const std::string& user, const std::string& password) {
    const pg::ScramExchange::Start start = keeper_.scram_start(user, false);
    const pg::ScramVerifier made =
        pg::make_verifier(password, start.verifier.salt, start.verifier.iterations);
    return start.user_exists && made == start.verifier;
  }

  net::Loop loop_;
  Gatekeeper keeper_{loop_};
  config::Config config_;
  const std::string path_ = testing::TempDir() + "users." + std::to_string(getpid());
};

TEST_F(GatekeeperTest, DerivesKeysWhileTheLoopTurns) {
  write("");
  ASSERT_TRUE(keeper_.load(config_));
  // Half a second of PBKDF2 and more, wherever this runs.
  std::string text;
  for (int i = 0; i < 12; ++i) text += "\"user" + std::to_string(i) + "\" \"secret\"\n";
  write(text);
  config_.auth.scram_iterations = 100'000;
  int turns = 0;
  net::Timer every;
  every.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [&] { ++turns; });
  bool done = false;
  keeper_.load_later(config_, [&](const Status& status) {
    EXPECT_TRUE(status);
    done = true;
  });
  EXPECT_TRUE(keeper_.loading());
  EXPECT_FALSE(done);
  while (!done) loop_.run_once();
  EXPECT_FALSE(keeper_.loading());
  EXPECT_GT(turns, 10) << "the loop was held up";
  EXPECT_TRUE(knows("user11", "secret"));
  EXPECT_FALSE(knows("user11", "other"));
}

TEST_F(GatekeeperTest, KeepsTheOldWhereTheNewIsBad) {
  write("\"alice\" \"secret\"\n");
  ASSERT_TRUE(keeper_.load(config_));
  const std::string good = keeper_.fingerprint();
  write("\"alice\" \"unclosed\n");
  std::string problem;
  bool done = false;
  keeper_.load_later(config_, [&](const Status& status) {
    problem = status ? "none" : status.error().message;
    done = true;
  });
  while (!done) loop_.run_once();
  EXPECT_NE(problem.find("line 1"), std::string::npos) << problem;
  EXPECT_TRUE(knows("alice", "secret"));
  EXPECT_NE(keeper_.fingerprint(), good) << "a bad file is not read again and again";
  EXPECT_EQ(keeper_.fingerprint(), Gatekeeper::fingerprint(config_));
}

TEST_F(GatekeeperTest, TellsNobodyOnceClosed) {
  write("\"alice\" \"secret\"\n");
  bool told = false;
  keeper_.load_later(config_, [&](const Status&) { told = true; });
  keeper_.close();
  while (uv_loop_alive(loop_.uv()) != 0) loop_.run_once();
  EXPECT_FALSE(told);
  EXPECT_FALSE(knows("alice", "secret"));
}

TEST_F(GatekeeperTest, FingerprintsFollowTheFilesAndWhatIsSaidOfThem) {
  write("a");
  const std::string before = Gatekeeper::fingerprint(config_);
  EXPECT_EQ(Gatekeeper::fingerprint(config_), before);
  config_.pool.size = 99;
  EXPECT_EQ(Gatekeeper::fingerprint(config_), before) << "of no concern";
  config_.auth.scram_iterations = 5000;
  const std::string other = Gatekeeper::fingerprint(config_);
  EXPECT_NE(other, before);
  write("b");
  EXPECT_NE(Gatekeeper::fingerprint(config_), other);
}

TEST_F(GatekeeperTest, AnUnknownUserLooksAsTheUsersDo) {
  // A verifier with a salt of 12 bytes and 7000 iterations.
  const Bytes salt(12, 7);
  write("\"alice\" \"" + to_string(pg::make_verifier("secret", salt, 7000)) + "\"\n");
  ASSERT_TRUE(keeper_.load(config_));
  for (const std::string user : {"nobody", "someone", "alicf"}) {
    const pg::ScramExchange::Start start = keeper_.scram_start(user, false);
    EXPECT_FALSE(start.user_exists);
    EXPECT_EQ(start.verifier.iterations, 7000u);
    EXPECT_EQ(start.verifier.salt.size(), salt.size());
    EXPECT_EQ(keeper_.scram_start(user, false).verifier, start.verifier) << "always the same";
  }
}

}  // namespace
}  // namespace carpool::proxy
