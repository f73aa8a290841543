// Session: what makes transaction mode never silently wrong. A ClientSession is what a client
// believes its session to be; a ServerSession is what a server's session is. request() translates
// the one to the other as messages pass: names of prepared statements are mapped and what a server
// lacks is sent just before; replies tell both what came true.
//
// Neither sends anything: request() fills an Outgoing, and what Carpool answers itself is queued in
// the order of the replies (pg::Request::Local).
//
// Invariant: statements_ and unnamed_ are what the server will have once it has carried out all
// that was sent, if nothing fails; failed() and skipped() take back what did.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "pg/framer.h"
#include "pg/prepared_statements.h"
#include "pg/reply_tracker.h"
#include "pg/scan_memo.h"
#include "pg/session_follower.h"
#include "pg/session_pins.h"
#include "pg/session_state.h"
#include "pool/counters.h"
#include "proxy/outgoing.h"

namespace carpool::proxy {

// What servers begin with of that by which values are read and written: one object for equal ones,
// ReportedValues::of_reading(). Null: no server has been opened.
using SessionDefaults = std::shared_ptr<const pg::ReportedValues>;

// What all sessions of one pool share.
struct SessionTables {
  explicit SessionTables(std::size_t statement_bytes_max = pg::StatementTable::kBytesMax)
      : statements(statement_bytes_max) {}

  pg::StateTable states;
  pg::StatementTable statements;
  pg::ScanMemo scans;          // of simple queries
  SessionDefaults defaults;    // of the server that was opened last
  pg::StatementRef stand_in;   // see ServerSession::stand_in()
  std::uint64_t readings = 0;  // numbers those that are not known
};

struct ClientSession {
  ClientSession(pg::StateTable& states, pg::StatePtr initial)
      : follower(states, std::move(initial)) {}

  pg::SessionFollower follower;
  pg::SessionPins pins;
  pg::ClientStatements statements;
  pg::StatementRef unnamed;
  // What it was told at sign-in, and the other defaults that it has met last: see
  // ServerSession::meet().
  SessionDefaults told;
  SessionDefaults met;
  bool pinned_by_setting = false;  // sessionState: pin, and it has set something
  Micros pinned_us = 0;            // since when; 0: not pinned

  // Whether its lease must outlast its transaction.
  bool pinned() const { return pins.any() || pinned_by_setting || follower.lost(); }
  pool::PinCause pin_cause() const;
  // Once a ReadyForQuery: `pinned_us` follows pinned().
  void note_pinned(Micros now) {
    if (!pinned()) {
      pinned_us = 0;
    } else if (pinned_us == 0) {
      pinned_us = now;
    }
  }
};

class ServerSession {
 public:
  // All must outlive it.
  ServerSession(SessionTables& tables, pg::ReplyTracker& tracker, pool::PoolCounters& counters);

  // The values that the server reported when it was opened.
  void opened(const std::vector<std::pair<std::string, std::string>>& parameters);
  const pg::ReportedValues& reported() const { return reported_; }

  // ---- requests

  enum class Taken : std::uint8_t {
    Yes,
    RefusedQuery,  // a simple query was answered with an error and a ReadyForQuery
    RefusedBatch,  // an error; the client's messages are to be dropped up to its Sync
    NotProtocol,   // the message cannot be read: the connection is to be closed
  };
  // A whole message of the client, or the head of one; taken from `out`'s input. `answer` gets what
  // must go to the client at once, because nothing is owed to it before that.
  Taken request(const pg::Frame& frame, ClientSession& client, const config::Pool& settings,
                Outgoing& out, Bytes& answer);

  // Whether what the message means is not known before the server has answered what is under way,
  // because a name that it uses may change with that; it is to be offered again then.
  bool must_wait(const pg::Frame& frame, const ClientSession& client) const;
  // The same, for a Bind whose client reads rows as its statement was described to it before, where
  // it is not known that this server's are like that: asks the server, in `out`. `behind` is what
  // the client has sent after the message. Just before request().
  bool must_ask(const pg::Frame& frame, ByteSpan behind, const ClientSession& client,
                const config::Pool& settings, Outgoing& out);

