// Who vouches for whom, and for how long, under a clock of the test's own.
#include "proxy/vouchers.h"

#include <gtest/gtest.h>

namespace carpool::proxy {
namespace {

using Word = Vouchers::Word;
constexpr Micros kRecheck = 30 * kMicrosPerSecond;
constexpr Micros kStart = 1000 * kMicrosPerSecond;

Vouchers::Mark mark(const std::string& password) {
  return pg::sha256(as_bytes(password));
}

class VouchersTest : public testing::Test {
 protected:
  Word ask(const Claimant& who, const std::string& password, Micros now,
           Micros recheck_us = kRecheck) const {
    return vouchers_.ask(who, mark(password), now, recheck_us).word;
  }
  const Claimant alice_{"app", "alice", ""};
  Vouchers vouchers_;
};

TEST_F(VouchersTest, APasswordIsFreshForRecheckThenOldThenForgotten) {
  vouchers_.taken(alice_, mark("secret"), kStart);
  EXPECT_EQ(ask(alice_, "secret", kStart), Word::Fresh);
  EXPECT_EQ(ask(alice_, "secret", kStart + kRecheck - 1), Word::Fresh);
  EXPECT_EQ(ask(alice_, "secret", kStart + kRecheck), Word::Old);
  EXPECT_EQ(ask(alice_, "secret", kStart + 10 * kRecheck - 1), Word::Old);
  EXPECT_EQ(ask(alice_, "secret", kStart + 10 * kRecheck), Word::Unknown);
  vouchers_.taken(alice_, mark("secret"), kStart + 20 * kRecheck);
  EXPECT_EQ(ask(alice_, "secret", kStart + 20 * kRecheck), Word::Fresh);
  EXPECT_EQ(vouchers_.ask(alice_, mark("secret"), kStart + 20 * kRecheck, kRecheck).taken_us,
            kStart + 20 * kRecheck);
}

TEST_F(VouchersTest, ARecheckOfNothingAsksEachTimeAndNoLastWordStands) {
  vouchers_.taken(alice_, mark("secret"), kStart);
  EXPECT_EQ(ask(alice_, "secret", kStart, 0), Word::Unknown);
}

TEST_F(VouchersTest, NothingIsVouchedForButWhatPostgresTook) {
  vouchers_.taken(alice_, mark("secret"), kStart);
  EXPECT_EQ(ask(alice_, "secreT", kStart), Word::Unknown);
  EXPECT_EQ(ask({"app", "bob", ""}, "secret", kStart), Word::Unknown);
  EXPECT_EQ(ask({"other", "alice", ""}, "secret", kStart), Word::Unknown);
  EXPECT_EQ(ask({"app", "alice", "true"}, "secret", kStart), Word::Unknown)
      << "pg_hba.conf has lines of its own for replication";
}

TEST_F(VouchersTest, ARefusalEndsThatPasswordAndNoOther) {
  const Claimant replicates{"app", "alice", "true"};
  for (const char* password : {"old", "new"}) vouchers_.taken(alice_, mark(password), kStart);
  vouchers_.taken(replicates, mark("old"), kStart);
  vouchers_.taken({"app", "alicf", ""}, mark("old"), kStart);
  vouchers_.refused(alice_, mark("guess"));
  EXPECT_EQ(ask(alice_, "old", kStart), Word::Fresh) << "a wrong guess evicts nobody";
  EXPECT_EQ(ask(alice_, "new", kStart), Word::Fresh) << "two are good at once";
  vouchers_.refused(alice_, mark("old"));
  EXPECT_EQ(ask(alice_, "old", kStart), Word::Unknown);
  EXPECT_EQ(ask(replicates, "old", kStart), Word::Unknown);
  EXPECT_EQ(ask(alice_, "new", kStart), Word::Fresh);
  EXPECT_EQ(ask({"app", "alicf", ""}, "old", kStart), Word::Fresh);
}

TEST_F(VouchersTest, OfManyPasswordsTheOneTakenLongestAgoGoes) {
  for (std::size_t i = 0; i < Vouchers::kPasswordsMax; ++i) {
    vouchers_.taken(alice_, mark(std::to_string(i)), kStart + static_cast<Micros>(i));
  }
  vouchers_.taken(alice_, mark("0"), kStart + 100);
  vouchers_.taken(alice_, mark("one more"), kStart + 101);
  EXPECT_EQ(ask(alice_, "0", kStart + 101), Word::Fresh);
  EXPECT_EQ(ask(alice_, "1", kStart + 101), Word::Unknown);
  EXPECT_EQ(ask(alice_, "2", kStart + 101), Word::Fresh);
}

TEST_F(VouchersTest, OfManyClaimantsTheOneTakenLongestAgoGoes) {
  const auto user = [](std::size_t i) { return Claimant{"app", std::to_string(i), ""}; };
  for (std::size_t i = 0; i < Vouchers::kClaimantsMax; ++i) {
    vouchers_.taken(user(i), mark("secret"), kStart + static_cast<Micros>(i));
  }
  const Micros now = kStart + static_cast<Micros>(Vouchers::kClaimantsMax);
  vouchers_.taken(alice_, mark("secret"), now);
  EXPECT_EQ(ask(user(0), "secret", now), Word::Unknown);
  EXPECT_EQ(ask(user(1), "secret", now), Word::Fresh);
  EXPECT_EQ(ask(alice_, "secret", now), Word::Fresh);
}

TEST_F(VouchersTest, WhatWasTakenIsKnownAtAnyAgeUntilItIsRefused) {
  vouchers_.taken(alice_, mark("secret"), kStart);
  EXPECT_TRUE(vouchers_.knows(alice_, mark("secret")));
  EXPECT_FALSE(vouchers_.knows(alice_, mark("guess")));
  EXPECT_FALSE(vouchers_.knows({"app", "bob", ""}, mark("secret")));
  vouchers_.refused(alice_, mark("secret"));
  EXPECT_FALSE(vouchers_.knows(alice_, mark("secret")));
}

TEST_F(VouchersTest, NobodyIsVouchedForWhoseDatabaseHasMoved) {
  const Claimant elsewhere{"other", "alice", ""};
  vouchers_.taken(alice_, mark("secret"), kStart);
  vouchers_.taken(elsewhere, mark("secret"), kStart);
  vouchers_.forget([](const Claimant& who) { return who.database == "app"; });
  EXPECT_EQ(ask(alice_, "secret", kStart), Word::Unknown);
  EXPECT_EQ(ask(elsewhere, "secret", kStart), Word::Fresh);
}

}  // namespace
}  // namespace carpool::proxy
