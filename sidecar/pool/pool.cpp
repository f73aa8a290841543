#include "pool/pool.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace carpool::pool {
namespace {

constexpr Micros kBackoffFirst_us = 100 * kMicrosPerMilli;
constexpr Micros kBackoffMax_us = 5 * kMicrosPerSecond;

// Idle servers that are looked at for one of a waiter's affinity.
constexpr int kChoicesMax = 64;

constexpr unsigned bit(SlotState state) {
  return 1u << static_cast<unsigned>(state);
}

// The table of edges in slot.h: from a state, the set of those that may follow.
constexpr std::array<unsigned, kSlotStates> kEdges = {
    bit(SlotState::Idle) | bit(SlotState::Closing),
    bit(SlotState::Leased) | bit(SlotState::Resetting) | bit(SlotState::Closing),
    bit(SlotState::Idle) | bit(SlotState::Resetting) | bit(SlotState::Canceling) |
        bit(SlotState::Closing),
    bit(SlotState::Idle) | bit(SlotState::Canceling) | bit(SlotState::Closing),
    bit(SlotState::Idle) | bit(SlotState::Resetting) | bit(SlotState::Closing),
    0,
};

}  // namespace

Pool::Pool(const config::Pool& settings, std::uint64_t seed) : settings_(settings), random_(seed) {}

// xorshift64*: jitter needs no more than that.
std::uint64_t Pool::random() {
  random_ |= 1;
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return random_ * 2685821657736338717ull;
}

void Pool::configure(const config::Pool& settings, Micros now) {
  settings_ = settings;
  for_each_slot([this](Slot& slot) {
    if (slot.opened_us_ != 0) set_expiry(slot);
  });
  prune_us_ = std::min(prune_us_, now + settings_.prune_interval_us);
}

void Pool::set_state(Slot& slot, SlotState state, Micros now) {
  CHECK(kEdges[static_cast<std::size_t>(slot.state_)] & bit(state));
  list(slot.state_).remove(slot);
  slot.state_ = state;
  slot.since_us_ = now;
  if (state == SlotState::Closing && slot.place_ != place_) --elsewhere_;
  // Idle is used from the front, last in first out; the back of each list is the longest there.
  list(state).push_front(slot);
}

Acquired Pool::acquire(Waiter& waiter, Micros now, Slot** slot) {
  CHECK(!waiter.waiting());
  if (waiters_.empty() && !paused_ && open() <= settings_.size) {
    Slot* idle = list(SlotState::Idle).front();
    if (idle != nullptr && !expired(*idle, now)) {
      *slot = &choose(waiter, now);
      set_state(**slot, SlotState::Leased, now);
      return Acquired::Granted;
    }
  }
  if (waiters_.size() >= settings_.waiters_max) return Acquired::Rejected;
  waiter.since_us_ = now;
  waiters_.push_back(waiter);
  return Acquired::Queued;
}

Slot& Pool::choose(const Waiter& waiter, Micros now) {
  SlotList& idle = list(SlotState::Idle);
  Slot& first = *idle.front();
  if (first.affinity_ == waiter.affinity_) return first;
  Slot* found = idle.next(first);
  for (int left = kChoicesMax; found != nullptr && left > 0; --left) {
    if (found->affinity_ == waiter.affinity_ && !expired(*found, now)) break;
    found = left == 1 ? nullptr : idle.next(*found);
  }
  if (found == nullptr) return first;
  std::swap(first.since_us_, found->since_us_);
  idle.remove(first);
  idle.insert_behind(first, *found);
  return *found;
}

void Pool::cancel_wait(Waiter& waiter) {
  waiters_.remove(waiter);
}

void Pool::add(Slot& slot, Micros now) {
  CHECK(!slot.linked());
  slot.state_ = SlotState::Connecting;
  slot.generation_ = generation_;
  slot.place_ = place_;
  slot.since_us_ = now;
  list(SlotState::Connecting).push_front(slot);
}

void Pool::opened(Slot& slot, Micros now) {
  failures_ = 0;
  retry_us_ = 0;
  slot.opened_us_ = now;
  // Up to a tenth less, so that a fleet that started together does not reconnect together.
  slot.jitter_permille_ = static_cast<std::uint32_t>(random() % 1000);
  set_expiry(slot);
  set_state(slot, SlotState::Idle, now);
}

