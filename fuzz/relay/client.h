// RelayClient: one client of the relay. It sends what the input says, whole messages of its own
// making or any bytes, and holds what comes back to the protocol: all of it is framed, and no tag
// in it is another's. Both are CHECKs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "relay/peer.h"

namespace carpool::fuzz {

class RelayClient final : public Peer {
 public:
  RelayClient(int fd, std::string tag) : Peer(fd), tag_(std::move(tag)) {}

  // The startup packet: of another database, with settings, for a replication, ...
  void start(std::uint8_t which);
  // One message, by the low half of `kind`; the other half names what it is about.
  void say_message(std::uint8_t kind, std::uint8_t detail);
  // Several that belong together.
  void say_burst(std::uint8_t which, std::uint8_t detail);
  void say_raw(ByteSpan bytes);
  // What is answered whatever was sent before: the end of a COPY, of a batch, and a query.
  void say_probe();
  // A cancel of what `other` runs, from this connection, which gets no answer.
  void ask_to_cancel(const RelayClient& other, bool wrong_key);
  void shut_down() {
    shut_ = true;
    shut();
  }

  // Whether something has moved. Fails where something came that must not.
  bool pump(bool comes);

  bool greeted() const { return readies_ > 0; }
  std::uint32_t readies() const { return readies_; }
  // It has sent nothing but whole messages, so that what becomes of it is known.
  bool orderly() const { return orderly_; }
  // It has said that it leaves, in a message of its own.
  bool leaves() const { return (leaves_ && orderly_) || shut_; }
  bool asks_to_cancel() const { return asks_; }

 private:
  void append_one(Bytes& out, char type, std::size_t name, std::uint8_t detail);
  std::string text(std::uint8_t which) const;
  void received(char type, ByteSpan body);

  static constexpr std::size_t kNamesCount = 4;

  const std::string tag_;
  std::array<std::uint8_t, kNamesCount> parameters_{};  // of the statements, by name
  Bytes key_;
  std::uint32_t pid_ = 0;
  std::uint32_t readies_ = 0;
  std::uint8_t asked_for_encryption_ = 0;
  bool got_message_ = false;
  bool orderly_ = true;
  bool leaves_ = false;
  bool shut_ = false;
  bool asks_ = false;
  bool at_console_ = false;
};

}  // namespace carpool::fuzz
