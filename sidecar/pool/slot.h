// Slot: one place for a server in a pool, and Waiter: one client's wish for a server. Both are
// base classes: proxy/ derives its Server and Client from them. Neither touches a socket.
//
// A slot's state is the list it stands in; only Pool moves it, through set_state(), which checks
// the edge and stamps the time:
//
//   Connecting -> Idle, Closing
//   Idle       -> Leased, Resetting, Closing
//   Leased     -> Idle, Resetting, Canceling, Closing
//   Resetting  -> Idle, Canceling, Closing      (a ROLLBACK or the resetQuery runs)
//   Canceling  -> Idle, Resetting, Closing      (a cancel is in flight: not to be lent)
//   Closing    -> (removed)
#pragma once

#include <cstdint>

#include "base/intrusive_list.h"
#include "base/units.h"
#include "pool/counters.h"

namespace carpool::pool {

class Pool;
struct SlotsByState {};
struct WaitersInQueue {};

class Slot : public ListHook<SlotsByState> {
 public:
  SlotState slot_state() const { return state_; }
  Micros in_state_since_us() const { return since_us_; }
  Micros opened_us() const { return opened_us_; }

 protected:
  Slot() = default;
  ~Slot() = default;
  // A waiter with the same one is served by this slot at less cost. Compared, and nothing else.
  void set_affinity(const void* affinity) { affinity_ = affinity; }

 private:
  friend class Pool;
  const void* affinity_ = nullptr;
  SlotState state_ = SlotState::Connecting;
  bool lingers_ = false;
  std::uint32_t generation_ = 0;  // Pool::generation_ when it was opened
  std::uint32_t place_ = 0;       // likewise Pool::place_
  Micros since_us_ = 0;
  Micros opened_us_ = 0;
  Micros expires_us_ = 0;              // 0: never
  std::uint32_t jitter_permille_ = 0;  // by how much of a tenth sooner than maxLifetime
};

// Invariant: linked() exactly while it stands in a pool's queue.
class Waiter : public ListHook<WaitersInQueue> {
 public:
  bool waiting() const { return linked(); }
  Micros waiting_since_us() const { return since_us_; }

 protected:
  Waiter() = default;
  ~Waiter() = default;
  void set_affinity(const void* affinity) { affinity_ = affinity; }

 private:
  friend class Pool;
  const void* affinity_ = nullptr;
  Micros since_us_ = 0;
};

}  // namespace carpool::pool
