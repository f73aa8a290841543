// Buffer: bytes that had to be kept, first in first out, in one contiguous piece.
//
//     data_            data_+begin_          data_+end_        data_+capacity_
//       |  consumed ...    |   bytes() ...       |   free ...        |
//
// Invariant: begin_ <= end_ <= capacity_; empty() implies that it owns no memory. So a connection
// that has nothing pending pays for three words. The first kSmall bytes come from a free list that
// keeps at most kFreeMax blocks; only the loop thread uses Buffers.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace carpool {

class Buffer {
 public:
  static constexpr std::uint32_t kSmall = 1024;
  static constexpr std::uint32_t kFreeMax = 256;

  Buffer() = default;
  ~Buffer() { clear(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  bool empty() const { return begin_ == end_; }
  std::uint32_t size() const { return end_ - begin_; }
  // What it owns.
  std::uint32_t capacity() const { return capacity_; }
  // Valid until the next call that is not const.
  ByteSpan bytes() const { return {data_ + begin_, size()}; }

  // `bytes` must not point into this buffer.
  void append(ByteSpan bytes);
  // Drops `n` bytes from the front; n <= size(). Gives the memory back when none are left.
  void consume(std::uint32_t n);
  void clear();

  // Room for at least `n` more bytes at the end, to be filled in place and then add()ed.
  std::uint8_t* reserve(std::uint32_t n);
  std::uint32_t room() const { return capacity_ - end_; }
  void add(std::uint32_t n);

 private:
  std::uint8_t* data_ = nullptr;
  std::uint32_t begin_ = 0;
  std::uint32_t end_ = 0;
  std::uint32_t capacity_ = 0;
};

}  // namespace carpool
