// CHECK: for our own bugs, in every build. An error of the world (a peer, a file, a user) is a
// Result instead; a CHECK that fails is a defect of Carpool and ends the process at once.
#pragma once

namespace carpool {

// Prints one line to standard error and aborts. Never returns.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace carpool

#define CHECK(condition)                                       \
  do {                                                         \
    if (!(condition)) [[unlikely]] {                           \
      ::carpool::check_failed(#condition, __FILE__, __LINE__); \
    }                                                          \
  } while (false)
