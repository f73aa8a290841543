// ServerFiles: reads the files that servers are opened with (LibpqFile), anew for each connection
// and never on the loop, and makes private copies of them that libpq can open without waiting.
//
//   read() -> a thread, one for each list of files -> done, once
//
// A list that is being read is not read twice at once: who asks meanwhile is told of the next
// reading. So a mount that hangs costs one thread for each list that names it, and holds up nobody
// but who needs it; beyond Aside::kThreadsMax they wait. What does not come in time is the caller's
// to say (server.connectTimeout). Only where a file is known to be another one now (changed()) is
// what hangs left to itself.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/aside.h"
#include "net/loop.h"
#include "proxy/libpq_files.h"
#include "proxy/memory_file.h"

namespace carpool::proxy {

// What libpq is given in place of the files. To be kept as long as libpq may open them.
struct FileCopies {
  struct Copy {
    std::string path;  // libpq's
    std::string name;  // for people
    std::shared_ptr<const MemoryFile> file;
  };
  std::vector<std::pair<std::string, std::string>> options;  // libpq's keywords and values
  std::vector<Copy> copies;

  // libpq's message, about the files as people know them.
  std::string in_words(std::string message) const;
};

class ServerFiles {
 public:
  struct Answer {
    std::string problem;       // empty: there is none; else it names key and file
    bool of_password = false;  // the problem is with server.passwordFile
    FileCopies copies;
  };
  using Done = std::function<void(const Answer&)>;

  // Runs on a thread.
  using Read = std::function<Answer(const std::vector<LibpqFile>&, const std::string& home)>;

  // `loop` must outlive it.
  explicit ServerFiles(net::Loop& loop);
  ServerFiles(net::Loop& loop, Read read);
  ~ServerFiles();

  // Never calls `done` from inside, and not at all once `*done` is gone.
  void read(const std::vector<LibpqFile>& files, const std::shared_ptr<Done>& done);
  // A file has another content, and can be read: what is being read of it is dropped, and read anew
  // for who waits.
  void changed(const std::string& path);
  // Whether a thread runs that may never end.
  bool busy() const { return aside_.running() > 0; }

 private:
  using Key = std::string;
  struct Reading;
  void begin(const Key& key);
  void begin_waiting();
  void ended(const Key& key, std::uint64_t number, Answer answer);
  void share(Answer& answer);

  const Read read_;
  net::Aside aside_;
  std::map<Key, std::unique_ptr<Reading>> readings_;
  std::uint64_t numbers_ = 0;
  // Copies that are in use: connections that need the same share one.
  std::map<std::string, std::weak_ptr<const MemoryFile>> shared_;
};

// One reading, on any thread. `home`: of libpq; empty: the one that the system knows.
ServerFiles::Answer read_server_files(const std::vector<LibpqFile>& files, const std::string& home);

}  // namespace carpool::proxy
