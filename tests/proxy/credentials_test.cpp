// Reading credentials: on threads of their own, with an end that is told, or never.
#include "proxy/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <latch>

#include "net/aside.h"
#include "net/timer.h"
#include "proxy/credentials_readers.h"

namespace carpool::proxy {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() {
    config_.auth.mode = config::AuthMode::ScramSha256;
    config_.auth.users_file = path_;
  }
  // A thread that hashes when the process ends uses what has been taken down by then.
  ~CredentialsTest() override {
    until_told(0);
    std::filesystem::remove(path_);
  }

  void write(const std::string& text) { std::ofstream(path_) << text; }
  CredentialsPlan plan() const { return CredentialsPlan(config_); }
  std::string fingerprint() { return fingerprint_of(read_files(plan(), progress_)); }
  Result<Credentials> made() {
    return make_credentials(plan(), read_files(plan(), progress_), salt_secret_, progress_);
  }
  std::string problem() {
    const Result<Credentials> credentials = made();
    return credentials ? "none" : credentials.error().message;
  }
  // Keeps a list of what was told: the number of users, or -1.
  std::unique_ptr<CredentialsReader> reader() {
    return std::make_unique<CredentialsReader>(
        loop_, aside_, CredentialsPlan(config_), salt_secret_,
        [this](CredentialsReader&, const Result<Credentials>& credentials) {
          told_.push_back(credentials ? static_cast<int>(credentials->users->size()) : -1);
        });
  }
  void until_told(std::size_t times) {
    net::Timer awake;
    awake.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [] {});
    while (told_.size() < times || aside_.running() > 0) loop_.run_once();
  }

  net::Loop loop_;
  net::Aside aside_{loop_};
  config::Config config_;
  const Bytes salt_secret_ = Bytes(32, 7);
  ReadingProgress progress_;
  std::vector<int> told_;
  const std::string path_ = testing::TempDir() + "users." + std::to_string(getpid());
};

TEST_F(CredentialsTest, FollowTheFiles) {
  write("\"alice\" \"secret\"\n");
  const std::string first = fingerprint();
  EXPECT_EQ(fingerprint(), first);
  EXPECT_NE(made()->users->find("alice"), nullptr);
  write("\"bob\" \"secret\"\n");
  const std::string second = fingerprint();
  EXPECT_NE(second, first);
  EXPECT_EQ(made()->users->find("alice"), nullptr);
  std::filesystem::remove(path_);
  EXPECT_NE(fingerprint(), second) << "a file that is gone is a change, too";
}

TEST_F(CredentialsTest, OnlyWhatTheConfigurationUsesIsPartOfThePlan) {
  const CredentialsPlan before = plan();
  config_.listen.tls.cert_file = "/c";
  config_.pool.size = 99;
  EXPECT_EQ(plan(), before);
  config_.auth.scram_iterations = 5000;
  EXPECT_NE(plan(), before);
  config_.auth.mode = config::AuthMode::Trust;
  EXPECT_FALSE(plan().needs_files());
}

TEST_F(CredentialsTest, WhatIsNoPlainFileIsAnErrorAtOnceThatNamesIt) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(problem(), "auth.usersFile " + path_ + ": is not a regular file");
  config_.listen.tls = {config::TlsMode::Allow, path_, "/dev/null", ""};
  EXPECT_EQ(problem(), "listen.tls.certFile " + path_ + ": is not a regular file");
  std::filesystem::remove(path_);
  EXPECT_EQ(problem(),
            "listen.tls.certFile " + path_ + ": cannot be read: No such file or directory");
  config_.listen.tls = {};
  config_.auth.users_file = "/tmp";
  EXPECT_EQ(problem(), "auth.usersFile /tmp: is a directory, not a file");
}

TEST_F(CredentialsTest, WarningsNameTheFile) {
  write("\"alice\" \"secret\"\n\"reporting\" \"\"\n");
  EXPECT_THAT(made()->warnings,
              ElementsAre("auth.usersFile " + path_ +
                          ": line 2: the password of \"reporting\" is empty: it lets nobody in"));
}

