// Child processes and scratch folders that never outlive the test: a child is killed by the kernel
// when the test dies (PR_SET_PDEATHSIG), a folder that a crashed test left behind is removed by
// the next one.
//
// Invariant: PR_SET_PDEATHSIG is tied to the thread that forks, so children are started from
// the main thread only.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/eventually.h"

namespace carpool::integration {

struct ProcessOptions {
  std::vector<std::string> argv;           // argv[0] is a path, or looked up in PATH
  std::map<std::string, std::string> env;  // added to our own
  std::string output_file;                 // gets stdout and stderr; empty: inherited
  std::string user;                        // empty: the caller's
  std::optional<unsigned> open_files_max;  // RLIMIT_NOFILE
  int death_signal = SIGKILL;              // what it gets when the test dies
};

class Process {
 public:
  // Throws std::runtime_error where the child cannot be made; a failed exec is exit code 127.
  explicit Process(const ProcessOptions& options);
  ~Process();  // SIGKILL, if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  bool running();
  // The exit code, or 128 + the signal that ended it; nullopt when it still ran at the deadline.
  std::optional<int> wait(Millis deadline = kDeadline);

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

// Runs a command to its end and returns what it wrote; throws when it fails.
std::string run_command(std::vector<std::string> argv, const std::string& user = "");

// A folder under /tmp (short enough for Unix sockets, reachable for other users), removed with
// this object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A TCP port that nobody listens on, below the kernel's ephemeral range so that no outgoing
// connection takes it in between; not given to another test while this process runs.
int free_port();

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);

// From /proc; zero when the process is gone.
std::size_t resident_bytes(pid_t pid);
std::size_t open_files(pid_t pid);

}  // namespace carpool::integration
