#include "pg/sql_scan.h"

#include <array>
#include <utility>
#include <vector>

#include "pg/sql_scanner.h"

namespace carpool::pg {
namespace {

// White space as the lexer knows it.
bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

}  // namespace

SessionEffect* Scanner::emit(Kind kind, std::string name, std::string sql) {
  if (out_.effects.size() >= kScanEffectsMax) {
    out_.too_complex = true;
    return nullptr;
  }
  if (for_later_ && (kind == Kind::AdvisoryLock || kind == Kind::SetUnknown)) {
    out_.too_complex = true;
  }
  if (escapes_ && (kind == Kind::Set || kind == Kind::Reset)) {
    kind = Kind::SetUnknown;
    name.clear();
    sql.clear();
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
    for_later_ = false;
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
        for_later_ = true;
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

void Scanner::discard() {
  advance();
  if (token_.is("all")) emit(Kind::DiscardAll);
  if (is_temp(token_)) emit(Kind::DiscardTemp);
  if (token_.is("plans")) emit(Kind::DiscardPlans);
  if (token_.is("sequences")) emit(Kind::DiscardSequences);
}

// EXPLAIN runs its statement only with ANALYZE, which may be quoted.
void Scanner::explain() {
  advance();
  bool runs = false;
  if (token_.is('(') && !peek().is("select")) {
    while (!at_end() && !token_.is(')')) {
      runs = runs || token_.is("analyze") || token_.is("analyse") ||
             token_.type == TokenType::QuotedName;
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
    if (!body) {
      out_.too_complex = true;
      continue;
    }
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
  } else if (token_.is("prepare") && is_name(peek())) {
    advance();
    emit(Kind::SqlPrepare, take_name());
    for_later_ = true;
    return rest(true, false);
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

// To the end of the statement, on the watch for functions and for INTO TEMP.
void Scanner::rest(bool runs_functions, bool into_makes_tables) {
  bool inserts = false;         // INSERT INTO and MERGE INTO name a table that exists
  bool behind_closing = false;  // of a parenthesis, and nothing notable in between
  while (token_.type != TokenType::End) {
    if (token_.type == TokenType::Symbol) {
      if (token_.is('(')) ++depth_;
      if (token_.is(')') && depth_ > 0) --depth_;
      if (token_.is(';') && depth_ == 0) return;
      inserts = false;
      behind_closing = token_.is(')');
    } else {
      if (place_ == Place::DoBlock && end_of_block_statement()) return;
      if (into_makes_tables && !inserts && token_.is("into")) into();
      inserts = token_.is("insert") || token_.is("merge");
      if (runs_functions) {
        call_in_expression(behind_closing);
        if (token_.is("update")) update();
      }
      behind_closing = false;
    }
    bool skipped = false;
    token_ = lexer_.next_notable(skipped);
    note_escapes();
    if (skipped) inserts = false;
  }
}

// SELECT ... INTO [LOCAL | GLOBAL] TEMP [TABLE] name, and INTO pg_temp.name.
void Scanner::into() {
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

// PostgreSQL's rule on this view calls set_config().
void Scanner::update() {
  SqlLexer ahead = lexer_;
  Token token = ahead.next();
  if (token.is("only")) token = ahead.next();
  if (is_name(token) && decode_name(token) == "pg_catalog") {
    ahead.next();
    token = ahead.next();
  }
  if (is_name(token) && decode_name(token) == "pg_settings") emit(Kind::SetUnknown);
}

bool leaves_nothing(std::string_view sql) {
  while (!sql.empty() && is_space(sql.front())) sql.remove_prefix(1);
  while (!sql.empty() && is_space(sql.back())) sql.remove_suffix(1);
  if (sql.ends_with(';')) sql.remove_suffix(1);
  constexpr std::size_t kWord = 6;  // each of the four has six letters
  if (sql.size() <= kWord || !is_space(sql[kWord])) return false;
  std::array<char, kWord> letters;
  for (std::size_t i = 0; i < kWord; ++i) letters[i] = static_cast<char>(sql[i] | 0x20);
  const std::string_view word(letters.data(), kWord);
  const bool selects = word == "select";
  const bool updates = word == "update";
  if (!selects && !updates && word != "insert" && word != "delete") return false;
  // Whatever is a comment or a string: none of these may stand in the text at all.
  for (std::size_t i = kWord; i < sql.size(); ++i) {
    const char c = sql[i];
    if (c == '(' || c == ';' || (c == '"' && sql[i - 1] == '&')) return false;
    // UPDATE pg_settings calls a function.
    if (updates && c == '_' && (sql[i - 1] | 0x20) == 'g') return false;
    const bool may_be_into = selects && (c | 0x20) == 'i' && i + 3 < sql.size() &&
                             (sql[i + 1] | 0x20) == 'n' && (sql[i + 2] | 0x20) == 't' &&
                             (sql[i + 3] | 0x20) == 'o';
    if (may_be_into) return false;
  }
  return true;
}

namespace {

Scan scan_as(std::string_view sql, bool standard_conforming_strings) {
  Scan out;
  Scanner(sql, standard_conforming_strings, Place::Top, out).run();
  out.multi_statement = out.statements > 1;
  return out;
}

// Where two readings differ neither is to be believed, not even where it says that something ends.
Scan agreed(Scan a, const Scan& b) {
  if (a == b) return a;
  Scan either;
  either.statements = a.statements;
  either.multi_statement = a.multi_statement || b.multi_statement;
  either.begins_transaction = a.begins_transaction || b.begins_transaction;
  either.too_complex = true;
  return either;
}

Scan scan_strings(std::string_view sql, std::optional<bool> standard_conforming_strings) {
  if (standard_conforming_strings) return scan_as(sql, *standard_conforming_strings);
  Scan standard = scan_as(sql, true);
  if (sql.find('\\') == std::string_view::npos) return standard;
  return agreed(std::move(standard), scan_as(sql, false));
}

Scan scan_encoded(std::string_view sql, std::optional<bool> standard_conforming_strings,
                  TextEncoding encoding) {
  if (encoding == TextEncoding::AsciiSafe) return scan_strings(sql, standard_conforming_strings);
  Scan found = scan_strings(without_ascii_halves(sql, encoding), standard_conforming_strings);
  for (const SessionEffect& effect : found.effects) {
    if (is_ascii(effect.name) && is_ascii(effect.sql)) continue;
    found.effects.clear();
    found.too_complex = true;
    break;
  }
  return found;
}

}  // namespace

Scan scan(std::string_view sql, const ScanOptions& options) {
  const std::optional<bool> strings = options.standard_conforming_strings;
  if (options.encoding == TextEncoding::AsciiSafe || is_ascii(sql)) {
    return scan_strings(sql, strings);
  }
  if (options.encoding) return scan_encoded(sql, strings, *options.encoding);
  Scan found = scan_strings(sql, strings);
  for (const TextEncoding encoding :
       {TextEncoding::TwoBytes, TextEncoding::Sjis, TextEncoding::Johab, TextEncoding::Gb18030}) {
    found = agreed(std::move(found), scan_encoded(sql, strings, encoding));
  }
  return found;
}

}  // namespace carpool::pg
