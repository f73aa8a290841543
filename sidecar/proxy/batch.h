// Batch: the client's batch at hand, as it came, where it may be healed by being sent once more: a
// Bind and what belongs to it, or the Describe of a statement. One for each lease.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "pg/framer.h"

namespace carpool::proxy {

class Batch {
 public:
  // A batch that is larger is not healed.
  static constexpr std::size_t kBytesMax = 8 * 1024;

  // `spare`: memory to use.
  explicit Batch(Bytes spare) : bytes_(std::move(spare)) { bytes_.clear(); }

  // Whether note() is to see a message of this type.
  bool wants(char type) const { return state_ != State::None || type == 'B' || type == 'D'; }
  // A message of the client's; `begins`: nothing is owed to the client, so that a batch begins.
  void note(const pg::Frame& frame, bool begins);
  // Its Parse of this name was answered by Carpool, before any other of the batch: PostgreSQL would
  // have planned it anew.
  void parsed(std::string_view name) { parsed_ = name; }
  // The client's Sync.
  void ended() { parsed_.clear(); }

  // It has come to its end, and nothing has come behind it.
  bool whole() const { return state_ == State::Whole; }
  // Its client does not go by what it was told of the result before.
  bool takes_any() const { return takes_any_; }
  // Its bytes, once.
  Bytes take() {
    state_ = State::None;
    return std::move(bytes_);
  }

 private:
  enum class State : std::uint8_t { None, Open, Whole };
  State state_ = State::None;
  bool takes_any_ = false;
  Bytes bytes_;
  std::string parsed_;
};

}  // namespace carpool::proxy
