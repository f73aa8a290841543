// MemoryGuard: how near the memory of this process's container is to its limit, so that clients can
// be refused, and at worst some be closed, before the kernel kills the process and with it all of
// them. It knows no client and closes none: it says the level, and Proxy acts.
//
//     0 ........... 80% ............ 90% ........... limit
//     Fine          Tight            Critical
//                   no new clients   and those go that hold most
//
// What is used is what the kernel counts towards the limit, less the file pages, which it would
// drop before it killed anybody. The kernel is asked again whenever a megabyte has been read from
// connections since, because nothing grows without that, and at each tick.
//
// Invariant: Fine where there is no limit, or none that can be read.
#pragma once

#include <cstdint>
#include <string>

#include "base/units.h"

namespace carpool::proxy {

class MemoryGuard {
 public:
  enum class Level : std::uint8_t { Fine, Tight, Critical };
  static constexpr std::uint64_t kLookAfter_bytes = kMiB;

  // Where cgroups are mounted, and which of them this process is in (cgroups(7)).
  explicit MemoryGuard(const std::string& mount = "/sys/fs/cgroup",
                       const std::string& membership = "/proc/self/cgroup");
  ~MemoryGuard();
  MemoryGuard(const MemoryGuard&) = delete;
  MemoryGuard& operator=(const MemoryGuard&) = delete;

  // So many bytes have come, and may be kept.
  void passed(std::size_t bytes) {
    passed_ += bytes;
    if (passed_ >= kLookAfter_bytes) look();
  }
  // Asks the kernel.
  void look();

  Level level() const { return level_; }
  bool limited() const { return limit_ != 0; }
  // Whether the kernel's buffers of sockets count towards the limit: not in the first version.
  bool counts_sockets() const { return v2_; }
  std::uint64_t used_bytes() const { return used_; }
  std::uint64_t limit_bytes() const { return limit_; }  // 0: none
  // What would have to go for the level to be Fine again.
  std::uint64_t excess_bytes() const;
  // All that can be done has been done: not Critical until the next look.
  void relieved();

 private:
  bool open(const std::string& folder, bool v2);
  std::uint64_t file_pages() const;

  bool v2_ = false;
  int limit_fd_ = -1;
  int used_fd_ = -1;
  int stat_fd_ = -1;
  std::uint64_t passed_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t limit_ = 0;
  Level level_ = Level::Fine;
};

}  // namespace carpool::proxy
