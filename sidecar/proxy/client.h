// Client: one connection of the application. It reads requests, gets a server lent for them
// (Attached), and passes them on; what comes back is written to it by the Server. It never holds a
// payload whole and owns no buffer while it has nothing pending.
//
// States, and who moves them (set_state() checks the edge, moves it between its pool's lists and
// stamps the time; nothing else writes the field):
//
//   Startup        -> Authenticating, Closing   the startup packet is read
//   Authenticating -> Idle, Waiting, Attached,  until it has shown who it is, and then, in a pool,
//                     Closing                   until that knows a server's parameters
//   Idle           -> Waiting, Attached, Closing
//   Waiting        -> Attached, Idle, Closing   in the pool's queue
//   Attached       -> Idle, Closing             it has a server exactly here; one that is not
//   greeted
//                                               yet goes back to Authenticating, here and above
//   Closing        -> (deleted when the stream is gone) until all that is queued for it is sent,
//                                               for a while
//
// What it has beside the connection is its stage (client_stages.h). In a pool, one whose startup
// packet sets what no server of the pool's has taken yet has a server lent for that alone, before
// it is greeted: what PostgreSQL refuses is refused at sign-in. Where no server can be had it is
// greeted all the same, and its first query gets the error.
//
// Lifetime: made by Proxy for an accepted socket, deletes itself after its stream has closed.
#pragma once

#include <memory>
#include <string>

#include "base/buffer.h"
#include "base/intrusive_list.h"
#include "net/stream.h"
#include "pg/framer.h"
#include "pg/startup.h"
#include "pool/counters.h"
#include "pool/slot.h"
#include "proxy/client_stages.h"
#include "proxy/lease_end.h"
#include "proxy/live_pool.h"

