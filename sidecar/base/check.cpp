#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace carpool {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "carpool: CHECK failed: %s at %s:%d\n", condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace carpool
