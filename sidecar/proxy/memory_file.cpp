#include "proxy/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "pg/scram_verifier.h"

namespace carpool::proxy {
namespace {

bool write_all(int fd, const std::string& content) {
  std::size_t written = 0;
  while (written < content.size()) {
    const ssize_t n = write(fd, content.data() + written, content.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    written += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

std::shared_ptr<const MemoryFile> MemoryFile::make(const std::string& content, mode_t mode) {
  const int fd = memfd_create("carpool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return nullptr;
  if (!write_all(fd, content) || fchmod(fd, mode) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    close(fd);
    return nullptr;
  }
  const pg::ScramKey hash = pg::sha256(as_bytes(content));
  return std::shared_ptr<const MemoryFile>(
      new MemoryFile(fd, mode, std::string(hash.begin(), hash.end())));
}

MemoryFile::~MemoryFile() {
  close(fd_);
}

}  // namespace carpool::proxy
