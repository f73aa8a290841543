// SessionPins: what a client has left on its server that cannot be replayed on another, and so why
// its lease must last. It follows transactions as SessionFollower does and is told the same things;
// it never asks the server.
//
// Invariant: it errs to one side. While the server holds something of the client's, any() is true;
// it may stay true after the last of it is gone (a lock in a WHERE that was not won, a table that
// CASCADE took along) until DISCARD ALL. LOAD is for the life of the server and nothing ends it.
//
// Locks are counted and not told apart by key: as many were given back as were taken, or not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pg/session_effect.h"
#include "pg/session_state.h"

namespace carpool::pg {

enum class PinCause : std::uint8_t {
  Listen,
  SqlPrepare,
  TempRelation,
  HoldCursor,
  AdvisoryLock,
  Load,
  UnknownSetting,
  TooComplex,  // a limit of scan() or of this was met
};

std::string_view to_string(PinCause cause);  // "listen", for logs and as a metric's label

// Things that one session may leave behind and be told apart; past it TooComplex.
inline constexpr std::size_t kPinsMax = 1024;

class SessionPins {
 public:
  // At the CommandComplete of a statement, with each of its effects that came_true(). A setting
  // that the server reports (`reported`) need not be known, since its ParameterStatus tells.
  void apply(const SessionEffect& effect, const ReportedValues& reported);
  // At the ErrorResponse of a statement, with all of its effects: it may have taken some of its
  // locks, and no rollback gives them back. Before on_error().
  void apply_failed(std::span<const SessionEffect> effects);
  // scan() gave up on the text that is about to run.
  void apply_too_complex();
  void on_error();
  void on_ready(char transaction_status);  // 'I', 'T' or 'E'
  void clear() { pins_.reset(); }          // the server is gone, and with it all that was left

  bool any() const { return pins_ != nullptr; }
  PinCause cause() const;         // the oldest that still holds; only when any()
  std::string_view what() const;  // its name; empty where it has none; valid until the next call

 private:
  struct Pin {
    PinCause cause;
    std::string name;          // empty: not known, and only the ALL of its kind ends it
    std::uint32_t count = 0;   // of locks, where each is known by its answer; else 0
    bool uncommitted = false;  // gone if the transaction fails
    bool ending = false;       // gone if the transaction commits
  };
  // Null while there is nothing, which is what nearly every client is.
  struct Pins {
    std::vector<Pin> all;
  };

  void add(PinCause cause, const std::string& name);
  void end(PinCause cause, const std::string* name);  // null: all of that cause
  Pin* counted_locks();
  void take_lock();
  void give_back_lock();
  void end_transaction(bool commit);
  void drop_if_empty();

  std::unique_ptr<Pins> pins_;
  bool in_block_ = false;
  bool failed_ = false;
};

}  // namespace carpool::pg
