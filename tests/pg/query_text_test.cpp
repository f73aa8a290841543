#include "pg/query_text.h"

#include <gtest/gtest.h>

#include <random>

namespace carpool::pg {
namespace {

using namespace std::string_literals;

TEST(QueryText, OneLineGathersWhiteSpaceAndControlBytes) {
  EXPECT_EQ(one_line("  SELECT\n\t 1 ;\r\n"), "SELECT 1 ;");
  EXPECT_EQ(one_line("a\x01\x02\x7f"
                     "b"),
            "a b");
  EXPECT_EQ(one_line(""), "");
  EXPECT_EQ(one_line(" \n "), "");
}

TEST(QueryText, OneLineEndsAtTheFirstZeroByte) {
  EXPECT_EQ(one_line("SELECT 1\0 secret"s), "SELECT 1");
}

TEST(QueryText, MasksStringsAndNumbers) {
  EXPECT_EQ(masked("SELECT * FROM t WHERE a = 'x' AND b = 42 AND c = 1.5e10"),
            "SELECT * FROM t WHERE a = ? AND b = ? AND c = ?");
  EXPECT_EQ(masked("INSERT INTO t VALUES ('a', -1, 0x1f, '')"),
            "INSERT INTO t VALUES (?, -?, ?, ?)");
}

TEST(QueryText, MasksADoubledQuoteWithItsString) {
  EXPECT_EQ(masked("SELECT 'it''s ''so''', b"), "SELECT ?, b");
}

TEST(QueryText, MasksAnEscapeStringWithItsBackslashes) {
  EXPECT_EQ(masked(R"(SELECT E'it\'s \\', b)"), "SELECT E?, b");
}

TEST(QueryText, TakesABackslashInAPlainStringForItself) {
  EXPECT_EQ(masked(R"(SELECT 'c:\dir', b, 'd')"), "SELECT ?, b, ?");
}

TEST(QueryText, MasksDollarQuotedTexts) {
  EXPECT_EQ(masked("SELECT $$it's$$, $tag$ a $$ b $tag$, c"), "SELECT ?, ?, c");
}

TEST(QueryText, KeepsParametersAndNamesWithDigits) {
  EXPECT_EQ(masked("SELECT $1, $23, t1.c2, a$b$c FROM t1"), "SELECT $1, $23, t1.c2, a$b$c FROM t1");
}

TEST(QueryText, KeepsQuotedNamesAsTheyAre) {
  EXPECT_EQ(masked(R"(SELECT "it's 5", "a""b" FROM "T 1" WHERE x = 'y')"),
            R"(SELECT "it's 5", "a""b" FROM "T 1" WHERE x = ?)");
}

TEST(QueryText, LeavesCommentsOut) {
  EXPECT_EQ(masked("SELECT a -- user 'bob'\n, b /* id 7 */ FROM t"), "SELECT a , b FROM t");
  EXPECT_EQ(masked("SELECT a -- cut 'off"), "SELECT a");
  EXPECT_EQ(masked("SELECT a /* cut 'off"), "SELECT a");
}

TEST(QueryText, MasksALiteralThatTheEndCutsOff) {
  EXPECT_EQ(masked("SELECT 'secr"), "SELECT ?");
  EXPECT_EQ(masked("SELECT $x$secr"), "SELECT ?");
  EXPECT_EQ(masked("SELECT E'secr\\"), "SELECT E?");
  EXPECT_EQ(masked("SELECT 123"), "SELECT ?");
}

TEST(QueryText, MasksEveryPlainLiteralOfAStatementBuiltAtRandom) {
  std::mt19937 random(3);
  const auto literal = [&]() -> std::string {
    switch (random() % 5) {
      case 0:
        return "'SECRET'";
      case 1:
        return "'SEC''RET'";
      case 2:
        return "$$SECRET's$$";
      case 3:
        return "$q$ SECRET $$ 'x $q$";
      default:
        return "E'\\'SECRET\\\\'";
    }
  };
  for (int i = 0; i < 2000; ++i) {
    std::string sql = "SELECT ";
    const std::size_t count = 1 + random() % 6;
    for (std::size_t n = 0; n < count; ++n) {
      const char* between[] = {", ", " || ", "/* c */ , ", " -- c\n , ", " \"id\" , ", " $1 , "};
      sql += literal() + between[random() % 6];
    }
    sql += literal();
    // Cut anywhere, as the log keeps only the start of a statement.
    sql.resize(sql.size() - random() % 4 * (random() % 5));
    const std::string shown = masked(sql);
    ASSERT_EQ(shown.find("SEC"), std::string::npos) << sql << "\n" << shown;
    ASSERT_EQ(shown.find("RET"), std::string::npos) << sql << "\n" << shown;
  }
}

TEST(QueryText, MasksTheRestWhereTheSessionDecidesWhereALiteralEnds) {
  // standard_conforming_strings, and an encoding in which the backslash is half of a character.
  EXPECT_EQ(masked("SELECT 'it\\'SECRET', 'SECRET'"), "SELECT ?");
  EXPECT_EQ(masked("SELECT E'\x95\\', 'SECRET'"), "SELECT E?");
  EXPECT_EQ(masked("SELECT E'it\\'s', a"), "SELECT E?, a");
}

}  // namespace
}  // namespace carpool::pg
