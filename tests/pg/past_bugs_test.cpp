#include <gtest/gtest.h>

#include "pg/query_text.h"
namespace carpool::pg {
namespace {
TEST(QueryText, MasksAStringBehindAKeywordWithoutABlank) {
  EXPECT_EQ(masked("WHERE'a''b', 'secret'"), "WHERE?, ?");
  EXPECT_EQ(masked(R"(WHERE'a\', 'secret')"), "WHERE?");
}
TEST(QueryText, LeavesNestedCommentsOut) {
  EXPECT_EQ(masked("SELECT /* a /* b */ don't */ 'secret'"), "SELECT ?");
}
}  // namespace
}  // namespace carpool::pg
