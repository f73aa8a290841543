// How a lease ends: one table. Pure: it is told how the client's part in it ends and what is under
// way, and says what is to be done. Server does it.
//
// The rules:
// - Nothing is committed that PostgreSQL would not have committed. A batch without its Sync is
// ended
//   by CopyFail (harmless where no COPY runs), ROLLBACK and Sync: where the server skips to the
//   Sync the ROLLBACK is skipped with the rest, and there is nothing to roll back but an open
//   block, which the next ROLLBACK ends.
// - A Query never goes into a COPY: since PostgreSQL 14 that ends the backend.
// - A client that has said Terminate gets what it asked before carried out, and answered. Of one
// that
//   is gone what runs is canceled.
// - Where it is not certain how many answers come (a Sync behind a COPY that may have failed), a
// fence
//   must come back first, and what may have been left is discarded.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace carpool::proxy {

// How its client's part in it ends.
enum class Ending : std::uint8_t {
  Over,       // the transaction is over, and the client stays
  Terminate,  // the client has said so
  Gone,       // the end of its bytes, or its connection broke
  Refused,    // by us: an error that ends it, a timeout, the end of a drain
};

// What is under way. Several at once, as a rule.
struct UnderWay {
  enum class Batch : std::uint8_t { Closed, Open, Skipping };

  bool owed = false;       // something has not been answered
  bool owes_sync = false;  // a Sync of the client's is among it
  bool uncut = true;       // no message of the client's is half sent
  Batch batch = Batch::Closed;
};

enum class Step : std::uint8_t {
  Wait,      // until all is answered; the client stays as long
  Cancel,    // what runs, again and again until it ends
  FailCopy,  // CopyFail
  Rollback,  // ROLLBACK and Sync, for a batch without one
  Fence,     // and what may have been left is discarded
  Close,     // the server
};

class Steps {
 public:
  constexpr Steps() = default;
  constexpr Steps(std::initializer_list<Step> steps) {
    for (const Step step : steps) add(step);
  }
  constexpr void add(Step step) { bits_ = static_cast<std::uint8_t>(bits_ | bit(step)); }
  constexpr bool has(Step step) const { return (bits_ & bit(step)) != 0; }
  constexpr bool none() const { return bits_ == 0; }
  constexpr bool operator==(const Steps&) const = default;

 private:
  static constexpr unsigned bit(Step step) { return 1u << static_cast<unsigned>(step); }
  std::uint8_t bits_ = 0;
};

// What to do when the client's part ends. `own_session`: the server is this client's alone (a
// replication).
Steps leave(Ending how, const UnderWay& under_way, bool own_session);

// What stands between the server and its next client, once everything is answered.
struct Remains {
  char status = 'I';  // of the transaction
  enum class Left : std::uint8_t {
    Nothing,
    Settings,  // one of them acts on an idle session
    Session,   // session mode: the resetQuery is due
    Pins,      // or what is not known: DISCARD ALL
    Forever,   // nothing undoes it
  };
  Left left = Left::Nothing;
  bool in_batch = false;  // it has no Sync yet: nothing else is answered before
};

enum class Next : std::uint8_t { Lend, EndBatch, Rollback, Settle, Reset, Discard, Close };
Next next(const Remains& remains);

}  // namespace carpool::proxy
