// ReplyQueue: the requests that a server has been sent and has not answered, in their order. By it
// a reply belongs to the client or to Carpool, and we know when nothing is owed any more. Pure
// bookkeeping: it sees types and statuses, never payloads, and sends nothing. What a request is,
// and what its answer changes, is its entry's own.
//
// Replies are matched with the front:
//
//   request               ends with
//   Query, FunctionCall   ReadyForQuery
//   Parse, Bind, Close    ParseComplete, BindComplete, CloseComplete
//   Describe              RowDescription or NoData
//   Execute               CommandComplete, EmptyQueryResponse or PortalSuspended
//   Sync                  ReadyForQuery
//   Fence                 ReadyForQuery, once fence_came() has been called
//
// After an ErrorResponse in the extended protocol the server skips to the next Sync, and so do the
// entries.
//
// Doubt. While the server reads COPY data it passes over each Sync; when the COPY has failed, it
// answers each. How far it had read then, nobody else can know: so many more ReadyForQuery may
// come, or not, before anything else does. The doubt is over at the first reply that is another
// request's, at the last ReadyForQuery that is possible, or at a fence: requests whose reply cannot
// be taken for any other's.
//
// Invariant: idle() means that the server has answered everything and waits for a request.
//
// Source: PostgreSQL manual, "Message Flow"; src/backend/commands/copyfromparse.c, CopyGetData();
// src/backend/tcop/postgres.c, PostgresMain().
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "base/ring.h"
#include "pg/wire.h"

namespace carpool::pg {

// Entries, and what they are made of, have wire_of() and is_ours() beside them: whether Carpool has
// asked, so that the replies are swallowed.
template <typename Entry>
class ReplyQueue {
 public:
  // Above this many unanswered requests the caller stops reading from the client.
  static constexpr std::uint32_t kOutstandingMax = 16'384;
  // So many never allocate.
  static constexpr std::uint32_t kInside = 16;

  // What a reply means.
  struct Verdict {
    bool forward = true;     // to the client; else swallow
    bool ended = false;      // `entry` is complete (or failed)
    bool failed = false;     // by an ErrorResponse
    bool broken = false;     // what comes next cannot be told apart: the connection is to be closed
    Entry* entry = nullptr;  // whose reply it is; null: nobody's. Valid until the next call
  };

  // A request goes to the server. Null where the server will ignore it: nothing is owed for it.
  template <typename Kind>
  Entry* sent(Kind kind);

  // A message came from the server. `status` is ReadyForQuery's byte, else ignored. Calls
  // skipped(Entry&) for each request that the server will not carry out because of this error, the
  // last of them first.
  template <typename Skipped>
  Verdict reply(char type, char status, Skipped&& skipped);

  bool idle() const { return outstanding() == 0 && maybe_ == 0; }
  bool full() const { return outstanding() >= kOutstandingMax; }
  std::uint32_t outstanding() const { return entries_.size() - answered_; }
  // 'I', 'T' or 'E' of the last ReadyForQuery.
  char status() const { return status_; }
  // Whether the server is taking COPY data from the client.
  bool copy_in() const { return copy_ == Copy::In; }
  // Whether requests were sent that no Sync has closed: the server will not say ReadyForQuery, even
  // where all of them are answered, and stays in a transaction.
  bool batch_open() const { return batch_ == Batch::Open; }
  // Whether the server is skipping messages until a Sync that was not sent yet. It is idle() then,
  // but no ReadyForQuery was said.
  bool skipping() const { return batch_ == Batch::Skipping; }
  // Whether what the client sends is to be dropped up to its Sync: the server skips it, or it would
  // had it not been given a Sync of Carpool's.
  bool drops() const { return batch_ == Batch::Skipping || batch_ == Batch::Dropping; }
  // Whether a ReadyForQuery is owed to the client: a request sent now belongs to a later batch than
  // one of its own that is still under way.
  bool owes_ready() const { return readies_ > 0 || maybe_ > 0; }
  // Whether a COPY takes data, or may do so yet: what is no part of it must wait.
  bool copying() const { return copy_in() || ignored_ > 0 || maybe_ > 0; }
  // Whether the COPY at hand has passed over a Sync, if it has not failed before it.
  bool passes_over_syncs() const { return ignored_ > 0; }
  // Whether a Sync of the client's is under way: where a COPY fails, it may not be answered.
  bool owes_sync() const;

  bool in_doubt() const { return maybe_ > 0; }
  // Whether the doubt is still there and nothing that is under way will end it: a fence is due,
  // behind a Sync of Carpool's, since the server may be skipping to one.
  bool needs_fence() const;
  bool has_fence() const { return fences_ > 0; }
  // The same where the client has begun another batch, which is not to be closed for it: a Flush
  // brings a reply of that.
  bool needs_flush() const { return maybe_ > 0 && fences_ == 0 && batch_ == Batch::Open; }
  // The reply to the fence that is under way has come: all before it has been answered, or was
  // skipped.
  template <typename Skipped>
  void fence_came(Skipped&& skipped);

