#include "pg/sql_scan.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "pg/sql_lexer.h"

namespace carpool::pg {
namespace {

using Kind = SessionEffect::Kind;

// One text of corpus/sql_scan.txt; the file's head says how it is written.
struct Case {
  int line = 0;
  std::string sql;
  bool conforming = true;
  std::string expected;
};

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::vector<Case> read_corpus() {
  const auto path = std::filesystem::path(__FILE__).parent_path() / "corpus" / "sql_scan.txt";
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<Case> cases;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line.starts_with("# ") || line == "#") continue;
    if (line.starts_with("  => ")) {
      cases.back().expected += line + "\n";
      continue;
    }
    Case& added = cases.emplace_back();
    added.line = number;
    if (line.starts_with("%bad ")) line.erase(0, 5);
    if (line.starts_with("%off ")) {
      added.conforming = false;
      line.erase(0, 5);
    }
    added.sql = replace_all(line, "␤", "\n");
  }
  return cases;
}

std::string describe(const Scan& found) {
  std::string out;
  for (const SessionEffect& effect : found.effects) {
    out += "  => ";
    out += to_string(effect.kind);
    if (effect.statement > 0) out += "@" + std::to_string(effect.statement);
    if (!effect.name.empty()) out += " " + effect.name;
    const auto parameter = [&](const char* what, std::uint32_t number) {
      if (number > 0) out += what + std::to_string(number);
    };
    parameter(" name=$", effect.name_parameter);
    parameter(" $", effect.value_parameter);
    parameter(" local=$", effect.local_parameter);
    if (effect.and_chain) out += " chain";
    if (!effect.sql.empty()) out += " | " + effect.sql;
    out += "\n";
  }
  if (found.too_complex) out += "  => too complex\n";
  if (found.effects.empty() && !found.too_complex) out += "  => nothing\n";
  if (found.statements != 1) out += "  => statements " + std::to_string(found.statements) + "\n";
  return out;
}

// The body of a Bind behind its names: values in text format, of which "-" is NULL.
Bytes bound(const std::vector<std::string>& values) {
  Bytes out;
  append_u16(out, 0);
  append_u16(out, static_cast<std::uint16_t>(values.size()));
  for (const std::string& value : values) {
    append_u32(out, value == "-" ? 0xffffffff : static_cast<std::uint32_t>(value.size()));
    if (value != "-") append_text(out, value);
  }
  return out;
}

std::string told(std::string_view sql, const std::vector<std::string>& values) {
  const Scan found = with_values(scan(sql), bound(values));
  const SessionEffect& effect = found.effects.at(0);
  return std::string(to_string(effect.kind)) + " " + effect.name + " " + effect.sql;
}

TEST(SqlScan, TakesWhatSetConfigSetsFromTheBind) {
  const std::string all = "select set_config($1, $2, $3)";
  EXPECT_EQ(told(all, {"My.A", "it's", "f"}), "set my.a SET \"my\".\"a\" TO 'it''s'");
  EXPECT_EQ(told(all, {"my.a", "x", "true"}), "set_local my.a ");
  EXPECT_EQ(told(all, {"my.a", "-", "false"}), "reset my.a ");
  EXPECT_EQ(told(all, {"transaction_read_only", "on", "false"}),
            "set_local transaction_read_only ");
  EXPECT_EQ(told("select set_config('my.a', $1, false)", {"x"}), told(all, {"my.a", "x", "f"}));
  EXPECT_EQ(told("select set_config($1, 'x', false)", {"my.a"}), told(all, {"my.a", "x", "f"}));
  // What it does not tell stays unknown.
  EXPECT_EQ(told(all, {"my.a", "x"}), "set_unknown  ");
  EXPECT_EQ(told(all, {"my.a", "x", "?"}), "set_unknown  ");
  EXPECT_EQ(told(all, {"my.a", std::string(kSetSqlBytesMax, 'x'), "f"}), "set_unknown  ");
  EXPECT_FALSE(wants_values(scan("select set_config('my.a', 'x', false)")));
  EXPECT_FALSE(wants_values(scan("select set_config('my.a', $1 || 'x', false)")));
  const Bytes whole = bound({"my.a", "x", "f"});
  for (std::size_t size = 0; size < whole.size(); size++) {
    const Scan part = with_values(scan(all), ByteSpan(whole).first(size));
    EXPECT_EQ(part.effects.at(0).kind, Kind::SetUnknown) << size;
  }
}

