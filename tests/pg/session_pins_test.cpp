#include "pg/session_pins.h"

#include <gtest/gtest.h>

#include "pg/sql_scan.h"

namespace carpool::pg {
namespace {

class SessionPinsTest : public testing::Test {
 protected:
  // `answers`: what the functions that lock said, 't' and 'f', or '-' for nothing.
  void run(std::string_view sql, char status = 'I', std::string answers = {}) {
    std::size_t at = 0;
    for (const SessionEffect& effect : scan(sql).effects) {
      Bytes row;
      if (effect.column > 0 && effect.kind != SessionEffect::Kind::AdvisoryUnlockAll) {
        append_u16(row, 1);
        const char answer = at < answers.size() ? answers[at++] : 't';
        append_u32(row, answer == '-' ? 0 : 1);
        if (answer != '-') append_u8(row, static_cast<std::uint8_t>(answer));
        SessionEffect alone = effect;
        alone.column = 1;
        if (!came_true(alone, row)) continue;
      }
      pins_.apply(effect, reported_);
    }
    pins_.on_ready(status);
  }
  // A text of one statement that fails.
  void run_failing(std::string_view sql, char status = 'I') {
    pins_.apply_failed(scan(sql).effects);
    pins_.on_error();
    pins_.on_ready(status);
  }
  // The cause and the name of what pins, or nothing.
  std::string pinned() const {
    if (!pins_.any()) return "";
    const std::string cause(to_string(pins_.cause()));
    return pins_.what().empty() ? cause : cause + " " + std::string(pins_.what());
  }