  // It is another client's now: what the one before it left half said is not this one's. Where this
  // server began with other values than the client was told at sign-in (a default of the database's
  // has been changed since), those are the client's own from now on.
  void lent(ClientSession& client) {
    parsed_here_.clear();
    bound_ = {};
    if (client.told != defaults_ && client.met != defaults_) meet(client);
  }

  // Whether this server's session is the client's, as far as settings go.
  bool in_step(const ClientSession& client) const {
    return follower_.current() == client.follower.current();
  }
  // What makes this server's session the client's: texts, each a simple query of our own. Empty
  // when it is already.
  std::vector<std::string> replay_for(const ClientSession& client) const;
  // A simple query of our own has been sent: it ends the unnamed statement, as a client's does.
  void own_query_sent() { unnamed_ = {}; }
  void replayed(const ClientSession& client) { follower_.replayed(client.follower.current()); }

  // ---- replies; `client` is null once it has gone

  // A DataRow of the request at the tracker's front, which has a tag: its body, empty where that is
  // not in one piece.
  void row(ByteSpan body);
  void completed(const pg::ReplyTracker::Entry& entry, ClientSession* client);
  // RowDescription or NoData, `type`, to the request at the tracker's front, which has a tag;
  // `body` is empty where it is not in one piece. Before its ended().
  void described(char type, ByteSpan body);
  // Whether the error need not reach the client: a statement that PostgreSQL has lost, or whose
  // result has another shape since a table was changed, was used by a whole batch that has done
  // nothing yet, and can be prepared again. A changed shape only where the batch asks for it: a
  // client that relies on what it was told before must hear of it. Then take_batch() is what the
  // client sent, to be requested once more; before failed().
  bool can_heal(const pg::ReplyTracker::Entry& entry, std::string_view sqlstate,
                std::string_view message);
  Bytes take_batch();
  // What to tell the client instead of this error.
  struct Instead {
    std::string_view sqlstate;
    std::string message;
    std::string_view routine;  // of PostgreSQL's, by which some drivers know the error
  };
  std::optional<Instead> failed(const pg::ReplyTracker::Entry& entry, ClientSession* client,
                                std::string_view sqlstate, std::string_view message);
  // Before the failed() or ready() that it comes with.
  void skipped(const pg::ReplyTracker::Entry& entry) { skipped_.push_back(entry); }
  // A request is over, and did what it should.
  void ended(const pg::ReplyTracker::Entry& entry, ClientSession* client);
  void ready(char status, ClientSession* client);
  void parameter(std::string_view name, std::string_view value, ClientSession* client);
  // A simple query of our own that is no replay has been carried out; before its ready(), which
  // would take what a ROLLBACK has undone for committed.
  void own_query_done(std::string_view sql);
  // What to tell the client for a Local entry. `*ends_query`: it holds a ReadyForQuery.
  Bytes local_answer(const pg::ReplyTracker::Entry& entry, bool* ends_query);

  // LOAD is for the life of a server: it must not be lent to another.
  bool tainted() const { return tainted_; }

 private:
  // The tag of a Bind, and of a Describe whose answer is known, is the statement's id with this
  // bit: enough to know what failed, and nothing to remember for each.
  static constexpr std::uint32_t kBindTag = 1u << 31;
  // A row that is larger is not of functions that lock.
  static constexpr std::size_t kRowBytesMax = 4 * 1024;
  // A batch that is larger is not healed.
  static constexpr std::size_t kBatchBytesMax = 8 * 1024;
  // Portals with effects, in one transaction or one pipeline.
  static constexpr std::size_t kPortalsMax = 1024;
  // What is told of a statement with a longer name is not remembered: a pipeline may ask for it
  // often.
  static constexpr std::size_t kToldNameMax = 1024;
  // A Parse or Bind whose name is the client's own on the server: there is nothing to be found.
  static constexpr std::uint32_t kForeignTag = kBindTag;