TEST(SqlScan, FindsInEachTextOfTheCorpusWhatIsThere) {
  const auto cases = read_corpus();
  ASSERT_GT(cases.size(), 200u);
  for (const Case& one : cases) {
    const Scan found = scan(one.sql, {.standard_conforming_strings = one.conforming});
    EXPECT_EQ(describe(found), one.expected) << "line " << one.line << ": " << one.sql;
  }
}

TEST(SqlScan, KnowsThatAFunctionIsCalledOnceOnlyWhereItIsGivenValues) {
  const auto once = [](std::string_view sql) { return scan(sql).effects.at(0).column == 1; };
  for (const char* sql :
       {"SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock($1::int, -2)",
        "SELECT pg_advisory_lock(hashtext('x' || $1))", "SELECT pg_advisory_unlock_all()",
        "SELECT pg_advisory_lock(('x' || substr(md5($1), 1, 16))::bit(64)::bigint)",
        "SELECT pg_try_advisory_lock('t'::regclass::oid::bigint) AS isnull",
        "SELECT set_config('a.b', lower($1), false)"}) {
    EXPECT_TRUE(once(sql)) << sql;
  }
  for (const char* sql :
       {"SELECT pg_advisory_lock(generate_series(1, 3))",
        "SELECT pg_advisory_lock(unnest(ARRAY[1, 2]))", "SELECT pg_advisory_lock(\"text\"(1))",
        "SELECT pg_advisory_lock(max(1))", "SELECT pg_advisory_lock((SELECT 1 WHERE false))",
        "SELECT pg_try_advisory_lock(1) ISNULL", "SELECT pg_advisory_unlock(1) NotNull",
        "SELECT pg_advisory_lock(mine(1))"}) {
    EXPECT_FALSE(once(sql)) << sql;
  }
}

TEST(SqlScan, GetsThroughEveryPrefixOfEveryText) {
  for (const Case& one : read_corpus()) {
    for (std::size_t end = 0; end <= one.sql.size(); ++end) {
      for (const bool conforming : {true, false}) {
        const std::string prefix = one.sql.substr(0, end);  // its own memory, so that ASan sees
        const Scan found = scan(prefix, {.standard_conforming_strings = conforming});
        EXPECT_LE(found.effects.size(), prefix.size());
        if (leaves_nothing(prefix)) {
          EXPECT_EQ(describe(found), "  => nothing\n") << prefix;
        }
      }
    }
  }
}

TEST(SqlScan, GetsThroughEverySuffixOfEveryText) {
  for (const Case& one : read_corpus()) {
    for (std::size_t start = 0; start < one.sql.size(); ++start) {
      EXPECT_LE(scan(one.sql.substr(start)).effects.size(), one.sql.size());
    }
  }
}

TEST(SqlScan, FindsTheSameWhateverStandsAroundTheWords) {
  // White space and comments between tokens change nothing.
  for (const Case& one : read_corpus()) {
    SqlLexer lexer(one.sql, one.conforming);
    std::string spaced = "\t/* ; */ ";
    Token before;
    for (Token token = lexer.next(); token.type != TokenType::End; token = lexer.next()) {
      // An operator stays in one piece, and so does what PostgreSQL reads as one.
      const bool symbols =
          before.type == TokenType::Symbol && token.type == TokenType::Symbol && !before.is(';');
      if (!symbols) spaced += " /* /* ' */ */ -- '\n";
      // The comment would join two strings.
      if (before.type == TokenType::String && token.type == TokenType::String) spaced += "/**/";
      spaced += token.text;
      before = token;
    }
    const ScanOptions options{.standard_conforming_strings = one.conforming};
    EXPECT_EQ(describe(scan(spaced, options)), describe(scan(one.sql, options)))
        << "line " << one.line << ": " << spaced;
  }
}