void Pool::set_expiry(Slot& slot) const {
  const Micros most = settings_.max_lifetime_us;
  slot.expires_us_ =
      most == 0 ? 0 : slot.opened_us_ + most - most / 10 * slot.jitter_permille_ / 1000;
}

void Pool::open_failed(Slot& slot, Micros now) {
  const std::uint32_t doublings = std::min(failures_, 16u);
  ++failures_;
  const Micros wait_us = std::min(kBackoffFirst_us << doublings, kBackoffMax_us);
  retry_us_ =
      now + wait_us / 2 + static_cast<Micros>(random() % static_cast<std::uint64_t>(wait_us));
  set_state(slot, SlotState::Closing, now);
}

bool Pool::release(Slot& slot, Micros now) {
  set_state(slot, SlotState::Idle, now);
  return !waiters_.empty() || draining_ || open() > settings_.size || expired(slot, now);
}
void Pool::set_resetting(Slot& slot, Micros now) {
  set_state(slot, SlotState::Resetting, now);
}
void Pool::set_canceling(Slot& slot, Micros now) {
  set_state(slot, SlotState::Canceling, now);
}
void Pool::closing(Slot& slot, Micros now) {
  set_state(slot, SlotState::Closing, now);
}

void Pool::lingers(Slot& slot) {
  CHECK(slot.state_ == SlotState::Closing && !slot.lingers_);
  if (slot.place_ != place_) return;
  slot.lingers_ = true;
  ++lingering_;
}

void Pool::retry_at_once() {
  failures_ = 0;
  retry_us_ = 0;
}

void Pool::move() {
  CHECK(count(SlotState::Connecting) == 0);
  reconnect();
  ++place_;
  list(SlotState::Closing).for_each([](Slot& slot) { slot.lingers_ = false; });
  lingering_ = 0;
  elsewhere_ = 0;
  for_each_slot([this](const Slot& slot) { elsewhere_ += slot.state_ != SlotState::Closing; });
}

void Pool::removed(Slot& slot) {
  CHECK(slot.state_ == SlotState::Closing);
  list(SlotState::Closing).remove(slot);
  if (slot.lingers_) --lingering_;
}

std::uint32_t Pool::open() const {
  std::uint32_t total = 0;
  for (const auto& slots : lists_) total += slots.size();
  return total - count(SlotState::Closing) - elsewhere_;
}

Micros Pool::oldest_wait_us(Micros now) const {
  const Waiter* first = waiters_.front();
  return first == nullptr ? 0 : now - first->since_us_;
}

bool Pool::overdue(const Slot& slot, Micros now) {
  return slot.expires_us_ != 0 && now >= slot.expires_us_;
}

bool Pool::replaces_first() const {
  // A replacement that is being opened has that room already.
  const std::uint32_t connecting = count(SlotState::Connecting);
  return (failures_ > 0 || open() - connecting <= 1) && held() - connecting < settings_.size;
}

bool Pool::any_overdue(Micros now) const {
  bool any = false;
  for (const SlotState state : {SlotState::Idle, SlotState::Leased}) {
    list(state).for_each([&](const Slot& slot) { any = any || overdue(slot, now); });
  }
  return any;
}

bool Pool::expired(const Slot& slot, Micros now) const {
  return slot.generation_ != generation_ || (overdue(slot, now) && !replaces_first());
}

const std::vector<Action>& Pool::plan(Micros now) {
  actions_.clear();
  // Nobody is failed for want of a server while one is free.
  plan_grants(now);
  plan_timeouts(now);
  plan_closes(now);
  plan_opens(now);
  return actions_;
}

void Pool::plan_timeouts(Micros now) {
  if (settings_.acquire_timeout_us == 0) return;
  while (Waiter* first = waiters_.front()) {
    const Micros waited_us = now - first->since_us_;
    if (waited_us < settings_.acquire_timeout_us) break;
    waiters_.remove(*first);
    actions_.push_back({.kind = Action::Kind::TimeOut, .waiter = first, .waited_us = waited_us});
  }
}

void Pool::plan_close(Slot& slot, CloseReason reason, Micros now) {
  set_state(slot, SlotState::Closing, now);
  actions_.push_back({.kind = Action::Kind::Close, .reason = reason, .slot = &slot});
}

