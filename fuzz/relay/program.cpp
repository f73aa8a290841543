#include "relay/program.h"

#include <algorithm>
#include <cstring>
#include <random>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

namespace carpool::fuzz {

bool Program::next(Step& step) {
  if (rest_.size() < Step::kSize || ++steps_ > kStepsMax) return false;
  step.op = static_cast<Op>((rest_[0] & ~Step::kJoined) % kOps);
  step.joined = (rest_[0] & Step::kJoined) != 0;
  step.who = rest_[1];
  step.a = rest_[2];
  step.b = rest_[3];
  rest_ = rest_.subspan(Step::kSize);
  return true;
}

ByteSpan Program::payload(std::size_t bytes) {
  const std::size_t whole = (bytes + Step::kSize - 1) / Step::kSize * Step::kSize;
  const ByteSpan found = rest_.first(std::min(bytes, rest_.size()));
  rest_ = rest_.subspan(std::min(whole, rest_.size()));
  return found;
}

namespace {

class Mutator {
 public:
  Mutator(std::uint8_t* data, std::size_t steps, std::size_t steps_max, unsigned seed)
      : data_(data), steps_(steps), steps_max_(steps_max), random_(seed) {}

  std::size_t run() {
    for (std::size_t rounds = 1 + below(4); rounds > 0; --rounds) once();
    return steps_;
  }

 private:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }
  std::uint8_t* at(std::size_t step) { return data_ + step * Step::kSize; }

  void once() {
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
        return insert_new();
      case 3:
        return remove();
      case 4:
        return repeat();
      case 5:
        return move();
      default:
        return change();
    }
  }
  bool open(std::size_t where, std::size_t count) {
    if (steps_ + count > steps_max_) return false;
    std::memmove(at(where + count), at(where), (steps_ - where) * Step::kSize);
    steps_ += count;
    return true;
  }
  void insert_new() {
    const std::size_t where = below(steps_ + 1);
    if (!open(where, 1)) return;
    std::uint8_t* step = at(where);
    step[0] = static_cast<std::uint8_t>(below(kOps) | (below(4) == 0 ? Step::kJoined : 0));
    step[1] = static_cast<std::uint8_t>(below(4));
    step[2] = static_cast<std::uint8_t>(below(2) == 0 ? below(256) : below(8));
    step[3] = static_cast<std::uint8_t>(below(64));
  }
  void remove() {
    if (steps_ == 0) return;
    const std::size_t where = below(steps_);
    const std::size_t count = std::min(1 + below(1 + below(8)), steps_ - where);
    std::memmove(at(where), at(where + count), (steps_ - where - count) * Step::kSize);
    steps_ -= count;
  }
  void repeat() {
    if (steps_ == 0) return;
    const std::size_t from = below(steps_);
    const std::size_t count = std::min(1 + below(4), steps_ - from);
    const std::size_t to = from + count + below(steps_ - from - count + 1);
    if (!open(to, count)) return;
    std::memcpy(at(to), at(from), count * Step::kSize);
  }
  void move() {
    if (steps_ < 2) return;
    const std::size_t from = below(steps_ - 1);
    std::rotate(at(from), at(from + 1), at(from + 1 + below(steps_ - from)));
  }
  void change() {
    if (steps_ == 0) return;
    std::uint8_t* step = at(below(steps_));
    switch (below(6)) {
      case 0:
        step[0] ^= Step::kJoined;
        break;
      case 1:
        step[1] = static_cast<std::uint8_t>(below(4));
        break;
      case 2:
        step[2] = static_cast<std::uint8_t>(random_());
        break;
      case 3:
        step[3] = static_cast<std::uint8_t>(random_());
        break;
      case 4:
        step[2] = static_cast<std::uint8_t>(below(16));
        break;
      default:
        step[3] = static_cast<std::uint8_t>(below(64));
        break;
    }
  }

  std::uint8_t* const data_;
  std::size_t steps_;
  const std::size_t steps_max_;
  std::minstd_rand random_;
};

}  // namespace

std::size_t mutate(std::uint8_t* data, std::size_t size, std::size_t size_max, unsigned seed) {
  // What lies in a payload is libFuzzer's own to find.
  constexpr unsigned kLibFuzzers = 5;
  if (seed % kLibFuzzers == 0 && size > 0) {
    return LLVMFuzzerMutate(data, size, size_max);
  }
  Mutator mutator(data, size / Step::kSize, size_max / Step::kSize, seed);
  return mutator.run() * Step::kSize;
}

std::size_t cross(ByteSpan one, ByteSpan other, std::span<std::uint8_t> out, unsigned seed) {
  std::minstd_rand random(seed);
  const auto some = [&](ByteSpan all) { return random() % (all.size() / Step::kSize + 1); };
  const std::size_t first = std::min(some(one) * Step::kSize, out.size());
  const std::size_t skipped = some(other) * Step::kSize;
  const std::size_t second = std::min(other.size() - skipped, out.size() - first);
  std::memcpy(out.data(), one.data(), first);
  std::memcpy(out.data() + first, other.data() + skipped, second);
  return first + second;
}

}  // namespace carpool::fuzz
