// Places: where PostgreSQL is to be found, a folder with the Unix sockets of two; Carpool's own
// goes there, too. One for the process.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace carpool::fuzz {

// As libpq looks for it.
std::string socket_in(const std::string& folder, unsigned port);
// -1: nobody is there.
int connect_to(const std::string& path);

class Places {
 public:
  static constexpr std::uint16_t kFirstPort = 5432;
  static constexpr std::size_t kCount = 2;

  Places();
  const std::string& folder() const { return folder_; }
  const std::array<int, kCount>& fds() const { return fds_; }
  // The next connection to one of them; -1: there is none.
  int accept();

 private:
  std::string folder_;
  std::array<int, kCount> fds_{};
};

}  // namespace carpool::fuzz
