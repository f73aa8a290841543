#include "pg/session_pins.h"

#include "base/check.h"

namespace carpool::pg {
namespace {

using Kind = SessionEffect::Kind;

// What ROLLBACK takes back. A lock, a prepared statement and a library outlive it.
bool is_transactional(PinCause cause) {
  switch (cause) {
    case PinCause::Listen:
    case PinCause::TempRelation:
    case PinCause::HoldCursor:
    case PinCause::UnknownSetting:
      return true;
    case PinCause::SqlPrepare:
    case PinCause::AdvisoryLock:
    case PinCause::Load:
    case PinCause::TooComplex:
      return false;
  }
  return false;
}

}  // namespace

std::string_view to_string(PinCause cause) {
  switch (cause) {
    case PinCause::Listen:
      return "listen";
    case PinCause::SqlPrepare:
      return "prepare";
    case PinCause::TempRelation:
      return "temp";
    case PinCause::HoldCursor:
      return "hold_cursor";
    case PinCause::AdvisoryLock:
      return "advisory_lock";
    case PinCause::Load:
      return "load";
    case PinCause::UnknownSetting:
      return "unknown_setting";
    case PinCause::TooComplex:
      return "too_complex";
  }
  return "unknown";
}

PinCause SessionPins::cause() const {
  CHECK(any());
  return pins_->all.front().cause;
}

std::string_view SessionPins::what() const {
  CHECK(any());
  return pins_->all.front().name;
}

void SessionPins::add(PinCause cause, const std::string& name) {
  if (!pins_) pins_ = std::make_unique<Pins>();
  for (Pin& pin : pins_->all) {
    if (pin.cause != cause || pin.name != name || pin.count > 0) continue;
    // Made anew, and so it stays if the transaction commits.
    pin.ending = false;
    return;
  }
  if (pins_->all.size() >= kPinsMax) {
    // The names are not kept any more: one that stands for all of them is.
    if (pins_->all.back().cause != PinCause::TooComplex) {
      pins_->all.push_back({PinCause::TooComplex, {}});
    }
    return;
  }
  pins_->all.push_back({.cause = cause, .name = name, .uncommitted = is_transactional(cause)});
}

void SessionPins::end(PinCause cause, const std::string* name) {
  if (!pins_) return;
  for (Pin& pin : pins_->all) {
    if (pin.cause == cause && (name == nullptr || (pin.name == *name && !pin.name.empty()))) {
      pin.ending = true;
    }
  }
  if (is_transactional(cause)) return;
  std::erase_if(pins_->all, [cause](const Pin& pin) { return pin.cause == cause && pin.ending; });
  drop_if_empty();
}

SessionPins::Pin* SessionPins::counted_locks() {
  if (!pins_) return nullptr;
  for (Pin& pin : pins_->all) {
    if (pin.cause == PinCause::AdvisoryLock && pin.count > 0) return &pin;
  }
  return nullptr;
}

void SessionPins::take_lock() {
  if (Pin* pin = counted_locks()) {
    ++pin->count;
    return;
  }
  if (!pins_) pins_ = std::make_unique<Pins>();
  pins_->all.push_back({.cause = PinCause::AdvisoryLock, .name = {}, .count = 1});
}

void SessionPins::give_back_lock() {
  Pin* pin = counted_locks();
  if (pin == nullptr || --pin->count > 0) return;
  pins_->all.erase(pins_->all.begin() + (pin - pins_->all.data()));
  drop_if_empty();
}

void SessionPins::drop_if_empty() {
  if (pins_ && pins_->all.empty()) pins_.reset();
}

void SessionPins::end_transaction(bool commit) {
  in_block_ = false;
  failed_ = false;
  if (!pins_) return;
  std::erase_if(pins_->all,
                [commit](const Pin& pin) { return commit ? pin.ending : pin.uncommitted; });
  for (Pin& pin : pins_->all) {
    pin.uncommitted = false;
    pin.ending = false;
  }
  drop_if_empty();
}

void SessionPins::apply(const SessionEffect& effect, const ReportedValues& reported) {
  switch (effect.kind) {
    case Kind::Listen:
      add(PinCause::Listen, effect.name);
      break;
    case Kind::Unlisten:
      end(PinCause::Listen, &effect.name);
      break;
    case Kind::UnlistenAll:
      end(PinCause::Listen, nullptr);
      break;
    case Kind::SqlPrepare:
      add(PinCause::SqlPrepare, effect.name);
      break;
    case Kind::SqlDeallocate:
      end(PinCause::SqlPrepare, &effect.name);
      break;
    case Kind::DeallocateAll:
      end(PinCause::SqlPrepare, nullptr);
      break;
    case Kind::CreateTemp:
      add(PinCause::TempRelation, effect.name);
      break;
    case Kind::DropRelation:
      end(PinCause::TempRelation, &effect.name);
      break;
    case Kind::RenameRelation:
      if (pins_) {
        for (Pin& pin : pins_->all) {
          if (pin.cause == PinCause::TempRelation && pin.name == effect.name) pin.name.clear();
        }
      }
      break;
    case Kind::DiscardTemp:
      end(PinCause::TempRelation, nullptr);
      break;
    case Kind::DeclareHold:
      add(PinCause::HoldCursor, effect.name);
      break;
    case Kind::CloseCursor:
      end(PinCause::HoldCursor, &effect.name);
      break;
    case Kind::CloseAllCursors:
      end(PinCause::HoldCursor, nullptr);
      break;
    case Kind::AdvisoryLock:
      effect.column > 0 ? take_lock() : add(PinCause::AdvisoryLock, {});
      break;
    case Kind::AdvisoryUnlock:
      if (effect.column > 0) give_back_lock();
      break;
    case Kind::AdvisoryUnlockAll:
      end(PinCause::AdvisoryLock, nullptr);
      break;
    case Kind::Load:
      add(PinCause::Load, {});
      break;
    case Kind::SetUnknown:
      if (reported.find(effect.name) == nullptr) add(PinCause::UnknownSetting, effect.name);
      break;
    case Kind::Set:
    case Kind::Reset:
      end(PinCause::UnknownSetting, &effect.name);
      break;
    case Kind::ResetAll:
      // It leaves the two that are no settings of the user's, and what has no name may be one.
      if (pins_) {
        for (Pin& pin : pins_->all) {
          if (pin.cause == PinCause::UnknownSetting && !pin.name.empty() && pin.name != "role" &&
              pin.name != "session_authorization") {
            pin.ending = true;
          }
        }
      }
      break;
    case Kind::DiscardAll:
      if (pins_) {
        std::erase_if(pins_->all, [](const Pin& pin) { return pin.cause != PinCause::Load; });
        drop_if_empty();
      }
      break;
    case Kind::Begin:
      in_block_ = true;
      break;
    case Kind::Commit:
    case Kind::PrepareTransaction:
      end_transaction(!failed_);
      in_block_ = effect.and_chain;
      break;
    case Kind::Rollback:
      end_transaction(false);
      in_block_ = effect.and_chain;
      break;
    case Kind::RollbackTo:
      // What was to end may have been after the savepoint; what was made after it stays until
      // the transaction's end tells.
      failed_ = false;
      if (pins_) {
        for (Pin& pin : pins_->all) pin.ending = false;
      }
      break;
    default:
      break;
  }
}

void SessionPins::apply_failed(std::span<const SessionEffect> effects) {
  std::size_t locks = 0;
  bool known = true;
  for (const SessionEffect& effect : effects) {
    if (effect.kind != Kind::AdvisoryLock) continue;
    ++locks;
    known = known && effect.column > 0;
  }
  if (locks <= 1 && known) return;  // the one call is what failed
  for (const SessionEffect& effect : effects) {
    if (effect.kind == Kind::AdvisoryLock) add(PinCause::AdvisoryLock, {});
  }
}

void SessionPins::apply_too_complex() {
  add(PinCause::TooComplex, {});
}

void SessionPins::on_error() {
  if (in_block_) {
    failed_ = true;
  } else {
    end_transaction(false);
  }
}

void SessionPins::on_ready(char transaction_status) {
  if (transaction_status == 'I') {
    end_transaction(!failed_);
  } else {
    in_block_ = true;
    failed_ = transaction_status == 'E';
  }
}

}  // namespace carpool::pg
