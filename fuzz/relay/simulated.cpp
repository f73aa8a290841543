#include "relay/simulated.h"

#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

namespace carpool::fuzz {
namespace {

constexpr Micros kBegin_us = 1'000'000 * kMicrosPerSecond;

Micros now_us = kBegin_us;
std::uint64_t random_state = 1;

// Marsaglia, "Xorshift RNGs".
std::uint64_t next_random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

}  // namespace

void begin_simulation() {
  random_state = 0x9e3779b97f4a7c15;
}

// It never goes back, as the kernel's does not: what libuv remembers of an input before holds.
void pass(Micros us) {
  now_us += us;
}

}  // namespace carpool::fuzz

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE) {
    return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
  }
  now->tv_sec = static_cast<time_t>(carpool::fuzz::now_us / carpool::kMicrosPerSecond);
  now->tv_nsec = static_cast<long>(carpool::fuzz::now_us % carpool::kMicrosPerSecond * 1000);
  return 0;
}

ssize_t getrandom(void* into, std::size_t size, unsigned) {
  auto* bytes = static_cast<std::uint8_t*>(into);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::uint8_t>(carpool::fuzz::next_random() >> 32);
  }
  return static_cast<ssize_t>(size);
}
}
