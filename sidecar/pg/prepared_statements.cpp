#include "pg/prepared_statements.h"

#include "base/check.h"

namespace carpool::pg {
namespace {

// What the containers and the heap add to an entry: a node, its bucket, two heads of the heap's.
constexpr std::size_t kNodeBytes = 64;

// A string of its own memory, beyond what it holds in itself.
std::size_t heap_bytes(std::size_t size) {
  constexpr std::size_t kInside = 15;
  return size <= kInside ? 0 : size + 16;
}

}  // namespace

std::size_t Statement::cost() const {
  const std::size_t scanned =
      scan == nullptr ? 0 : sizeof(Scan) + scan->effects.size() * sizeof(SessionEffect);
  return sizeof(Statement) + kNodeBytes + heap_bytes(body.size()) + heap_bytes(reading.size()) +
         scanned;
}

void StatementRef::drop() {
  if (statement_ != nullptr && --statement_->references == 0) {
    statement_->table->forget(statement_);
  }
}

StatementTable::~StatementTable() {
  CHECK(statements_.empty());
}

StatementRef StatementTable::intern(ByteSpan body, std::string_view reading,
                                    const ScanOptions& scanned, bool unnamed) {
  const std::string_view text = as_text(body);
  std::size_t hash = std::hash<std::string_view>{}(text);
  if (!reading.empty()) hash = hash * 31 + std::hash<std::string_view>{}(reading);
  const Key key{hash, text, reading};
  if (const auto found = statements_.find(key); found != statements_.end()) {
    return StatementRef(*found);
  }
  if (bytes_ + text.size() + reading.size() > (unnamed ? unnamed_bytes_max() : bytes_max_))
    return {};
  auto* statement = new Statement;
  statement->id = ++ids_;
  statement->body = text;
  statement->reading = reading;
  statement->server_name =
      std::string(Statement::kServerNamePrefix) + std::to_string(statement->id);
  statement->hash = key.hash;
  statement->table = this;
  Scan scan = pg::scan(statement->text(), scanned);
  if (!scan.effects.empty() || scan.too_complex) {
    statement->scan = std::make_shared<const Scan>(std::move(scan));
  }
  statements_.insert(statement);
  bytes_ += statement->cost();
  return StatementRef(statement);
}

void StatementTable::forget(Statement* statement) {
  bytes_ -= statement->cost();
  statements_.erase(statement);
  delete statement;
}

const ClientStatements::Named* ClientStatements::entry(std::string_view name) const {
  if (names_ == nullptr) return nullptr;
  const auto found = names_->find(name);
  return found == names_->end() ? nullptr : &found->second;
}

std::size_t ClientStatements::cost(std::string_view name) {
  return sizeof(Names::value_type) + kNodeBytes + heap_bytes(name.size());
}

void ClientStatements::set(std::string_view name, StatementRef statement) {
  if (names_ == nullptr) names_ = std::make_unique<Names>();
  Named& named = (*names_)[std::string(name)];
  if (!named.statement) statement->table->bytes_ += cost(name);
  named = {std::move(statement), kShapeUnknown};
}

void ClientStatements::tell(std::string_view name, const StatementRef& statement,
                            ResultShape shape) {
  if (names_ == nullptr) return;
  const auto found = names_->find(name);
  if (found != names_->end() && found->second.statement == statement) found->second.told = shape;
}

void ClientStatements::erase(std::string_view name) {
  if (names_ == nullptr) return;
  if (const auto found = names_->find(name); found != names_->end()) {
    found->second.statement->table->bytes_ -= cost(name);
    names_->erase(found);
  }
  if (names_->empty()) names_.reset();
}

void ClientStatements::clear() {
  if (names_ == nullptr) return;
  for (const auto& [name, named] : *names_) named.statement->table->bytes_ -= cost(name);
  names_.reset();
}

bool ServerStatements::use(const Statement& statement) {
  const auto found = known_.find(&statement);
  if (found == known_.end() || found->second->version != statement.version) return false;
  if (found->second != used_.begin()) used_.splice(used_.begin(), used_, found->second);
  return true;
}

void ServerStatements::add(StatementRef statement) {
  CHECK(!known_.contains(statement.get()));
  const std::uint32_t version = statement->version;
  restore(std::move(statement), version);
}

void ServerStatements::restore(StatementRef statement, std::uint32_t version) {
  const Statement* key = statement.get();
  if (known_.contains(key)) return;
  used_.push_front({std::move(statement), version});
  known_.emplace(key, used_.begin());
}

std::uint32_t ServerStatements::version(const Statement& statement) const {
  const auto found = known_.find(&statement);
  return found == known_.end() ? 0 : found->second->version;
}

ResultShape ServerStatements::shape(const Statement& statement) const {
  const auto found = known_.find(&statement);
  if (found == known_.end() || found->second->version != statement.version) return kShapeUnknown;
  return found->second->shape;
}

void ServerStatements::set_shape(const Statement& statement, std::uint32_t version,
                                 ResultShape shape) {
  const auto found = known_.find(&statement);
  if (found != known_.end() && found->second->version == version) found->second->shape = shape;
}

StatementRef ServerStatements::forget(const Statement& statement) {
  const auto found = known_.find(&statement);
  if (found == known_.end()) return {};
  const auto entry = found->second;
  StatementRef forgotten = std::move(entry->statement);
  known_.erase(found);
  used_.erase(entry);
  return forgotten;
}

StatementRef ServerStatements::find_name(std::string_view server_name) const {
  for (const Entry& entry : used_) {
    if (entry.statement->server_name == server_name) return entry.statement;
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