TEST_F(CredentialsTest, AReaderTellsChangesAndNothingElse) {
  write("\"alice\" \"secret\"\n");
  const auto keeps = reader();
  EXPECT_EQ(keeps->reading_us(), 0);
  keeps->read();
  EXPECT_GT(keeps->reading_us(), 0);
  EXPECT_TRUE(told_.empty()) << "never from inside";
  until_told(1);
  EXPECT_EQ(keeps->reading_us(), 0);
  keeps->read();
  until_told(1);
  EXPECT_THAT(told_, ElementsAre(1)) << "it is as it was";
  write("\"alice\" \"unclosed\n");
  keeps->read();
  until_told(2);
  write("\"alice\" \"secret\"\n\"bob\" \"secret\"\n");
  keeps->read();
  until_told(3);
  EXPECT_THAT(told_, ElementsAre(1, -1, 2));
}

// Half a second of PBKDF2 and more, wherever this runs.
TEST_F(CredentialsTest, KeysAreDerivedWhileTheLoopTurnsAndTheLastContentIsTold) {
  std::string text;
  for (int i = 0; i < 12; ++i) text += "\"user" + std::to_string(i) + "\" \"secret\"\n";
  write(text);
  config_.auth.scram_iterations = 100'000;
  const auto keeps = reader();
  int turns = 0;
  net::Timer every;
  every.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [&] { ++turns; });
  keeps->read();
  // Three changes while the first is being read: more than are read at once.
  for (int i = 0; i < 3; ++i) {
    loop_.run_once();
    write(text + "\"more" + std::to_string(i) + "\" \"secret\"\n");
    keeps->read();
  }
  write("\"last\" \"secret\"\n");
  loop_.run_once();
  keeps->read();
  while (told_.empty() || told_.back() != 1 || keeps->reading_us() > 0) loop_.run_once();
  EXPECT_GT(turns, 10) << "the loop was held up";
}

TEST_F(CredentialsTest, AReaderThatIsGoneTellsNobody) {
  write("\"alice\" \"secret\"\n");
  auto keeps = reader();
  keeps->read();
  keeps.reset();
  until_told(0);
  EXPECT_THAT(told_, ElementsAre());
}

// ---- part by part

TEST_F(CredentialsTest, APartThatIsBadIsToldOfAndTheOtherIsOfUse) {
  config_.listen.tls = {config::TlsMode::Allow, path_ + ".none", path_ + ".none", ""};
  write("\"alice\" \"secret\"\n");
  std::vector<CredentialsPart> told;
  CredentialsReaders readers(
      loop_, aside_, plan(), salt_secret_,
      [&](CredentialsReaders&, CredentialsPart part) { told.push_back(part); });
  EXPECT_FALSE(readers.all());
  readers.read();
  EXPECT_GT(readers.reading_us(), 0);
  net::Timer awake;
  awake.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [] {});
  while (told.size() < 2) loop_.run_once();
  EXPECT_THAT(told, UnorderedElementsAre(CredentialsPart::Tls, CredentialsPart::Users));
  EXPECT_FALSE(*readers.last(CredentialsPart::Tls));
  ASSERT_TRUE(*readers.last(CredentialsPart::Users));
  EXPECT_NE((*readers.last(CredentialsPart::Users))->users->find("alice"), nullptr);
  ASSERT_TRUE(readers.all());
  EXPECT_THAT(readers.all()->error().message, HasSubstr("listen.tls.certFile"));
  EXPECT_EQ(readers.reading_us(), 0);
  // What is as it was is not told of.
  write("\"bob\" \"secret\"\n");
  readers.read();
  while (told.size() < 3) loop_.run_once();
  EXPECT_EQ(told.back(), CredentialsPart::Users);
  readers.forget();
  EXPECT_FALSE(readers.last(CredentialsPart::Users));
}

TEST_F(CredentialsTest, APartOfAPlanIsOfItsOwnFilesAlone) {
  config_.listen.tls = {config::TlsMode::Allow, "/c", "/k", ""};
  const CredentialsPlan both = plan();
  EXPECT_EQ(both.part(CredentialsPart::Tls).describe(),
            "listen.tls.certFile /c, listen.tls.keyFile /k");
  EXPECT_EQ(both.part(CredentialsPart::Users).describe(), "auth.usersFile " + path_);
  config_.auth.scram_iterations = 5000;
  EXPECT_EQ(plan().part(CredentialsPart::Tls), both.part(CredentialsPart::Tls));
  EXPECT_NE(plan().part(CredentialsPart::Users), both.part(CredentialsPart::Users));
}

