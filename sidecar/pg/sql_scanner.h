// Scanner: the work of scan(), a recursive descent over the tokens of one text. Not for others than
// sql_scan*.cpp: sql_scan.h is the interface.
//
// Invariant: each statement starts at its first token, reads forward only, and stops at or before
// the ";" that ends it; whatever looks ahead is bounded (read_call(), a few tokens) or done once a
// statement, so that a scan stays linear.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "pg/sql_calls.h"
#include "pg/sql_lexer.h"
#include "pg/sql_scan.h"

namespace carpool::pg {

inline bool is_string(const Token& token) {
  return token.type == TokenType::String || token.type == TokenType::DollarString;
}

inline bool is_temp(const Token& token) {
  return token.is("temp") || token.is("temporary");
}

// pg_temp, and pg_temp_3 for which pg_temp stands.
inline bool is_temp_schema(const Token& token) {
  constexpr std::size_t kLengthMax = 24;
  if (!is_name(token) || token.text.size() > kLengthMax) return false;
  const std::string name = decode_name(token);
  return name == "pg_temp" || name.starts_with("pg_temp_");
}

// Where a text stands decides what its statements mean.
enum class Place : std::uint8_t { Top, DoBlock };

class Scanner {
 public:
  // `sql` and `out` must outlive it.
  Scanner(std::string_view sql, bool standard_conforming_strings, Place place, Scan& out)
      : lexer_(sql, standard_conforming_strings), place_(place), out_(out) {
    advance();
  }

  void run();

 private:
  using Kind = SessionEffect::Kind;

  // Tokens.
  void advance() {
    token_ = lexer_.next();
    note_escapes();
  }
  // A name that is spelled with escapes may be any name.
  void note_escapes() {
    if (token_.type != TokenType::QuotedName || token_.text[0] == '"') return;
    escapes_ = out_.too_complex = true;
  }
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
  void into();
  void call_in_expression(bool behind_closing);
  void update();
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
  bool for_later_ = false;  // the statement is kept, and run by others, as often as they like
  bool escapes_ = false;    // a name with escapes has been seen
  Place place_;
  Scan& out_;
};

}  // namespace carpool::pg
