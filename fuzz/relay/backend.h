// Backend: one connection that the harness has accepted in PostgreSQL's place: a startup packet,
// a request for encryption or a cancel, and then an honest Postgres, unless the input says
// otherwise. From its first lie on nothing is believed of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "relay/peer.h"
#include "relay/postgres.h"

namespace carpool::fuzz {

// What becomes of who connects.
enum class Welcome : std::uint8_t {
  Proper,
  HangUp,
  Full,      // too many connections
  Starting,  // cannot connect now
  Refused,   // wrong password
  Silence,
  Rubbish,
};
inline constexpr std::size_t kWelcomes = 7;

class Backend final : public Peer {
 public:
  Backend(int fd, std::uint32_t pid, Welcome welcome) : Peer(fd), pid_(pid), welcome_(welcome) {}

  std::uint32_t pid() const { return pid_; }
  // It is a session, or may become one.
  bool is_server() const { return is_open() && !cancels_; }
  // The key of the backend that it wants canceled, once known; it stays until told.
  std::optional<std::uint32_t> cancels() const { return cancels_; }
  bool lies() const { return lies_; }

  // Whether something has moved, or was answered.
  bool pump(bool comes);
  // So many more messages are answered; kNoLimit: all, from now on.
  void step(std::size_t messages) {
    steps_ = messages == kNoLimit || steps_ == kNoLimit ? messages : steps_ + messages;
  }
  void hold_steps() { steps_ = 0; }
  void cancel() {
    if (postgres_) postgres_->cancel(!rest().empty());
  }
  Postgres* postgres() { return postgres_ ? &*postgres_ : nullptr; }
  void lie(std::uint8_t kind, std::uint8_t detail);
  void say_rubbish(ByteSpan bytes);
  // Whoever was left waiting is welcomed, and all that is held goes on.
  void relent();

 private:
  bool start();
  void enter(std::map<std::string, std::string> parameters);

  const std::uint32_t pid_;
  Welcome welcome_;
  std::optional<Postgres> postgres_;
  std::optional<std::uint32_t> cancels_;
  std::map<std::string, std::string> waits_;  // what it has asked for, in silence
  std::size_t steps_ = kNoLimit;
  bool lies_ = false;
};

}  // namespace carpool::fuzz
