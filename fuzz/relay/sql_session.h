// SqlSession: what statements do to one session of PostgreSQL, as far as a pooler must know it:
// transactions and savepoints, settings, what SQL prepares, cursors, LISTEN, temporary tables,
// locks. It reads the few statements of the harness's own table and takes any other for a SELECT;
// it speaks no protocol. What it keeps says whose it is, by the tags in it.
//
// Source: PostgreSQL manual, "SQL Commands"; src/backend/access/transam/xact.c.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace carpool::fuzz {

// Words, by which it is known, and the text.
struct Statement {
  std::vector<std::string> words;  // upper case; of a string, what stands in it
  std::string text;
  bool is(std::string_view word, std::size_t at = 0) const {
    return words.size() > at && words[at] == word;
  }
  // Whether it is taken in a transaction that has failed.
  bool ends_transaction() const {
    return is("ROLLBACK") || is("COMMIT") || is("ABORT") || is("END");
  }
};
std::vector<Statement> split(std::string_view sql);

class SqlSession {
 public:
  struct Prepared {
    std::string text;
    std::vector<std::uint32_t> types;
    bool by_sql = false;
  };
  enum class Copy : std::uint8_t { None, In, Out, Both };
  struct Done {
    std::string complete;  // CommandComplete's
    bool has_rows = false;
    std::string row;  // of one column
    Copy copy = Copy::None;
    const char* sqlstate = nullptr;  // it has failed
  };

  explicit SqlSession(std::map<std::string, std::string> startup) : startup_(std::move(startup)) {
    now_.settings = startup_;
  }

  // `tag`: whose it is. `alone`: nothing else is in its transaction.
  Done run(const Statement& statement, std::string_view tag, bool alone);
  // Whether it gives rows, which a Describe asks for.
  static bool has_rows(const Statement& statement);
  // Whether it is about settings and nothing else.
  static bool sets(const Statement& statement);

  // 'I', 'T' or 'E', as ReadyForQuery says.
  char status() const { return status_; }
  // A statement outside a block begins a transaction, which the end of its batch commits.
  void begin();
  void end_of_batch();
  void failed();
  bool in_transaction() const { return in_transaction_; }

  const std::map<std::string, std::string>& settings() const { return now_.settings; }
  std::map<std::string, Prepared>& prepared() { return prepared_; }
  const std::string& listens() const { return now_.listens; }
  // What in it is somebody else's than `tag`'s; empty: nothing.
  std::string_view foreign(std::string_view tag) const;

 private:
  struct Kept {
    std::map<std::string, std::string> settings;
    std::map<std::string, std::string> cursors;  // by name: a text
    std::string listens;
    std::string temporary;
  };
  void set(const Statement& statement);
  void set_one(const std::string& name, const std::string& value, bool local);
  void reset_one(const std::string& name);
  Done transaction(const Statement& statement, std::string_view tag);
  Done select(const Statement& statement, std::string_view tag);
  Done discard(const Statement& statement, bool alone);
  void end(bool commit);

  std::map<std::string, std::string> startup_;
  Kept now_;
  Kept before_;                                        // the transaction
  std::map<std::string, std::string> session_values_;  // what SET LOCAL hides
  std::vector<std::pair<std::string, Kept>> savepoints_;
  std::map<std::string, Prepared> prepared_;
  std::string locks_;
  std::string loaded_;
  std::string block_;  // whose it is
  char status_ = 'I';
  bool in_transaction_ = false;
};

}  // namespace carpool::fuzz
