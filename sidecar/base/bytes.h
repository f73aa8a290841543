// Bytes: spans of octets, and integers in network order, as PostgreSQL's protocol has them.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace carpool {

using ByteSpan = std::span<const std::uint8_t>;
using Bytes = std::vector<std::uint8_t>;

// Reads from `p`, which must have the bytes.
inline std::uint16_t load_u16(const std::uint8_t* p) {
  return static_cast<std::uint16_t>(p[0] << 8 | p[1]);
}
inline std::uint32_t load_u32(const std::uint8_t* p) {
  return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
         static_cast<std::uint32_t>(p[2]) << 8 | static_cast<std::uint32_t>(p[3]);
}
inline void store_u32(std::uint8_t* p, std::uint32_t value) {
  p[0] = static_cast<std::uint8_t>(value >> 24);
  p[1] = static_cast<std::uint8_t>(value >> 16);
  p[2] = static_cast<std::uint8_t>(value >> 8);
  p[3] = static_cast<std::uint8_t>(value);
}

inline void append(Bytes& out, ByteSpan bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}
inline void append_u8(Bytes& out, std::uint8_t value) {
  out.push_back(value);
}
inline void append_u16(Bytes& out, std::uint16_t value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8));
  out.push_back(static_cast<std::uint8_t>(value));
}
inline void append_u32(Bytes& out, std::uint32_t value) {
  std::uint8_t raw[4];
  store_u32(raw, value);
  out.insert(out.end(), raw, raw + 4);
}
inline void append_text(Bytes& out, std::string_view text) {
  out.insert(out.end(), text.begin(), text.end());
}
// A string as the protocol has it: zero-terminated. `text` must hold no zero byte.
inline void append_cstring(Bytes& out, std::string_view text) {
  append_text(out, text);
  out.push_back(0);
}

inline ByteSpan as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads a message body field by field. Never reads past its end: a field that is not there
// makes ok() false, and every later field empty or zero.
class Reader {
 public:
  explicit Reader(ByteSpan body) : body_(body) {}

  bool ok() const { return ok_; }
  ByteSpan rest() const { return body_; }

  std::uint8_t u8() { return take(1) ? last_[0] : 0; }
  std::uint16_t u16() { return take(2) ? load_u16(last_) : 0; }
  std::uint32_t u32() { return take(4) ? load_u32(last_) : 0; }
  ByteSpan bytes(std::size_t n) { return take(n) ? ByteSpan{last_, n} : ByteSpan{}; }

  // A zero-terminated string, without its zero.
  std::string_view cstring() {
    const void* zero = ok_ && !body_.empty() ? std::memchr(body_.data(), 0, body_.size()) : nullptr;
    if (zero == nullptr) {
      ok_ = false;
      return {};
    }
    std::size_t n = static_cast<std::size_t>(static_cast<const std::uint8_t*>(zero) - body_.data());
    std::string_view text = as_text(body_.first(n));
    body_ = body_.subspan(n + 1);
    return text;
  }

 private:
  bool take(std::size_t n) {
    if (!ok_ || body_.size() < n) {
      ok_ = false;
      return false;
    }
    last_ = body_.data();
    body_ = body_.subspan(n);
    return true;
  }

  ByteSpan body_;
  const std::uint8_t* last_ = nullptr;
  bool ok_ = true;
};

}  // namespace carpool