  // What a request that is under way will change, found again by its tag.
  struct Pending {
    std::uint32_t tag = 0;
    std::shared_ptr<const pg::Scan> scan;
    std::uint32_t statements_done = 0;  // of the scan
    Bytes row;                          // the last of the statement at hand, where it tells
    pg::StatementRef statement;         // a Parse or a Close, also one of our own
    std::string name;                   // and its name for it
    bool closes = false;
    bool refused = false;  // a Parse that PostgreSQL will refuse: let_server_refuse()
    // A Describe: of this version of the statement, and what came of it; must_ask()'s own. A Close
    // of our own: of this version.
    bool describes = false;
    bool asks = false;
    std::uint32_t version = 0;
    pg::ResultShape shape = pg::kShapeUnknown;
    bool changed = false;  // a Bind that must not be: refuse_changed()
    // A Parse or a Close of the unnamed statement, or a simple query, which ends it: `statement` is
    // what the client had before.
    bool unnamed = false;
    // And the server; of a DEALLOCATE, in `version`.
    pg::StatementRef server_had;
    bool names = false;  // the client's name means something else when it is over
    Bytes answer;        // Local
    bool ends_query = false;
  };

  void meet(ClientSession& client) const;

  Pending& add_pending();
  Pending& add_naming(std::string_view name, pg::StatementRef statement);
  // The same for the unnamed statement, which is about to change; its tag.
  std::uint32_t note_unnamed(const ClientSession& client, std::string_view text = {});
  // A Parse of it that was the first of its batch has failed.
  void lose_unnamed(ClientSession* client);
  // A simple query has failed before it ended the unnamed statement.
  void keep_unnamed(const pg::ReplyTracker::Entry& query, ClientSession* client);
  Pending* find_pending(std::uint32_t tag);
  void drop_pending(std::uint32_t tag);
  void answer_with(Bytes bytes, bool ends_query, Bytes& answer, Pending** pending);

  Taken query(const pg::Frame& frame, ClientSession& client, const config::Pool& settings,
              Outgoing& out, Bytes& answer);
  Taken parse(const pg::Frame& frame, ClientSession& client, const config::Pool& settings,
              Outgoing& out, Bytes& answer);
  Taken bind(const pg::Frame& frame, ClientSession& client, const config::Pool& settings,
             Outgoing& out);
  Taken describe(const pg::Frame& frame, ClientSession& client, const config::Pool& settings,
                 Outgoing& out);
  Taken execute(const pg::Frame& frame, ClientSession& client, Outgoing& out);
  Taken close(const pg::Frame& frame, ClientSession& client, Outgoing& out, Bytes& answer);
  // The statement of the client's that this text deallocates by SQL: the server knows it by another
  // name, if it has it. None where the text is another.
  static pg::StatementRef deallocated(const pg::Scan& scan, const ClientSession& client);
  // What the server can deallocate in its place: it, or the stand-in.
  const pg::StatementRef& on_server(const pg::StatementRef& statement, const config::Pool& settings,
                                    Outgoing& out);
  // A statement whose Parse never fails, for where the server must have one and any will do. None
  // where there is no room for it.
  const pg::StatementRef& stand_in();
  // Sends a Parse of the client's so that PostgreSQL says why not, be it that the name is taken or
  // what comes before that: under a name that the server has.
  void let_server_refuse(const pg::Frame& frame, std::string_view name, ByteSpan rest,
                         const ClientSession& client, const config::Pool& settings, Outgoing& out);
  // Sends a Bind so that PostgreSQL refuses it, as it would one whose result has changed.
  void refuse_changed(const pg::Frame& frame, std::string_view portal, ByteSpan rest,
                      const pg::StatementRef& statement, Outgoing& out);
  Pending& add_describing(const pg::StatementRef& statement, std::string_view name);
  // The statement that a request with a name of its client's was about.
  pg::StatementRef statement_of(const pg::ReplyTracker::Entry& entry);
  void undo_skipped(ClientSession* client);
  void undo(const pg::ReplyTracker::Entry& entry, ClientSession* client, bool failed);
  Taken refuse(bool simple, std::string_view sqlstate, const std::string& message, Bytes& answer);

