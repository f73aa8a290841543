// Scanner, the calls of functions that leave something behind on the session (sql_calls.h).
#include <string>
#include <utility>
#include <vector>

#include "pg/sql_calls.h"
#include "pg/sql_scanner.h"

namespace carpool::pg {

void Scanner::call_in_expression(bool behind_closing) {
  const Function function = function_of(token_);
  if (function == Function::None) return;
  SqlLexer ahead = lexer_;
  Token open = ahead.next();
  if (open.is('(')) return call_effect(function, read_call(ahead, open), false);
  // (value).function is a call, too.
  const bool locks = function == Function::Lock || function == Function::LockShared;
  if (locks && behind_closing) call_effect(function, {}, false);
}

void Scanner::select() {
  const Token after = peek();
  const bool may_be_calls =
      depth_ == 0 && (function_of(after) != Function::None || after.is("pg_catalog"));
  if (may_be_calls && select_of_calls_only()) return;
  rest(true, true);
}

// SELECT of nothing but these calls, each of which is given values: what it says happens exactly
// once. On success the statement has been read to its end, otherwise nothing has been read.
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
    if (!call.complete || !call.values_only || calls.size() >= kScanEffectsMax) return false;
    calls.emplace_back(function, std::move(call));
    if (token.is("as")) {
      lexer.next();
      token = lexer.next();
    } else if (is_name(token)) {
      if (token.is("isnull") || token.is("notnull")) return false;  // operators, and no names
      token = lexer.next();
    }
    if (token.type == TokenType::End || token.is(';')) break;
    if (!token.is(',')) return false;
    token = lexer.next();
  }
  std::uint16_t column = 0;
  for (const auto& [function, call] : calls) {
    ++column;
    const std::size_t before = out_.effects.size();
    call_effect(function, call, true);
    if (out_.effects.size() > before) out_.effects.back().column = column;
  }
  lexer_ = lexer;
  token_ = token;
  return true;
}

void Scanner::call_effect(Function function, const Call& call, bool exact) {
  if (function == Function::Rewrites && call.complete && call.count == 3) return;
  if (function == Function::RunsText || function == Function::Rewrites) {
    out_.too_complex = true;
    return;
  }
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

}  // namespace carpool::pg
