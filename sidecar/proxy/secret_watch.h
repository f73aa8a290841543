// SecretWatch: notices that a file with which servers are opened has another content: a rotated
// password, certificate or authority. What follows is its owner's to decide. It keeps a hash of
// each file and no content.
//
//   look(paths) -> a thread for each file -> changed(path), where it is not what it was
//
// A file that hangs, as on a mount that is gone, keeps its own thread and nobody else's. A file
// that cannot be read has a content of its own: that of its error.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "config/config.h"
#include "net/aside.h"
#include "net/loop.h"

namespace carpool::proxy {

// The files with which a server is opened.
std::set<std::string> files_of(const config::Server& server);

class SecretWatch {
 public:
  using Changed = std::function<void(const std::string& path)>;

  // `loop` must outlive it.
  SecretWatch(net::Loop& loop, Changed changed);

  // These are the files that matter now, and one of them may have changed. What is seen of a file
  // for the first time is no change.
  void look(const std::set<std::string>& paths);
  // Whether a thread runs that may never end.
  bool busy() const { return aside_.running() > 0; }

 private:
  struct File {
    std::string seen;  // a hash; empty: nothing yet
    bool reading = false;
    bool again = false;  // it may have changed behind that reading
  };
  void read(const std::string& path, File& file);
  void has_read(const std::string& path, std::string hash);

  const Changed changed_;
  net::Aside aside_;
  std::map<std::string, File> files_;
};

}  // namespace carpool::proxy
