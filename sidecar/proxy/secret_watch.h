// SecretWatch: notices that a file with which servers are opened has another content: a rotated
// password, certificate or authority. What follows is its owner's to decide. It keeps a hash of
// each file and no content.
//
//   look(paths) -> a thread for each file -> changed(path), where it is not what it was
//
// A file that hangs, as on a mount that is gone, keeps its own threads and nobody else's: each look
// overtakes it with another one, more and more seldom, so that a good file in its place is noticed;
// that it can be read again is a change. A file that cannot be read has a content of its own: that
// of its error.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "config/config.h"
#include "net/aside.h"
#include "net/loop.h"
#include "net/timer.h"

namespace carpool::proxy {

// The files with which a server is opened.
std::set<std::string> files_of(const config::Server& server);

class SecretWatch {
 public:
  using Changed = std::function<void(const std::string& path)>;

  // Runs on a thread.
  using Hash = std::function<std::string(const std::string& path)>;
  // What takes longer hangs.
  static constexpr Micros kHangs_us = kMicrosPerSecond;
  // Readings of one file at once.
  static constexpr std::size_t kAtOnceMax = 8;

  // `loop` must outlive it.
  SecretWatch(net::Loop& loop, Changed changed);
  SecretWatch(net::Loop& loop, Changed changed, Hash hash);

  // These are the files that matter now, and one of them may have changed. What is seen of a file
  // for the first time is no change.
  void look(const std::set<std::string>& paths);
  // Whether a thread runs that may never end.
  bool busy() const { return aside_.running() > 0; }

 private:
  struct File {
    std::string seen;                          // a hash; empty: nothing yet
    std::map<std::uint64_t, Micros> readings;  // that run: when each began
    bool again = false;                        // it may have changed behind them
  };
  bool may_read(const File& file) const;
  void read(const std::string& path, File& file);
  void has_read(const std::string& path, std::uint64_t number, std::string hash);
  void look_later();

  net::Loop& loop_;
  const Changed changed_;
  const Hash hash_;
  net::Aside aside_;
  net::Timer later_;
  std::map<std::string, File> files_;
  std::uint64_t numbers_ = 0;
};

}  // namespace carpool::proxy
