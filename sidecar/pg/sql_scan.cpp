#include "pg/sql_scan.h"

#include <optional>
#include <utility>
#include <vector>

#include "pg/sql_calls.h"
#include "pg/sql_lexer.h"

namespace carpool::pg {
namespace {

using Kind = SessionEffect::Kind;

bool is_string(const Token& token) {
  return token.type == TokenType::String || token.type == TokenType::DollarString;
}

bool is_temp(const Token& token) {
  return token.is("temp") || token.is("temporary");
}

// pg_temp, and pg_temp_3 for which pg_temp stands.
bool is_temp_schema(const Token& token) {
  constexpr std::size_t kLengthMax = 24;
  if (!is_name(token) || token.text.size() > kLengthMax) return false;
  const std::string name = decode_name(token);
  return name == "pg_temp" || name.starts_with("pg_temp_");
}

// They last for one transaction however they are set, or are no settings at all.
bool is_transaction_parameter(std::string_view name) {
  return name == "transaction_isolation" || name == "transaction_read_only" ||
         name == "transaction_deferrable" || name == "seed";
}

// Where a text stands decides what its statements mean.
enum class Place : std::uint8_t { Top, DoBlock };

class Scanner {
 public:
  Scanner(std::string_view sql, bool standard_conforming_strings, Place place, Scan& out)
      : lexer_(sql, standard_conforming_strings), place_(place), out_(out) {
    advance();
  }

  void run();

 private:
  // Tokens.
  void advance() { token_ = lexer_.next(); }
  Token peek() const {
    SqlLexer ahead = lexer_;
    return ahead.next();
  }
  bool at_end() const { return token_.type == TokenType::End || token_.is(';'); }
  bool accept(std::string_view keyword) {
    if (!token_.is(keyword)) return false;
    advance();
    return true;
  }
  std::string take_name();
  std::string take_qualified_name();

  // Statements. Each starts at its first word and may stop anywhere before its end.
  void statement();
  void block_statement();
  void set();
  void set_session_authorization(bool local);
  void set_characteristics();
  void set_values(std::string name, bool local);
  void reset();
  void discard();
  void create();
  void declare();
  void drop();
  void alter();
  void explain();
  void do_block();
  void transaction_end(Kind kind);
  void select();

  // The rest of a statement.
  void rest(bool runs_functions, bool into_makes_tables);
  void skip_rest() { rest(false, false); }
  bool end_of_block_statement();

  // Calls.
  bool select_of_calls_only();
  void call_effect(Function function, const Call& call, bool exact);
  void set_config_effect(const Call& call, bool exact);

  SessionEffect* emit(Kind kind, std::string name = {}, std::string sql = {});

