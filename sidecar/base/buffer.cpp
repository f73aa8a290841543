#include "base/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace carpool {
namespace {

struct FreeBlock {
  FreeBlock* next;
};
// Those of a thread, which end with it.
struct FreeBlocks {
  FreeBlock* first = nullptr;
  std::uint32_t count = 0;
  ~FreeBlocks() {
    while (first != nullptr) std::free(std::exchange(first, first->next));
    count = Buffer::kFreeMax;  // what is given back from now on is not kept
  }
};
thread_local FreeBlocks free_blocks;

std::uint8_t* allocate(std::uint32_t capacity) {
  if (capacity == Buffer::kSmall && free_blocks.first != nullptr) {
    FreeBlock* block = free_blocks.first;
    free_blocks.first = block->next;
    --free_blocks.count;
    return reinterpret_cast<std::uint8_t*>(block);
  }
  void* memory = std::malloc(capacity);
  CHECK(memory != nullptr);
  return static_cast<std::uint8_t*>(memory);
}

void release(std::uint8_t* data, std::uint32_t capacity) {
  if (capacity == Buffer::kSmall && free_blocks.count < Buffer::kFreeMax) {
    FreeBlock* block = reinterpret_cast<FreeBlock*>(data);
    block->next = free_blocks.first;
    free_blocks.first = block;
    ++free_blocks.count;
    return;
  }
  std::free(data);
}

}  // namespace

std::uint8_t* Buffer::reserve(std::uint32_t n) {
  if (room() >= n) return data_ + end_;
  const std::uint32_t used = size();
  if (begin_ >= n && begin_ >= capacity_ / 2) {
    std::memmove(data_, data_ + begin_, used);
  } else {
    std::uint64_t wanted = std::max<std::uint64_t>(kSmall, capacity_);
    while (wanted < std::uint64_t{used} + n) wanted *= 2;
    CHECK(wanted <= UINT32_MAX);
    std::uint8_t* data = allocate(static_cast<std::uint32_t>(wanted));
    if (used > 0) std::memcpy(data, data_ + begin_, used);
    if (data_ != nullptr) release(data_, capacity_);
    data_ = data;
    capacity_ = static_cast<std::uint32_t>(wanted);
  }
  begin_ = 0;
  end_ = used;
  return data_ + end_;
}

void Buffer::append(ByteSpan bytes) {
  if (bytes.empty()) return;
  const std::uint32_t n = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(reserve(n), bytes.data(), n);
  end_ += n;
}

void Buffer::add(std::uint32_t n) {
  CHECK(n <= room());
  end_ += n;
  if (empty()) clear();
}

void Buffer::consume(std::uint32_t n) {
  CHECK(n <= size());
  begin_ += n;
  if (empty()) clear();
}

void Buffer::clear() {
  if (data_ != nullptr) release(data_, capacity_);
  data_ = nullptr;
  begin_ = end_ = capacity_ = 0;
}

}  // namespace carpool