  // Null when nothing is owed.
  Entry* front() { return outstanding() == 0 ? nullptr : &entries_[answered_]; }
  const Entry* front() const { return outstanding() == 0 ? nullptr : &entries_[answered_]; }
  bool front_is_ours() const { return outstanding() > 0 && is_ours(*front()); }
  bool front_is(Wire wire) const { return outstanding() > 0 && wire_of(*front()) == wire; }

  // Whether nothing is owed but to Carpool's own queries, and what it answers itself behind them: a
  // batch that begins now is the first, as if nothing were owed.
  bool owes_only_ours() const;
  // Whether nothing but the end of a batch is owed: then swallow_sync() makes it Carpool's own.
  bool owes_only_sync() const { return outstanding() == 1 && front_is(Wire::Sync); }
  template <typename Kind>
  void swallow_sync(Kind own) {
    *front() = std::move(own);
    --readies_;
  }

  // Whether the next answer is Carpool's to give; then pop_local() takes its entry, which is valid
  // until the next call.
  bool front_is_local() const { return front_is(Wire::Local); }
  Entry& pop_local() {
    release();
    return pop();
  }

  // Each that is under way, until fn says true; whether it did.
  template <typename Fn>
  bool any_of(Fn&& fn) {
    for (std::uint32_t i = answered_; i < entries_.size(); ++i) {
      if (fn(entries_[i])) return true;
    }
    return false;
  }
  template <typename Fn>
  bool any_of(Fn&& fn) const {
    return const_cast<ReplyQueue*>(this)->any_of([&](const Entry& entry) { return fn(entry); });
  }

 private:
  enum class Batch : std::uint8_t {
    Closed,
    Open,      // requests were sent, and no Sync behind them
    Skipping,  // the server skips to a Sync that was not sent yet
    Dropping,  // the client has still to send one, but the server has had one of Carpool's
  };

  static bool ends_batch(Wire wire) {
    return wire == Wire::Query || wire == Wire::Sync || wire == Wire::FunctionCall;
  }
  static bool asks_for_ready(const Entry& entry) {
    return ends_batch(wire_of(entry)) && !is_ours(entry);
  }
  void note_sent(Wire wire, bool ours);
  bool ends_with_ready() const;
  void release() {
    entries_.pop_front(answered_);
    answered_ = 0;
  }
  Entry& pop();
  void drop_copy_end_behind_front();
  bool drop_ignored_syncs();
  void ready_in_doubt(Verdict& verdict);
  void end_doubt();
  // Whether what stands behind the front and before `end` is more than a COPY's: of that nobody can
  // tell whether an error in doubt skips it.
  bool behind_is_the_clients(std::uint32_t end) const {
    for (std::uint32_t i = answered_ + 1; i < end; ++i) {
      const Wire wire = wire_of(entries_[i]);
      if (wire != Wire::CopyEnd && wire != Wire::Local && !is_ours(entries_[i])) return true;
    }
    return false;
  }
  template <typename Skipped>
  void fail(Verdict& verdict, Skipped&& skipped);

