#include <gtest/gtest.h>

#include "pg/query_text.h"
#include "pg/reply_tracker.h"
namespace carpool::pg {
namespace {
TEST(QueryText, MasksAStringBehindAKeywordWithoutABlank) {
  EXPECT_EQ(masked("WHERE'a''b', 'secret'"), "WHERE?, ?");
  EXPECT_EQ(masked(R"(WHERE'a\', 'secret')"), "WHERE?");
}
TEST(QueryText, LeavesNestedCommentsOut) {
  EXPECT_EQ(masked("SELECT /* a /* b */ don't */ 'secret'"), "SELECT ?");
}
TEST(ReplyTracker, NotesAReadyForQueryThatItDidNotExpect) {
  // COPY's BEFORE STATEMENT trigger fails after CopyInResponse and before the Sync behind Execute
  // is read: the Sync that drop_ignored_syncs() dropped is answered after all.
  ReplyTracker tracker;
  const auto none = [](const ReplyTracker::Entry&) {};
  tracker.sent(Request::Execute);
  tracker.sent(Request::Sync);
  tracker.reply('G', 0, none);
  tracker.reply('E', 0, none);
  tracker.reply('Z', 'E', none);
  EXPECT_EQ(tracker.status(), 'E');
  EXPECT_FALSE(tracker.skipping());
}
}  // namespace
}  // namespace carpool::pg
