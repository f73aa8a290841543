// Pool: who gets which server. Pure decisions: `now` is an argument, nothing is opened, closed or
// sent here; plan() says what to do and the caller does it and reports back.
//
// Servers idle last in, first out, so that a surplus ages out; one of the waiter's own affinity
// goes first, and the one that it overtakes takes its place, age and all, so that a surplus ages
// out as if none were preferred. Waiters are served first in, first out. Invariants:
//   servers, those that linger included, <= size + overflow, unless the pool was shrunk a moment
//     ago; those at a former place (move()) count nowhere but in their state
//   a server beyond `size` is lent only to a client that has waited `overflowAfter`, and closed
//     when none has
//   nobody waits while a server is idle, unless the pool is paused
//
// The caller reports: add() a slot that it has begun to open, opened() or open_failed(); release()
// or reset a lent one; closing() when it begins to close one, removed() when it is gone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/intrusive_list.h"
#include "base/units.h"
#include "config/config.h"
#include "pool/counters.h"
#include "pool/slot.h"

namespace carpool::pool {

enum class Acquired : std::uint8_t {
  Granted,   // the slot is Leased
  Queued,    // plan() will grant it or time it out
  Rejected,  // waitersMax
};

enum class CloseReason : std::uint8_t { Idle, Lifetime, Shrunk, Overflow, Reconnect, Drained };

struct Action {
  enum class Kind : std::uint8_t {
    Grant,    // `slot`, which is Leased now, goes to `waiter`, which has left the queue
    Open,     // open a server and add() it
    Close,    // `slot`, which is Closing now, is to be closed
    TimeOut,  // `waiter` has left the queue: it waited for acquireTimeout
  };
  Kind kind = Kind::Open;
  CloseReason reason = CloseReason::Idle;
  Slot* slot = nullptr;
  Waiter* waiter = nullptr;
  Micros waited_us = 0;
};

class Pool {
 public:
  // `seed` feeds the jitter of lifetimes and back-off.
  Pool(const config::Pool& settings, std::uint64_t seed);

  // Takes new settings; the next plan() carries them out.
  void configure(const config::Pool& settings, Micros now);
  const config::Pool& settings() const { return settings_; }

  // A client needs a server. On Granted, `*slot` is set.
  Acquired acquire(Waiter& waiter, Micros now, Slot** slot);
  // The waiter leaves the queue without a server.
  void cancel_wait(Waiter& waiter);

  // The caller begins to open a server.
  void add(Slot& slot, Micros now);
  // It is ready; it becomes Idle.
  void opened(Slot& slot, Micros now);
  // It could not be opened; it becomes Closing, and the next attempt backs off.
  void open_failed(Slot& slot, Micros now);
  // A lent server is returned clean, or has been cleaned: Idle. Whether that calls for a plan():
  // somebody waits, or it should not be kept.
  bool release(Slot& slot, Micros now);
  // A server must be cleaned before it is lent, or a cancel for it is in flight.
  void set_resetting(Slot& slot, Micros now);
  void set_canceling(Slot& slot, Micros now);
  // The server is lost or to be closed: not counted any more.
  void closing(Slot& slot, Micros now);
  // The backend of one that is being closed is waited for: it counts until it is removed().
  void lingers(Slot& slot);
  // It is gone; the slot may be destroyed.
  void removed(Slot& slot);

  // What to do now. Valid until the next call. Call once a loop turn after any of the above, and
  // at every tick of the coarse timer.
  const std::vector<Action>& plan(Micros now);

  // Servers, opened since the last reconnect(), that should be open even though nobody waits in the
  // queue (a client that signs in needs the server's parameters).
  void set_wanted(std::uint32_t servers) { wanted_ = servers; }
  // While paused nothing is lent and nothing opened.
  void set_paused(bool paused) { paused_ = paused; }
  bool paused() const { return paused_; }
  // Every server open now is closed as it comes back, and idle ones at once.
  void reconnect() { ++generation_; }
  // That one alone, likewise.
  void outdate(Slot& slot) { slot.generation_ = generation_ - 1; }
  // What failed before is no reason to wait any longer.
  void retry_at_once();
  // Servers are opened somewhere else from now on: a reconnect(), and the servers of the former
  // place take no room at the new one. Not while one is being opened.
  void move();
  // No server is kept for its own sake: idle ones that nobody waits for are closed.
  void set_draining(bool draining) { draining_ = draining; }

  std::uint32_t count(SlotState state) const { return list(state).size(); }
  // Servers that hold, or will hold, a connection to where servers are opened now: all but Closing.
  std::uint32_t open() const;
  // And with those that are being closed and whose backends may still be there.
  std::uint32_t held() const { return open() + lingering_; }
  std::uint32_t waiting() const { return waiters_.size(); }
  Micros oldest_wait_us(Micros now) const;
  // Whether the last attempt to open a server failed.
  bool failing() const { return failures_ > 0; }

  template <typename Fn>
  void for_each_slot(Fn&& fn) const {
    for (const auto& slots : lists_) slots.for_each(fn);
  }
  template <typename Fn>
  void for_each_slot(SlotState state, Fn&& fn) const {
    list(state).for_each(fn);
  }
  template <typename Fn>
  void for_each_waiter(Fn&& fn) const {
    waiters_.for_each(fn);
  }

 private:
  using SlotList = IntrusiveList<Slot, SlotsByState>;

  const SlotList& list(SlotState state) const { return lists_[static_cast<std::size_t>(state)]; }
  SlotList& list(SlotState state) { return lists_[static_cast<std::size_t>(state)]; }
  // The only writer of Slot::state_.
  void set_state(Slot& slot, SlotState state, Micros now);
  void set_expiry(Slot& slot) const;
  bool expired(const Slot& slot, Micros now) const;
  static bool overdue(const Slot& slot, Micros now);
  // Whether maxLifetime must wait for a new server: none would be left, or PostgreSQL lets none in
  // (the password is wrong, it is full), and there is room to find out about that.
  bool replaces_first() const;
  bool any_overdue(Micros now) const;
  // Why an idle server that nobody waits for should not be kept; false where it should.
  bool surplus(const Slot& slot, Micros now, CloseReason* reason) const;
  // The idle server that is lent to the waiter, if the first in line may be; it is first then.
  Slot& choose(const Waiter& waiter, Micros now);
  // Servers that are open, and were opened since the last reconnect().
  std::uint32_t recent() const;
  void plan_timeouts(Micros now);
  void plan_grants(Micros now);
  void plan_closes(Micros now);
  void plan_opens(Micros now);
  void plan_close(Slot& slot, CloseReason reason, Micros now);
  std::uint64_t random();

  config::Pool settings_;
  std::array<SlotList, kSlotStates> lists_;
  IntrusiveList<Waiter, WaitersInQueue> waiters_;
  std::vector<Action> actions_;
  std::uint32_t wanted_ = 0;
  std::uint32_t lingering_ = 0;
  std::uint32_t elsewhere_ = 0;  // of a former place, and not Closing
  std::uint32_t generation_ = 0;
  std::uint32_t place_ = 0;
  std::uint32_t failures_ = 0;  // in a row
  Micros retry_us_ = 0;         // no attempt to open before this
  Micros prune_us_ = 0;         // the next look for servers that idle too long
  bool paused_ = false;
  bool draining_ = false;
  std::uint64_t random_;
};

}  // namespace carpool::pool
