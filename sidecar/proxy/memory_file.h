// MemoryFile: bytes that libpq can open by a path, and that nothing can change, take away or hold
// up any more: a memfd. It is there as long as this is.
//
// Source: memfd_create(2); proc(5), /proc/[pid]/fd.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

namespace carpool::proxy {

class MemoryFile {
 public:
  // Null where the kernel gives none. Any thread.
  static std::shared_ptr<const MemoryFile> make(const std::string& content, mode_t mode);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }
  // Whether another of that content and mode would be the same.
  bool equals(const MemoryFile& other) const {
    return mode_ == other.mode_ && hash_ == other.hash_;
  }

 private:
  MemoryFile(int fd, mode_t mode, std::string hash)
      : fd_(fd), mode_(mode), hash_(std::move(hash)) {}

  const int fd_;
  const mode_t mode_;
  const std::string hash_;  // of the content
};

}  // namespace carpool::proxy
