// Standard input as a stream that says when it could not be read: the streams of the library tell a
// folder, a closed descriptor or a broken disk from an empty file by nothing.
#pragma once

#include <array>
#include <cstddef>
#include <streambuf>

namespace carpool::cli {

// An std::istream over it has bad() once a read has failed. It never closes the descriptor.
class DescriptorInput : public std::streambuf {
 public:
  explicit DescriptorInput(int descriptor) : descriptor_(descriptor) {}

 protected:
  int_type underflow() override;

 private:
  static constexpr std::size_t kPieceBytes = 64 * 1024;

  const int descriptor_;
  std::array<char, kPieceBytes> piece_;
};

}  // namespace carpool::cli