  SqlLexer lexer_;
  Token token_;
  std::size_t depth_ = 0;  // of parentheses
  std::uint32_t statement_ = 0;
  Place place_;
  Scan& out_;
};

SessionEffect* Scanner::emit(Kind kind, std::string name, std::string sql) {
  if (out_.effects.size() >= kScanEffectsMax) {
    out_.too_complex = true;
    return nullptr;
  }
  SessionEffect& effect = out_.effects.emplace_back();
  effect.kind = kind;
  effect.statement = statement_;
  effect.name = std::move(name);
  effect.sql = std::move(sql);
  return &effect;
}

void Scanner::run() {
  while (true) {
    while (token_.is(';')) advance();
    if (token_.type == TokenType::End) return;
    depth_ = 0;
    if (place_ == Place::Top) {
      statement_ = out_.statements++;
      statement();
    } else {
      block_statement();
    }
    skip_rest();
  }
}

std::string Scanner::take_name() {
  if (!is_name(token_)) return {};
  std::string name = decode_name(token_);
  advance();
  return name;
}

// The last part of a name with dots.
std::string Scanner::take_qualified_name() {
  std::string name = take_name();
  while (token_.is('.')) {
    advance();
    name = take_name();
  }
  return name;
}

void Scanner::statement() {
  while (token_.is('(')) {
    ++depth_;
    advance();
  }
  if (token_.type != TokenType::Word) return;
  // The first letter tells most statements apart at once.
  switch (token_.text[0] | 0x20) {
    case 'a':
      if (token_.is("abort")) return transaction_end(Kind::Rollback);
      if (token_.is("alter")) return alter();
      break;
    case 'b':
      if (token_.is("begin")) {
        out_.begins_transaction = true;
        emit(Kind::Begin);
      }
      break;
    case 'c':
      if (token_.is("commit")) return transaction_end(Kind::Commit);
      if (token_.is("create")) return create();
      if (token_.is("comment")) return skip_rest();
      if (accept("close")) {
        if (token_.is("all")) {
          emit(Kind::CloseAllCursors);
        } else {
          emit(Kind::CloseCursor, take_name());
        }
        return;
      }
      break;
    case 'd':
      if (token_.is("declare")) return declare();
      if (token_.is("discard")) return discard();
      if (token_.is("drop")) return drop();
      if (token_.is("do")) return do_block();
      if (accept("deallocate")) {
        // DEALLOCATE prepare is the statement named "prepare".
        if (token_.is("prepare") && is_name(peek())) advance();
        if (token_.is("all")) {
          emit(Kind::DeallocateAll);
        } else {
          emit(Kind::SqlDeallocate, take_name());
        }
        return;
      }
      break;
    case 'e':
      if (token_.is("end")) return transaction_end(Kind::Commit);
      if (token_.is("explain")) return explain();
      break;
    case 'g':
      if (token_.is("grant")) return skip_rest();
      break;
    case 'i':
      if (token_.is("insert")) return rest(true, true);
      break;
    case 'l':
      if (accept("listen")) {
        emit(Kind::Listen, take_name());
        return;
      }
      if (token_.is("load") && is_string(peek())) {
        emit(Kind::Load);
        return;
      }
      break;
    case 'p':
      if (accept("prepare")) {
        if (token_.is("transaction") && is_string(peek())) {
          emit(Kind::PrepareTransaction);
          return;
        }
        emit(Kind::SqlPrepare, take_name());
      }
      break;
    case 'r':
      if (token_.is("reset")) return reset();
      if (token_.is("rollback")) return transaction_end(Kind::Rollback);
      if (token_.is("revoke")) return skip_rest();
      if (accept("release")) {
        if (token_.is("savepoint") && is_name(peek())) advance();
        emit(Kind::Release, take_name());
        return;
      }
      break;
    case 's':
      if (token_.is("select")) return select();
      if (token_.is("set")) return set();
      if (accept("savepoint")) {
        emit(Kind::Savepoint, take_name());
        return;
      }
      if (token_.is("start") && peek().is("transaction")) {
        out_.begins_transaction = true;
        emit(Kind::Begin);
        return;
      }
      break;
    case 'u':
      if (accept("unlisten")) {
        if (token_.is('*')) {
          emit(Kind::UnlistenAll);
        } else {
          emit(Kind::Unlisten, take_name());
        }
        return;
      }
      break;
    default:
      break;
  }
  rest(true, true);
}

// COMMIT and ROLLBACK in their spellings; not COMMIT PREPARED, which is about another transaction.
void Scanner::transaction_end(Kind kind) {
  advance();
  if (token_.is("prepared")) return;
  if (!accept("work")) accept("transaction");
  if (kind == Kind::Rollback && accept("to")) {
    if (token_.is("savepoint") && is_name(peek())) advance();
    emit(Kind::RollbackTo, take_name());
    return;
  }
  const bool chain = accept("and") && token_.is("chain");
  if (SessionEffect* effect = emit(kind)) effect->and_chain = chain;
}

void Scanner::set() {
  advance();
  bool local = false;
  if (accept("local")) {
    local = true;
  } else if (token_.is("session")) {
    const Token after = peek();
    if (after.is("characteristics")) return set_characteristics();
    if (!after.is("authorization")) advance();
  }
  const Token after = peek();
  const bool generic = after.is("to") || after.is('=') || after.is('.');
  if (!generic) {
    if (token_.is("session") && after.is("authorization")) return set_session_authorization(local);
    if (token_.is("constraints")) return;
    if (token_.is("transaction")) {
      emit(Kind::SetLocal, "transaction");
      return;
    }
    if (accept("role")) return set_values("role", local);
    if (token_.is("time") && after.is("zone")) {
      advance();
      advance();
      if (token_.is("local")) {
        emit(local ? Kind::SetLocal : Kind::Reset, "timezone");
        return;
      }
      return set_values("timezone", local);
    }
    if (accept("names")) return set_values("client_encoding", local);
    if (accept("schema")) return set_values("search_path", local);
    if (token_.is("xml") && after.is("option")) {
      advance();
      advance();
      return set_values("xmloption", local);
    }
  }
  std::string name;
  while (is_name(token_)) {
    name += to_lower(decode_name(token_));
    advance();
    if (!token_.is('.')) break;
    name.push_back('.');
    advance();
  }
  if (!token_.is('=') && !token_.is("to")) return;  // no SET that PostgreSQL takes
  advance();
  set_values(std::move(name), local);
}

void Scanner::set_session_authorization(bool local) {
  advance();
  advance();
  set_values("session_authorization", local);
}

// From the values to the end of the statement. A list of plain values is put down as literals, so
// that equal settings are equal texts and no setting of the session changes what they mean;
// anything else (an INTERVAL) as it was written.
void Scanner::set_values(std::string name, bool local) {
  const bool is_default = at_end() || token_.is("default");  // SET NAMES alone is a default, too
  if (local) {
    emit(Kind::SetLocal, std::move(name));
    return;
  }
  if (is_transaction_parameter(name)) {
    emit(Kind::SetLocal, std::move(name));
    return;
  }
  if (is_default) {
    emit(Kind::Reset, std::move(name));
    return;
  }
  std::string_view prefix;
  if (name == "role") prefix = "SET ROLE ";
  if (name == "session_authorization") prefix = "SET SESSION AUTHORIZATION ";
  std::string values;
  std::string verbatim;
  bool plain = true;
  bool want_value = true;
  TokenType before = TokenType::Symbol;
  for (; !at_end(); advance()) {
    if (values.size() + verbatim.size() > 2 * kSetSqlBytesMax) break;
    const bool comma = token_.is(',');
    if (before != TokenType::Symbol && token_.type != TokenType::Symbol) verbatim += ' ';
    verbatim += token_.text;
    before = token_.type;
    if (comma) {
      plain = plain && !want_value;
      want_value = true;
      values += ", ";
      continue;
    }
    if (token_.is('-') || token_.is('+')) {
      plain = plain && want_value;
      values += token_.text;
      continue;
    }
    plain = plain && want_value;
    want_value = false;
    const auto text = decode_string(token_, lexer_.standard_conforming_strings());
    if (text) {
      values += quote_literal(*text);
    } else if (is_name(token_)) {
      values += quote_literal(decode_name(token_));
    } else {
      plain = plain && token_.type == TokenType::Number;
      values += token_.text;
    }
  }
  plain = plain && !want_value;
  std::string sql;
  if (!prefix.empty()) {
    sql = std::string(prefix) + (plain ? values : verbatim);
  } else if (!plain && name == "timezone") {
    sql = "SET TIME ZONE " + verbatim;
  } else {
    sql = "SET " + quote_parameter(name) + " TO " + (plain ? values : verbatim);
  }
  if (!at_end() || sql.size() > kSetSqlBytesMax) {
    emit(Kind::SetUnknown, std::move(name));
  } else {
    emit(Kind::Set, std::move(name), std::move(sql));
  }
}

// SET SESSION CHARACTERISTICS AS TRANSACTION sets the defaults of the transactions to come.
void Scanner::set_characteristics() {
  const auto set_default = [this](std::string_view what, std::string_view value) {
    std::string name = "default_transaction_" + std::string(what);
    std::string sql = set_sql(name, value);
    emit(Kind::Set, std::move(name), std::move(sql));
  };
  for (; !at_end(); advance()) {
    if (token_.is("serializable")) set_default("isolation", "serializable");
    if (token_.is("repeatable")) set_default("isolation", "repeatable read");
    if (token_.is("committed")) set_default("isolation", "read committed");
    if (token_.is("uncommitted")) set_default("isolation", "read uncommitted");
    if (token_.is("only")) set_default("read_only", "on");
    if (token_.is("write")) set_default("read_only", "off");
    if (token_.is("deferrable")) set_default("deferrable", "on");
    if (token_.is("not") && peek().is("deferrable")) {
      advance();
      set_default("deferrable", "off");
    }
  }
}

void Scanner::reset() {
  advance();
  const Token after = peek();
  if (token_.is("all")) {
    emit(Kind::ResetAll);
  } else if (token_.is("session") && after.is("authorization")) {
    emit(Kind::Reset, "session_authorization");
  } else if (token_.is("time") && after.is("zone")) {
    emit(Kind::Reset, "timezone");
  } else if (token_.is("transaction") && after.is("isolation")) {
    emit(Kind::SetLocal, "transaction");
  } else {
    std::string name;
    while (is_name(token_)) {
      name += to_lower(decode_name(token_));
      advance();
      if (!token_.is('.')) break;
      name.push_back('.');
      advance();
    }
    emit(Kind::Reset, std::move(name));
  }
}

void Scanner::discard() {
  advance();
  if (token_.is("all")) emit(Kind::DiscardAll);
  if (is_temp(token_)) emit(Kind::DiscardTemp);
  if (token_.is("plans")) emit(Kind::DiscardPlans);
  if (token_.is("sequences")) emit(Kind::DiscardSequences);
}

void Scanner::create() {
  advance();
  if (accept("or")) accept("replace");
  if (token_.is("local") || token_.is("global")) advance();
  bool temp = is_temp(token_);
  if (temp) advance();
  accept("unlogged");
  accept("recursive");
  const bool materialized = accept("materialized");
  const bool table = token_.is("table");
  const bool routine = token_.is("function") || token_.is("procedure");
  const bool relation = table || token_.is("view") || token_.is("sequence");
  const bool named =
      relation || routine || token_.is("type") || token_.is("domain") || token_.is("aggregate");
  std::string name;
  if (named) {
    advance();
    if (token_.is("if") && peek().is("not")) {
      advance();
      advance();
      accept("exists");
    }
    temp = temp || (is_temp_schema(token_) && peek().is('.'));
    name = take_qualified_name();
    // Names of their own kind: DROP TABLE does not end them.
    if (!relation) name.clear();
  }
  if (routine) {
    if (temp) emit(Kind::CreateTemp, std::move(name));
    // A body in SQL has statements of its own, up to the END that is not a CASE's.
    std::size_t blocks = 0;
    bool label = false;  // behind AS, where keywords are names
    while (token_.type != TokenType::End && (blocks > 0 || !at_end())) {
      const bool begins = blocks > 0 ? token_.is("case") : token_.is("begin");
      if (begins && !label && (blocks > 0 || peek().is("atomic"))) ++blocks;
      if (token_.is("end") && !label && blocks > 0) --blocks;
      label = token_.is("as");
      advance();
    }
    return;
  }
  if (!temp) return rest(table || materialized, false);
  // ON COMMIT DROP is gone with its transaction.
  bool drops = false;
  const Token first = token_;
  SqlLexer ahead = lexer_;
  std::size_t depth = 0;
  for (Token token = first; token.type != TokenType::End; token = ahead.next()) {
    if (token.is('(')) ++depth;
    if (token.is(')') && depth > 0) --depth;
    if (depth == 0 && token.is(';')) break;
    if (depth == 0 && token.is("commit")) {
      SqlLexer next = ahead;
      drops = next.next().is("drop");
      break;
    }
    if (depth == 0 && (token.is("as") || token.is("select"))) break;
  }
  if (!drops) emit(Kind::CreateTemp, std::move(name));
  rest(true, false);
}

void Scanner::declare() {
  advance();
  std::string name = take_name();
  while (!at_end() && !token_.is("cursor")) advance();
  accept("cursor");
  if (accept("with") && token_.is("hold")) emit(Kind::DeclareHold, std::move(name));
  rest(true, false);
}

void Scanner::drop() {
  advance();
  if (!token_.is("table") && !token_.is("view") && !token_.is("sequence")) return;
  advance();
  if (accept("if")) accept("exists");
  while (is_name(token_)) {
    // A relation of another schema is not the temporary one of that name.
    const bool temp = !peek().is('.') || is_temp_schema(token_);
    std::string name = take_qualified_name();
    if (temp) emit(Kind::DropRelation, std::move(name));
    if (!token_.is(',')) break;
    advance();
  }
}

// What matters is RENAME, which takes a temporary relation's name from it.
void Scanner::alter() {
  advance();
  if (token_.is("function") || token_.is("procedure") || token_.is("routine")) return;
  if (token_.is("table") || token_.is("view") || token_.is("sequence")) {
    advance();
    if (accept("if")) accept("exists");
    if (token_.is("only") && is_name(peek())) advance();
    std::string name = take_qualified_name();
    if (token_.is('*')) advance();
    if (token_.is("rename")) emit(Kind::RenameRelation, std::move(name));
  }
  rest(true, false);
}

// EXPLAIN runs its statement only with ANALYZE.
void Scanner::explain() {
  advance();
  bool runs = false;
  if (token_.is('(') && !peek().is("select")) {
    while (!at_end() && !token_.is(')')) {
      runs = runs || token_.is("analyze") || token_.is("analyse");
      advance();
    }
    if (!at_end()) advance();
  }
  while (token_.is("analyze") || token_.is("analyse") || token_.is("verbose")) {
    runs = runs || !token_.is("verbose");
    advance();
  }
  if (!runs) return;
  if (token_.is("create")) return create();
  rest(true, true);
}

// The block's text is scanned for what it says in so many words.
void Scanner::do_block() {
  for (advance(); !at_end(); advance()) {
    if (!is_string(token_)) continue;
    const auto body = decode_string(token_, lexer_.standard_conforming_strings());
    if (!body) continue;
    Scanner inside(*body, lexer_.standard_conforming_strings(), Place::DoBlock, out_);
    inside.statement_ = statement_;
    inside.run();
  }
}

bool Scanner::end_of_block_statement() {
  return token_.is("begin") || token_.is("then") || token_.is("else") || token_.is("loop");
}

// One statement of PL/pgSQL. Whether it runs depends on what came before, so that a value that is
// set is not known.
void Scanner::block_statement() {
  while (end_of_block_statement()) advance();
  const std::size_t before = out_.effects.size();
  if (token_.is("set")) {
    set();
  } else if (token_.is("reset")) {
    reset();
  } else if (token_.is("create")) {
    return create();
  } else if (token_.is("load") && is_string(peek())) {
    emit(Kind::Load);
    return;
  } else if (token_.is("listen")) {
    advance();
    emit(Kind::Listen, take_name());
    return;
  } else {
    return rest(true, false);
  }
  for (std::size_t i = before; i < out_.effects.size(); ++i) {
    SessionEffect& effect = out_.effects[i];
    if (effect.kind == Kind::SetLocal) continue;
    effect.kind = Kind::SetUnknown;
    effect.sql.clear();
  }
}

void Scanner::select() {
  const Token after = peek();
  const bool may_be_calls =
      depth_ == 0 && (function_of(after) != Function::None || after.is("pg_catalog"));
  if (may_be_calls && select_of_calls_only()) return;
  rest(true, true);
}

// To the end of the statement, on the watch for functions and for INTO TEMP.
void Scanner::rest(bool runs_functions, bool into_makes_tables) {
  bool inserts = false;  // INSERT INTO and MERGE INTO name a table that exists
  for (; token_.type != TokenType::End; advance()) {
    if (token_.type == TokenType::Symbol) {
      if (token_.is('(')) ++depth_;
      if (token_.is(')') && depth_ > 0) --depth_;
      if (token_.is(';') && depth_ == 0) return;
      inserts = false;
      continue;
    }
    if (token_.type == TokenType::Word && place_ == Place::DoBlock && end_of_block_statement()) {
      return;
    }
    if (into_makes_tables && !inserts && token_.is("into")) {
      SqlLexer ahead = lexer_;
      Token token = ahead.next();
      if (token.is("local") || token.is("global")) token = ahead.next();
      const bool temp = is_temp(token);
      const bool temp_schema = is_temp_schema(token);
      token = ahead.next();
      if (temp && token.is("table")) token = ahead.next();
      // INTO temp FROM makes a table of that name that stays.
      if (temp ? is_name(token) && !token.is("from") : temp_schema && token.is('.')) {
        if (!temp) token = ahead.next();
        emit(Kind::CreateTemp, is_name(token) ? decode_name(token) : std::string());
      }
    }
    inserts = token_.is("insert") || token_.is("merge");
    if (!runs_functions) continue;
    const Function function = function_of(token_);
    if (function == Function::None) continue;
    SqlLexer ahead = lexer_;
    Token open = ahead.next();
    if (open.is('(')) call_effect(function, read_call(ahead, open), false);
  }
}

// SELECT of nothing but these calls: what it says happens exactly once. On success the statement
// has been read to its end, otherwise nothing has been read.
bool Scanner::select_of_calls_only() {
  SqlLexer lexer = lexer_;
  std::vector<std::pair<Function, Call>> calls;
  Token token = lexer.next();
  while (true) {
    if (token.is("pg_catalog")) {
      if (!lexer.next().is('.')) return false;
      token = lexer.next();
    }
    const Function function = function_of(token);
    token = lexer.next();
    if (function == Function::None || !token.is('(')) return false;
    Call call = read_call(lexer, token);
    if (!call.complete || calls.size() >= kScanEffectsMax) return false;
    calls.emplace_back(function, std::move(call));
    if (token.is("as")) {
      lexer.next();
      token = lexer.next();
    } else if (is_name(token)) {
      token = lexer.next();
    }
    if (token.type == TokenType::End || token.is(';')) break;
    if (!token.is(',')) return false;
    token = lexer.next();
  }
  for (const auto& [function, call] : calls) call_effect(function, call, true);
  lexer_ = lexer;
  token_ = token;
  return true;
}

void Scanner::call_effect(Function function, const Call& call, bool exact) {
  if (function == Function::SetConfig) return set_config_effect(call, exact);
  if (function == Function::All) {
    if (exact) emit(Kind::AdvisoryUnlockAll);
    return;
  }
  const bool shared = function == Function::LockShared || function == Function::UnlockShared;
  std::string key;
  if (exact && (call.count == 1 || call.count == 2)) {
    for (std::size_t i = 0; i < call.count; ++i) {
      if (call.arguments[i].type != Argument::Type::Value) {
        key.clear();
        break;
      }
      key += (i > 0 ? "," : shared ? "shared " : "") + call.arguments[i].value;
    }
  }
  const bool lock = function == Function::Lock || function == Function::LockShared;
  emit(lock ? Kind::AdvisoryLock : Kind::AdvisoryUnlock, std::move(key));
}

void Scanner::set_config_effect(const Call& call, bool exact) {
  const Argument& value = call.arguments[1];
  std::string name;
  if (call.arguments[0].type == Argument::Type::Value) name = to_lower(call.arguments[0].value);
  const bool local = call.count == 3 && boolean_of(call.arguments[2]) == std::optional<bool>(true);
  if (local || is_transaction_parameter(name)) {
    emit(Kind::SetLocal, std::move(name));
    return;
  }
  const bool known = exact && call.count == 3 && !name.empty() && boolean_of(call.arguments[2]);
  if (known && value.type == Argument::Type::Value && value.value.size() < kSetSqlBytesMax / 4) {
    std::string sql = set_sql(name, value.value);
    emit(Kind::Set, std::move(name), std::move(sql));
  } else if (known && value.type == Argument::Type::Null) {
    emit(Kind::Reset, std::move(name));
  } else if (SessionEffect* effect = emit(Kind::SetUnknown, std::move(name))) {
    if (known && value.type == Argument::Type::Parameter) effect->value_parameter = value.parameter;
  }
}

}  // namespace

Scan scan(std::string_view sql, const ScanOptions& options) {
  Scan out;
  Scanner(sql, options.standard_conforming_strings, Place::Top, out).run();
  out.multi_statement = out.statements > 1;
  return out;
}

}  // namespace carpool::pg
