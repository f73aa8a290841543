// Server: one connection to PostgreSQL. It is opened by a Connector, then speaks the raw protocol:
// sends what the client it is lent to asks, follows which replies are owed, passes them on, and
// when nothing is owed at the end of a transaction gives itself back. Between clients it cleans
// itself: a ROLLBACK, the resetQuery, a cancel for a query whose client is gone.
//
// Its state is its slot's (pool/slot.h). client_ is set exactly while it is Leased to a client that
// is still there. Lifetime: made by LivePool; deleted by Proxy after the stream has closed.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/buffer.h"
#include "net/stream.h"
#include "pg/framer.h"
#include "pg/reply_tracker.h"
#include "pool/slot.h"
#include "proxy/connector.h"
#include "proxy/session.h"

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
  // How much of the last statement is remembered for the slow-query log.
  static constexpr std::size_t kQueryPrefixMax = 512;

  Server(LivePool& pool, std::uint64_t id);
  ~Server();
  void open();

  std::uint64_t id() const { return id_; }
  LivePool& live_pool() { return pool_; }
  Client* client() { return client_; }
  pg::ReplyTracker& tracker() { return tracker_; }
  ServerSession& session() { return session_; }
  net::Stream& stream() { return stream_; }
  const CancelTicket& cancel_ticket() const { return cancel_ticket_; }
  // The client's password that it was opened with; empty: the settings have one, or none is known.
  const std::string& client_password() const { return client_password_; }
  // Once opened: whether PostgreSQL has asked for that.
  bool proved_client_password() const {
    return !client_password_.empty() && connector_.used_password();
  }

  // The lease begins. `waited_us` is for the log.
  void lend(Client& client, Micros waited_us);
  // What held when the lease began: a change of the configuration is for the leases to come.
  const config::Pool& terms() const { return lease_terms_->pool; }
  // Idle, under new settings: what these ask for between two clients may not have been done.
  void terms_changed();
  // The client is gone or is being closed: clean up and go back, or close. `inside_message`: part
  // of a message has been sent whose rest will never come. `polite`: what it asked is carried out
  // first, else canceled.
  void abandoned(bool inside_message, bool polite);

  // Requests of the client, already noted in tracker(). False when the connection is broken.
  bool send(ByteSpan bytes);
  // Carpool has answered the client's last request itself: nothing may be owed any more.
  void end_lease_if_over();
  // Whether the message must be offered again once the server has answered more.
  bool must_wait(const pg::Frame& frame, const ClientSession& client) const {
    return ready_held_ || session_.must_wait(frame, client);
  }
  // A request begins: for the times that are measured and the text that is logged.
  void query_begins(ByteSpan text);

  // A cancel for what it runs now; asked by a client, or by a timeout that `why` names.
  void cancel(const char* why);
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
  bool in_transaction() const { return tracker_.status() != 'I'; }

  // When PostgreSQL was last ready for a query.
  Micros ready_us() const { return ready_us_; }
  // When the request at hand was sent; 0: there is none.
  Micros query_us() const { return query_us_; }
  // The start of the last statement.
  std::string_view query_text() const { return {query_.data(), query_size_}; }
  pool::ServerSnapshot snapshot(Micros now) const;

  // net::StreamListener
  void on_readable() override;
  void on_drained() override;
  void on_closed() override;

 private:
  void on_connected(const ConnectFailure* failure);
  // Takes what it can from the front of `in`; returns how much.
  std::size_t process(ByteSpan in);
  void on_ready();
  // Whether the error goes to the client as it is.
  bool on_error(const pg::Frame& frame);
  void heal();
  void pass_to_client(ByteSpan bytes);
  void finish_query(Micros now);
  void log_slow(Micros now);
  void end_lease();
  // The next step towards clean, after its client is gone.
  void clean();
  // The query that resets it before the next lease; empty: there is none to run (any more).
  std::string_view due_reset() const;
  void run_own(std::string_view sql);
  ClientSession* client_session();
  bool replay();
  // A reply that is not data: what it ends, and whether it goes to the client.
  bool on_reply(char type, char status);
  void on_parameter(ByteSpan body);
  // What Carpool answers itself, now that all before it is answered.
  void answer_locals();
  void replay_done();

  LivePool& pool_;
  const std::uint64_t id_;
  Connector connector_;
  CancelTicket cancel_ticket_;
  net::Stream stream_;
  Buffer pending_;
  pg::Framer framer_{pg::Framer::Side::FromServer};
  pg::ReplyTracker tracker_;
  ServerSession session_;
  Client* client_ = nullptr;
  std::int32_t backend_pid_ = 0;
  std::string peer_;
  std::string client_password_;

  std::shared_ptr<const config::Database> lease_terms_;        // null: never lent
  std::shared_ptr<const config::Database> transaction_terms_;  // for its time-outs
  Micros lent_us_ = 0;
  Micros waited_us_ = 0;
  Micros ready_us_ = 0;        // the last ReadyForQuery
  Micros query_us_ = 0;        // when the request at hand was sent; 0: none
  Micros first_reply_us_ = 0;  // and first answered; 0: not yet
  std::array<char, kQueryPrefixMax> query_{};
  std::uint16_t query_size_ = 0;

  std::uint32_t cancels_in_flight_ = 0;
  Micros canceled_us_ = 0;             // when the last one was sent
  bool gone_ = false;                  // PostgreSQL has closed the connection, or is none
  bool cancel_asked_ = false;          // for the query at hand
  const char* canceled_by_ = nullptr;  // the setting whose timeout canceled the query
  bool cleaning_ = false;              // the lease is over, and it is not clean yet
  bool polite_ = false;                // the client's last requests are carried out, not canceled
  bool own_failed_ = false;            // a ROLLBACK, resetQuery or replay of ours failed
  std::string own_query_;              // the one that runs, while cleaning
  std::string own_error_;
  bool pinned_ = false;        // its last client left state behind
  std::string reset_by_;       // what has run since the lease to reset it
  std::uint32_t replays_ = 0;  // queries that restore the client's settings, under way
  bool ready_held_ = false;    // the client's ReadyForQuery waits for them
  // A ParameterDescription of the batch at hand has gone to the client; the one of its repetition
  // is not to follow it.
  bool described_ = false;
  bool repeats_description_ = false;
  bool passing_ = false;       // the body of the reply at hand goes to the client
  bool fatal_passed_ = false;  // PostgreSQL has already told the client that it goes
  bool ready_ = false;         // opened: the relay has the socket
};

}  // namespace carpool::proxy
