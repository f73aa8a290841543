// SecretWatch by itself: which files have another content.
#include "proxy/secret_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <memory>
#include <mutex>
#include <vector>

#include "net/timer.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

class SecretWatchTest : public testing::Test {
 protected:
  ~SecretWatchTest() override { unlink(path_.c_str()); }

  void write(const std::string& content) { std::ofstream(path_) << content; }
  // Looks, and waits for all that comes of it.
  std::size_t changes_seen() {
    watch_.look({path_});
    while (watch_.busy()) loop_.run_once();
    return std::exchange(changed_, {}).size();
  }

  net::Loop loop_;
  const std::string path_ = testing::TempDir() + "secret_watch_" + std::to_string(getpid());
  std::vector<std::string> changed_;
  SecretWatch watch_{loop_, [this](const std::string& path) { changed_.push_back(path); }};
};

TEST_F(SecretWatchTest, TellsOfAnotherContentAndOfNothingElse) {
  write("one");
  EXPECT_EQ(changes_seen(), 0u) << "seen for the first time";
  EXPECT_EQ(changes_seen(), 0u);
  write("one");
  EXPECT_EQ(changes_seen(), 0u) << "written anew, and the same";
  write("two");
  EXPECT_EQ(changes_seen(), 1u);
  EXPECT_EQ(changes_seen(), 0u);
}

TEST_F(SecretWatchTest, AFileThatGoesOrComesIsAnotherContent) {
  EXPECT_EQ(changes_seen(), 0u);
  EXPECT_EQ(changes_seen(), 0u) << "still not there";
  write("one");
  EXPECT_EQ(changes_seen(), 1u);
  unlink(path_.c_str());
  EXPECT_EQ(changes_seen(), 1u);
}

TEST_F(SecretWatchTest, ALookBehindAReadingIsNotLost) {
  write("one");
  EXPECT_EQ(changes_seen(), 0u);
  watch_.look({path_});
  while (watch_.busy()) {
    if (changed_.empty()) write("two");
    watch_.look({path_});
    loop_.run_once();
    if (!changed_.empty()) break;
  }
  while (watch_.busy()) loop_.run_once();
  EXPECT_GE(changed_.size(), 1u);
}

TEST_F(SecretWatchTest, AFileThatMattersNoMoreIsForgotten) {
  write("one");
  EXPECT_EQ(changes_seen(), 0u);
  watch_.look({});
  write("two");
  EXPECT_EQ(changes_seen(), 0u) << "seen for the first time";
}

// A mount that is gone: the thread that reads there never comes back.
TEST(SecretWatch, NoticesAGoodFileInThePlaceOfOneThatHangs) {
  struct Disk {
    std::mutex mutex;
    std::condition_variable changed;
    bool hangs = true;
    bool ends = false;
  };
  const auto disk = std::make_shared<Disk>();
  net::Loop loop;
  std::vector<std::string> told;
  SecretWatch watch(
      loop, [&](const std::string& path) { told.push_back(path); },
      [disk](const std::string&) {
        std::unique_lock lock(disk->mutex);
        if (disk->hangs) disk->changed.wait(lock, [&] { return disk->ends; });
        return std::string("content");
      });
  const auto turn_for = [&](Micros us) {
    net::Timer awake;
    awake.start(loop, kMicrosPerMilli, kMicrosPerMilli, [] {});
    const Micros end = net::Loop::clock_us() + us;
    while (net::Loop::clock_us() < end && told.empty()) loop.run_once();
  };
  watch.look({"/secret"});
  turn_for(kMicrosPerSecond / 10);
  {
    const std::lock_guard lock(disk->mutex);
    disk->hangs = false;
  }
  watch.look({"/secret"});
  turn_for(20 * kMicrosPerSecond);
  EXPECT_EQ(told, std::vector<std::string>{"/secret"});
  {
    const std::lock_guard lock(disk->mutex);
    disk->ends = true;
    disk->changed.notify_all();
  }
  while (watch.busy()) loop.run_once();
  EXPECT_EQ(told.size(), 1u) << "what was overtaken says nothing";
}

TEST(FilesOf, AServerAreThoseOfTheUrlToo) {
  config::Server server;
  server.url = "postgres://db/app?sslmode=verify-full&sslrootcert=/ca&sslcert=/of-the-url";
  server.ssl_cert = "/cert";
  server.password_file = "/password";
  EXPECT_EQ(files_of(server), (std::set<std::string>{"/ca", "/cert", "/password"}));
  server.url = "postgres://db/app?sslmode=verify-full&sslrootcert=system";
  EXPECT_EQ(files_of(server), (std::set<std::string>{"/cert", "/password"}));
}

// A url is read as the libpq at hand reads it: 17 and older ones take raw spaces, and with a newer
// one no server can be opened by it.
TEST(FilesOf, AServerAreThoseThatTheLibpqAtHandSees) {
  config::Server server;
  server.url = "postgres://db/app?options=-c geqo%3Doff&passfile=/pgpass";
  const bool takes_spaces = libpq_at_hand().version < 18;
  EXPECT_EQ(files_of(server),
            takes_spaces ? std::set<std::string>{"/pgpass"} : std::set<std::string>{});
}

}  // namespace
}  // namespace carpool::proxy
