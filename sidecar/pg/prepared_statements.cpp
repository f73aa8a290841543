#include "pg/prepared_statements.h"

#include "base/check.h"

namespace carpool::pg {

void StatementRef::drop() {
  if (statement_ != nullptr && --statement_->references == 0) {
    statement_->table->forget(statement_);
  }
}

StatementTable::~StatementTable() {
  CHECK(statements_.empty());
}

StatementRef StatementTable::intern(ByteSpan body, std::string_view reading) {
  const std::string_view text = as_text(body);
  std::size_t hash = std::hash<std::string_view>{}(text);
  if (!reading.empty()) hash = hash * 31 + std::hash<std::string_view>{}(reading);
  const Key key{hash, text, reading};
  if (const auto found = statements_.find(key); found != statements_.end()) {
    return StatementRef(*found);
  }
  if (bytes_ + text.size() + reading.size() > bytes_max_) return {};
  auto* statement = new Statement;
  statement->id = ++ids_;
  statement->body = text;
  statement->reading = reading;
  statement->server_name = "carpool_" + std::to_string(statement->id);
  statement->hash = key.hash;
  statement->table = this;
  Scan scan = pg::scan(statement->text());
  if (!scan.effects.empty() || scan.too_complex) {
    statement->scan = std::make_shared<const Scan>(std::move(scan));
  }
  statements_.insert(statement);
  bytes_ += text.size() + reading.size();
  return StatementRef(statement);
}

void StatementTable::forget(Statement* statement) {
  bytes_ -= statement->body.size() + statement->reading.size();
  statements_.erase(statement);
  delete statement;
}

const StatementRef* ClientStatements::find(std::string_view name) const {
  if (names_ == nullptr) return nullptr;
  const auto found = names_->find(name);
  return found == names_->end() ? nullptr : &found->second;
}

void ClientStatements::set(std::string_view name, StatementRef statement) {
  if (names_ == nullptr) names_ = std::make_unique<Names>();
  (*names_)[std::string(name)] = std::move(statement);
}

void ClientStatements::erase(std::string_view name) {
  if (names_ == nullptr) return;
  if (const auto found = names_->find(name); found != names_->end()) names_->erase(found);
  if (names_->empty()) names_.reset();
}

bool ServerStatements::use(const Statement& statement) {
  const auto found = known_.find(&statement);
  if (found == known_.end() || found->second->version != statement.version) return false;
  if (found->second != used_.begin()) used_.splice(used_.begin(), used_, found->second);
  return true;
}

void ServerStatements::add(StatementRef statement) {
  CHECK(!known_.contains(statement.get()));
  const Statement* key = statement.get();
  used_.push_front({std::move(statement), key->version});
  known_.emplace(key, used_.begin());
}

void ServerStatements::forget(const Statement& statement) {
  const auto found = known_.find(&statement);
  if (found == known_.end()) return;
  const auto entry = found->second;
  known_.erase(found);
  used_.erase(entry);
}

StatementRef ServerStatements::find_name(std::string_view server_name) const {
  for (const Entry& entry : used_) {
    if (entry.statement->server_name == server_name) return entry.statement;
  }
  return {};
}

StatementRef ServerStatements::find_id(std::uint32_t id) const {
  for (const Entry& entry : used_) {
    if (entry.statement->id == id) return entry.statement;
  }
  return {};
}

void ServerStatements::clear() {
  known_.clear();
  used_.clear();
}

StatementRef ServerStatements::over(std::size_t max) const {
  return known_.size() > max ? used_.back().statement : StatementRef();
}

}  // namespace carpool::pg
