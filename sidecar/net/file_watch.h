// FileWatch: says that something in one of some directories may have changed. It watches
// directories and not files, since the kubelet swaps the `..data` symlink beside them by rename and
// a watch on the file dies with it. It never reads a file: who is told compares contents.
//
// Bursts are gathered for kDebounce_us from their first event; and, since some mounts deliver no
// events at all, the callback also comes each kPoll_us.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

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

  // Watches exactly these from now on. Those that cannot be watched are left to the poll.
  void watch(const std::vector<std::string>& directories);
  // "inotify" while every directory is watched, else "poll".
  const char* mechanism() const;

 private:
  struct Directory;
  void changed();

  Loop& loop_;
  std::function<void()> on_change_;
  std::vector<Directory*> watched_;
  bool all_watched_ = false;
  Timer debounce_;
  Timer poll_;
};

}  // namespace carpool::net
