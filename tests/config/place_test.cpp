#include "config/place.h"

#include <gtest/gtest.h>

namespace carpool::config {
namespace {

TEST(Place, IsWhereTheServerIsAndNotWhoSignsInThere) {
  Server one;
  one.url = "postgres://app:one@db:5433/app";
  Server other = one;
  other.url = "postgres://app:two@db:5433/other";
  EXPECT_TRUE(same_place(one, other, Libpq()));
  other.host = "elsewhere";
  EXPECT_FALSE(same_place(one, other, Libpq()));
}

// libpq takes raw spaces in a url until 17.
TEST(Place, IsThatWhichTheLibpqSeesThatWillConnect) {
  Libpq older;
  older.version = 15;
  Server one;
  one.url = "postgres://app:one@db/app?options=-c geqo%3Doff";
  Server other;
  other.url = "postgres://app:two@db/app?options=-c geqo%3Doff";
  EXPECT_TRUE(same_place(one, other, older));
}

}  // namespace
}  // namespace carpool::config
