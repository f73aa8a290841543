#include "relay/places.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/check.h"

namespace carpool::fuzz {
namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof address.sun_path);
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

}  // namespace

std::string socket_in(const std::string& folder, unsigned port) {
  return fmt::format("{}/.s.PGSQL.{}", folder, port);
}

int connect_to(const std::string& path) {
  const sockaddr_un address = address_of(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

Places::Places() {
  // In memory: a disk takes longer to make a socket than all the rest of an input.
  const std::filesystem::path root = "/dev/shm/carpool-relay-fuzz";
  std::filesystem::create_directories(root);
  // Those of processes that were killed, as fuzzers are.
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (std::filesystem::exists("/proc" / entry.path().filename())) continue;
    std::error_code gone;
    std::filesystem::remove_all(entry.path(), gone);
  }
  folder_ = root / std::to_string(getpid());
  std::filesystem::create_directories(folder_);
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::string path = socket_in(folder_, static_cast<unsigned>(kFirstPort + i));
    ::unlink(path.c_str());
    const sockaddr_un address = address_of(path);
    fds_[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(bind(fds_[i], reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    CHECK(listen(fds_[i], 100) == 0);
  }
}

int Places::accept() {
  for (const int place : fds_) {
    const int fd = accept4(place, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) return fd;
  }
  return -1;
}

}  // namespace carpool::fuzz
