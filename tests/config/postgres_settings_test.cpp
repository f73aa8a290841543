#include "config/postgres_settings.h"

#include <gtest/gtest.h>

namespace carpool::config {
namespace {

TEST(TimeOfSetting, IsANumberAndItsUnitRoundedToMilliseconds) {
  EXPECT_EQ(time_of_setting("1500"), 1500 * kMicrosPerMilli);
  EXPECT_EQ(time_of_setting("1s"), kMicrosPerSecond);
  EXPECT_EQ(time_of_setting(" 2 min "), 120 * kMicrosPerSecond);
  EXPECT_EQ(time_of_setting("0.5h"), 1800 * kMicrosPerSecond);
  EXPECT_EQ(time_of_setting("1d"), 86'400 * kMicrosPerSecond);
  EXPECT_EQ(time_of_setting("1600us"), 2 * kMicrosPerMilli);
  EXPECT_EQ(time_of_setting("250us"), 0);
  EXPECT_EQ(time_of_setting("0"), 0);
}

TEST(TimeOfSetting, IsNoneWherePostgresqlRefusesIt) {
  for (const char* value : {"", "default", "1 fortnight", "-1", "99999999999999d", "1S"}) {
    EXPECT_EQ(time_of_setting(value), std::nullopt) << value;
  }
}

}  // namespace
}  // namespace carpool::config