  Ring<Entry, kInside> entries_;  // of which the first answered_ are over
  std::uint32_t answered_ = 0;
  std::uint32_t readies_ = 0;  // the client's entries that end with a ReadyForQuery
  std::uint32_t ignored_ = 0;  // Syncs that the COPY at hand passes over, if it does not fail
  std::uint32_t maybe_ = 0;    // in doubt: Syncs that a COPY that has failed had passed over or not
  std::uint32_t came_ = 0;     // and how many ReadyForQuery have come since
  std::uint32_t fences_ = 0;
  char status_ = 'I';
  Batch batch_ = Batch::Closed;
  // The COPY of the statement at the front.
  enum class Copy : std::uint8_t {
    None,   // it has not begun, or is over
    In,     // it takes data
    Ended,  // the client has sent its end, too
  };
  Copy copy_ = Copy::None;
  bool fence_came_ = false;  // of the fence at the front
};

template <typename Entry>
void ReplyQueue<Entry>::note_sent(Wire wire, bool ours) {
  switch (wire) {
    case Wire::Parse:
    case Wire::Bind:
    case Wire::Describe:
    case Wire::Close:
    case Wire::Execute:
      batch_ = Batch::Open;
      break;
    case Wire::Query:
    case Wire::FunctionCall:
      batch_ = Batch::Closed;
      break;
    case Wire::Sync:
      // What the client has still to close, our own Sync does not close for it.
      if (!(ours && maybe_ > 0)) batch_ = Batch::Closed;
      break;
    case Wire::CopyEnd:
    case Wire::Local:
      break;
    case Wire::Fence:
      ++fences_;
      break;
  }
}

template <typename Entry>
template <typename Kind>
Entry* ReplyQueue<Entry>::sent(Kind kind) {
  release();
  const Wire wire = wire_of(kind);
  const bool ours = is_ours(kind);
  if (wire == Wire::Sync) {
    if (copy_in()) {
      ++ignored_;
      return nullptr;
    }
  } else if (wire != Wire::Fence && batch_ == Batch::Skipping) {
    return nullptr;
  } else if (wire == Wire::CopyEnd) {
    if (copy_in()) copy_ = Copy::Ended;
    if (outstanding() == 0) return nullptr;  // the COPY has failed meanwhile: the server drops it
  }
  note_sent(wire, ours);
  if (ends_batch(wire) && !ours) ++readies_;
  return &entries_.push_back(std::move(kind));
}

template <typename Entry>
bool ReplyQueue<Entry>::ends_with_ready() const {
  for (std::uint32_t i = entries_.size(); i > answered_; --i) {
    const Wire wire = wire_of(entries_[i - 1]);
    if (wire == Wire::CopyEnd || wire == Wire::Local) continue;
    return ends_batch(wire);
  }
  return true;
}

template <typename Entry>
bool ReplyQueue<Entry>::owes_only_ours() const {
  return !any_of([](const Entry& entry) {
    return wire_of(entry) != Wire::Local && !(is_ours(entry) && wire_of(entry) == Wire::Query);
  });
}

template <typename Entry>
bool ReplyQueue<Entry>::owes_sync() const {
  return ignored_ > 0 || maybe_ > 0 ||
         any_of([](const Entry& entry) { return wire_of(entry) == Wire::Sync && !is_ours(entry); });
}

template <typename Entry>
bool ReplyQueue<Entry>::needs_fence() const {
  if (maybe_ == 0 || fences_ > 0 || batch_ == Batch::Open) return false;
  return !any_of([](const Entry& entry) {
    return wire_of(entry) != Wire::Sync && wire_of(entry) != Wire::CopyEnd;
  });
}

template <typename Entry>
template <typename Skipped>
void ReplyQueue<Entry>::fence_came(Skipped&& skipped) {
  release();
  end_doubt();
  while (!front_is(Wire::Fence)) {
    if (wire_of(*front()) != Wire::CopyEnd) skipped(*front());
    pop();
  }
  fence_came_ = true;
}

template <typename Entry>
Entry& ReplyQueue<Entry>::pop() {
  CHECK(outstanding() > 0);
  Entry& entry = entries_[answered_++];
  if (asks_for_ready(entry)) --readies_;
  // The end of a COPY is never the front: behind what is answered it ends none any more.
  while (front_is(Wire::CopyEnd)) ++answered_;
  return entry;
}

// One simple query may hold several COPYs: the end of this one must not count for the next.
template <typename Entry>
void ReplyQueue<Entry>::drop_copy_end_behind_front() {
  std::uint32_t next = answered_ + 1;
  while (next < entries_.size() && wire_of(entries_[next]) == Wire::Local) ++next;
  if (next < entries_.size() && wire_of(entries_[next]) == Wire::CopyEnd) entries_.erase(next);
}

// The Syncs that reach a server while it reads COPY data are those behind the front and before
// the client's CopyDone. False where something else is under way behind one of them, which no COPY
// may read: whether the COPY fails before it, and where, cannot be told.
template <typename Entry>
bool ReplyQueue<Entry>::drop_ignored_syncs() {
  if (outstanding() == 0) return true;
  const std::uint32_t first = answered_ + 1;
  std::uint32_t end = first;
  std::uint32_t syncs = 0;
  std::uint32_t theirs = 0;
  for (; end < entries_.size(); ++end) {
    const Wire wire = wire_of(entries_[end]);
    if (wire == Wire::Local) continue;  // is not sent
    if (wire != Wire::Sync) break;
    ++syncs;
    if (!is_ours(entries_[end])) ++theirs;
  }
  if (end < entries_.size()) {
    copy_ = Copy::Ended;  // the client has already ended it
    if (wire_of(entries_[end]) != Wire::CopyEnd) return syncs == 0;
  }
  ignored_ += syncs;
  readies_ -= theirs;
  entries_.erase_if(first, end, [](const Entry& entry) { return wire_of(entry) == Wire::Sync; });
  if (front_is(Wire::Execute)) batch_ = ends_with_ready() ? Batch::Closed : Batch::Open;
  return true;
}

// A ReadyForQuery that is a Sync's, and it may be one or the other's. All look the same.
template <typename Entry>
void ReplyQueue<Entry>::ready_in_doubt(Verdict& verdict) {
  ++came_;
  std::uint32_t syncs = 0;
  bool ours = false;
  for (std::uint32_t i = answered_; i < entries_.size(); ++i, ++syncs) {
    if (wire_of(entries_[i]) != Wire::Sync) break;
    ours = ours || is_ours(entries_[i]);
  }
  // Behind Carpool's own Sync no other comes: the last of them is its, and any other the client's.
  verdict.forward = !ours || came_ > 1;
  if (came_ == maybe_ + syncs) end_doubt();
}

template <typename Entry>
void ReplyQueue<Entry>::end_doubt() {
  if (maybe_ == 0) return;
  if (batch_ == Batch::Skipping && came_ > 0) {
    // Carpool's own, or one of the client's before it.
    batch_ = came_ == 1 ? Batch::Dropping : Batch::Closed;
  }
  maybe_ = came_ = 0;
  while (front_is(Wire::Sync)) pop();
}

template <typename Entry>
template <typename Skipped>
void ReplyQueue<Entry>::fail(Verdict& verdict, Skipped&& skipped) {
  verdict.failed = true;
  maybe_ = std::exchange(ignored_, 0);
  const Wire wire = wire_of(*verdict.entry);
  if (wire == Wire::Query || wire == Wire::FunctionCall || wire == Wire::Sync ||
      wire == Wire::Fence) {
    return;  // ReadyForQuery follows
  }
  verdict.ended = true;
  std::uint32_t sync = answered_ + 1;
  while (sync < entries_.size() && wire_of(entries_[sync]) != Wire::Sync &&
         wire_of(entries_[sync]) != Wire::Fence) {
    ++sync;
  }
  if (maybe_ > 0 && behind_is_the_clients(sync)) verdict.broken = true;
  if (sync == entries_.size()) batch_ = Batch::Skipping;
  for (std::uint32_t i = sync - 1; i > answered_; --i) {
    if (wire_of(entries_[i]) != Wire::CopyEnd) skipped(entries_[i]);
  }
  while (answered_ < sync) pop();
}

template <typename Entry>
template <typename Skipped>
typename ReplyQueue<Entry>::Verdict ReplyQueue<Entry>::reply(char type, char status,
                                                             Skipped&& skipped) {
  release();
  Verdict verdict;
  if (type == 'Z') {
    status_ = status;
    copy_ = Copy::None;
    if (maybe_ > 0 && !front_is(Wire::Query)) {
      ready_in_doubt(verdict);
      return verdict;
    }
  } else if (maybe_ > 0) {
    end_doubt();
  }
  if (outstanding() == 0) {
    // Asynchronous: notices, parameters, notifications.
    if (type == 'Z' && batch_ == Batch::Skipping) batch_ = Batch::Closed;
    // But an error has skipped something, and nobody knows what.
    verdict.broken = type == 'E';
    return verdict;
  }
  verdict.entry = front();
  const Wire wire = wire_of(*verdict.entry);
  verdict.forward = !is_ours(*verdict.entry);
  switch (type) {
    case 'Z':
      if (wire == Wire::Fence && !fence_came_) break;  // one that could not be counted
      // A Query's or a Sync's; anything before it in the queue was skipped by the server.
      while (outstanding() > 0) {
        verdict.entry = &pop();
        const Wire popped = wire_of(*verdict.entry);
        if (popped == Wire::Fence) {
          --fences_;
          fence_came_ = false;
        }
        if (ends_batch(popped) || popped == Wire::Fence) break;
        if (popped != Wire::CopyEnd) skipped(*verdict.entry);
      }
      verdict.forward = !is_ours(*verdict.entry);
      verdict.ended = true;
      ignored_ = 0;
      break;
    case '1':
    case '2':
    case '3':
    case 'n':
    case 'I':
    case 's':
      if (wire == Wire::Query || wire == Wire::Fence) break;  // ReadyForQuery follows
      pop();
      verdict.ended = true;
      break;
    case 'T':
      if (wire != Wire::Describe) break;
      pop();
      verdict.ended = true;
      break;
    case 'C':
      ignored_ = 0;
      if (wire != Wire::Execute) {
        // Of a statement that was none it must not be taken: it is that of the COPY to come.
        if (copy_ == Copy::Ended) drop_copy_end_behind_front();
        copy_ = Copy::None;
        break;
      }
      copy_ = Copy::None;
      pop();
      verdict.ended = true;
      break;
    case 'G':
    case 'W':
      copy_ = Copy::In;
      verdict.broken = !drop_ignored_syncs();
      break;
    case 'E':
      copy_ = Copy::None;
      fail(verdict, skipped);
      break;
    default:
      break;
  }
  return verdict;
}

}  // namespace carpool::pg