  SessionPins pins_;
  ReportedValues reported_;
};

TEST_F(SessionPinsTest, HoldsNothingForWhatCanBeReplayed) {
  run("SET a TO 1; BEGIN; SELECT 1; SET LOCAL b TO 1; COMMIT; RESET a; DISCARD PLANS");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, LastsFromListenToItsUnlisten) {
  run("LISTEN a");
  run("LISTEN b");
  EXPECT_EQ(pinned(), "listen a");
  run("UNLISTEN a");
  EXPECT_EQ(pinned(), "listen b");
  run("UNLISTEN c");
  EXPECT_EQ(pinned(), "listen b");
  run("LISTEN a; UNLISTEN *");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, LastsFromPrepareToItsDeallocate) {
  run("PREPARE s AS SELECT 1");
  EXPECT_EQ(pinned(), "prepare s");
  run("DEALLOCATE s");
  EXPECT_EQ(pinned(), "");
  run("PREPARE s AS SELECT 1; PREPARE t AS SELECT 1; DEALLOCATE ALL");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, KeepsAPreparedStatementOverARollback) {
  run("BEGIN; PREPARE s AS SELECT 1", 'T');
  run("ROLLBACK");
  EXPECT_EQ(pinned(), "prepare s");
}

TEST_F(SessionPinsTest, LastsFromATemporaryTableToItsDrop) {
  run("CREATE TEMP TABLE t (a int)");
  EXPECT_EQ(pinned(), "temp t");
  run("DROP TABLE public.t");
  EXPECT_EQ(pinned(), "temp t");
  run("DROP TABLE pg_temp.t");
  EXPECT_EQ(pinned(), "");
  run("CREATE TEMP TABLE t (a int); DISCARD TEMP");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, DoesNotTakeTheDropOfAnotherTableForThatOfARenamedOne) {
  run("CREATE TEMP TABLE t (a int); ALTER TABLE t RENAME TO u; DROP TABLE t");
  EXPECT_EQ(pinned(), "temp");
}

TEST_F(SessionPinsTest, DoesNotTakeATemporaryFunctionForATable) {
  run("CREATE FUNCTION pg_temp.t() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP TABLE t");
  EXPECT_EQ(pinned(), "temp");
}

TEST_F(SessionPinsTest, ForgetsWhatARollbackTakesBack) {
  run("BEGIN; LISTEN a; CREATE TEMP TABLE t (a int); DECLARE c CURSOR WITH HOLD FOR SELECT 1", 'T');
  EXPECT_EQ(pinned(), "listen a");
  run("ROLLBACK");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, KeepsWhatARollbackBringsBack) {
  run("LISTEN a; CREATE TEMP TABLE t (a int)");
  run("BEGIN; UNLISTEN *; DROP TABLE t", 'T');
  EXPECT_EQ(pinned(), "listen a");
  run("ROLLBACK");
  EXPECT_EQ(pinned(), "listen a");
  run("BEGIN; UNLISTEN *; DROP TABLE t", 'T');
  run("COMMIT");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, KeepsWhatWasDroppedAfterASavepointThatWasRolledBackTo) {
  run("CREATE TEMP TABLE t (a int)");
  run("BEGIN; SAVEPOINT s; DROP TABLE t; ROLLBACK TO s; COMMIT");
  EXPECT_EQ(pinned(), "temp t");
}

TEST_F(SessionPinsTest, KeepsATableThatWasDroppedAndMadeAnewInOneTransaction) {
  run("CREATE TEMP TABLE t (a int)");
  run("BEGIN; DROP TABLE t; CREATE TEMP TABLE t (b int); COMMIT");
  EXPECT_EQ(pinned(), "temp t");
}

TEST_F(SessionPinsTest, TakesCommitOfAFailedTransactionForARollback) {
  run("BEGIN; LISTEN a", 'T');
  run_failing("SELECT 1/0", 'E');
  run("COMMIT");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, ForgetsWhatAFailedQueryOfSeveralStatementsDid) {
  for (const SessionEffect& effect : scan("LISTEN a; SELECT 1/0").effects) {
    pins_.apply(effect, reported_);
  }
  pins_.on_error();
  pins_.on_ready('I');
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, LastsFromACursorWithHoldToItsClose) {
  run("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT");
  EXPECT_EQ(pinned(), "hold_cursor c");
  run("CLOSE c");
  EXPECT_EQ(pinned(), "");
  run("DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE ALL");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, LastsUntilAsManyLocksAreGivenBackAsWereTaken) {
  run("SELECT pg_advisory_lock(1)", 'I', "-");
  run("SELECT pg_advisory_lock($1), pg_advisory_lock_shared(hashtext('x'))", 'I', "--");
  run("SELECT pg_advisory_unlock(hashtext('x')); SELECT pg_advisory_unlock(1)");
  EXPECT_EQ(pinned(), "advisory_lock");
  run("SELECT pg_advisory_unlock($1)");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, WhatWasNotWonDoesNotPinAndWhatWasNotHeldDoesNotUnpin) {
  run("SELECT pg_try_advisory_lock(1)", 'I', "f");
  EXPECT_EQ(pinned(), "");
  run("SELECT pg_try_advisory_lock(1), pg_try_advisory_lock(2)", 'I', "ft");
  EXPECT_EQ(pinned(), "advisory_lock");
  run("SELECT pg_advisory_unlock(3)", 'I', "f");
  EXPECT_EQ(pinned(), "advisory_lock");
  run("SELECT pg_advisory_unlock(2)");
  EXPECT_EQ(pinned(), "");
  run("SELECT pg_advisory_unlock(2)", 'I', "f");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, KeepsALockOverARollback) {
  run("BEGIN; SELECT pg_advisory_lock(1)", 'T');
  run("ROLLBACK");
  EXPECT_EQ(pinned(), "advisory_lock");
}

TEST_F(SessionPinsTest, KeepsLocksWhoseNumberIsNotInTheTextUntilAllAreGivenBack) {
  run("SELECT 1 WHERE pg_try_advisory_lock(1)");
  run("SELECT pg_advisory_lock(2)");
  run("SELECT pg_advisory_unlock(2), pg_advisory_unlock(1)");
  EXPECT_EQ(pinned(), "advisory_lock");
  run("SELECT pg_advisory_unlock_all()");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, KeepsTheLocksThatAFailedStatementMayHaveTaken) {
  run_failing("SELECT pg_advisory_lock(1)");  // its only lock is what failed
  EXPECT_EQ(pinned(), "");
  run_failing("SELECT pg_advisory_lock(1), pg_advisory_lock(2)");
  EXPECT_EQ(pinned(), "advisory_lock");
  run("SELECT pg_advisory_unlock_all()");
  run_failing("SELECT pg_advisory_lock(id) FROM t");
  EXPECT_EQ(pinned(), "advisory_lock");
}

TEST(SessionEffect, WhatWasNotCalledDidNothing) {
  // A portal that is read on sends no row, and its function has been called before.
  for (const char* sql :
       {"SELECT pg_advisory_unlock_all()", "SELECT set_config('a.b', 'f', false)"}) {
    const SessionEffect effect = scan(sql).effects.at(0);
    EXPECT_FALSE(came_true(effect, {})) << sql;
    Bytes row;
    append_u16(row, 1);
    append_u32(row, 1);
    append_u8(row, 'f');
    EXPECT_TRUE(came_true(effect, row)) << sql;
    EXPECT_TRUE(came_true(effect, Bytes{0, 0})) << sql;
  }
}

TEST_F(SessionPinsTest, ResetAllEndsNoRole) {
  run("SELECT set_config('role', 'ali' || 'ce', false)");
  run("RESET ALL");
  EXPECT_EQ(pinned(), "unknown_setting role");
  run("RESET ROLE");
  EXPECT_EQ(pinned(), "");
  run("SELECT set_config(name, value, false) FROM t");
  run("RESET ALL");
  EXPECT_EQ(pinned(), "unknown_setting") << "it may have been the role";
  run("DISCARD ALL");
  EXPECT_EQ(pinned(), "");
}

TEST(SessionEffect, ALocksAnswerIsReadInTextAndInBinary) {
  const Scan scanned = scan("SELECT set_config('a.b', 'x', true), pg_try_advisory_lock(1)");
  const SessionEffect lock = scanned.effects.at(1);
  ASSERT_EQ(lock.column, 2);
  SessionEffect unlock = lock;
  unlock.kind = SessionEffect::Kind::AdvisoryUnlock;
  const auto row = [](std::string_view value) {
    Bytes out;
    append_u16(out, 2);
    append_u32(out, 0xffffffff);
    append_u32(out, static_cast<std::uint32_t>(value.size()));
    append_text(out, value);
    return out;
  };
  for (const std::string& yes : {std::string("t"), std::string("\1")}) {
    EXPECT_TRUE(came_true(lock, row(yes)));
    EXPECT_TRUE(came_true(unlock, row(yes)));
  }
  for (const std::string& no : {std::string("f"), std::string(1, '\0')}) {
    EXPECT_FALSE(came_true(lock, row(no)));
    EXPECT_FALSE(came_true(unlock, row(no)));
  }
  // No row: nothing was called. A row that cannot be read: the lock may be there.
  EXPECT_FALSE(came_true(lock, {}));
  const Bytes whole = row("f");
  for (std::size_t size = 1; size < whole.size(); ++size) {
    EXPECT_TRUE(came_true(lock, ByteSpan(whole).first(size))) << size;
    EXPECT_FALSE(came_true(unlock, ByteSpan(whole).first(size))) << size;
  }
  // Not where the number of calls is not in the text.
  for (const char* sql : {"SELECT pg_advisory_lock(1) FROM t", "SELECT 1, pg_advisory_lock(1)",
                          "EXPLAIN ANALYZE SELECT pg_advisory_lock(1)",
                          "DECLARE c CURSOR FOR SELECT pg_advisory_lock(1)",
                          "DO 'BEGIN PERFORM pg_advisory_lock(1); END'"}) {
    EXPECT_EQ(scan(sql).effects.at(0).column, 0) << sql;
  }
}

TEST_F(SessionPinsTest, EndsWithDiscardAllButForALibrary) {
  run("LISTEN a; PREPARE s AS SELECT 1; SELECT pg_advisory_lock(1); CREATE TEMP TABLE t (a int)");
  run("DISCARD ALL");
  EXPECT_EQ(pinned(), "");
  run("LISTEN a; LOAD 'auto_explain'");
  run("DISCARD ALL");
  EXPECT_EQ(pinned(), "load");
  pins_.clear();
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, HoldsASettingThatTheTextDoesNotTell) {
  run("SELECT set_config('my.a', $1, false)");
  EXPECT_EQ(pinned(), "unknown_setting my.a");
  run("SET my.a TO 1");
  EXPECT_EQ(pinned(), "");
  run("SELECT set_config($1, $2, false); SET my.a TO 1");
  EXPECT_EQ(pinned(), "unknown_setting");
  run("DISCARD ALL");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, LetsTheServerTellASettingThatItReports) {
  reported_.set("application_name", "");
  run("SELECT set_config('application_name', $1, false)");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, HoldsWhatTheScannerCouldNotRead) {
  pins_.apply_too_complex();
  pins_.on_ready('I');
  EXPECT_EQ(pinned(), "too_complex");
  run("DISCARD ALL");
  EXPECT_EQ(pinned(), "");
}

TEST_F(SessionPinsTest, StaysPinnedWhenThereIsTooMuchToTellApart) {
  for (std::size_t i = 0; i < kPinsMax + 10; ++i) run("LISTEN c" + std::to_string(i));
  run("UNLISTEN *");
  EXPECT_EQ(pinned(), "too_complex");
  run("DISCARD ALL");
  EXPECT_EQ(pinned(), "");
}

}  // namespace
}  // namespace carpool::pg
