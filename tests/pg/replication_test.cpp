#include "pg/replication.h"

#include <gtest/gtest.h>

namespace carpool::pg {
namespace {

TEST(Replication, SpelledAsAnyOfPostgresFalseBooleansIsAnOrdinarySession) {
  for (const char* value : {"false", "FALSE", "False", "f", "F", "fa", "fAl", "fals", "off", "OFF",
                            "of", "Of", "no", "NO", "n", "N", "0"}) {
    EXPECT_EQ(replication_meant(value), "") << value;
  }
}

TEST(Replication, SpelledAsAnyOfPostgresTrueBooleansIsPhysical) {
  for (const char* value :
       {"true", "TRUE", "t", "T", "tr", "tRu", "on", "ON", "oN", "yes", "YES", "y", "ye", "1"}) {
    EXPECT_EQ(replication_meant(value), "true") << value;
    EXPECT_TRUE(is_physical(replication_meant(value)));
  }
}

TEST(Replication, OfADatabaseIsLogicalInLowerCaseOnly) {
  EXPECT_EQ(replication_meant("database"), "database");
  EXPECT_FALSE(is_physical("database"));
  EXPECT_EQ(replication_meant("DATABASE"), "DATABASE");
  EXPECT_EQ(replication_meant("data"), "data");
}

TEST(Replication, ThatPostgresRefusesStaysAsItCame) {
  for (const char* value : {"o", "O", "10", "00", "truex", "falsee", "offf", "onn", "yess", "noo",
                            "2", " false", "false ", "-1", "\xc4\xb0"}) {
    EXPECT_EQ(replication_meant(value), value);
  }
}

}  // namespace
}  // namespace carpool::pg
