// Lease: one server lent to one client, and what makes transaction mode never silently wrong. It
// begins when the server is lent and ends only when the server is proven clean, so that it may
// outlive its client: it keeps the client's session then. All that lives as long as it is here, and
// nothing is reset by hand.
//
//   client's message -- request() --> Outgoing to the server     server's reply -- reply() -->
//   client
//
// request() translates what a client believes to what its server has: names of prepared statements
// are mapped and what a server lacks is sent just before. Replies tell both what came true; what
// did not is taken back by what its Request carries. It sends nothing itself: what Carpool answers
// is queued in the order of the replies (Wire::Local).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "pg/framer.h"
#include "pg/session_pins.h"
#include "pool/counters.h"
#include "proxy/batch.h"
#include "proxy/lease_end.h"
#include "proxy/lease_times.h"
#include "proxy/outgoing.h"
#include "proxy/reading.h"
#include "proxy/requests.h"
#include "proxy/session.h"

namespace carpool::proxy {

class Lease {
 public:
  // What holds for it: read when it began, so that a change of the settings cuts nothing.
  using Terms = std::shared_ptr<const config::Database>;

  // All must outlive it; `client` until client_left().
  Lease(SessionTables& tables, ServerSession& server, ClientSession& client,
        pool::PoolCounters& counters, Terms terms, Micros now, Micros waited_us);
  ~Lease();

  const config::Pool& terms() const { return terms_->pool; }
  // What holds for the transaction at hand: its timeouts.
  const config::Pool& transaction_terms() const { return transaction_terms_->pool; }
  void transaction_begins(const Terms& now) {
    if (transaction_terms_ != now) transaction_terms_ = now;
  }
  Requests& requests() { return requests_; }
  const Requests& requests() const { return requests_; }
  // Its client has gone: what it believed is kept until all that it asked is known to be over.
  void client_left(std::unique_ptr<ClientSession> session) {
    left_ = std::move(session);
    client_ = left_.get();
  }

  LeaseTimes times;
  CancelsOf cancels;
  // A query of Carpool's own that has failed: what PostgreSQL said.
  struct OwnError {
    std::string sqlstate;
    std::string message;
  };
  std::optional<OwnError> own_error;
  // The ParameterDescription of the batch at hand: that of its repetition is not to follow it.
  enum class Described : std::uint8_t { No, Passed, Again };
  Described described = Described::No;

  // ---- its end

  // It has taken no request of its client yet: what is answered is Carpool's own.
  bool is_fresh() const { return stage_ == Stage::Fresh; }
  // What is under way, for lease_end.h.
  UnderWay under_way(bool inside_message) const;
  // And what stands between it and the next, once nothing is; `now`: the pool's settings.
  Remains remains(const config::Pool& now) const;
  // The query that resets the server before the next lease: by what this one did, and by what holds
  // now, since the next client relies on that; where nothing holds any more, by what held when this
  // one began. Empty: there is none to run (any more).
  std::string_view due_reset(const config::Pool& now) const;

  // ---- requests

  enum class Taken : std::uint8_t {
    Yes,
    Replaced,      // likewise, and something else goes to the server: what follows of the message
                   // does not
    RefusedQuery,  // a simple query was answered with an error and a ReadyForQuery
    RefusedBatch,  // an error; the client's messages are to be dropped up to its Sync
    NotProtocol,   // the message cannot be read: the connection is to be closed
  };
  // A whole message of the client, or the head of one; taken from `out`'s input. `answer` gets what
  // must go to the client at once, because nothing is owed to it before that.
  Taken request(const pg::Frame& frame, Outgoing& out, Bytes& answer);

  // No more is taken from the client before something has been answered.
  bool full() const { return requests_.full() || queued_bytes_ > kQueuedBytesMax; }

  // Asks for the replies to what has been sent, where the client has not: PostgreSQL keeps them
  // until a Sync or a Flush.
  void flush(Outgoing& out);
  // Whether its last message asks for all replies so far: what is not answered runs.
  bool flushed() const { return flushed_; }

  // Whether what the message means is not known before the server has answered what is under way,
  // because a name that it uses may change with that, or a COPY may fail; it is to be offered again
  // then.
  bool must_wait(const pg::Frame& frame) const;
  // Whether what the message leads to cannot be followed: it goes into a COPY, behind a Sync that
  // this has passed over or not. PostgreSQL ends the connection.
  bool breaks_copy(const pg::Frame& frame) const;
  // Whether it must wait, for a Bind whose client reads rows as its statement was described to it
  // before, where it is not known that this server's are like that: asks the server, in `out`.
  // `behind` is what the client has sent after the message. Just before request().
  bool must_ask(const pg::Frame& frame, ByteSpan behind, Outgoing& out);

