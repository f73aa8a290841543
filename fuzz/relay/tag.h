// Tag: sixteen digits between two signs, which a client says in what it asks and a server says back
// in what it answers. A client that hears another's tag has been told what is not its own. No two
// clients ever have the same, so that no input can hold one: only the harness writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace carpool::fuzz {

inline constexpr char kTagSign = '#';
inline constexpr std::size_t kTagSize = 18;  // with both signs

// Whether one client's is kept from another: not where the configuration asks for a session mode
// that resets nothing.
inline bool isolation_promised = true;

// Stands for the tag of whoever sends it.
inline constexpr char kTagPlace = '@';

inline std::string make_tag(std::uint64_t number) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string tag(kTagSize, kTagSign);
  for (std::size_t i = 1; i + 1 < kTagSize; ++i, number >>= 4) tag[i] = kDigits[number & 15];
  return tag;
}

// The first tag at `at` or behind it; npos: none.
inline std::size_t find_tag(std::string_view text, std::size_t at = 0) {
  for (at = text.find(kTagSign, at); at != std::string_view::npos;
       at = text.find(kTagSign, at + 1)) {
    if (text.size() - at < kTagSize) return std::string_view::npos;
    if (text[at + kTagSize - 1] != kTagSign) continue;
    const std::string_view inside = text.substr(at + 1, kTagSize - 2);
    if (inside.find_first_not_of("0123456789abcdef") == std::string_view::npos) return at;
  }
  return std::string_view::npos;
}

// Empty where there is none.
inline std::string_view tag_in(std::string_view text) {
  const std::size_t at = find_tag(text);
  return at == std::string_view::npos ? std::string_view() : text.substr(at, kTagSize);
}

// One in `text` that is not `own`; empty: none. Compared so that libFuzzer, which learns what is
// compared, learns no tag.
inline std::string_view foreign_tag(std::string_view text, std::string_view own) {
  for (std::size_t at = find_tag(text); at != std::string_view::npos;
       at = find_tag(text, at + kTagSize)) {
    const std::string_view found = text.substr(at, kTagSize);
    unsigned differs = own.size() == kTagSize ? 0 : 1;
    for (std::size_t i = 0; differs == 0 && i < kTagSize; ++i) {
      differs |= static_cast<unsigned>(found[i] ^ own[i]);
    }
    if (differs != 0) return found;
  }
  return {};
}

}  // namespace carpool::fuzz