  void note_change(std::string_view parameter);  // empty: any of them
  // How the server will read a text that is sent now, as far as it is known.
  pg::ScanOptions how_read(std::string_view text, const ClientSession& client) const;
  std::optional<pg::TextEncoding> encoding_of(const ClientSession& client) const;
  // The text is about to run, and may change that.
  void note_reading(const pg::Scan& scan, const ClientSession& client);
  // The entry for a Parse that is sent now: shared by clients whose texts are read alike. None when
  // there is no room for it.
  pg::StatementRef intern(ByteSpan body, const ClientSession& client, bool unnamed);
  // What the text does is not known.
  void pin_too_complex(ClientSession& client);

  // The client uses a name that it has not given: what PostgreSQL has under it is not to be ours.
  void free_name(std::string_view name, Outgoing& out);
  // Puts a Parse in front where the server lacks the statement.
  void ensure(const pg::StatementRef& statement, const config::Pool& settings, Outgoing& out);
  void ensure_unnamed(ClientSession& client, Outgoing& out);
  void note_batch(const pg::Frame& frame);
  void make_room(const config::Pool& settings, Outgoing& out);
  void close_on_server(const pg::Statement& statement, Outgoing& out);
  void apply(const pg::SessionEffect& effect, ClientSession* client);
  void forget_by_name(std::string_view server_name);
  void set_portal(std::string_view portal, std::shared_ptr<const pg::Scan> scan,
                  ClientSession& client);
  // What the statement of a Bind does with its values, `rest` behind its names.
  std::shared_ptr<const pg::Scan> bound(const pg::StatementRef& statement, const pg::Frame& frame,
                                        ByteSpan rest, const ClientSession& client) const;

  SessionTables& tables_;
  pg::ReplyTracker& tracker_;
  pool::PoolCounters& counters_;
  pg::SessionFollower follower_;
  pg::ReportedValues reported_;  // when the server was opened
  SessionDefaults defaults_;
  pg::TextEncoding usual_encoding_ = pg::TextEncoding::AsciiSafe;  // of them
  pg::ReportedValues now_;                                         // and since
  pg::ServerStatements statements_;
  pg::StatementRef unnamed_;
  std::uint32_t unnamed_version_ = 0;
  // An error has left that of somebody, or none.
  bool unnamed_unknown_ = false;
  // How texts are read (pg::decides_reading()) where the client's state does not tell: something
  // that is under way may change it; something holds until the transaction ends; and of that
  // something is not reported.
  bool reading_changes_ = false;
  bool encoding_changes_ = false;  // client_encoding in particular
  bool reading_ends_ = false;
  bool reading_unseen_ = false;
  // Portals whose statement does something to the session; hardly ever any.
  std::vector<std::pair<std::string, std::shared_ptr<const pg::Scan>>> portals_;
  // The client's batch at hand, as it came, where it may be healed: a Bind and what belongs to it,
  // or the Describe of a statement.
  enum class Batch : std::uint8_t { None, Open, Whole };
  Batch batch_state_ = Batch::None;
  bool batch_takes_any_ = false;  // its client does not go by what it was told of the result
  Bytes batch_;
  std::string parsed_here_;  // the name of the Parse of this batch that was answered at once
  // must_ask(): the answer is under way; the Bind at hand relies on what its client was told.
  bool asking_ = false;
  bool relies_ = false;
  // The last Bind, where its client was not told yet what its result is like: a Describe of the
  // portal will.
  pg::StatementRef bound_;
  std::string bound_portal_;
  std::string bound_name_;
  std::deque<Pending> pending_;  // in the order of their tags
  std::uint32_t tags_ = 0;
  std::uint32_t naming_ = 0;  // of pending_, those that change a name of the client's
  std::vector<pg::ReplyTracker::Entry> skipped_;  // by the error at hand, in their order
  bool tainted_ = false;
};

}  // namespace carpool::proxy
