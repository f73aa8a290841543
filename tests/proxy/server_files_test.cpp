// ServerFiles: what stands in the files, and who waits for whom where one hangs.
#include "proxy/server_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>

#include "net/timer.h"

namespace carpool::proxy {
namespace {

using Kind = LibpqFile::Kind;

std::string read_all(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

class ReadServerFiles : public testing::Test {
 protected:
  ReadServerFiles() { std::filesystem::create_directories(dir_); }
  ~ReadServerFiles() override { std::filesystem::remove_all(dir_); }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = dir_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  ServerFiles::Answer read(const LibpqFile& file) { return read_server_files({file}, dir_); }
  static std::string option(const ServerFiles::Answer& answer, const std::string& keyword) {
    for (const auto& [name, value] : answer.copies.options) {
      if (name == keyword) return value;
    }
    return "";
  }

  const std::string dir_ = testing::TempDir() + "files." + std::to_string(getpid());
};

TEST_F(ReadServerFiles, ACopyHoldsWhatTheFileHeldWhateverBecomesOfIt) {
  const std::string path = write("root.crt", "a certificate");
  const ServerFiles::Answer answer = read({"sslrootcert", "key " + path, path});
  ASSERT_EQ(answer.problem, "");
  std::filesystem::remove(path);
  const std::string copy = option(answer, "sslrootcert");
  EXPECT_EQ(read_all(copy), "a certificate");
  EXPECT_EQ(read_all(copy), "a certificate") << "libpq may read it more than once";
  EXPECT_EQ(answer.copies.in_words("no file \"" + copy + "\" and no \"" + copy + "1\""),
            "no file \"" + path + "\" and no \"" + copy + "1\"");
}

TEST_F(ReadServerFiles, WhatIsNoPlainFileIsSaid) {
  const std::string fifo = dir_ + "/fifo";
  mkfifo(fifo.c_str(), 0600);
  for (const Kind kind : {Kind::Plain, Kind::Key, Kind::Secret, Kind::Pgpass}) {
    EXPECT_EQ(read({"k", "key " + fifo, fifo, kind}).problem,
              "key " + fifo + ": is not a regular file");
  }
  EXPECT_NE(read({"k", "key", dir_ + "/none"}).problem.find("cannot be read"), std::string::npos);
  EXPECT_NE(read({"k", "key", fifo, Kind::CrlFolder}).problem, "");
}

TEST_F(ReadServerFiles, APasswordLosesItsLineEndAndIsOneAsPostgresTakesIt) {
  const auto password = [&](const std::string& text) {
    return read({"password", "key", write("password", text), Kind::Secret});
  };
  EXPECT_EQ(option(password("secret\r\n\n"), "password"), "secret");
  EXPECT_EQ(option(password(" secret \n"), "password"), " secret ");
  EXPECT_EQ(option(password(std::string(65'530, 'x')), "password").size(), 65'530U);
  EXPECT_EQ(password(std::string(65'531, 'x')).problem, "key: is too long");
  EXPECT_EQ(password("\n").problem, "key: is empty");
  EXPECT_TRUE(password("\n").of_password);
  EXPECT_EQ(password(std::string("a\0b", 3)).problem, "key: holds a zero byte");
}

TEST_F(ReadServerFiles, LibpqsOwnOnesMayLackAndItFindsNoneByItself) {
  const LibpqFile file{"sslcert", "libpq's own", "~/.postgresql/postgresql.crt", Kind::Plain, true};
  const ServerFiles::Answer none = read(file);
  EXPECT_EQ(none.problem, "");
  struct stat info {};
  EXPECT_NE(stat(option(none, "sslcert").c_str(), &info), 0);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(none.copies.in_words("\"" + option(none, "sslcert") + "\""), "\"" + file.path + "\"");
  write(".postgresql/postgresql.crt", "a certificate");
  EXPECT_EQ(read_all(option(read(file), "sslcert")), "a certificate");
}

TEST_F(ReadServerFiles, WhoElseCanReadAFileIsLibpqsToJudgeOnTheCopy) {
  const auto mode = [&](Kind kind, mode_t given) {
    const std::string path = write("key", "secret", given);
    struct stat info {};
    EXPECT_EQ(stat(option(read({"k", "key", path, kind}), "k").c_str(), &info), 0);
    return info.st_mode & 0777;
  };
  EXPECT_EQ(mode(Kind::Key, 0600), 0600U);
  EXPECT_EQ(mode(Kind::Key, 0644), 0666U);
  EXPECT_EQ(mode(Kind::Pgpass, 0600), 0600U);
  const std::string open = write("key", "secret", 0640);
  EXPECT_NE(read({"passfile", "PGPASSFILE", open, Kind::Pgpass}).problem, "");
  const ServerFiles::Answer own = read({"passfile", "libpq's own", "~/key", Kind::Pgpass, true});
  EXPECT_EQ(own.problem, "");
  EXPECT_TRUE(option(own, "passfile").starts_with(kNoFile));
}

TEST_F(ReadServerFiles, AFolderOfRevocationsBecomesOneList) {
  const std::string list = "-----BEGIN X509 CRL-----\n";
  write("crls/0123abcd.r0", list + "one");
  write("crls/0123abcd.r1", list + "two");
  write("crls/0123abcd.0", "a certificate");
  write("crls/README", "not one");
  const ServerFiles::Answer answer =
      read({"sslcrldir", "sslcrldir", dir_ + "/crls", Kind::CrlFolder});
  ASSERT_EQ(answer.problem, "");
  EXPECT_EQ(read_all(option(answer, "sslcrl")), list + "one\n" + list + "two\n");
  EXPECT_TRUE(option(answer, "sslcrldir").starts_with(kNoFile));
  write("crls/0123abcd.r2", "rubbish");
  EXPECT_NE(read({"sslcrldir", "k", dir_ + "/crls", Kind::CrlFolder}).problem, "")
      << "what cannot be checked is not passed over";
  std::filesystem::create_directories(dir_ + "/empty");
  EXPECT_NE(read({"sslcrldir", "k", dir_ + "/empty", Kind::CrlFolder}).problem, "");
}

// ---- on the loop

class ServerFilesTest : public testing::Test {
 protected:
  // The threads touch this until they have ended, those too that have yet to begin.
  ~ServerFilesTest() override {
    release();
    until([this] { return !files_.busy(); });
  }

  ServerFiles::Answer stand_in(const std::vector<LibpqFile>& files) {
    const std::string path = files.at(0).path;
    std::unique_lock lock(mutex_);
    begun_.insert(path);
    changed_.notify_all();
    if (path.starts_with("hangs") && !good_) changed_.wait(lock, [this] { return released_; });
    ServerFiles::Answer answer;
    answer.problem = path + " " + std::to_string(begun_.count(path));
    return answer;
  }
  void release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  std::size_t begun(const std::string& path) {
    const std::lock_guard lock(mutex_);
    return begun_.count(path);
  }
  std::shared_ptr<ServerFiles::Done> read(const std::string& path) {
    auto done = std::make_shared<ServerFiles::Done>(
        [this](const ServerFiles::Answer& answer) { told_.push_back(answer.problem); });
    files_.read({{"k", "key", path}}, done);
    return done;
  }
  template <typename Condition>
  bool until(Condition&& condition) {
    net::Timer awake;
    awake.start(loop_, kMicrosPerMilli, kMicrosPerMilli, [] {});
    const Micros end = net::Loop::clock_us() + 20 * kMicrosPerSecond;
    while (!condition() && net::Loop::clock_us() < end) loop_.run_once();
    return condition();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multiset<std::string> begun_;
  bool released_ = false;
  bool good_ = false;  // what hangs does so no more, for who begins now
  net::Loop loop_;
  ServerFiles files_{loop_, [this](const std::vector<LibpqFile>& files, const std::string&) {
                       return stand_in(files);
                     }};
  std::vector<std::string> told_;
};

TEST_F(ServerFilesTest, OneThatHangsHoldsUpNobodyElse) {
  const auto hangs = read("hangs");
  const auto other = read("other");
  EXPECT_TRUE(until([&] { return told_ == std::vector<std::string>{"other 1"}; }));
  EXPECT_TRUE(files_.busy());
}

TEST_F(ServerFilesTest, AListThatHangsCostsOneThreadAndIsReadAgainForWhoAskedMeanwhile) {
  const auto first = read("hangs");
  ASSERT_TRUE(until([&] { return begun("hangs") == 1; }));
  std::vector<std::shared_ptr<ServerFiles::Done>> later;
  for (int i = 0; i < 100; ++i) later.push_back(read("hangs"));
  later.resize(3);  // the others have given up
  EXPECT_EQ(begun("hangs"), 1U);
  release();
  EXPECT_TRUE(until([&] { return told_.size() == 4; }));
  EXPECT_EQ(told_[0], "hangs 1");
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(told_[i], "hangs 2") << "as it is now";
}

TEST_F(ServerFilesTest, BeyondTheThreadsThereAreTheyWaitForTheirTurn) {
  std::vector<std::shared_ptr<ServerFiles::Done>> all;
  for (std::uint32_t i = 0; i < net::Aside::kThreadsMax + 4; ++i) {
    all.push_back(read("hangs" + std::to_string(i)));
  }
  ASSERT_TRUE(until([&] {
    const std::lock_guard lock(mutex_);
    return begun_.size() == net::Aside::kThreadsMax;
  }));
  EXPECT_TRUE(told_.empty());
  release();
  EXPECT_TRUE(until([&] { return told_.size() == all.size(); }));
  EXPECT_FALSE(files_.busy());
}

TEST_F(ServerFilesTest, WhereAFileIsKnownToBeAnotherOneNobodyWaitsForWhatHangs) {
  const auto first = read("hangs");
  ASSERT_TRUE(until([&] { return begun("hangs") == 1; }));
  const auto second = read("hangs");
  files_.changed("another");
  EXPECT_EQ(begun("hangs"), 1U);
  {
    const std::lock_guard lock(mutex_);
    good_ = true;
  }
  files_.changed("hangs");
  ASSERT_TRUE(until([&] { return told_.size() == 2; }));
  EXPECT_EQ(told_, (std::vector<std::string>{"hangs 2", "hangs 2"}));
  release();
  ASSERT_TRUE(until([&] { return !files_.busy(); }));
  EXPECT_EQ(told_.size(), 2U) << "what was dropped is told to nobody";
}

TEST_F(ServerFilesTest, WhoHasGoneIsNotTold) {
  auto gone = read("hangs");
  ASSERT_TRUE(until([&] { return begun("hangs") == 1; }));
  gone.reset();
  release();
  EXPECT_TRUE(until([&] { return !files_.busy(); }));
  EXPECT_TRUE(told_.empty());
}

}  // namespace
}  // namespace carpool::proxy
