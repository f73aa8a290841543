#include "pg/set_time.h"

#include <gtest/gtest.h>

namespace carpool::pg {
namespace {

TEST(SetTime, IsANumberAndItsUnit) {
  EXPECT_EQ(time_set_by("SET idle_session_timeout TO '1s'"), kMicrosPerSecond);
  EXPECT_EQ(time_set_by("set session idle_session_timeout to 1500"), 1500 * kMicrosPerMilli);
  EXPECT_EQ(time_set_by("SET idle_session_timeout='2 min';"), 120 * kMicrosPerSecond);
  EXPECT_EQ(time_set_by("SET \"idle_session_timeout\" TO '0.5h'"), 1800 * kMicrosPerSecond);
  EXPECT_EQ(time_set_by("SET idle_session_timeout = 0"), 0);
  EXPECT_EQ(time_set_by("SET idle_session_timeout TO'1d'"), 86'400 * kMicrosPerSecond);
  EXPECT_EQ(time_set_by("SET idle_session_timeout TO '250us'"), 250);
}

TEST(SetTime, IsNotKnownWhereItIsNotSaidPlainly) {
  for (const char* sql : {"", "SET idle_session_timeout TO DEFAULT", "SET x TO '1 fortnight'",
                          "SET x TO -1", "SET x TO '99999999999999d'", "RESET x", "SET x TO"}) {
    EXPECT_EQ(time_set_by(sql), std::nullopt) << sql;
  }
}

}  // namespace
}  // namespace carpool::pg
