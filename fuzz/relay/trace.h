// Trace: with FUZZ_TRACE in the environment, what goes to and fro is said on standard error.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/bytes.h"

namespace carpool::fuzz {

inline void trace(const std::string& who, char type, ByteSpan body) {
  static const bool wanted = std::getenv("FUZZ_TRACE") != nullptr;
  if (!wanted) return;
  constexpr std::size_t kShownMax = 100;
  std::string text(as_text(body.first(std::min(body.size(), kShownMax))));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::isprint(c) == 0; }, '.');
  std::fprintf(stderr, "%s %c %zu %s\n", who.c_str(), type, body.size(), text.c_str());
}

}  // namespace carpool::fuzz