TEST(SqlScan, CountsEachTextOfTwoJoinedBySemicolon) {
  const auto cases = read_corpus();
  for (std::size_t i = 1; i < cases.size(); ++i) {
    const Case& first = cases[i - 1];
    const Case& second = cases[i];
    if (!first.conforming || !second.conforming) continue;
    const Scan one = scan(first.sql);
    const Scan two = scan(second.sql);
    const Scan both = scan(first.sql + "\n;" + second.sql);
    if (both.statements < one.statements + two.statements) continue;  // an open quote or "("
    EXPECT_EQ(both.statements, one.statements + two.statements) << first.sql << ";" << second.sql;
    EXPECT_EQ(both.effects.size(), one.effects.size() + two.effects.size())
        << first.sql << ";" << second.sql;
  }
}

TEST(SqlScan, SaysWhetherATextBeginsATransaction) {
  EXPECT_TRUE(scan("SELECT 1; BEGIN").begins_transaction);
  EXPECT_TRUE(scan("start transaction").begins_transaction);
  EXPECT_FALSE(scan("SELECT 'BEGIN'; COMMIT").begins_transaction);
  EXPECT_TRUE(scan("SELECT 1; SELECT 2").multi_statement);
  EXPECT_FALSE(scan("SELECT 1;;").multi_statement);
}

TEST(SqlScan, SaysSoWhenThereAreMoreEffectsThanItKeeps) {
  std::string sql;
  for (std::size_t i = 0; i < kScanEffectsMax; ++i) sql += "SET a TO 1;";
  EXPECT_FALSE(scan(sql).too_complex);
  sql += "SET b TO 1";
  const Scan found = scan(sql);
  EXPECT_TRUE(found.too_complex);
  EXPECT_EQ(found.effects.size(), kScanEffectsMax);
  EXPECT_EQ(found.statements, kScanEffectsMax + 1);
}

TEST(SqlScan, DoesNotFollowASettingThatIsTooLongToKeep) {
  const std::string fits(kSetSqlBytesMax / 2, 'x');
  EXPECT_EQ(scan("SET my.a TO '" + fits + "'").effects.at(0).kind, Kind::Set);
  const std::string too_long(kSetSqlBytesMax, 'x');
  const Scan found = scan("SET my.a TO '" + too_long + "'; SELECT 1");
  ASSERT_EQ(found.effects.size(), 1u);
  EXPECT_EQ(found.effects[0].kind, Kind::SetUnknown);
  EXPECT_EQ(found.effects[0].name, "my.a");
  EXPECT_EQ(found.statements, 2u);
  EXPECT_EQ(scan("SELECT set_config('my.a', '" + too_long + "', false)").effects.at(0).kind,
            Kind::SetUnknown);
}

TEST(SqlScan, CutsNamesWherePostgresqlDoes) {
  const std::string long_name(100, 'a');
  EXPECT_EQ(scan("LISTEN " + long_name).effects.at(0).name, std::string(63, 'a'));
  // 62 bytes and a character of two: the character goes as a whole.
  const std::string accent = std::string(62, 'a') + "\xC3\xA9";
  EXPECT_EQ(scan("LISTEN \"" + accent + "\"").effects.at(0).name, std::string(62, 'a'));
}

TEST(SqlScan, TakesALiteralOfPostgresqlBackAsWhatItMeant) {
  for (const std::string text : {"", "a", "it's", "back\\slash", "\\'", "'", "\\", "a\nb", "é"}) {
    for (const bool conforming : {true, false}) {
      const std::string literal = quote_literal(text);
      SqlLexer lexer(literal, conforming);
      const Token token = lexer.next();
      EXPECT_EQ(token.text, literal);
      EXPECT_EQ(decode_string(token, conforming), text);
      EXPECT_EQ(lexer.next().type, TokenType::End);
    }
  }
}

