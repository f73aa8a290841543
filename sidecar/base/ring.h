// Ring: a queue, first in first out, whose elements stay where they are until they leave. The first
// kInside stand in the object itself, so that a short queue never allocates; a longer one has
// twice the room each time, and keeps it as long as it lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "base/check.h"

namespace carpool {

// `kInside` is a power of two.
template <typename T, std::uint32_t kInside>
class Ring {
 public:
  Ring() = default;
  ~Ring() { pop_front(size_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool empty() const { return size_ == 0; }
  std::uint32_t size() const { return size_; }
  // Both valid until the next call that adds or erases.
  T& operator[](std::uint32_t i) { return *at(i); }
  const T& operator[](std::uint32_t i) const { return *const_cast<Ring*>(this)->at(i); }

  template <typename U>
  T& push_back(U&& value) {
    if (size_ == capacity_) grow();
    T* made = new (room(size_)) T(std::forward<U>(value));
    ++size_;
    return *made;
  }
  void pop_front(std::uint32_t n = 1) {
    CHECK(n <= size_);
    for (; n > 0; --n, --size_, ++first_) at(0)->~T();
  }
  // Those behind it move up.
  void erase(std::uint32_t i) {
    CHECK(i < size_);
    erase_if(i, i + 1, [](const T&) { return true; });
  }
  // Those of [from, to) of which fn says so, in one pass.
  template <typename Fn>
  void erase_if(std::uint32_t from, std::uint32_t to, Fn&& fn) {
    CHECK(from <= to && to <= size_);
    std::uint32_t kept = from;
    for (std::uint32_t i = from; i < size_; ++i) {
      if (i < to && fn((*this)[i])) continue;
      if (kept != i) (*this)[kept] = std::move((*this)[i]);
      ++kept;
    }
    for (std::uint32_t i = kept; i < size_; ++i) at(i)->~T();
    size_ = kept;
  }

 private:
  std::byte* room(std::uint32_t i) {
    std::byte* const start = more_ == nullptr ? inside_ : more_.get();
    return start + std::size_t{(first_ + i) & (capacity_ - 1)} * sizeof(T);
  }
  T* at(std::uint32_t i) { return std::launder(reinterpret_cast<T*>(room(i))); }
  void grow() {
    static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    auto larger =
        std::make_unique_for_overwrite<std::byte[]>(std::size_t{capacity_} * 2 * sizeof(T));
    for (std::uint32_t i = 0; i < size_; ++i) {
      new (larger.get() + std::size_t{i} * sizeof(T)) T(std::move(*at(i)));
      at(i)->~T();
    }
    more_ = std::move(larger);
    first_ = 0;
    capacity_ *= 2;
  }

  std::uint32_t first_ = 0;  // counts on; its place is the rest by capacity_
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = kInside;
  std::unique_ptr<std::byte[]> more_;
  alignas(T) std::byte inside_[kInside * sizeof(T)];
};

}  // namespace carpool