namespace carpool::proxy {

class Client final : public net::StreamListener,
                     public pool::Waiter,
                     public ListHook<ClientsByState> {
 public:
  // Bytes queued for a client that does not read, above which nothing is read from it either.
  static constexpr std::uint32_t kQueuedMax = 256u << 10;
  // Bytes kept of one that has closed its end, to find its Terminate; of more it does not matter.
  static constexpr std::uint32_t kHangupMax = 64u << 10;
  // Bytes kept of what a client sends before it has signed in.
  static constexpr std::uint32_t kEarlyMax = 16u << 10;

  // Reads in one turn of what a client has sent that got no server.
  static constexpr int kReadsMax = 2;

  // Servers on which its settings could not be restored for no fault of theirs, for one request.
  static constexpr std::uint8_t kTriesMax = 4;

  // `id` is the process number of its cancel key. `proxy` must outlive it.
  Client(Proxy& proxy, std::uint32_t id, std::uint32_t secret);
  // Takes `fd`. False when it could not be watched; it is deleted then and `fd` closed.
  bool start(int fd);

  std::uint32_t id() const { return id_; }
  // What a cancel of its query must show, beside id(): four bytes, and more where its protocol
  // has room for them.
  Bytes cancel_key() const;
  pool::ClientState state() const { return state_; }
  Micros in_state_since_us() const { return since_us_; }
  LivePool* live_pool() { return pooled() == nullptr ? nullptr : pooled()->pool; }
  Server* server() { return pooled() == nullptr ? nullptr : pooled()->server; }
  net::Stream& stream() { return stream_; }
  // Whether it stands in the middle of a message, part of which has gone to the server.
  bool inside_message() const { return !framer_.at_boundary(); }
  // Only in a pool.
  ClientSession& session() { return *pooled()->session; }
  // Bytes kept for it: what it has sent and what it does not read; by the kernel too, if asked.
  std::uint64_t held_bytes(bool with_kernel) const {
    return std::uint64_t{pending_.capacity()} + stream_.queued_capacity() +
           (with_kernel ? stream_.kernel_bytes() : 0);
  }
  // It has said Terminate, and everything that it asked before is answered.
  bool leaving() const { return pooled() != nullptr && pooled()->leaving; }
  // In a pool, and not greeted: the server that it has is to take its settings over, and no more.
  bool awaits_greeting() const { return pooled() != nullptr && pooled()->greeting != nullptr; }
  // What it has left on its server, or is in the middle of, would be lost on another. Only while it
  // has one.
  bool must_keep_server() const;

  // The pool knows what to greet it with.
  void seek_greeting();
  // What a server says to one that awaits its greeting: ParameterStatus messages.
  void keep_for_greeting(ByteSpan values) { append(pooled()->greeting->values, values); }
  // No server answers whether it takes them: nobody is asked any more.
  void greet_untried() { pooled()->greeting->settled = true; }
  // PostgreSQL does not take what its startup packet sets.
  void refuse_values(std::string_view sqlstate, const std::string& message);
  // A server is lent to it, out of the queue.
  void granted(Server& server, Micros waited_us);
  // It has waited too long, or was canceled while it waited: this query fails, and what it has sent
  // behind it, which may rely on it; the client stays. It has left the pool's queue.
  void fail_query(std::string_view sqlstate, const std::string& message);
  // The lease is over; the server is the caller's to return.
  void detach();
  // Idle, and has been for longer than its session's idle_session_timeout: ends it, as PostgreSQL
  // would.
  void end_if_idle(Micros now);
  // The same, before anything of what it asked has been sent: it asks for another server. Not when
  // it has tried often.
  bool may_try_again() { return ++pooled()->tries < kTriesMax || awaits_greeting(); }
  void try_again();
  // Goes on with what it has sent, as far as can_take() says.
  void resume();
  // A command of the console that had to wait may be answered now.
  void look_at_console();

  // Tells it why, unless it stands in the midst of a reply, and closes it. The server it has, if
  // any, is left clean.
  void close_with_error(std::string_view sqlstate, const std::string& message);
  void close(Ending how = Ending::Refused);
  // Lets go of the socket of one that is Closing, even if not all that is queued has been sent.
  void part();
  // It has not signed in within `limit_us`.
  void close_unknown(Micros limit_us);

  pool::ClientSnapshot snapshot(Micros now) const;

  // net::StreamListener
  void on_readable() override;
  void on_drained() override;
  void on_hangup() override;
  void on_closed() override;

 private:
  Entering* entering();
  AtConsole* at_console() { return std::get_if<AtConsole>(&stage_); }
  const Pooled* pooled() const { return std::get_if<Pooled>(&stage_); }
  Pooled* pooled() { return std::get_if<Pooled>(&stage_); }
  void set_state(pool::ClientState state);
  // Whether what it sends can be taken now. Bytes that cannot stay in pending_, and whatever turns
  // this true calls for another look at them: set_state() by itself, else on_drained(), the
  // console's answer, and the server's (Pooled::held).
  bool can_take();
  // resume(), at the end of the turn.
  void look_again();
  // Where it stands in that state; null: nowhere.
  LivePool::ClientList* list_of(pool::ClientState state);
  bool in_a_list() const { return ListHook<ClientsByState>::linked(); }
  // Reads once, and takes what it can; returns what read() has said.
  ssize_t take_more();
  void fail_sent();
  void read_what_was_sent();
  void fail_request(std::string_view sqlstate, const std::string& message);
  // Takes what it can from the front of `in`; returns how much.
  std::size_t process(ByteSpan in);
  std::size_t process_startup(ByteSpan in);
  std::size_t process_requests(ByteSpan in);
  std::size_t process_console(ByteSpan in);
  void process_pending();
  void keep(ByteSpan bytes);
  void on_startup_message(pg::Startup& startup);
  // Lets it in at once, or asks who it is first. `asked_for`: the database that it has named.
  void admit(Claimant who, const std::string& asked_for);
  void enter();
  void enter_pool();
  void reject_database(const std::string& database);
  void enter_console(const std::string& user);
  std::size_t process_sign_in(ByteSpan in);
  void move_on(Entering::Step step);
  void signed_in(const SignIn::Refusal* refusal);
  // Goes on through TLS. False when it cannot.
  bool start_tls();
  bool must_use_tls() const;
  // The peer has closed, or the connection broke.
  void ended();
  // The same, while what it has sent waits to be taken.
  void hung_up();
  void greet();
  void note_idle_limit();
  void leave();
  bool says_terminate() const;
  // Whether what it was let in by holds now, too; else it is turned away.
  bool still_let_in(const LetInBy& by);
  // Notes when a request begins, for the times and the log.
  void note_request(const pg::Frame& frame);
  // Drops what belongs to a request that has failed; says ReadyForQuery at its end.
  void drop_failed(char type);
  void say_ready();
  // Whether a server is there to take requests now.
  bool attach();
  void attached(Server& server);
  void reject(pool::RejectReason reason, std::string_view sqlstate, const std::string& message);

  Proxy& proxy_;
  net::Stream stream_;
  ClientStage stage_ = std::make_unique<Entering>();
  Buffer pending_;  // bytes read and not taken yet
  pg::Framer framer_{pg::Framer::Side::FromClient};
  Micros since_us_ = 0;
  const Micros connected_us_;
  const std::uint32_t id_;
  const std::uint32_t secret_;
  pool::ClientState state_ = pool::ClientState::Startup;
  bool long_key_ = false;     // protocol 3.2: the cancel key may be long
  bool looks_again_ = false;  // at the end of this turn
};

}  // namespace carpool::proxy