  // ---- Carpool's own

  // Whether the server's session is the client's, as far as settings go.
  bool in_step() const { return server_.follower.current() == client_->follower.current(); }
  // Sends what makes it so; not in_step(), and nothing is owed. What the client sends must_wait().
  enum class Restoring : std::uint8_t {
    No,
    First,   // nothing of the client's has been sent yet
    Behind,  // the client's ReadyForQuery waits for it
  };
  void restore(Restoring which, Outgoing& out);
  Restoring restoring() const { return restoring_; }
  // In one text, which is one transaction.
  bool restores_in_one() const { return restore_texts_ == 1; }
  // The last of it has been answered.
  void restored(bool done) {
    if (done) server_.follower.replayed(client_->follower.current());
    restoring_ = Restoring::No;
  }
  // Ends what was sent without a Sync, and a COPY: nothing of it is committed.
  void fail_copy(Outgoing& out);
  void roll_back_batch(Outgoing& out);
  // What is known when it has come back; `token` is random.
  void fence(const std::array<std::uint32_t, 4>& token, Outgoing& out);
  // A query that cleans.
  void clean(std::string_view sql, Outgoing& out);
  // One behind which nothing that the client has left is there any more.
  void reset(std::string_view sql, Outgoing& out);

  // ---- replies

  // A DataRow: its body, empty where that is not in one piece.
  void row(ByteSpan body);
  // RowDescription or NoData, `type`; the same. Before its reply().
  void described_as(char type, ByteSpan body);
  // A reply that is neither: whether it goes to the client. `status` is ReadyForQuery's.
  Requests::Verdict reply(char type, char status);
  // What PostgreSQL has said in an ErrorResponse.
  struct Failure {
    std::string_view sqlstate;
    std::string_view message;
  };
  // What to tell the client instead of an error.
  struct Instead {
    std::string_view sqlstate;
    std::string message;
    std::string_view routine;  // of PostgreSQL's, by which some drivers know the error
  };
  // Whether the error need not reach the client: a statement that PostgreSQL has lost, or whose
  // result has another shape since a table was changed, was used by a whole batch that has done
  // nothing yet, and can be prepared again. A changed shape only where the batch asks for it: a
  // client that relies on what it was told before must hear of it. Then take_batch() is what the
  // client sent, to be requested once more. Behind reply('E'), before failed().
  bool can_heal(const Request& request, const Failure& failure) const;
  Bytes take_batch();
  std::optional<Instead> failed(Requests::Verdict& verdict, const Failure& failure);
  void parameter(std::string_view name, std::string_view value);
  // What to tell the client, if it is still there, now that it is the front's turn, which Carpool
  // answers itself.
  Bytes local_answer();
  // The reply to a fence that is under way has come, if this ParameterDescription is it.
  void maybe_fence(ByteSpan body);

  // ---- pins

  // Whether it must outlast its transaction: what the client has left on the server cannot be made
  // so on another.
  bool pinned() const { return pins_.any() || pinned_by_setting_ || client_->follower.lost(); }
  pool::PinCause pin_cause() const;
  // Since when; 0: not pinned.
  Micros pinned_us() const { return pinned_us_; }
  // Once a ReadyForQuery.
  void note_pinned(Micros now) {
    if (!pinned()) {
      pinned_us_ = 0;
    } else if (pinned_us_ == 0) {
      pinned_us_ = now;
    }
  }

 private:
  // A row that is larger is not of functions that lock.
  static constexpr std::size_t kRowBytesMax = 4 * 1024;
  // Portals with effects, in one transaction or one pipeline; and the texts of these.
  static constexpr std::size_t kPortalsMax = 1024;
  static constexpr std::size_t kPortalBytesMax = 1u << 20;
  // The names, texts and values that the requests under way keep.
  static constexpr std::size_t kQueuedBytesMax = 1u << 20;
  // What is told of a statement with a longer name is not remembered: a pipeline may ask for it
  // often.
  static constexpr std::size_t kToldNameMax = 1024;

  using ScanPtr = std::shared_ptr<const pg::Scan>;

