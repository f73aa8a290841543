// Program: what an input says, as operations of four bytes each: which, who, and two more. So what
// libFuzzer moves about stays meaningful (mutate() knows the size), and any bytes are a program.
// relay_seeds.py writes them by these names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"

namespace carpool::fuzz {

enum class Op : std::uint8_t {
  // A client, `who`.
  Connect,  // a: RelayClient::start()
  Message,  // a, b: say_message()
  Burst,    // a, b: say_burst()
  Raw,      // a: bytes, in the operations that follow
  Hold,     // what it says is kept back
  Allow,    // a: so many bytes of it go out; 0: all, from now on
  Shut,     // it sends no more
  Vanish,
  Deaf,    // a: whether it does not read
  Cancel,  // what it runs; a: with a wrong key
  // A server, `who`.
  HoldSteps,  // it answers nothing
  Step,       // a: so many messages; 0: all, from now on
  HoldOut,    // its answers are kept back
  AllowOut,   // a: so many bytes of them go out; 0: all, from now on
  Fail,       // a: the next statement, so
  Rows,       // a: so many; b: how long
  Unasked,    // a: a notice, a parameter, a notification
  Farewell,
  Drop,
  DeafServer,
  Lie,  // a: a message of that type; b: its fields
  RawServer,
  // Those to come.
  Welcoming,    // a: Welcome
  HoldCancels,  // a: whether
  // The relay.
  Pass,    // a: some time, of kTimes
  Reload,  // a: a key; b: its value
  Drain,
  Control,  // a: PAUSE, RESUME, ...
  Turn,     // a: so many turns of the loop, and nothing else moves
};
inline constexpr std::size_t kOps = static_cast<std::size_t>(Op::Turn) + 1;

struct Step {
  static constexpr std::size_t kSize = 4;
  // In the byte of the operation: what follows comes in the same turn.
  static constexpr std::uint8_t kJoined = 0x80;

  Op op;
  bool joined;
  std::uint8_t who;
  std::uint8_t a;
  std::uint8_t b;
};

class Program {
 public:
  // More of an input are not looked at.
  static constexpr std::size_t kStepsMax = 160;

  explicit Program(ByteSpan input) : rest_(input) {}
  // False at the end.
  bool next(Step& step);
  // Of a step whose `a` says how many.
  ByteSpan payload(std::size_t bytes);

 private:
  ByteSpan rest_;
  std::size_t steps_ = 0;
};

// Changes `data`, of which `size` bytes are the program, step by step; returns the new size.
std::size_t mutate(std::uint8_t* data, std::size_t size, std::size_t size_max, unsigned seed);
// A part of one behind a part of another.
std::size_t cross(ByteSpan one, ByteSpan other, std::span<std::uint8_t> out, unsigned seed);

}  // namespace carpool::fuzz
