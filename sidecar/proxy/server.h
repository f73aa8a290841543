// Server: one connection to PostgreSQL. It is opened by a Connector, then speaks the raw protocol:
// sends what the client it is lent to asks, and passes the replies on. Who owes what, and what is
// to be cleaned before another client may have it, its Lease knows; it is lent again when that has
// ended.
//
// Its state is its slot's (pool/slot.h). Invariant: lease_ is there exactly while it is Leased,
// Resetting or Canceling, or Closing out of one of these; client_ while the lease's client is.
// Lifetime: made by LivePool; deleted by Proxy after the stream has closed.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/buffer.h"
#include "net/stream.h"
#include "pg/error_response.h"
#include "pg/framer.h"
#include "pool/slot.h"
#include "proxy/connector.h"
#include "proxy/lease.h"

namespace carpool::proxy {

class Client;
class LivePool;

class Server final : public pool::Slot, public net::StreamListener {
 public:
  // A server that cannot be cleaned in this time is closed.
  static constexpr Micros kCleanupMax_us = 30 * kMicrosPerSecond;
  // A backend that has been told to go is waited for this long, so that it is not replaced while it
  // still counts in max_connections.
  static constexpr Micros kLingerMax_us = 5 * kMicrosPerSecond;
  // A cancel may come before the query that it is meant for: it is repeated at this interval.
  static constexpr Micros kCancelAgain_us = 500 * kMicrosPerMilli;

  Server(LivePool& pool, std::uint64_t id);
  ~Server();
  void open();

  std::uint64_t id() const { return id_; }
  LivePool& live_pool() { return pool_; }
  Client* client() { return client_; }
  // Only while it is lent.
  Lease& lease() { return *lease_; }
  const Lease& lease() const { return *lease_; }
  ServerSession& session() { return session_; }
  const ServerSession& session() const { return session_; }
  net::Stream& stream() { return stream_; }
  // Only while it is open.
  const Connector& connector() const { return connector_; }
  // Where it is: "127.0.0.1:5432".
  const std::string& peer() const { return peer_; }
  // The client's password that it was opened with; empty: the settings have one, or none is known.
  const std::string& client_password() const { return client_password_; }
  // Once opened: whether PostgreSQL has asked for that.
  bool proved_client_password() const {
    return !client_password_.empty() && connector_.used_password();
  }

  // It is about to be lent. False: PostgreSQL has ended it, which was not known yet; it is closed.
  // What comes before its client's request is told before it (net::Told::First), but for what the
  // loop had no room for: only then the socket is asked, since that is a system call.
  bool still_there();
  // The lease begins. `waited_us` is for the log.
  void lend(Client& client, Micros waited_us);
  // Idle, under new settings: what these ask for between two clients may not have been done.
  void terms_changed();
  // The client's part in it ends, and the client leaves its session here.
  void abandoned(Ending how, bool inside_message, std::unique_ptr<ClientSession> session);
  // The client has said Terminate. Whether it is to stay until what it asked is answered.
  bool must_answer_first();

  // Requests of the client, already noted in lease(). False when the connection is broken.
  bool send(ByteSpan bytes);
  // Something has been answered, or the client stands where it may go: ends what is over.
  void look_at_lease();

  // A cancel for what it runs now; asked by a timeout that `why` names, or by nobody.
  void cancel(const char* why);
  // The same, asked by a client, whose cancel connection is `asking`. False: there is none to wait
  // for.
  bool cancel_for(const Client& asking);
  void cancel_begins();
  void cancel_landed();

  // Closes; its client, if any, is told that the server was lost.
  void close(const std::string& why);
  // The same, for one that its pool has already put among the Closing.
  void finish_closing(const std::string& why);
  // Lets go of the socket: the backend is gone, or not waited for.
  void disconnect();
  bool closing() const { return slot_state() == pool::SlotState::Closing; }

  // Timeouts, looked at once a tick.
  void check_timeouts(Micros now);
  // Lent, and nothing is owed; where it is, whether the lease could end but for its client.
  bool rests() const { return lease_->requests().idle(); }
  // A part of a reply has gone to its client, and the rest is to follow: whatever else it were told
  // now it would take for that.
  bool inside_reply() const { return passing_ && !framer_.at_boundary(); }
  bool holds_transaction() const {
    const Requests& requests = lease_->requests();
    return requests.status() != 'I' || requests.batch_open() || requests.drops();
  }
  pool::ServerSnapshot snapshot(Micros now) const;

  // net::StreamListener
  void on_readable() override;
  void on_drained() override;
  void on_closed() override;

 private:
  enum class Life : std::uint8_t {
    Opening,
    Open,      // the relay has the socket
    Farewell,  // PostgreSQL has said that it ends it, and the client has been told
    Gone,      // it is closed, or PostgreSQL none
  };
  // PostgreSQL has said that it goes.
  void on_farewell(std::string_view why, Life life);
  void on_connected(const ConnectFailure* failure);
  // Takes what it can from the front of `in`; returns how much.
  std::size_t process(ByteSpan in);
  // The head of a message: whether it, and what follows of it, goes to the client.
  bool take(const pg::Frame& frame);
  bool on_reply(char type, char status);
  bool on_error(const pg::Frame& frame);
  // What comes next cannot be counted: ends the client and the server.
  void lose_count();
  void on_ready(Micros now);
  void heal();
  void pass_to_client(ByteSpan bytes);
  void tell_client(const Lease::Instead& error);
  void log_slow(Micros now);
  void end_lease();
  // The same, and a client that is to go goes.
  void let_go();
  void cancel_is_over();
  // The next step towards clean, after the client's part is over.
  void clean();
  void carry_out(Steps steps);
  void send_own(Outgoing& out);
  void fence_if_due();
  // Restores the client's settings where they are not in force.
  bool restore(Lease::Restoring which);
  // The last of it is answered; whether its ReadyForQuery stands for the client's own.
  bool on_restored();
  void restore_failed(Lease::Restoring which);
  // What Carpool answers itself, now that all before it is answered.
  void answer_locals();
  void check_client(Micros now);
  void time_out(std::string_view sqlstate, const std::string& message);

  LivePool& pool_;
  const std::uint64_t id_;
  Connector connector_;
  net::Stream stream_;
  Buffer pending_;
  pg::Framer framer_{pg::Framer::Side::FromServer};
  ServerSession session_;
  std::optional<Lease> lease_;
  Client* client_ = nullptr;
  std::int32_t backend_pid_ = 0;
  std::string peer_;
  std::string client_password_;
  Life life_ = Life::Opening;
  bool was_lent_ = false;
  bool passing_ = false;  // the body of the reply at hand goes to the client
};

}  // namespace carpool::proxy
