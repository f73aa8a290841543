// Console: one client's session with the virtual database `pgbouncer`, which answers as PgBouncer's
// admin console does, so that exporters, checks and fingers keep working. Simple protocol only, as
// there. Messages in, messages out; it neither reads nor writes the client itself.
//
// Invariant: every Query and every Sync is answered by exactly one ReadyForQuery; PAUSE's comes
// when the servers are gone, and until then busy() and nothing else is taken. Lifetime: owned by
// its client.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "pg/framer.h"
#include "proxy/console_command.h"

namespace carpool::proxy {

class Proxy;

class Console {
 public:
  // The database's name.
  static constexpr std::string_view kDatabase = "pgbouncer";

  // `proxy` must outlive it.
  Console(Proxy& proxy, std::string user);

  const std::string& user() const { return user_; }
  // Whether admin.users names him.
  bool allowed() const;

  // What a new session is told, up to and with ReadyForQuery.
  void greet(std::uint32_t pid, ByteSpan secret, Bytes& out) const;
  // A whole message of the client, other than Terminate; only while not busy(). False: not the
  // protocol, the client is to be closed.
  bool on_message(const pg::Frame& frame, Bytes& out);

  bool busy() const { return pausing_; }
  // Whether what it waited for has come; then it has answered and is not busy any more.
  bool look_again(Bytes& out);

 private:
  void run(std::string_view text, Bytes& out);
  void show(const std::string& what, Bytes& out);
  void control(const ConsoleCommand& command, Bytes& out);
  void done(std::string_view tag, Bytes& out);
  void refuse(const Status& why, Bytes& out);
  void fail(std::string_view sqlstate, const std::string& message, Bytes& out);

  Proxy& proxy_;
  const std::string user_;
  std::string pausing_database_;  // empty: all
  bool pausing_ = false;
  bool failed_batch_ = false;  // of the extended protocol: nothing is taken until its Sync
};

}  // namespace carpool::proxy
