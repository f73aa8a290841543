#include "proxy/memory_guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <optional>
#include <span>
#include <string_view>

namespace carpool::proxy {
namespace {

// cgroup v1 says "no limit" by a number of this size, v2 by the word "max".
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 60;

// A number of percent of `limit`, without overflow.
constexpr std::uint64_t percent(std::uint64_t limit, std::uint64_t n) {
  return limit / 100 * n;
}

std::string_view read_at_start(int fd, std::span<char> into) {
  const ssize_t n = pread(fd, into.data(), into.size(), 0);
  return {into.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
}

std::optional<std::uint64_t> number_in(int fd) {
  std::array<char, 32> text{};
  const std::string_view found = read_at_start(fd, text);
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(found.data(), found.data() + found.size(), number);
  return failed == std::errc() ? std::optional(number) : std::nullopt;
}

// The path behind the second colon of the line for `controller`; empty for cgroup v2's.
std::string path_of(const std::string& membership, std::string_view controller) {
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string wanted = "," + std::string(controller) + ",";
    if (controllers.find(wanted) != std::string::npos) return line.substr(second + 1);
  }
  return "";
}

}  // namespace

MemoryGuard::MemoryGuard(const std::string& mount, const std::string& membership) {
  // In a container the process's own cgroup is mounted where elsewhere the root is, and the path
  // that it is told may be one that only the node knows.
  const bool found = open(mount + path_of(membership, ""), true) || open(mount, true) ||
                     open(mount + "/memory" + path_of(membership, "memory"), false) ||
                     open(mount + "/memory", false);
  if (found) look();
}

MemoryGuard::~MemoryGuard() {
  for (const int fd : {limit_fd_, used_fd_, stat_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

bool MemoryGuard::open(const std::string& folder, bool v2) {
  const auto open_in = [&](const char* name) {
    return ::open((folder + "/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  };
  limit_fd_ = open_in(v2 ? "memory.max" : "memory.limit_in_bytes");
  if (limit_fd_ < 0) return false;
  used_fd_ = open_in(v2 ? "memory.current" : "memory.usage_in_bytes");
  stat_fd_ = open_in("memory.stat");
  v2_ = v2;
  return true;
}

// Of files on disk; what is in memory alone (tmpfs, shared memory) stands under other keys.
std::uint64_t MemoryGuard::file_pages() const {
  std::array<char, 8192> text{};
  const std::string_view found = read_at_start(stat_fd_, text);
  std::uint64_t pages = 0;
  for (const char* list : {"inactive_file ", "active_file "}) {
    // The first version counts cgroups below under keys of their own.
    const std::string key = std::string(v2_ ? "\n" : "\ntotal_") + list;
    const std::size_t at = found.find(key);
    if (at == std::string_view::npos) continue;
    std::uint64_t number = 0;
    std::from_chars(found.data() + at + key.size(), found.data() + found.size(), number);
    pages += number;
  }
  return pages;
}

void MemoryGuard::look() {
  passed_ = 0;
  level_ = Level::Fine;
  const std::optional<std::uint64_t> limit = number_in(limit_fd_);
  const std::optional<std::uint64_t> used = number_in(used_fd_);
  limit_ = limit && *limit < kNoLimit ? *limit : 0;
  used_ = used.value_or(0);
  if (limit_ == 0 || used_ < percent(limit_, 80)) return;
  used_ -= std::min(file_pages(), used_);
  if (used_ >= percent(limit_, 80)) level_ = Level::Tight;
  if (used_ >= percent(limit_, 90)) level_ = Level::Critical;
}

std::uint64_t MemoryGuard::excess_bytes() const {
  const std::uint64_t fine = percent(limit_, 80);
  return used_ > fine ? used_ - fine : 0;
}

void MemoryGuard::relieved() {
  if (level_ == Level::Critical) level_ = Level::Tight;
}

}  // namespace carpool::proxy
