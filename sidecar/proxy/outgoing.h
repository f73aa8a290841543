// Outgoing: what goes to a server for one read of a client. As long as messages go as they are, it
// is a view of the bytes that were read; only when something is put in or taken out are they
// gathered in a scratch buffer, so that there is one send either way.
//
//   in:   [ passed ... | dropped | passed ... | not looked at yet ]
//
// Invariant: taken() bytes of the input have been passed or dropped, in order.
#pragma once

#include "base/bytes.h"

namespace carpool::proxy {

class Outgoing {
 public:
  // Both must outlive it. `scratch` is emptied.
  Outgoing(ByteSpan in, Bytes& scratch) : in_(in), scratch_(scratch) { scratch_.clear(); }

  std::size_t taken() const { return taken_; }
  ByteSpan rest() const { return in_.subspan(taken_); }

  // The next `n` bytes go as they are.
  void pass(std::size_t n) {
    if (gathering_) {
      append(scratch_, in_.subspan(taken_, n));
    } else if (from_ == taken_ - size_) {
      size_ += n;
    } else if (size_ == 0) {
      from_ = taken_;
      size_ = n;
    } else {
      gather();
      append(scratch_, in_.subspan(taken_, n));
    }
    taken_ += n;
  }
  // The next `n` bytes do not go.
  void drop(std::size_t n) { taken_ += n; }
  // To append messages of our own to.
  Bytes& insert() {
    gather();
    return scratch_;
  }

  bool empty() const { return bytes().empty(); }
  // Valid while the input is.
  ByteSpan bytes() const { return gathering_ ? ByteSpan(scratch_) : in_.subspan(from_, size_); }
  // They have been sent.
  void sent() {
    scratch_.clear();
    gathering_ = false;
    from_ = taken_;
    size_ = 0;
  }

 private:
  void gather() {
    if (gathering_) return;
    gathering_ = true;
    append(scratch_, in_.subspan(from_, size_));
  }

  ByteSpan in_;
  Bytes& scratch_;
  std::size_t taken_ = 0;
  std::size_t from_ = 0;  // [from_, from_ + size_) of the input goes, while not gathering
  std::size_t size_ = 0;
  bool gathering_ = false;
};

}  // namespace carpool::proxy
