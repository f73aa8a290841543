// Calls of the functions that leave something behind on the session, and what their arguments say.
// Reads tokens ahead and never more than kCallTokensMax of them, so that nested calls stay linear.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "pg/sql_lexer.h"

namespace carpool::pg {

inline constexpr int kCallTokensMax = 64;
inline constexpr std::size_t kCallArgumentsMax = 3;

// The functions that leave something behind on the session, and those that run a text which they
// are given.
enum class Function : std::uint8_t {
  None,
  SetConfig,
  Lock,
  LockShared,
  Unlock,
  UnlockShared,
  All,
  RunsText,
  Rewrites,  // ts_rewrite: runs a text, but not where it has three arguments
};

// The function that the token names, be it called or not.
Function function_of(const Token& token);

struct Argument {
  enum class Type : std::uint8_t { Value, Null, Parameter, Other };
  Type type = Type::Other;
  std::string value;
  std::uint32_t parameter = 0;
};

struct Call {
  std::array<Argument, kCallArgumentsMax> arguments;
  std::size_t count = 0;  // more than kCallArgumentsMax where there are more
  bool complete = false;  // the closing parenthesis was found
  // Nothing within the arguments is known to be anything but a value: no other call of these, and
  // nothing that could make of one call many (a function that returns a set, a query).
  bool values_only = true;
};

// Reads from the opening parenthesis, `token`, to behind the closing one, where `token` is then.
Call read_call(SqlLexer& lexer, Token& token);

// What `true`, 'on' and their like mean to PostgreSQL's boolean; nullopt for anything else.
std::optional<bool> boolean_of(const Argument& argument);

}  // namespace carpool::pg
