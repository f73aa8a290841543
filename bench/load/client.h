// One client of the load: signs in over TCP as `trust` allows, asks the same query again and again,
// and after a refusal tries again a while later, as an application does.
//
// Bytes in, events out: it never looks at a clock, never waits and keeps no result, only how far
// the reply has come. Source of the format: PostgreSQL manual, "Frontend/Backend Protocol".
//
//   Off -> Connecting -> SigningIn -> Ready <-> Asking      any -> Off: refused, lost or closed
//
// Invariant: a socket is open in every state but Off.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace carpool::load {

enum class State : std::uint8_t { Off, Connecting, SigningIn, Ready, Asking };

// What a readable or writable socket led to.
enum class Event : std::uint8_t {
  Nothing,
  Ready,     // signed in
  Answered,  // the reply is whole and had no error
  Failed,    // the reply is whole and had an error; the session goes on
  Lost,      // the connection is closed: refused, reset or ended
};

class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { close(); }

  // To 127.0.0.1; `startup` is the whole startup message. False: no socket could be had.
  bool open(std::uint16_t port, std::string_view startup);
  // `query` is a whole message. False: the connection is lost.
  bool ask(std::string_view query);
  Event on_writable();
  Event on_readable();
  // For one that was not let in in time.
  Event give_up() { return lost("no answer to the sign-in"); }
  void close();

  State state() const { return state_; }
  int fd() const { return fd_; }
  // "53300 sorry, too many clients already" of the last error, or what the system said.
  const std::string& error() const { return error_; }

 private:
  Event take(std::string_view bytes);
  Event end_of_message();
  Event lost(const char* why);
  bool send_all(std::string_view bytes);

  int fd_ = -1;
  State state_ = State::Off;
  bool failed_ = false;              // an ErrorResponse came in this reply
  std::string_view startup_;         // until connected
  std::array<char, 5> header_ = {};  // of the message that is being read
  std::uint32_t header_size_ = 0;
  std::uint32_t body_left_ = 0;
  std::string body_;  // of an ErrorResponse, as far as kBody_max
  std::string error_;
};

}  // namespace carpool::load