void Pool::plan_grants(Micros now) {
  if (paused_) return;
  while (Waiter* waiter = waiters_.front()) {
    Slot* slot = list(SlotState::Idle).front();
    if (slot == nullptr) break;
    const Micros waited_us = now - waiter->since_us_;
    if (expired(*slot, now)) {
      plan_close(*slot,
                 slot->generation_ != generation_ ? CloseReason::Reconnect : CloseReason::Lifetime,
                 now);
      continue;
    }
    if (open() > settings_.size + settings_.overflow) {
      plan_close(*slot, CloseReason::Shrunk, now);
      continue;
    }
    if (open() > settings_.size && waited_us < settings_.overflow_after_us) {
      plan_close(*slot, CloseReason::Overflow, now);
      continue;
    }
    waiters_.remove(*waiter);
    slot = &choose(*waiter, now);
    set_state(*slot, SlotState::Leased, now);
    actions_.push_back(
        {.kind = Action::Kind::Grant, .slot = slot, .waiter = waiter, .waited_us = waited_us});
  }
}

bool Pool::surplus(const Slot& slot, Micros now, CloseReason* reason) const {
  if (draining_) {
    *reason = CloseReason::Drained;
    return true;
  }
  if (slot.generation_ != generation_) {
    *reason = CloseReason::Reconnect;
    return true;
  }
  if (open() > settings_.size) {
    *reason = settings_.overflow > 0 ? CloseReason::Overflow : CloseReason::Shrunk;
    return true;
  }
  if (overdue(slot, now) && !replaces_first()) {
    *reason = CloseReason::Lifetime;
    return true;
  }
  *reason = CloseReason::Idle;
  return settings_.idle_timeout_us > 0 && now >= prune_us_ &&
         now - slot.since_us_ >= settings_.idle_timeout_us && open() > settings_.min_idle;
}

void Pool::plan_closes(Micros now) {
  if (!waiters_.empty() && !paused_) return;  // then none is idle
  const bool prune = now >= prune_us_;
  SlotList& idle = list(SlotState::Idle);
  // From the back: those that have idled longest. Each that goes may leave the next one needed.
  for (Slot* slot = idle.back(); slot != nullptr;) {
    Slot* before = idle.prev(*slot);
    CloseReason reason;
    if (surplus(*slot, now, &reason)) plan_close(*slot, reason, now);
    slot = before;
  }
  if (prune) prune_us_ = now + settings_.prune_interval_us;
}

std::uint32_t Pool::recent() const {
  std::uint32_t total = 0;
  for_each_slot([&](const Slot& slot) {
    const bool is_open = slot.state_ != SlotState::Connecting && slot.state_ != SlotState::Closing;
    if (is_open && slot.generation_ == generation_) ++total;
  });
  return total;
}

void Pool::plan_opens(Micros now) {
  if (paused_ || now < retry_us_) return;
  const std::uint32_t idle = count(SlotState::Idle);
  std::uint32_t connecting = count(SlotState::Connecting);
  const std::uint32_t ready = open() - connecting;
  std::uint32_t total = held();  // a backend counts until it is gone
  // After a failure one attempt at a time finds out whether PostgreSQL is back.
  const std::uint32_t concurrency = failures_ > 0 ? 1 : std::max(1u, settings_.connect_concurrency);

  // Those who wait and find no idle server; and a floor under the total: minIdle servers stay warm,
  // lent or not, and wanted_ is somebody who signs in.
  std::uint32_t need = waiters_.size() - std::min(waiters_.size(), idle);
  const std::uint32_t floor = draining_ ? 0 : settings_.min_idle;
  if (ready < floor) need = std::max(need, floor - ready);
  if (wanted_ > 0) need = std::max(need, wanted_ - std::min(wanted_, recent()));
  if (need == 0 && !draining_ && replaces_first() && any_overdue(now)) need = 1;

  std::uint32_t limit = settings_.size;
  const Waiter* first = waiters_.front();
  if (first != nullptr && now - first->since_us_ >= settings_.overflow_after_us) {
    limit += settings_.overflow;
  }
  while (connecting < need && connecting < concurrency && total < limit) {
    actions_.push_back({.kind = Action::Kind::Open});
    ++connecting;
    ++total;
  }
}

}  // namespace carpool::pool
