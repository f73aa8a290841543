// FileWatch: says that something in one of some directories may have changed. It watches
// directories and not files, since the kubelet swaps the `..data` symlink beside them by rename and
// a watch on the file dies with it. It never reads a file: who is told compares contents.
//
// A directory is looked up on a thread first (Aside), since its mount may hang; only then the loop
// does, and tells of a change, since one may have fallen in between.
//
// Bursts are gathered for kDebounce_us from their first event; and, since some mounts deliver no
// events at all, the callback also comes each kPoll_us.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "net/aside.h"
#include "net/loop.h"
#include "net/timer.h"

namespace carpool::net {

class FileWatch {
 public:
  static constexpr Micros kDebounce_us = 200 * kMicrosPerMilli;
  static constexpr Micros kPoll_us = 10 * kMicrosPerSecond;

  FileWatch(Loop& loop, std::function<void()> on_change);
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  // Watches this one at once, beside others: before a file in it is read for the first time. It
  // blocks where the directory's mount hangs.
  void watch_now(const std::string& directory);
  // Watches exactly these, as soon as they have been looked up; those that are watched already stay
  // so. Those that cannot be watched are left to the poll.
  void watch(const std::vector<std::string>& directories);
  // "inotify" while every directory is watched, else "poll".
  const char* mechanism() const;

 private:
  struct Identity;
  struct Directory;
  void changed();
  void look_up(const std::string& path);
  Directory* find(const std::string& path) const;
  void seen(const std::string& path, const Identity& identity);
  bool add(const std::string& path, const Identity& identity);

  Loop& loop_;
  std::function<void()> on_change_;
  Aside aside_;
  std::vector<std::string> wanted_;
  std::vector<Directory*> watched_;
  std::set<std::string> looked_up_;  // now, each on a thread
  Timer debounce_;
  Timer poll_;
};

}  // namespace carpool::net
