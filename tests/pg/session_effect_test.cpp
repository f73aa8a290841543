#include "pg/session_effect.h"

#include <gtest/gtest.h>

namespace carpool::pg {
namespace {

TEST(ValueSetBy, IsTheOneBehindTheName) {
  EXPECT_EQ(value_set_by("SET idle_session_timeout TO '1s'"), "1s");
  EXPECT_EQ(value_set_by("set session idle_session_timeout to 1500"), "1500");
  EXPECT_EQ(value_set_by("SET idle_session_timeout='2 min';"), "2 min");
  EXPECT_EQ(value_set_by("SET \"a = b\" /* to */ TO'it''s'"), "it's");
  EXPECT_EQ(value_set_by("SET x TO on"), "on");
  EXPECT_EQ(value_set_by(set_sql("idle_session_timeout", "1 h")), "1 h");
}

TEST(ValueSetBy, IsNoneWhereItIsNotOne) {
  for (const char* sql : {"", "RESET x", "SET x TO", "SET x TO a, b", "SET x TO -1", "SET x ="}) {
    EXPECT_EQ(value_set_by(sql), std::nullopt) << sql;
  }
}

}  // namespace
}  // namespace carpool::pg