// ---- threads that hang

TEST(Aside, AThreadThatHangsKeepsNobodyWaitingNotEvenAtTheEnd) {
  // Outlives all: what hangs is never joined.
  static std::latch never(1);
  static std::atomic<int> told = 0;
  {
    net::Loop loop;
    net::Aside aside(loop);
    bool done = false;
    ASSERT_TRUE(aside.run([] { never.wait(); }, [] { ++told; }));
    ASSERT_TRUE(aside.run([] {}, [&] { done = true; }));
    net::Timer awake;
    awake.start(loop, kMicrosPerMilli, kMicrosPerMilli, [] {});
    while (!done) loop.run_once();
    EXPECT_EQ(aside.running(), 1u);
    for (std::uint32_t i = 1; i < net::Aside::kThreadsMax; ++i) {
      EXPECT_TRUE(aside.run([] { never.wait(); }, [] { ++told; }));
    }
    EXPECT_FALSE(aside.run([] {}, [] {})) << "beyond kThreadsMax";
  }
  never.count_down();
  EXPECT_EQ(told, 0) << "its owner is gone";
}

// ---- salts

TEST_F(CredentialsTest, SaltsComeFromTheServersPasswordElseStayAsTheyWere) {
  write("\"alice\" \"secret\"\n");
  EXPECT_EQ(made()->salt_secret, salt_secret_) << "nothing to derive them from";
  config_.server.password = "server's";
  const Bytes derived = made()->salt_secret;
  EXPECT_NE(derived, salt_secret_);
  EXPECT_EQ(made()->users->find("alice")->salt, pg::salt_for_user(derived, "alice"));
  write("\"bob\" \"secret\"\n");
  EXPECT_EQ(made()->salt_secret, derived) << "whatever becomes of the users' file";
  config_.server.password.clear();
  config_.server.password_file = path_ + ".none";
  const Result<Credentials> unread = made();
  ASSERT_TRUE(unread) << "it is an error for whoever opens a server";
  EXPECT_EQ(unread->salt_secret, salt_secret_);
  EXPECT_THAT(unread->warnings, ElementsAre(HasSubstr("a restart may tell which users exist")));
}

TEST_F(CredentialsTest, ASaltFileThatIsNoGoodIsAnError) {
  write("\"alice\" \"secret\"\n");
  config_.auth.salt_file = path_ + ".none";
  EXPECT_THAT(problem(), HasSubstr("auth.saltFile " + path_ + ".none: cannot be read"));
  config_.auth.salt_file = path_;
  EXPECT_EQ(problem(), "none");
  write("\"a\" \"b\"\n");
  EXPECT_EQ(problem(), "auth.saltFile " + path_ + ": has fewer than 16 bytes");
}

TEST_F(CredentialsTest, ASaltFileThatBecomesBadStopsNoChangeOfTheUsersFile) {
  write("\"alice\" \"secret\"\n");
  for (const std::string& bad : {path_ + ".none", std::string("/tmp"), std::string("/dev/null")}) {
    config_.auth.salt_file = bad;
    const Result<Credentials> made =
        make_credentials(plan(), read_files(plan(), progress_), salt_secret_, progress_, true);
    ASSERT_TRUE(made) << bad;
    EXPECT_EQ(made->salt_secret, salt_secret_);
    EXPECT_THAT(made->warnings, ElementsAre(HasSubstr("auth.saltFile " + bad)));
  }
}

TEST_F(CredentialsTest, AChangeOfWhatSaltsComeFromIsAChange) {
  write("\"alice\" \"secret\"\n");
  const CredentialsPlan before = plan();
  config_.server.password = "server's";
  EXPECT_FALSE(plan() == before);
  config_.auth.mode = config::AuthMode::Trust;
  const CredentialsPlan trust = plan();
  config_.server.password = "another";
  EXPECT_TRUE(plan() == trust) << "of no concern";
}

}  // namespace
}  // namespace carpool::proxy