  // lease.cpp
  // The message is refused, by an error that PostgreSQL has not said. What PostgreSQL would have
  // failed with it fails: the transaction, the batch.
  Taken refuse(const pg::Frame& frame, std::string_view sqlstate, const std::string& message,
               Outgoing& out, Bytes& answer);
  // For a request that is about to change the unnamed statement to what `text` says.
  UnnamedBefore unnamed_before(std::string_view text = {});
  template <typename Kind>
  Request* sent(Kind kind);
  // What a request that is under way will change, or is about: a name of the client's, and a
  // statement.
  struct Mention {
    const std::string* name = nullptr;
    const pg::StatementRef* statement = nullptr;
  };
  static std::optional<Mention> mention(const Request& request);
  // What it keeps, beside itself.
  template <typename Kind>
  static std::size_t bytes_of(const Kind& kind);
  // What must be known to be over before a client's request goes out: what may take its settings
  // back to those of its startup packet, which the server has not; and what drops all prepared
  // statements.
  static bool resets(const pg::Scan& scan);
  static bool drops_statements(const pg::Scan& scan);
  template <typename Kind>
  static const pg::Scan* scan_of(const Kind& kind) {
    if constexpr (requires { kind.running.scan; }) return kind.running.scan.get();
    return nullptr;
  }
  // It is under way no more.
  void over(const Request& request);
  // Whether one of those under way does, by fn(Mention).
  template <typename Fn>
  bool any_mention(Fn&& fn) const;
  // The entry for a Parse that is sent now: shared by clients whose texts are read alike. None when
  // there is no room for it.
  pg::StatementRef intern(ByteSpan body, bool unnamed);
  // A text that does something to the session is about to run, by either protocol.
  void runs(const pg::Scan& scan);
  // What the text does is not known.
  void pin_too_complex();
  void count_pin(bool was_pinned);

  // lease_texts.cpp
  Taken query(const pg::Frame& frame, Outgoing& out, Bytes& answer);
  Taken parse(const pg::Frame& frame, Outgoing& out, Bytes& answer);
  Taken parse_long(const pg::Frame& frame, std::string_view name, ByteSpan rest, Outgoing& out,
                   Bytes& answer);
  // Where the text deallocates: what is sent in its place. None where there is no room for it.
  std::optional<pg::StatementRef> deallocates(const pg::StatementRef& statement, Outgoing& out);
  // The statement of the client's that this text deallocates by SQL: the server knows it by another
  // name, if it has it. None where the text is another.
  pg::StatementRef deallocated(const pg::Scan& scan) const;
  // What the server can deallocate in its place: it, or the stand-in.
  const pg::StatementRef& on_server(const pg::StatementRef& statement, Outgoing& out);
  // A statement whose Parse never fails, for where the server must have one and any will do. None
  // where there is no room for it.
  const pg::StatementRef& stand_in();
  // Sends a Parse of the client's so that PostgreSQL says why not, be it that the name is taken or
  // what comes before that: under a name that the server has.
  void let_server_refuse(const pg::Frame& frame, std::string_view name, ByteSpan rest,
                         Outgoing& out);

  // lease_statements.cpp
  Taken bind(const pg::Frame& frame, Outgoing& out);
  Taken describe(const pg::Frame& frame, Outgoing& out);
  Taken execute(const pg::Frame& frame, Outgoing& out);
  Taken close(const pg::Frame& frame, Outgoing& out, Bytes& answer);
  // The client uses a name that it has not given: what PostgreSQL has under it is not to be ours.
  void free_name(std::string_view name, Outgoing& out);
  // Puts a Parse in front where the server lacks the statement.
  void ensure(const pg::StatementRef& statement, Outgoing& out);
  void ensure_unnamed(Outgoing& out);
  void make_room(Outgoing& out);
  void close_on_server(const pg::Statement& statement, Outgoing& out);
  // Sends a Bind so that PostgreSQL refuses it, as it would one whose result has changed.
  void refuse_changed(const pg::Frame& frame, std::string_view portal, ByteSpan rest,
                      const pg::StatementRef& statement, Outgoing& out);
  // From now on the portal is one of that. What it was before, to put back; null: nothing.
  std::unique_ptr<PortalBefore> set_portal(std::string_view portal, ScanPtr scan);
  // What the statement of a Bind does with its values, `rest` behind its names.
  ScanPtr bound(const pg::StatementRef& statement, const pg::Frame& frame, ByteSpan rest) const;

