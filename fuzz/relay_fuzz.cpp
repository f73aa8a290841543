// A whole relay between hostile clients and a PostgreSQL that may lie: whatever an input makes them
// do, nothing of one client's reaches another, all that a client gets is the protocol, who is in
// order is answered, and afterwards nobody and nothing is left, not even a descriptor. The input is
// a program: see relay/program.h, and relay/world.h for what is checked.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>

#include "base/check.h"
#include "relay/program.h"
#include "relay/world.h"

using namespace carpool;

namespace {

std::ptrdiff_t descriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return std::distance(begin(open), end(open));
}

}  // namespace

// What is freed is kept for some inputs, rather than out of every cache.
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=16:malloc_context_size=8";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::Places places;
  // What the libraries open once, they have open from then on.
  [[maybe_unused]] static const bool warm = (fuzz::World(places).end(), true);
  static const std::ptrdiff_t before = descriptors();
  {
    fuzz::World world(places);
    world.run(fuzz::Program(ByteSpan(data, size)));
    world.end();
  }
  CHECK(descriptors() == before);
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned seed) {
  return fuzz::mutate(data, size, size_max, seed);
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* one, std::size_t one_size,
                                                 const std::uint8_t* other, std::size_t other_size,
                                                 std::uint8_t* out, std::size_t out_size,
                                                 unsigned seed) {
  return fuzz::cross({one, one_size}, {other, other_size}, {out, out_size}, seed);
}
