#include "relay/sql_session.h"

#include <algorithm>
#include <cctype>

#include "relay/tag.h"

namespace carpool::fuzz {
namespace {

using Done = SqlSession::Done;

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '.';
}

// The end of a comment or a string that begins at `at`.
std::size_t behind(std::string_view sql, std::size_t at, std::string_view end) {
  const std::size_t found = sql.find(end, at);
  return found == std::string_view::npos ? sql.size() : found + end.size();
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

Done complete(std::string tag) {
  Done done;
  done.complete = std::move(tag);
  return done;
}
Done error(const char* sqlstate) {
  Done done;
  done.sqlstate = sqlstate;
  return done;
}
Done row(std::string value) {
  Done done = complete("SELECT 1");
  done.has_rows = true;
  done.row = std::move(value);
  return done;
}

}  // namespace

std::vector<Statement> split(std::string_view sql) {
  std::vector<Statement> all;
  Statement one;
  std::size_t begin = 0;
  const auto finish = [&](std::size_t end) {
    one.text = std::string(sql.substr(begin, end - begin));
    if (!one.words.empty()) all.push_back(std::move(one));
    one = {};
    begin = end + 1;
  };
  for (std::size_t at = 0; at < sql.size();) {
    const char c = sql[at];
    if (sql.substr(at, 2) == "/*") {
      at = behind(sql, at + 2, "*/");
    } else if (sql.substr(at, 2) == "--") {
      at = behind(sql, at + 2, "\n");
    } else if (c == '\'' || c == '"') {
      const std::size_t end = behind(sql, at + 1, std::string_view(&c, 1));
      one.words.emplace_back(sql.substr(at + 1, end - at - 1));
      if (one.words.back().ends_with(c)) one.words.back().pop_back();
      at = end;
    } else if (c == ';') {
      finish(at++);
    } else if (is_word(c)) {
      std::string word;
      for (; at < sql.size() && is_word(sql[at]); ++at) {
        word += static_cast<char>(std::toupper(static_cast<unsigned char>(sql[at])));
      }
      constexpr std::string_view kSchema = "PG_CATALOG.";
      if (word.starts_with(kSchema)) word.erase(0, kSchema.size());
      one.words.push_back(std::move(word));
    } else {
      if (std::isspace(static_cast<unsigned char>(c)) == 0) one.words.emplace_back(1, c);
      ++at;
    }
  }
  finish(sql.size());
  return all;
}

bool SqlSession::has_rows(const Statement& statement) {
  return statement.is("SELECT") || statement.is("SHOW") || statement.is("FETCH") ||
         statement.is("EXECUTE");
}

bool SqlSession::sets(const Statement& statement) {
  return statement.is("SET") || statement.is("RESET") || statement.is("SET_CONFIG", 1);
}

// ---- transactions

void SqlSession::begin() {
  if (in_transaction_) return;
  in_transaction_ = true;
  before_ = now_;
}

void SqlSession::end(bool commit) {
  if (!commit) {
    now_ = before_;
  } else {
    for (const auto& [name, value] : session_values_) now_.settings[name] = value;
  }
  session_values_.clear();
  savepoints_.clear();
  block_.clear();
  status_ = 'I';
  in_transaction_ = false;
}

void SqlSession::end_of_batch() {
  if (in_transaction_ && status_ == 'I') end(true);
}

void SqlSession::failed() {
  if (status_ == 'I') {
    if (in_transaction_) end(false);
  } else {
    status_ = 'E';
  }
}

Done SqlSession::transaction(const Statement& statement, std::string_view tag) {
  if (statement.is("BEGIN") || statement.is("START")) {
    if (status_ == 'I') {
      status_ = 'T';
      block_ = tag;
    }
    return complete("BEGIN");
  }
  const auto named = [&](std::size_t at) {
    return std::find_if(savepoints_.rbegin(), savepoints_.rend(),
                        [&](const auto& savepoint) { return statement.is(savepoint.first, at); });
  };
  if (statement.is("SAVEPOINT")) {
    if (status_ == 'I') return error("25P01");
    savepoints_.emplace_back(statement.words.back(), now_);
    return complete("SAVEPOINT");
  }
  const bool back_to = statement.is("ROLLBACK") && statement.is("TO", 1);
  if (back_to || statement.is("RELEASE")) {
    if (status_ == 'I') return error("25P01");
    const auto found = named(statement.words.size() - 1);
    if (found == savepoints_.rend()) return error("3B001");
    savepoints_.erase(found.base() - (back_to ? 0 : 1), savepoints_.end());
    if (!back_to) return complete("RELEASE");
    now_ = savepoints_.back().second;
    status_ = 'T';
    return complete("ROLLBACK");
  }
  const bool commit = (statement.is("COMMIT") || statement.is("END")) && status_ != 'E';
  end(commit);
  return complete(commit ? "COMMIT" : "ROLLBACK");
}

// ---- settings

void SqlSession::set_one(const std::string& name, const std::string& value, bool local) {
  if (local) {
    session_values_.emplace(name, now_.settings[name]);
  } else {
    session_values_.erase(name);
  }
  now_.settings[name] = value;
}

void SqlSession::reset_one(const std::string& name) {
  const auto found = startup_.find(name);
  set_one(name, found == startup_.end() ? "" : found->second, false);
}

// SET [SESSION | LOCAL] name = | TO value
void SqlSession::set(const Statement& statement) {
  std::size_t at = 1;
  const bool local = statement.is("LOCAL", at);
  if (local || statement.is("SESSION", at)) ++at;
  if (statement.words.size() < at + 3) return;
  const std::string name = upper(statement.words[at]);
  const std::string& value = statement.words[at + 2];
  value == "DEFAULT" ? reset_one(name) : set_one(name, value, local);
}

Done SqlSession::discard(const Statement& statement, bool alone) {
  if (!statement.is("ALL", 1)) {
    now_.temporary.clear();
    return complete("DISCARD");
  }
  if (status_ != 'I' || !alone) return error("25001");
  now_ = {};
  now_.settings = startup_;
  session_values_.clear();
  prepared_.clear();
  locks_.clear();
  return complete("DISCARD ALL");
}

// ---- statements

Done SqlSession::select(const Statement& statement, std::string_view tag) {
  const std::vector<std::string>& words = statement.words;
  const auto calls = [&](std::string_view name) {
    const auto found = std::find(words.begin(), words.end(), name);
    return found == words.end() ? words.size() : static_cast<std::size_t>(found - words.begin());
  };
  // set_config ( name , value , is_local )
  if (const std::size_t at = calls("SET_CONFIG"); at + 6 < words.size()) {
    const std::string value = words[at + 4].starts_with('$') ? std::string(tag) : words[at + 4];
    set_one(upper(words[at + 2]), value, words[at + 6] == "TRUE");
    return row(value);
  }
  if (calls("PG_ADVISORY_LOCK") < words.size()) locks_ = tag;
  if (calls("PG_ADVISORY_UNLOCK_ALL") < words.size()) locks_.clear();
  if (calls("PG_ADVISORY_UNLOCK") < words.size()) {
    const bool had = !locks_.empty();
    locks_.clear();
    return row(had ? "t" : "f");
  }
  if (calls("TMP") < words.size()) return row(now_.temporary);
  // 1 / 0
  if (words.size() > 3 && words[2] == "/" && words[3] == "0") return error("22012");
  return row(std::string(tag));
}

Done SqlSession::run(const Statement& statement, std::string_view tag, bool alone) {
  if (status_ == 'E' && !statement.ends_transaction()) return error("25P02");
  begin();
  const std::string second = statement.words.size() > 1 ? statement.words[1] : "";
  for (const std::string_view word :
       {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}) {
    if (statement.is(word)) return transaction(statement, tag);
  }
  if (statement.is("SET")) {
    set(statement);
    return complete("SET");
  }
  if (statement.is("RESET")) {
    if (second != "ALL") {
      reset_one(upper(second));
    } else {
      for (const auto& [name, value] : std::map(now_.settings)) reset_one(name);
    }
    return complete("RESET");
  }
  if (statement.is("DISCARD")) return discard(statement, alone);
  if (statement.is("SHOW")) return row(now_.settings[upper(second)]);
  if (statement.is("LISTEN")) {
    now_.listens = tag;
    return complete("LISTEN");
  }
  if (statement.is("UNLISTEN")) {
    now_.listens.clear();
    return complete("UNLISTEN");
  }
  if (statement.is("PREPARE")) {
    if (!prepared_.emplace(second, Prepared{statement.text, {}, true}).second) {
      return error("42P05");
    }
    return complete("PREPARE");
  }
  if (statement.is("EXECUTE")) {
    const auto found = prepared_.find(second);
    if (found == prepared_.end()) return error("26000");
    return row(std::string(tag_in(found->second.text)));
  }
  if (statement.is("DEALLOCATE")) {
    if (second == "ALL") {
      prepared_.clear();
      return complete("DEALLOCATE ALL");
    }
    if (prepared_.erase(second) > 0) return complete("DEALLOCATE");
    // Names are folded unless they are quoted, and those of the protocol never are.
    std::string lower = second;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return prepared_.erase(lower) > 0 ? complete("DEALLOCATE") : error("26000");
  }
  if (statement.is("CREATE") && second.starts_with("TEMP")) {
    now_.temporary = tag;
    return complete("CREATE TABLE");
  }
  if (statement.is("DROP")) {
    now_.temporary.clear();
    return complete("DROP TABLE");
  }
  if (statement.is("DECLARE")) {
    // One without HOLD ends with its transaction, and is nobody's afterwards.
    if (std::find(statement.words.begin(), statement.words.end(), "HOLD") !=
        statement.words.end()) {
      now_.cursors[second] = tag;
    }
    return complete("DECLARE CURSOR");
  }
  if (statement.is("FETCH") || statement.is("CLOSE")) {
    const auto found = now_.cursors.find(second);
    if (found == now_.cursors.end()) return error("34000");
    if (statement.is("FETCH")) return row(found->second);
    now_.cursors.erase(found);
    return complete("CLOSE CURSOR");
  }
  if (statement.is("LOAD")) {
    loaded_ = tag;
    return complete("LOAD");
  }
  if (statement.is("COPY") || statement.is("START_REPLICATION")) {
    Done done = complete("COPY 1");
    done.row = tag;
    done.copy = statement.is("COPY") ? Copy::Out : Copy::Both;
    for (const std::string& word : statement.words) {
      if (word == "STDIN") done.copy = Copy::In;
    }
    return done;
  }
  if (statement.is("INSERT")) return complete("INSERT 0 1");
  if (statement.is("SELECT")) return select(statement, tag);
  return error("42601");
}

std::string_view SqlSession::foreign(std::string_view tag) const {
  std::vector<std::string_view> all = {now_.listens, now_.temporary, locks_, loaded_, block_};
  for (const auto& [name, value] : now_.settings) all.push_back(value);
  for (const auto& [name, whose] : now_.cursors) all.push_back(whose);
  for (const auto& [name, statement] : prepared_) {
    if (statement.by_sql) all.push_back(statement.text);
  }
  for (const std::string_view text : all) {
    if (!foreign_tag(text, tag).empty()) return text;
  }
  return {};
}

}  // namespace carpool::fuzz