  // lease_replies.cpp. Each for the kinds that it concerns, and nothing for the others.
  void completed(Running& running);
  template <typename Kind>
  void ended(Kind&) {}
  void ended(ask::ParseRefused& parse);
  void ended(ask::DescribeNew& describe);
  void ended(ask::Shape& describe);
  void ended(ask::Clean& query);
  template <typename Kind>
  void undo(Kind&, bool /*failed*/) {}
  void undo(ask::Bind& bind, bool failed);
  void undo(ask::BindOther& bind, bool failed);
  void undo(ask::Deallocate& query, bool failed);
  void undo(ask::Parse& parse, bool failed);
  void undo(ask::ParseUnnamed& parse, bool failed);
  void undo(ask::CloseUnnamed& close, bool failed);
  void undo(ask::Prepared& prepared, bool failed);
  void undo(ask::Closed& closed, bool failed);
  void undo(ask::Prepare& parse, bool failed);
  void undo(ask::PrepareUnnamed& parse, bool failed);
  void undo(ask::DropUnnamed& close, bool failed);
  void undo(ask::Drop& close, bool failed);
  void undo(ask::Clean& query, bool failed);
  void undo(ask::Shape& describe, bool failed);
  void undo_any(Request& request, bool failed);
  void undo_unnamed(const UnnamedBefore& before, bool failed, bool clients);
  void undo_parse_unnamed(const UnnamedBefore& before, bool failed, bool clients);
  // A simple query has failed before it ended the unnamed statement.
  void keep_unnamed(const ask::Query& query);
  // A Parse of it that was the first of its batch has failed.
  void lose_unnamed(bool clients);
  // The statement that a request was about; none where that is not known.
  pg::StatementRef statement_of(const Request& request) const;
  void ready(char status);
  void apply(const pg::SessionEffect& effect);
  void apply_to_server(const pg::SessionEffect& effect);

  SessionTables& tables_;
  ServerSession& server_;
  ClientSession* client_;
  pool::PoolCounters& counters_;
  const Terms terms_;
  Terms transaction_terms_;
  std::unique_ptr<ClientSession> left_;  // client_, once the client is gone
  Requests requests_;
  std::uint32_t mentions_ = 0;   // of them, those that have a Mention
  std::uint32_t resetting_ = 0;  // of them, those of a text that resets()
  std::uint32_t dropping_ = 0;   // and that drops_statements()
  std::size_t queued_bytes_ = 0;
  Reading reading_;
  Batch batch_;
  // Portals whose statement does something to the session; hardly ever any.
  std::vector<std::pair<std::string, ScanPtr>> portals_;
  std::size_t portal_bytes_ = 0;
  pg::SessionPins pins_;
  Micros pinned_us_ = 0;
  // The last Bind, where its client was not told yet what its result is like: a Describe of the
  // portal will.
  struct Bound {
    pg::StatementRef statement;
    std::string portal;
    std::string name;
  };
  Bound bound_;
  bool pinned_by_setting_ = false;  // sessionState: pin, and it has set something
  bool flushed_ = false;            // the client's last message was a Flush
  // must_ask(): the answer is under way; the Bind at hand relies on what its client was told.
  enum class Shape : std::uint8_t { Trusted, Asked, ReliedOn };
  Shape shape_ = Shape::Trusted;
  std::uint8_t restore_texts_ = 0;
  Restoring restoring_ = Restoring::No;
  enum class Stage : std::uint8_t {
    Fresh,  // nothing of the client's has been taken yet
    Lent,
    Uncertain,  // what may have been left is not known
    Reset,
  };
  Stage stage_ = Stage::Fresh;
};

template <typename Kind>
Request* Lease::sent(Kind kind) {
  const std::size_t bytes = bytes_of(kind);
  const pg::Scan* scan = scan_of(kind);
  const bool is_resetting = scan != nullptr && resets(*scan);
  const bool is_dropping = scan != nullptr && drops_statements(*scan);
  Request* request = requests_.sent(std::move(kind));
  if (request == nullptr) return nullptr;
  queued_bytes_ += bytes;
  if (is_resetting) ++resetting_;
  if (is_dropping) ++dropping_;
  if (mention(*request)) ++mentions_;
  return request;
}

template <typename Kind>
std::size_t Lease::bytes_of(const Kind& kind) {
  std::size_t bytes = 0;
  if constexpr (requires { kind.name; }) bytes += kind.name.size();
  if (const pg::Scan* scan = scan_of(kind)) bytes += pg::bytes_of(*scan);
  if constexpr (requires { kind.before->bytes; }) {
    if (kind.before) bytes += kind.before->bytes;
  }
  return bytes;
}

}  // namespace carpool::proxy
