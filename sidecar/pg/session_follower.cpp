#include "pg/session_follower.h"

#include <algorithm>
#include <utility>

#include "pg/sql_lexer.h"
#include "pg/text_encoding.h"

namespace carpool::pg {
namespace {

using Kind = SessionEffect::Kind;

constexpr std::string_view kRole = "role";
constexpr std::string_view kAuthorization = "session_authorization";
constexpr std::string_view kEncoding = "client_encoding";

// Reported, but nothing that a session can set.
bool is_settable(std::string_view name) {
  for (const std::string_view fixed : {"is_superuser", "in_hot_standby", "server_version",
                                       "server_encoding", "integer_datetimes"}) {
    if (name == fixed) return false;
  }
  return true;
}

// Whether the settings of `after` are texts of another encoding than the one it has. All are
// replayed in that one.
bool mixes_encodings(const StatePtr& before, const StatePtr& after) {
  if (same_encoding(value_of(before, kEncoding), value_of(after, kEncoding))) return false;
  return after != nullptr &&
         std::any_of(after->parameters().begin(), after->parameters().end(),
                     [](const Parameter& parameter) { return !is_ascii(parameter.sql); });
}

}  // namespace

SessionFollower::SessionFollower(StateTable& table, StatePtr initial)
    : table_(&table), initial_(std::move(initial)), committed_(initial_), current_(initial_) {
  lost_ = !within_limits(initial_);
}

void SessionFollower::change(std::string_view name, StatePtr next) {
  if (name == kEncoding && mixes_encodings(current_, next)) lost_ = true;
  current_ = std::move(next);
}

void SessionFollower::set(std::string_view name, std::string_view sql) {
  StatePtr next = table_->with(current_, name, sql);
  // SET SESSION AUTHORIZATION ends a role (SetSessionUserId() of miscinit.c).
  if (name == kAuthorization) next = table_->without(next, kRole);
  if (next == current_) return;
  if (!within_limits(next)) {
    lost_ = true;
    return;
  }
  change(name, std::move(next));
}

void SessionFollower::reset(std::string_view name) {
  std::erase_if(unsettled_, [name](const Parameter& parameter) { return parameter.name == name; });
  const std::string* sql = initial_ ? initial_->find(name) : nullptr;
  if (sql != nullptr) return set(name, *sql);
  change(name, table_->without(current_, name));
  if (name == kAuthorization) current_ = table_->without(current_, kRole);
}

// RESET ALL leaves the two that are no settings of the user's (GUC_NO_RESET_ALL).
void SessionFollower::reset_all() {
  unsettled_.clear();
  StatePtr next = initial_;
  for (const std::string_view name : {kAuthorization, kRole}) {
    const std::string* sql = current_ ? current_->find(name) : nullptr;
    next = sql != nullptr ? table_->with(next, name, *sql) : table_->without(next, name);
  }
  if (!within_limits(next)) lost_ = true;
  current_ = std::move(next);
}

std::size_t SessionFollower::find_savepoint(std::string_view name) const {
  if (!savepoints_) return std::string::npos;
  for (std::size_t i = savepoints_->size(); i > 0; --i) {
    if ((*savepoints_)[i - 1].name == name) return i - 1;
  }
  return std::string::npos;
}

void SessionFollower::end_transaction(bool commit, bool chain) {
  if (commit) {
    // As a rule nothing was set; to count a reference is an atomic operation.
    if (committed_ != current_) committed_ = current_;
  } else {
    current_ = committed_;
    unsettled_.clear();
  }
  savepoints_.reset();
  in_block_ = chain;
  failed_ = false;
}

void SessionFollower::apply(const SessionEffect& effect) {
  switch (effect.kind) {
    case Kind::Set:
      set(effect.name, effect.sql);
      if (unsettled_.size() < kSessionParametersMax) {
        unsettled_.push_back({effect.name, effect.sql});
      } else {
        lost_ = true;
      }
      break;
    case Kind::Reset:
      reset(effect.name);
      break;
    case Kind::ResetAll:
      reset_all();
      break;
    case Kind::DiscardAll:
      // Cannot run in a transaction block, and so is committed with its own statement: an error
      // behind it in its batch does not take it back.
      committed_ = current_ = initial_;
      savepoints_.reset();
      unsettled_.clear();
      lost_ = !within_limits(initial_);
      break;
    case Kind::Begin:
      in_block_ = true;
      break;
    // COMMIT of a failed transaction rolls back; PREPARE TRANSACTION keeps the settings.
    case Kind::Commit:
    case Kind::PrepareTransaction:
      end_transaction(!failed_, effect.and_chain);
      break;
    case Kind::Rollback:
      end_transaction(false, effect.and_chain);
      break;
    case Kind::Savepoint:
      if (!savepoints_) savepoints_ = std::make_unique<std::vector<Savepoint>>();
      if (savepoints_->size() >= kSavepointsMax) {
        lost_ = true;
      } else {
        savepoints_->push_back({effect.name, current_});
      }
      break;
    case Kind::Release: {
      const std::size_t at = find_savepoint(effect.name);
      if (at != std::string::npos) savepoints_->resize(at);
      break;
    }
    case Kind::RollbackTo: {
      const std::size_t at = find_savepoint(effect.name);
      if (at != std::string::npos) {
        savepoints_->resize(at + 1);
        current_ = savepoints_->back().state;
        unsettled_.clear();
      }
      failed_ = false;
      break;
    }
    default:
      break;
  }
}

void SessionFollower::on_error() {
  // PostgreSQL takes the settings back at the error (AtEOXact_GUC() of guc.c), and not at the
  // ROLLBACK that follows.
  if (in_block_) failed_ = true;
  unsettled_.clear();
  current_ = savepoints_ && !savepoints_->empty() ? savepoints_->back().state : committed_;
}

void SessionFollower::on_ready(char transaction_status) {
  if (transaction_status == 'I') {
    end_transaction(!failed_, false);
  } else {
    in_block_ = true;
    failed_ = transaction_status == 'E';
  }
}

bool SessionFollower::expects(std::string_view name, std::string_view value,
                              const ReportedValues& defaults) const {
  const std::string lower = to_lower(name);
  if (!is_settable(lower)) return true;
  const std::string* sql = current_ ? current_->find(lower) : nullptr;
  if (sql != nullptr) return *sql == set_sql(lower, value);
  const std::string* usual = defaults.find(lower);
  return usual != nullptr && *usual == value;
}

void SessionFollower::learn(std::string_view name, std::string_view value,
                            const ReportedValues& defaults) {
  const std::string lower = to_lower(name);
  if (!is_settable(lower)) return;
  const std::string* usual = defaults.find(lower);
  const bool has_own_default = initial_ && initial_->find(lower) != nullptr;
  if (usual != nullptr && *usual == value && !has_own_default) {
    change(lower, table_->without(current_, lower));
  } else if (lower == kAuthorization) {
    // A report tells nothing of the role, which set() would end.
    StatePtr next = table_->with(current_, lower, set_sql(lower, value));
    if (within_limits(next)) current_ = std::move(next);
  } else {
    set(lower, set_sql(lower, value));
  }
}

void SessionFollower::settle(const ReportedValues& now) {
  if (unsettled_.empty()) return;
  for (const Parameter& parameter : unsettled_) {
    const std::string* sql = current_ ? current_->find(parameter.name) : nullptr;
    const std::string* value = now.find(parameter.name);
    // Another text has come in its place, or the server does not report it.
    if (sql == nullptr || *sql != parameter.sql || value == nullptr) continue;
    StatePtr next = table_->with(current_, parameter.name, set_sql(parameter.name, *value));
    if (within_limits(next)) current_ = std::move(next);
  }
  unsettled_.clear();
}

void SessionFollower::keep(std::string_view name, std::string_view value) {
  const std::string sql = set_sql(name, value);
  const bool began = initial_ && initial_->find(name) != nullptr;
  const bool has = current_ && current_->find(name) != nullptr;
  if (!began) initial_ = table_->with(initial_, name, sql);
  if (!has) current_ = table_->with(current_, name, sql);
  committed_ = current_;
  if (!within_limits(initial_) || !within_limits(current_)) lost_ = true;
}

void SessionFollower::replayed(const StatePtr& state) {
  current_ = state;
  if (!in_block_) committed_ = state;
}

}  // namespace carpool::pg
