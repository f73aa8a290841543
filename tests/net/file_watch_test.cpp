#include "net/file_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "turns.h"

namespace carpool::net {
namespace {

namespace fs = std::filesystem;

// A ConfigMap's directory, written as the kubelet does: a folder with a time in its name, `..data`
// a symlink to it, the keys symlinks through `..data`.
class Mount {
 public:
  Mount() {
    char path[] = "/tmp/carpool-watch-XXXXXX";
    dir_ = mkdtemp(path);
  }
  ~Mount() { fs::remove_all(dir_); }

  void write(const std::string& text) {
    const fs::path old = fs::exists(dir_ / "..data") ? fs::read_symlink(dir_ / "..data") : "";
    const std::string fresh = "..2026_11_21_" + std::to_string(++version_);
    fs::create_directory(dir_ / fresh);
    std::ofstream(dir_ / fresh / "carpool.yaml") << text;
    fs::create_directory_symlink(fresh, dir_ / "..data_tmp");
    fs::rename(dir_ / "..data_tmp", dir_ / "..data");
    if (!fs::exists(fs::symlink_status(dir_ / "carpool.yaml"))) {
      fs::create_symlink("..data/carpool.yaml", dir_ / "carpool.yaml");
    }
    if (!old.empty()) fs::remove_all(dir_ / old);
  }
  std::string read() const {
    std::ostringstream text;
    text << std::ifstream(dir_ / "carpool.yaml").rdbuf();
    return text.str();
  }
  std::string dir() const { return dir_; }

 private:
  fs::path dir_;
  int version_ = 0;
};

// Watches one by one from the beginning, as the directory of the configuration is.
void watch_now(FileWatch& watch, const std::vector<std::string>& directories) {
  for (const std::string& directory : directories) watch.watch_now(directory);
}

TEST(FileWatch, TellsOfEverySwapOfTheDataSymlink) {
  Loop loop;
  Mount mount;
  mount.write("first");
  std::string seen;
  int changes = 0;
  {
    FileWatch watch(loop, [&] {
      seen = mount.read();
      ++changes;
    });
    watch.watch_now(mount.dir());
    EXPECT_STREQ(watch.mechanism(), "inotify");
    for (const std::string text : {"second", "third", "fourth"}) {
      mount.write(text);
      ASSERT_TRUE(run_until(loop, [&] { return seen == text; }));
    }
  }
  EXPECT_GE(changes, 3);
  const int before = changes;
  mount.write("after its end");
  run_turns(loop);
  EXPECT_EQ(changes, before);
}

TEST(FileWatch, GathersABurst) {
  Loop loop;
  Mount mount;
  mount.write("0");
  int changes = 0;
  std::string seen;
  FileWatch watch(loop, [&] {
    ++changes;
    seen = mount.read();
  });
  watch.watch_now(mount.dir());
  // All of it is in the kernel's queue before the loop turns: some seventy events.
  for (int i = 1; i <= 10; ++i) mount.write(std::to_string(i));
  ASSERT_TRUE(run_until(loop, [&] { return changes > 0; }));
  EXPECT_EQ(seen, "10");
  EXPECT_EQ(changes, 1);
  run_turns(loop);
  EXPECT_EQ(changes, 1);
}

TEST(FileWatch, WaitsForTheBurstToEndAndThenReadsTheNewContent) {
  Loop loop;
  Mount mount;
  mount.write("old");
  const Micros begin = Loop::clock_us();
  bool told = false;
  FileWatch watch(loop, [&] { told = true; });
  watch.watch_now(mount.dir());
  mount.write("new");
  ASSERT_TRUE(run_until(loop, [&] { return told; }));
  EXPECT_GE(Loop::clock_us() - begin, FileWatch::kDebounce_us - 5 * kMicrosPerMilli);
}

// It may hang: a thread looks it up, and what changed meanwhile is not missed.
TEST(FileWatch, ADirectoryThatComesLaterIsToldOfOnceItIsWatched) {
  Loop loop;
  Mount mount;
  Mount other;
  int changes = 0;
  FileWatch watch(loop, [&] { ++changes; });
  watch.watch_now(mount.dir());
  watch.watch({mount.dir(), other.dir()});
  EXPECT_STREQ(watch.mechanism(), "poll") << "not yet";
  other.write("before it is watched");
  ASSERT_TRUE(run_until(loop, [&] { return changes == 1; }));
  EXPECT_STREQ(watch.mechanism(), "inotify");
  watch.watch({mount.dir(), other.dir()});
  other.write("after that");
  ASSERT_TRUE(run_until(loop, [&] { return changes == 2; }));
}

TEST(FileWatch, LeavesADirectoryThatIsNotThereToThePoll) {
  Loop loop;
  Mount mount;
  bool told = false;
  FileWatch watch(loop, [&] { told = true; });
  EXPECT_STREQ(watch.mechanism(), "poll") << "nothing is watched yet";
  watch.watch({mount.dir(), mount.dir() + "/missing"});
  ASSERT_TRUE(run_until(loop, [&] { return told; }));
  EXPECT_STREQ(watch.mechanism(), "poll");
  watch.watch({mount.dir(), mount.dir()});
  EXPECT_STREQ(watch.mechanism(), "inotify");
}

TEST(FileWatch, WatchesExactlyWhatItWasToldLast) {
  Loop loop;
  Mount first;
  Mount second;
  int changes = 0;
  FileWatch watch(loop, [&] { ++changes; });
  watch.watch_now(first.dir());
  watch.watch({second.dir()});
  ASSERT_TRUE(run_until(loop, [&] { return changes == 1; })) << "it may have changed meanwhile";
  first.write("x");
  run_turns(loop);
  const Micros until = Loop::clock_us() + FileWatch::kDebounce_us + 50 * kMicrosPerMilli;
  ASSERT_TRUE(run_until(loop, [&] { return Loop::clock_us() > until; }));
  EXPECT_EQ(changes, 1);
  second.write("x");
  ASSERT_TRUE(run_until(loop, [&] { return changes > 1; }));
}

TEST(FileWatch, WatchesSeveralDirectories) {
  Loop loop;
  Mount config;
  Mount secret;
  int changes = 0;
  FileWatch watch(loop, [&] { ++changes; });
  watch_now(watch, {config.dir(), secret.dir()});
  secret.write("rotated");
  ASSERT_TRUE(run_until(loop, [&] { return changes == 1; }));
  config.write("changed");
  ASSERT_TRUE(run_until(loop, [&] { return changes == 2; }));
}

TEST(FileWatch, SurvivesTheEndOfItsDirectory) {
  Loop loop;
  int changes = 0;
  FileWatch watch(loop, [&] { ++changes; });
  {
    Mount mount;
    mount.write("x");
    watch.watch_now(mount.dir());
  }
  ASSERT_TRUE(run_until(loop, [&] { return changes > 0; })) << "its removal is a change too";
}

}  // namespace
}  // namespace carpool::net
