// Prepared statements, followed: a client's names on one side, what each server has on the other,
// and between them one entry for each distinct text. Pure bookkeeping; sends nothing.
//
//   client: "my_stmt" -> Statement 12  <-  server: has 12, under the name "carpool_12"
//
// A Statement is the body of a Parse behind its name, the text and the parameter types, and the
// settings that it was read under (a search_path, a DateStyle), since PostgreSQL keeps names and
// constants as they were read. Equal ones are one entry, shared by all clients of the pool and
// counted by reference; an entry dies with its last reference. Everything belongs to the loop
// thread. Lifetime: a StatementTable must outlive every StatementRef that it gave.
//
// Source: PostgreSQL manual, "Extended Query" of the protocol chapter.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/bytes.h"
#include "pg/result_shape.h"
#include "pg/sql_scan.h"

namespace carpool::pg {

class ClientStatements;
class StatementTable;

struct Statement {
  static constexpr std::string_view kServerNamePrefix = "carpool_";

  std::uint32_t id = 0;
  // Counts up when its plan turned out to be stale: a server that has an older version prepares
  // it anew.
  std::uint32_t version = 0;
  std::string body;         // text, zero, number of types, types
  std::string reading;      // SessionState::reading() of its client
  std::string server_name;  // under which every server knows it
  // What it does to the session that executes it; null: nothing.
  std::shared_ptr<const Scan> scan;

  std::string_view text() const { return std::string_view(body).substr(0, body.find('\0')); }

 private:
  friend class ClientStatements;
  friend class StatementTable;
  friend class StatementRef;
  std::size_t cost() const;
  std::uint32_t references = 0;
  std::size_t hash = 0;
  StatementTable* table = nullptr;
};

// A counted reference, or none.
class StatementRef {
 public:
  StatementRef() = default;
  explicit StatementRef(Statement* statement) : statement_(statement) { take(); }
  StatementRef(const StatementRef& other) : statement_(other.statement_) { take(); }
  StatementRef(StatementRef&& other) noexcept : statement_(other.statement_) {
    other.statement_ = nullptr;
  }
  StatementRef& operator=(StatementRef other) noexcept {
    std::swap(statement_, other.statement_);
    return *this;
  }
  ~StatementRef() { drop(); }

  explicit operator bool() const { return statement_ != nullptr; }
  Statement* get() const { return statement_; }
  Statement* operator->() const { return statement_; }
  bool operator==(const StatementRef& other) const { return statement_ == other.statement_; }

 private:
  void take() {
    if (statement_ != nullptr) statement_->references++;
  }
  void drop();
  Statement* statement_ = nullptr;
};

// The entries of one pool.
class StatementTable {
 public:
  // The memory of all entries and of the clients' names for them, at most. Past it no new name is
  // taken; the unnamed statement, of which a client has but one, has a quarter more.
  static constexpr std::size_t kBytesMax = 64u << 20;

  explicit StatementTable(std::size_t bytes_max = kBytesMax) : bytes_max_(bytes_max) {}
  ~StatementTable();
  StatementTable(const StatementTable&) = delete;
  StatementTable& operator=(const StatementTable&) = delete;

  // The entry for the body of a Parse behind its name, read under these settings
  // (SessionState::reading()), of which `scanned` is the part that scan() asks for: it must follow
  // from them. None when a new one would lead past the bound.
  StatementRef intern(ByteSpan body, std::string_view reading = {}, const ScanOptions& scanned = {},
                      bool unnamed = false);

  std::size_t size() const { return statements_.size(); }
  std::size_t bytes() const { return bytes_; }
  std::size_t bytes_max() const { return bytes_max_; }
  std::size_t unnamed_bytes_max() const { return bytes_max_ + bytes_max_ / 4; }

 private:
  friend class ClientStatements;
  friend class StatementRef;
  struct Key {
    std::size_t hash;
    std::string_view body;
    std::string_view reading;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const Statement* statement) const { return statement->hash; }
    std::size_t operator()(const Key& key) const { return key.hash; }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Statement* a, const Statement* b) const { return a == b; }
    bool operator()(const Key& a, const Statement* b) const {
      return a.body == b->body && a.reading == b->reading;
    }
    bool operator()(const Statement* a, const Key& b) const { return (*this)(b, a); }
  };
  void forget(Statement* statement);

  const std::size_t bytes_max_;
  std::unordered_set<Statement*, Hash, Equal> statements_;
  std::size_t bytes_ = 0;
  std::uint32_t ids_ = 0;
};

// The names that one client has given. Costs a pointer while there are none; what they cost then
// counts in the table of their statements.
class ClientStatements {
 public:
  struct Named {
    StatementRef statement;
    ResultShape told = kShapeUnknown;  // what the client was told last that its result is like
  };

  ClientStatements() = default;
  ~ClientStatements() { clear(); }
  ClientStatements(const ClientStatements&) = delete;
  ClientStatements& operator=(const ClientStatements&) = delete;

  // What a name adds to StatementTable::bytes().
  static std::size_t cost(std::string_view name);
  const Named* entry(std::string_view name) const;
  const StatementRef* find(std::string_view name) const {
    const Named* named = entry(name);
    return named == nullptr ? nullptr : &named->statement;
  }
  void set(std::string_view name, StatementRef statement);
  // Nothing where the name has come to mean another statement.
  void tell(std::string_view name, const StatementRef& statement, ResultShape shape);
  void erase(std::string_view name);
  void clear();
  std::size_t size() const { return names_ == nullptr ? 0 : names_->size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using Names = std::unordered_map<std::string, Named, Hash, std::equal_to<>>;
  std::unique_ptr<Names> names_;
};

// What one server has prepared, the least recently used first to go.
class ServerStatements {
 public:
  // Whether it has this version of the statement; it counts as used now.
  bool use(const Statement& statement);
  // Whether it has any version, under the name that a Parse would need.
  bool has_name(const Statement& statement) const { return known_.contains(&statement); }
  // What its result is like on this server; unknown where it does not have this version. PostgreSQL
  // sees to it that it stays so: a plan whose result would change is an error.
  ResultShape shape(const Statement& statement) const;
  void set_shape(const Statement& statement, std::uint32_t version, ResultShape shape);
  // A Parse for it has been sent. It must not be there yet.
  void add(StatementRef statement);
  // None where it is not there.
  StatementRef forget(const Statement& statement);
  // The version that it has; 0 where it is not there.
  std::uint32_t version(const Statement& statement) const;
  // What was forgotten is there after all, in this version; nothing where it was added since.
  void restore(StatementRef statement, std::uint32_t version);
  void clear();
  // The one to close when there are more than `max`; none when there are not.
  StatementRef over(std::size_t max) const;
  std::size_t size() const { return known_.size(); }
  // By the name that the server knows it under; a slow look for the few who ask so.
  StatementRef find_name(std::string_view server_name) const;

 private:
  struct Entry {
    StatementRef statement;
    std::uint32_t version;
    ResultShape shape = kShapeUnknown;
  };
  std::list<Entry> used_;  // the most recent in front
  std::unordered_map<const Statement*, std::list<Entry>::iterator> known_;
};

}  // namespace carpool::pg
