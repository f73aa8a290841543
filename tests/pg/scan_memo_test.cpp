#include "pg/scan_memo.h"

#include <gtest/gtest.h>

#include <string>

namespace carpool::pg {
namespace {

using Kind = SessionEffect::Kind;

TEST(ScanMemo, FindsWhatAScanFindsTheFirstTimeAndEachTimeAfter) {
  ScanMemo memo;
  for (int i = 0; i < 3; ++i) {
    const auto scan = memo.scan("SET search_path = app");
    ASSERT_NE(scan, nullptr);
    ASSERT_EQ(scan->effects.size(), 1u);
    EXPECT_EQ(scan->effects[0].kind, Kind::Set);
    EXPECT_EQ(scan->effects[0].name, "search_path");
    EXPECT_EQ(memo.scan("SHOW search_path"), nullptr);
  }
}

TEST(ScanMemo, SharesTheScanOfATextThatComesAgain) {
  ScanMemo memo;
  const auto first = memo.scan("BEGIN");
  EXPECT_EQ(memo.scan("BEGIN"), first);
  EXPECT_TRUE(first->begins_transaction);
}

TEST(ScanMemo, TellsTextsApartThatShareAPlace) {
  ScanMemo memo;
  // More texts than places, twice: each has displaced, and been displaced.
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < 4 * ScanMemo::kPlaces; ++i) {
      const std::string name = "v.n" + std::to_string(i);
      const auto scan = memo.scan("SET " + name + " = 1");
      ASSERT_NE(scan, nullptr);
      EXPECT_EQ(scan->effects.at(0).name, name);
    }
  }
}

TEST(ScanMemo, TellsTheSameTextApartByHowStringsAreRead) {
  ScanMemo memo;
  const std::string text = R"(SELECT 'a\', set_config('x.y', 'b', false) --')";
  const auto conforming = memo.scan(text, {.standard_conforming_strings = true});
  const auto escaping = memo.scan(text, {.standard_conforming_strings = false});
  EXPECT_NE(conforming, nullptr) << "a backslash is a character like any other";
  EXPECT_EQ(escaping, nullptr) << "the string ends later, and the call is part of it";
}

TEST(ScanMemo, ScansALongTextEachTime) {
  ScanMemo memo;
  const std::string text = "LISTEN " + std::string(ScanMemo::kTextBytesMax, 'a');
  for (int i = 0; i < 2; ++i) {
    const auto scan = memo.scan(text);
    ASSERT_NE(scan, nullptr);
    EXPECT_EQ(scan->effects.at(0).kind, Kind::Listen);
  }
}

TEST(LeavesNothing, IsSeenAtAGlanceOfTheStatementsThatDriversSendMost) {
  EXPECT_TRUE(leaves_nothing("SELECT 1"));
  EXPECT_TRUE(leaves_nothing(" \n select abalance from accounts where aid = 7 ;\n"));
  EXPECT_TRUE(leaves_nothing("UPDATE t SET a = a + 1 WHERE id = 3;"));
  EXPECT_TRUE(leaves_nothing("delete from t where id = 3"));
  EXPECT_TRUE(leaves_nothing("insert into t select 1"));
}

TEST(LeavesNothing, SaysNothingWhereAScanMustLook) {
  EXPECT_FALSE(leaves_nothing(""));
  EXPECT_FALSE(leaves_nothing("SELECT"));
  EXPECT_FALSE(leaves_nothing("SELECT pg_advisory_lock(1)"));
  EXPECT_FALSE(leaves_nothing("SELECT 1; SET a.b = 1"));
  EXPECT_FALSE(leaves_nothing("SELECT 1 InTo TEMP t"));
  EXPECT_FALSE(leaves_nothing("SELECTION"));
  EXPECT_FALSE(leaves_nothing("UPDATE PG_SETTINGS SET setting = 'x' WHERE name = 'a.b'"));
  EXPECT_FALSE(leaves_nothing("UPDATE U&\"pg_setting\\0073\" SET setting = 'x'"));
  EXPECT_FALSE(leaves_nothing("BEGIN"));
  EXPECT_FALSE(leaves_nothing("update t set a = f(1)"));
  EXPECT_FALSE(leaves_nothing("/* a */ select 1"));
}

}  // namespace
}  // namespace carpool::pg