TEST(SqlScan, QuotesNamesSoThatNoneEndsEarly) {
  EXPECT_EQ(quote_name("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(quote_parameter("my.app.user"), "\"my\".\"app\".\"user\"");
  EXPECT_EQ(set_sql("my.a", "x'; DROP TABLE t; --"), "SET \"my\".\"a\" TO 'x''; DROP TABLE t; --'");
}

TEST(SqlScan, IsLinearInTextsMadeToBeSlow) {
  // Each would take minutes if any look ahead were not bounded; the test's own time limit speaks.
  const std::size_t size = 300'000;
  const auto repeat = [](std::string_view part, std::size_t bytes) {
    std::string out;
    while (out.size() < bytes) out += part;
    return out;
  };
  for (const std::string_view part : {"set_config(",
                                      "SELECT set_config(",
                                      "(",
                                      "/*",
                                      "/* */",
                                      "$a$b",
                                      "$",
                                      "'' ",
                                      "'a'\n",
                                      "E'",
                                      "INTO TEMP ",
                                      "CREATE TEMP TABLE a ",
                                      "DO $$ BEGIN ",
                                      "pg_advisory_lock(1),",
                                      "\"",
                                      "U&\"",
                                      "EXPLAIN ",
                                      "SET a TO ",
                                      "SET a TO b,c;",
                                      "--\n",
                                      "'--\n",
                                      "' \n",
                                      "BEGIN ATOMIC ",
                                      ";",
                                      "CREATE FUNCTION f() BEGIN ATOMIC ",
                                      "\\",
                                      "DECLARE a ",
                                      "DROP TABLE a,",
                                      "a.",
                                      "SET a."}) {
    const Scan found = scan(repeat(part, size));
    EXPECT_LE(found.effects.size(), kScanEffectsMax) << part;
  }
  const std::string tag = "$" + std::string(size / 4, 'a');
  scan(tag + "$" + tag + tag + tag);
}

TEST(SqlScan, ReadsRubbishWithoutFault) {
  std::mt19937 random(20240102);
  const auto cases = read_corpus();
  for (int round = 0; round < 20'000; ++round) {
    // Two texts cut and joined, then a few bytes changed.
    const std::string& first = cases[random() % cases.size()].sql;
    const std::string& second = cases[random() % cases.size()].sql;
    std::string sql = first.substr(0, random() % (first.size() + 1)) +
                      second.substr(random() % (second.size() + 1));
    for (unsigned changes = random() % 4; changes > 0 && !sql.empty(); --changes) {
      sql[random() % sql.size()] = static_cast<char>("'\"$;()\\/*-\0 aE\xC3"[random() % 15]);
    }
    const Scan found = scan(sql, {.standard_conforming_strings = random() % 2 == 0});
    EXPECT_LE(found.effects.size(), sql.size() + 1);
  }
}

TEST(SqlLexer, CutsATextIntoTheTokensOfPostgresql) {
  const auto tokens = [](std::string_view sql) {
    SqlLexer lexer(sql, true);
    std::vector<std::string> out;
    for (Token token = lexer.next(); token.type != TokenType::End; token = lexer.next()) {
      out.emplace_back(token.text);
    }
    return out;
  };
  using Tokens = std::vector<std::string>;
  EXPECT_EQ(tokens("a.b$c+1.5e3"), (Tokens{"a", ".", "b$c", "+", "1.5e3"}));
  EXPECT_EQ(tokens("x'1F'e'\\''"), (Tokens{"x'1F'", "e'\\''"}));
  EXPECT_EQ(tokens("$1$$a$$$b$c$b$"), (Tokens{"$1", "$$a$$", "$b$c$b$"}));
  EXPECT_EQ(tokens("$a$ $b$ $a $a$ c"), (Tokens{"$a$ $b$ $a $a$", "c"}));
  EXPECT_EQ(tokens("\"a\"\"b\"\"\""), (Tokens{"\"a\"\"b\"\"\""}));
  EXPECT_EQ(tokens("'a''b'"), (Tokens{"'a''b'"}));
  EXPECT_EQ(tokens("'a' 'b'"), (Tokens{"'a'", "'b'"}));
  EXPECT_EQ(tokens("'a'\n'b'"), (Tokens{"'a'\n'b'"}));
  EXPECT_EQ(tokens("'a' -- c\n 'b'"), (Tokens{"'a' -- c\n 'b'"}));
  EXPECT_EQ(tokens("'a' /* c */\n 'b'"), (Tokens{"'a'", "'b'"}));
  EXPECT_EQ(tokens("a/*/**/*/b--c"), (Tokens{"a", "b"}));
  EXPECT_EQ(tokens("1e 1e+ 1.e5 .5"), (Tokens{"1", "e", "1", "e", "+", "1.e5", ".5"}));
  EXPECT_EQ(tokens("\xC3\xA9t\xC3\xA9"), (Tokens{"\xC3\xA9t\xC3\xA9"}));
  EXPECT_EQ(tokens("$ $a"), (Tokens{"$", "$", "a"}));
}

TEST(SqlScan, NotKnowingHowBackslashesAreReadCountsOnlyWhereItMatters) {
  const ScanOptions unknown{.standard_conforming_strings = std::nullopt};
  // The same under both: E'' and a backslash in the midst of a string.
  for (const char* sql :
       {"set app.a to 'b'", "select E'it\\'s'; listen news", "select 'C:\\dir'"}) {
    EXPECT_EQ(scan(sql, unknown), scan(sql)) << sql;
    EXPECT_FALSE(scan(sql, unknown).too_complex) << sql;
  }
  // A LISTEN for one, a string for the other; and a value that differs.
  for (const char* sql : {"select '\\', '; listen news; --'", "select 'it\\'; discard all; --'",
                          "set app.a to 'a\\\\b'"}) {
    const Scan found = scan(sql, unknown);
    EXPECT_TRUE(found.too_complex) << sql;
    EXPECT_TRUE(found.effects.empty()) << sql;
  }
}

TEST(SqlScan, TakesNoHalfOfACharacterForAQuoteOrABackslash) {
  const ScanOptions sjis{.encoding = TextEncoding::Sjis};
  const ScanOptions unknown{.encoding = std::nullopt};
  const std::string hidden = "select E'\x95\\'; set app.a to 'b'; select '\xb1'";
  EXPECT_TRUE(scan(hidden).effects.empty());
  ASSERT_EQ(scan(hidden, sjis).effects.size(), 1u);
  EXPECT_EQ(scan(hidden, sjis).effects[0].sql, "SET \"app\".\"a\" TO 'b'");
  EXPECT_TRUE(scan(hidden, unknown).too_complex);
  // It matters nowhere else.
  for (const char* sql : {"set app.a to 'b'", "select '\x82\xa0'; listen news"}) {
    EXPECT_EQ(scan(sql, sjis), scan(sql)) << sql;
    EXPECT_EQ(scan(sql, unknown), scan(sql)) << sql;
  }
}

TEST(SqlScan, FollowsNothingThatItCouldNotQuoteInTheClientsEncoding) {
  const ScanOptions sjis{.encoding = TextEncoding::Sjis};
  for (const char* sql : {"set app.a to '\x95\\'", "listen \x83\x41", "set app.\x83\x41 to 1"}) {
    EXPECT_TRUE(scan(sql, sjis).too_complex) << sql;
    EXPECT_FALSE(scan(sql, {.encoding = TextEncoding::AsciiSafe}).too_complex) << sql;
  }
  const Scan bound_value = scan("select set_config('my.a', $1, false)");
  const auto kind = [&](const char* value, TextEncoding encoding) {
    return with_values(bound_value, bound({value}), encoding).effects.at(0).kind;
  };
  EXPECT_EQ(kind("\x95\\", TextEncoding::Sjis), Kind::SetUnknown);
  EXPECT_EQ(kind("a\\", TextEncoding::Sjis), Kind::Set);
  EXPECT_EQ(kind("\xc3\xa9", TextEncoding::AsciiSafe), Kind::Set);
}

}  // namespace
}  // namespace carpool::pg
