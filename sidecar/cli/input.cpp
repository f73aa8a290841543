#include "cli/input.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace carpool::cli {

// What is thrown here the istream catches: it becomes its badbit.
DescriptorInput::int_type DescriptorInput::underflow() {
  ssize_t got = 0;
  do {
    got = read(descriptor_, piece_.data(), piece_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw std::system_error(errno, std::generic_category(), "standard input");
  if (got == 0) return traits_type::eof();
  setg(piece_.data(), piece_.data(), piece_.data() + got);
  return traits_type::to_int_type(piece_.front());
}

}  // namespace carpool::cli
