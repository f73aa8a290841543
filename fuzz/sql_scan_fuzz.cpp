// The scanner over any text: it ends, its tokens are disjoint and in order, and what it says can
// be replayed as one statement.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "pg/sql_lexer.h"
#include "pg/sql_scan.h"

using namespace carpool::pg;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool conforming = (data[0] & 1) == 0;
  std::string_view sql(reinterpret_cast<const char*>(data) + 1, size - 1);
  sql = sql.substr(0, sql.find('\0'));  // where a text ends in the protocol

  SqlLexer lexer(sql, conforming);
  const char* end = sql.data();
  for (Token token = lexer.next(); token.type != TokenType::End; token = lexer.next()) {
    CHECK(!token.text.empty());
    CHECK(token.text.data() >= end);
    end = token.text.data() + token.text.size();
    CHECK(end <= sql.data() + sql.size());
    if (const auto text = decode_string(token, conforming)) {
      const std::string literal = quote_literal(*text);
      for (const bool either : {true, false}) {
        SqlLexer again(literal, either);
        const Token one = again.next();
        CHECK(one.text == literal);
        CHECK(decode_string(one, either) == text);
      }
    }
    if (is_name(token)) CHECK(decode_name(token).size() <= 63);
  }

  const auto encoding = static_cast<TextEncoding>((data[0] >> 1) % 5);
  const Scan found = scan(sql, {.standard_conforming_strings = conforming, .encoding = encoding});
  for (const Scan& either :
       {scan(sql, {.standard_conforming_strings = std::nullopt, .encoding = encoding}),
        scan(sql, {.standard_conforming_strings = conforming, .encoding = std::nullopt})}) {
    CHECK(either == found || either.too_complex);
  }
  CHECK(found.effects.size() <= kScanEffectsMax);
  CHECK(found.statements <= sql.size());
  for (const SessionEffect& effect : found.effects) {
    CHECK(effect.statement < found.statements);
    if (effect.kind != SessionEffect::Kind::Set) {
      // A set_config whose value is in the text and whose name is not carries the value alone.
      CHECK(effect.sql.empty() || effect.name_parameter != 0 || effect.local_parameter != 0);
      continue;
    }
    CHECK(!effect.sql.empty());
    CHECK(effect.sql.size() <= kSetSqlBytesMax);
    // A statement that ends the text (an open quote) is one that PostgreSQL refuses.
    const Scan again = scan(effect.sql, {.standard_conforming_strings = conforming});
    CHECK(again.statements == 1);
  }
  return 0;
}
