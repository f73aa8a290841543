// Result<T>: a value, or the Error of the world that prevented it. No exceptions cross it.
//
//   Result<int> r = parse(text);
//   if (!r) return r.error();
//   use(*r);
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace carpool {

// What went wrong, in words for the person who can act on it.
struct Error {
  std::string message;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return state_.index() == 0; }

  // Only when it holds a value; CHECKed.
  T& operator*() {
    CHECK(*this);
    return std::get<0>(state_);
  }
  const T& operator*() const {
    CHECK(*this);
    return std::get<0>(state_);
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

  // Only when it holds an error; CHECKed.
  const Error& error() const {
    CHECK(!*this);
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

// Success without a value.
struct Ok {};
using Status = Result<Ok>;

}  // namespace carpool
