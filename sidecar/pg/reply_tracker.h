// ReplyTracker: which replies a server still owes, in the order of the requests that were sent to
// it, and so whether a reply goes to the client or is Carpool's own to swallow, and when nothing is
// owed any more. Pure bookkeeping: it sees types and statuses, never payloads, and sends nothing.
//
// A queue with an entry a request. Replies are matched with its front:
//
//   request            ends with
//   Query, FunctionCall   ReadyForQuery
//   Parse, Bind, Close    ParseComplete, BindComplete, CloseComplete
//   Describe              RowDescription or NoData
//   Execute               CommandComplete, EmptyQueryResponse or PortalSuspended
//   Sync                  ReadyForQuery
//
// After an ErrorResponse in the extended protocol the server skips to the next Sync, and so do the
// entries. While the server reads COPY data it ignores Flush and Sync (PostgreSQL manual, "COPY
// Operations"; src/backend/commands/copyfromparse.c), so a Sync sent then is never answered.
// Invariant: idle() means that the server has answered everything and waits for a request.
#pragma once

#include <cstdint>
#include <vector>

namespace carpool::pg {

enum class Request : std::uint8_t {
  Query,
  FunctionCall,
  Parse,
  Bind,
  Describe,
  Close,
  Execute,
  Sync,
  CopyEnd,  // CopyDone or CopyFail: has no reply of its own, marks where Syncs count again
  Local,    // not sent: Carpool answers it itself, once everything before it is answered
};

class ReplyTracker {
 public:
  // Above this many unanswered requests the caller stops reading from the client.
  static constexpr std::uint32_t kOutstandingMax = 16'384;

  struct Entry {
    Request request = Request::Query;
    bool ours = false;      // asked by Carpool: the replies are swallowed
    std::uint32_t tag = 0;  // the caller's, handed back when the entry ends
  };
  // What a reply means.
  struct Verdict {
    bool forward = true;  // to the client; else swallow
    bool ended = false;   // `entry` is complete (or failed)
    bool failed = false;  // an ErrorResponse ended it
    Entry entry;
  };

  // A request goes to the server. False where the server will ignore it: nothing is owed for it.
  bool sent(Request request, bool ours = false, std::uint32_t tag = 0);

  // A message came from the server. `status` is ReadyForQuery's byte, else ignored. Calls
  // skipped(Entry) for each request that the server will not carry out because of this error.
  template <typename Skipped>
  Verdict reply(char type, char status, Skipped&& skipped);

  bool idle() const { return head_ == entries_.size(); }
  bool full() const { return outstanding() >= kOutstandingMax; }
  std::uint32_t outstanding() const { return static_cast<std::uint32_t>(entries_.size()) - head_; }
  // 'I', 'T' or 'E' of the last ReadyForQuery.
  char status() const { return status_; }
  // Whether the server is taking COPY data from the client.
  bool copy_in() const { return copy_in_; }
  // Whether requests were sent that no Sync has closed: the server will not say ReadyForQuery, even
  // where all of them are answered, and stays in a transaction.
  bool needs_sync() const { return batch_open_; }
  // Whether a ReadyForQuery is owed to the client: a request sent now belongs to a later batch than
  // one of its own that is still under way.
  bool owes_ready() const { return readies_ > 0; }
  // Whether the server is skipping messages until a Sync that was not sent yet. It is idle() then,
  // but no ReadyForQuery was said.
  bool skipping() const { return skipping_; }
  // Whether the replies at hand are Carpool's own.
  bool front_is_ours() const { return !idle() && entries_[head_].ours; }
  bool front_is_our_query() const {
    return front_is_ours() && entries_[head_].request == Request::Query;
  }

  // Whether nothing is owed but to Carpool's own queries, and what it answers itself behind them: a
  // batch that begins now is the first, as if nothing were owed.
  bool owes_only_ours() const;

  // What the request whose replies are at hand was sent with.
  std::uint32_t front_tag() const { return idle() ? 0 : entries_[head_].tag; }

  // Whether nothing but the end of a batch is owed: then swallow_sync() makes it Carpool's own.
  bool owes_only_sync() const {
    return outstanding() == 1 && entries_[head_].request == Request::Sync;
  }
  void swallow_sync() {
    entries_[head_].ours = true;
    --readies_;
  }

  // Whether the next answer is Carpool's to give; then pop_local() takes its entry.
  bool front_is_local() const { return !idle() && entries_[head_].request == Request::Local; }
  Entry pop_local() { return pop(); }

 private:
  static bool ends_batch(Request request) {
    return request == Request::Query || request == Request::Sync ||
           request == Request::FunctionCall;
  }
  bool ends_with_ready() const;
  Entry pop();
  void pop_copy_ends();
  void drop_copy_end_behind_front();
  void drop_ignored_syncs();

  std::vector<Entry> entries_;  // [head_, end) is the queue; kept for its memory
  std::uint32_t head_ = 0;
  std::uint32_t readies_ = 0;  // the client's entries that end with a ReadyForQuery
  char status_ = 'I';
  bool copy_in_ = false;
  bool batch_open_ = false;
  bool skipping_ = false;
};

template <typename Skipped>
ReplyTracker::Verdict ReplyTracker::reply(char type, char status, Skipped&& skipped) {
  Verdict verdict;
  if (idle()) {
    // Asynchronous: notices, parameters, notifications. Or the answer to a Sync that the server was
    // thought to ignore, when its COPY failed before it came to read it.
    if (type == 'Z') {
      status_ = status;
      copy_in_ = skipping_ = false;
    }
    return verdict;
  }
  Entry& front = entries_[head_];
  verdict.forward = !front.ours;
  verdict.entry = front;
  switch (type) {
    case 'Z':
      status_ = status;
      copy_in_ = false;
      skipping_ = false;
      // A Query's or a Sync's; anything before it in the queue was skipped by the server.
      while (!idle()) {
        verdict.entry = pop();
        if (ends_batch(verdict.entry.request)) break;
        if (verdict.entry.request != Request::CopyEnd) skipped(verdict.entry);
      }
      verdict.forward = !verdict.entry.ours;
      verdict.ended = true;
      pop_copy_ends();
      break;
    case '1':
    case '2':
    case '3':
    case 'n':
    case 'I':
    case 's':
      if (front.request == Request::Query) break;  // EmptyQueryResponse: ReadyForQuery follows
      verdict.entry = pop();
      verdict.ended = true;
      break;
    case 'T':
      if (front.request != Request::Describe) break;
      verdict.entry = pop();
      verdict.ended = true;
      break;
    case 'C':
      copy_in_ = false;
      if (front.request != Request::Execute) {
        drop_copy_end_behind_front();
        break;
      }
      verdict.entry = pop();
      verdict.ended = true;
      pop_copy_ends();
      break;
    case 'G':
    case 'W':
      copy_in_ = true;
      drop_ignored_syncs();
      break;
    case 'E':
      copy_in_ = false;
      verdict.failed = true;
      if (front.request == Request::Query || front.request == Request::FunctionCall ||
          front.request == Request::Sync) {
        break;  // ReadyForQuery follows
      }
      verdict.ended = true;
      verdict.entry = pop();
      while (!idle() && entries_[head_].request != Request::Sync) {
        const Entry entry = pop();
        if (entry.request != Request::CopyEnd) skipped(entry);
      }
      skipping_ = idle();
      break;
    default:
      break;
  }
  return verdict;
}

}  // namespace carpool::pg
