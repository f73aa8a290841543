#include "pg/sql_calls.h"

#include <string_view>
#include <utility>

namespace carpool::pg {
namespace {

// Casts that leave a text, a number or a boolean what it is.
bool is_plain_cast(const Token& type) {
  for (const std::string_view name :
       {"text", "varchar", "boolean", "bool", "bigint", "int8", "integer", "int", "int4"}) {
    if (type.is(name)) return true;
  }
  return false;
}

// Whether the token may stand where one value is computed from others: literals, operators, and of
// names those of types and functions by which the keys of locks are usually made.
bool is_of_a_value(const Token& token) {
  if (token.type == TokenType::QuotedName) return false;
  if (token.type != TokenType::Word || is_plain_cast(token)) return true;
  for (const std::string_view name : {"null",
                                      "true",
                                      "false",
                                      "cast",
                                      "as",
                                      "pg_catalog",
                                      "hashtext",
                                      "hashtextextended",
                                      "md5",
                                      "abs",
                                      "left",
                                      "right",
                                      "substr",
                                      "substring",
                                      "lower",
                                      "upper",
                                      "concat",
                                      "coalesce",
                                      "bit",
                                      "oid",
                                      "regclass",
                                      "int2",
                                      "smallint",
                                      "numeric",
                                      "uuid",
                                      "current_user",
                                      "current_database",
                                      "current_schema"}) {
    if (token.is(name)) return true;
  }
  return false;
}

// One literal or parameter, with or without a sign and a cast.
Argument read_argument(const Token* tokens, int count, bool standard_conforming_strings) {
  Argument argument;
  std::string sign;
  if (count > 1 && tokens[0].is('-')) {
    sign = "-";
    ++tokens;
    --count;
  }
  const bool cast =
      count == 4 && tokens[1].is(':') && tokens[2].is(':') && is_plain_cast(tokens[3]);
  if (count != 1 && !cast) return argument;
  const Token& token = tokens[0];
  if (token.type == TokenType::Number) {
    argument.type = Argument::Type::Value;
    argument.value = sign + std::string(token.text);
    return argument;
  }
  if (!sign.empty()) return argument;
  if (token.is("null")) argument.type = Argument::Type::Null;
  if (token.is("true") || token.is("false")) {
    argument.type = Argument::Type::Value;
    argument.value = to_lower(token.text);
  }
  if (auto text = decode_string(token, standard_conforming_strings)) {
    argument.type = Argument::Type::Value;
    argument.value = std::move(*text);
  }
  if (token.type == TokenType::Parameter) {
    constexpr std::uint32_t kParameterMax = 65535;
    std::uint32_t number = 0;
    for (const char c : token.text.substr(1)) {
      number = number * 10 + static_cast<std::uint32_t>(c - '0');
      if (number > kParameterMax) return argument;
    }
    if (number == 0) return argument;  // there is none of that number
    argument.type = Argument::Type::Parameter;
    argument.parameter = number;
  }
  return argument;
}

}  // namespace

Function function_of(const Token& token) {
  constexpr std::pair<std::string_view, Function> kFunctions[] = {
      {"set_config", Function::SetConfig},
      {"pg_advisory_lock", Function::Lock},
      {"pg_try_advisory_lock", Function::Lock},
      {"pg_advisory_lock_shared", Function::LockShared},
      {"pg_try_advisory_lock_shared", Function::LockShared},
      {"pg_advisory_unlock", Function::Unlock},
      {"pg_advisory_unlock_shared", Function::UnlockShared},
      {"pg_advisory_unlock_all", Function::All},
      {"query_to_xml", Function::RunsText},
      {"query_to_xml_and_xmlschema", Function::RunsText},
      {"ts_stat", Function::RunsText},
      {"ts_rewrite", Function::Rewrites},
  };
  if (token.type == TokenType::Word) {
    // Most words are none of these, and are told apart by length and first letter.
    const char first = static_cast<char>(token.text[0] | 0x20);
    if (token.text.size() < 7) return Function::None;
    if (first != 's' && first != 'p' && first != 'q' && first != 't') return Function::None;
    for (const auto& [name, function] : kFunctions) {
      if (token.is(name)) return function;
    }
  } else if (token.type == TokenType::QuotedName) {
    if (token.text.size() < 9) return Function::None;
    const std::string_view inside = token.text.substr(1, token.text.size() - 2);
    for (const auto& [name, function] : kFunctions) {
      if (inside == name) return function;
    }
  }
  return Function::None;
}

Call read_call(SqlLexer& lexer, Token& token) {
  Call call;
  constexpr int kArgumentTokensMax = 6;
  std::array<Token, kArgumentTokensMax> argument;
  int argument_tokens = 0;
  std::size_t depth = 0;
  for (int i = 0; i < kCallTokensMax; ++i, token = lexer.next()) {
    if (token.type == TokenType::End) return call;
    if (token.is('(') && depth++ == 0) continue;
    const bool closes = token.is(')') && --depth == 0;
    if (closes || (token.is(',') && depth == 1)) {
      if (argument_tokens > 0 || !closes || call.count > 0) {
        if (call.count < kCallArgumentsMax) {
          call.arguments[call.count] =
              read_argument(argument.data(), argument_tokens, lexer.standard_conforming_strings());
        }
        ++call.count;
      }
      argument_tokens = 0;
      if (!closes) continue;
      call.complete = true;
      token = lexer.next();
      return call;
    }
    call.values_only = call.values_only && is_of_a_value(token);
    if (argument_tokens < kArgumentTokensMax) {
      argument[static_cast<std::size_t>(argument_tokens)] = token;
      ++argument_tokens;
    }
  }
  return call;
}

std::optional<bool> boolean_of(const Argument& argument) {
  if (argument.type != Argument::Type::Value) return std::nullopt;
  const std::string text = to_lower(argument.value);
  if (text == "true" || text == "t" || text == "on" || text == "yes" || text == "y" ||
      text == "1") {
    return true;
  }
  if (text == "false" || text == "f" || text == "off" || text == "no" || text == "n" ||
      text == "0") {
    return false;
  }
  return std::nullopt;
}

}  // namespace carpool::pg
