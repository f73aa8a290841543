// What sets and resets parameters: SET, RESET and set_config in their spellings.
#include <optional>
#include <utility>

#include "pg/sql_scanner.h"

namespace carpool::pg {
namespace {

// They last for one transaction however they are set, or are no settings at all.
bool is_transaction_parameter(std::string_view name) {
  return name == "transaction_isolation" || name == "transaction_read_only" ||
         name == "transaction_deferrable" || name == "seed";
}

}  // namespace

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

}  // namespace carpool::pg
