// SqlLexer: PostgreSQL's SQL text as tokens. It follows src/backend/parser/scan.l as far as the
// borders of tokens go, since a missed border would turn a string into a statement; it never
// judges grammar, never fails and never allocates.
//
// Invariant: the tokens are disjoint parts of the text in order, each next() moves forward by at
// least one byte until End, and the whole is linear in the text. Something that is never closed
// (a string, a comment) reaches to the end of the text, where PostgreSQL reports an error and runs
// nothing.
//
// PostgreSQL manual, chapter "SQL Syntax: Lexical Structure".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace carpool::pg {

enum class TokenType : std::uint8_t {
  End,
  Word,        // an unquoted name or keyword
  QuotedName,  // "..." or U&"..."
  String,      // '...', E'...', U&'...', B'...', X'...', with its continuations on later lines
  DollarString,
  Number,
  Parameter,  // $1
  Symbol,     // any other single character
};

// `text` is the token as written and views into the lexer's text.
struct Token {
  TokenType type = TokenType::End;
  std::string_view text;

  bool is(char symbol) const { return type == TokenType::Symbol && text[0] == symbol; }
  // Whether it is this keyword, given in lower case.
  bool is(std::string_view keyword) const {
    if (type != TokenType::Word || text.size() != keyword.size()) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if ((c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) != keyword[i]) return false;
    }
    return true;
  }
};

inline bool is_name(const Token& token) {
  return token.type == TokenType::Word || token.type == TokenType::QuotedName;
}

// A value that can be copied to look ahead. `sql` must outlive it and its tokens.
class SqlLexer {
 public:
  SqlLexer(std::string_view sql, bool standard_conforming_strings)
      : sql_(sql), standard_conforming_strings_(standard_conforming_strings) {}

  Token next();

  // The next token that can mean something in the midst of a statement: a parenthesis, a
  // semicolon, and of names those that begin as the ones that scan() looks for, or are spelled with
  // escapes. Sets `skipped` where others were passed over.
  Token next_notable(bool& skipped);

  bool standard_conforming_strings() const { return standard_conforming_strings_; }

 private:
  void skip_space_and_comments();
  void skip_block_comment();
  std::size_t string_end(std::size_t quote, bool backslash_escapes) const;
  std::size_t dollar_string_end(std::size_t dollar) const;
  Token take(TokenType type, std::size_t end);

  std::string_view sql_;
  std::size_t at_ = 0;
  bool standard_conforming_strings_;
};

// What a String or DollarString means. Nullopt for other tokens, for U&'', B'' and X'', and for an
// escape that PostgreSQL would refuse.
std::optional<std::string> decode_string(const Token& token, bool standard_conforming_strings);

// What a Word or QuotedName names: folded to lower case unless quoted, and cut to the 63 bytes of
// NAMEDATALEN. U&"" is taken as it is written, without its escapes.
std::string decode_name(const Token& token);

// The text as a literal that means the same whatever standard_conforming_strings is.
std::string quote_literal(std::string_view text);

// The text as a quoted name.
std::string quote_name(std::string_view name);

// ASCII only, as PostgreSQL folds keywords and the names of parameters.
std::string to_lower(std::string_view text);

}  // namespace carpool::pg
