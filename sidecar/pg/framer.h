// Framer: cuts one direction of a connection into protocol messages. It owns no bytes and does no
// I/O: the caller shows it what it has, and is told what stands at the front.
//
//     type (1) | length (4, counts itself) | body (length - 4)         after the startup packet
//
// Small messages are given Whole. A message that may be large is given as a Head, as soon as there
// is enough to see the fields that Carpool reads, and then Body pieces as they come, so that no
// payload is ever held whole. A message whose text must be read (Query, Parse) is held whole up to
// kTextMax. next() only looks and take() moves on, so that a message may be left for later.
// Invariant: body_left_ > 0 exactly while a Head's message is unfinished, and every byte taken was
// given out exactly once, in order.
//
// Source: PostgreSQL manual, chapter "Frontend/Backend Protocol", "Message Formats";
// src/backend/tcop/postgres.c, SocketBackend().
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace carpool::pg {

struct Frame {
  enum class Kind : std::uint8_t {
    NeedMore,  // nothing to take yet; `total` says how long the message is, where that is known
    Whole,     // `bytes` is a message from its type byte to its end
    Head,      // `bytes` is the start of a message of `total` bytes
    Body,      // `bytes` continues the message begun by the last Head
    Bad,       // not the protocol: the connection cannot be used any more
  };
  Kind kind = Kind::NeedMore;
  char type = 0;
  bool last = false;  // the message ends with `bytes`
  std::uint32_t total = 0;
  ByteSpan bytes;

  // What follows the length word; only for Whole and Head.
  ByteSpan body() const { return bytes.subspan(5); }
};

class Framer {
 public:
  enum class Side : std::uint8_t { FromClient, FromServer };

  static constexpr std::uint32_t kHeaderSize = 5;
  // PostgreSQL's own limit (MaxAllocSize).
  static constexpr std::uint32_t kFrameMax = 1u << 30;
  // Of a client's message that brings no text and no data (PQ_SMALL_MESSAGE_LIMIT): so it is always
  // Whole. A longer one is Bad.
  static constexpr std::uint32_t kSmallMax = 10'000;
  // Query and Parse are held whole up to this.
  static constexpr std::uint32_t kTextMax = 1u << 20;
  // And a password, as PostgreSQL does (PG_MAX_AUTH_TOKEN_LENGTH).
  static constexpr std::uint32_t kPasswordMax = 1 + 65'535;
  // Other messages are held whole up to this, and a larger one's Head has this much.
  static constexpr std::uint32_t kHeadSize = 16u << 10;

  explicit Framer(Side side) : side_(side) {}

  // What stands at the front of `in`. After NeedMore, ask again with more bytes behind the same.
  Frame next(ByteSpan in) const;
  // The caller has dealt with `frame`, which next() gave last, and drops frame.bytes.size() bytes.
  void take(const Frame& frame);

  // Whether it stands between two messages.
  bool at_boundary() const { return body_left_ == 0; }

 private:
  // The largest length word.
  std::uint32_t length_max(char type) const;
  // How much of a message of this type and size must be there before it is given out.
  std::uint32_t needed(char type, std::uint32_t total) const;

  std::uint32_t body_left_ = 0;
  Side side_;
  char type_ = 0;
};

}  // namespace carpool::pg
