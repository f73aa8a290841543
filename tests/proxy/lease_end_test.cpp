// The table of endings, row by row.
#include "proxy/lease_end.h"

#include <gtest/gtest.h>

#include <string>

namespace carpool::proxy {
namespace {

using Batch = UnderWay::Batch;
using Left = Remains::Left;

std::string words(Steps steps) {
  std::string text;
  const auto add = [&](Step step, const char* word) {
    if (steps.has(step)) text += (text.empty() ? "" : " ") + std::string(word);
  };
  add(Step::Wait, "wait");
  add(Step::Cancel, "cancel");
  add(Step::FailCopy, "copyfail");
  add(Step::Rollback, "rollback+sync");
  add(Step::Fence, "fence");
  add(Step::Close, "close");
  return text;
}

struct Row {
  const char* under_way;
  UnderWay facts;
  const char* terminate;
  const char* gone;  // and refused by us
};

constexpr Row kRows[] = {
    {"nothing, or a transaction", {}, "", ""},
    {"a query or whole batches, a COPY of either kind",
     {.owed = true},
     "wait copyfail",
     "cancel copyfail"},
    {"whole batches of the extended protocol",
     {.owed = true, .owes_sync = true},
     "wait copyfail fence",
     "cancel copyfail fence"},
    {"a batch without its Sync, all answered",
     {.batch = Batch::Open},
     "copyfail rollback+sync",
     "copyfail rollback+sync"},
    {"a batch without its Sync that runs",
     {.owed = true, .batch = Batch::Open},
     "copyfail rollback+sync",
     "cancel copyfail rollback+sync"},
    {"the same behind whole ones, or a COPY that has passed over a Sync",
     {.owed = true, .owes_sync = true, .batch = Batch::Open},
     "copyfail rollback+sync fence",
     "cancel copyfail rollback+sync fence"},
    {"a batch that has failed, and has no Sync yet",
     {.batch = Batch::Skipping},
     "copyfail rollback+sync",
     "copyfail rollback+sync"},
    {"half a message", {.owed = true, .uncut = false}, "close", "close"},
};

TEST(LeaseEnd, FollowsItsTable) {
  for (const Row& row : kRows) {
    EXPECT_EQ(words(leave(Ending::Terminate, row.facts, false)), row.terminate) << row.under_way;
    EXPECT_EQ(words(leave(Ending::Gone, row.facts, false)), row.gone) << row.under_way;
    EXPECT_EQ(words(leave(Ending::Refused, row.facts, false)), row.gone) << row.under_way;
  }
}

TEST(LeaseEnd, ClosesAServerThatIsItsClientsAloneAtOnceSoThatItsSlotIsFree) {
  for (const Row& row : kRows) {
    for (const Ending how : {Ending::Terminate, Ending::Gone, Ending::Refused}) {
      EXPECT_EQ(words(leave(how, row.facts, true)), "close") << row.under_way;
    }
  }
}

TEST(LeaseEnd, SendsNoQueryWhereACopyMayBeReading) {
  // What could be one is always failed first.
  for (const Row& row : kRows) {
    for (const Ending how : {Ending::Terminate, Ending::Gone, Ending::Refused}) {
      const Steps steps = leave(how, row.facts, false);
      EXPECT_TRUE(!steps.has(Step::Rollback) || steps.has(Step::FailCopy)) << row.under_way;
      EXPECT_TRUE(!steps.has(Step::Fence) || steps.has(Step::FailCopy)) << row.under_way;
    }
  }
}

TEST(LeaseEnd, CancelsNothingThatAPoliteClientHasAskedFor) {
  for (const Row& row : kRows) {
    EXPECT_FALSE(leave(Ending::Terminate, row.facts, false).has(Step::Cancel)) << row.under_way;
  }
}

TEST(LeaseEnd, LendsOnlyWhatIsClean) {
  for (const Left left : {Left::Nothing, Left::Settings, Left::Session, Left::Pins}) {
    EXPECT_EQ(next({'T', left}), Next::Rollback);
    EXPECT_EQ(next({'E', left}), Next::Rollback);
  }
  EXPECT_EQ(next({'I', Left::Nothing, true}), Next::EndBatch) << "a query would not be answered";
  EXPECT_EQ(next({'I', Left::Nothing}), Next::Lend);
  EXPECT_EQ(next({'I', Left::Settings}), Next::Settle);
  EXPECT_EQ(next({'I', Left::Session}), Next::Reset);
  EXPECT_EQ(next({'I', Left::Pins}), Next::Discard);
  EXPECT_EQ(next({'I', Left::Forever}), Next::Close);
}

}  // namespace
}  // namespace carpool::proxy
