#include "cli/compare_pools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/load.h"

namespace carpool::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string config_of(const std::string& databases, const std::string& pool = "{}") {
  const config::Environment nothing = [](const std::string&) { return std::nullopt; };
  const auto loaded = config::load_text(
      "server: {host: db}\npool: " + pool + "\ndatabases:\n" + databases, nothing);
  EXPECT_TRUE(loaded.config);
  return loaded.config ? config::masked_json(*loaded.config) : "";
}

TEST(PoolChanges, FollowTheFirstEntryThatMatches) {
  const std::string before = config_of("- {name: app, pool: {size: 5}}\n- {name: \"*\"}\n");
  const std::string after = config_of("- {name: \"*\"}\n- {name: app, pool: {size: 5}}\n");
  EXPECT_THAT(pool_changes(before, after, {{"app", "bob"}, {"other", "eve"}, {"app", "carl"}}),
              ElementsAre(PoolChange{"app (bob, carl)", "databases", "\"app\"", "\"*\"",
                                     "goes by another entry"},
                          PoolChange{"app (bob, carl)", "pool.size", "5", "20", "applies live"}));
}

TEST(PoolChanges, AnEntryThatComesTakesItsPoolsFromTheOneThatMatchedBefore) {
  const std::string before = config_of("- {name: \"*\"}\n");
  const std::string after = config_of("- {name: app, server: {port: 6000}}\n- {name: \"*\"}\n");
  const auto changes = pool_changes(before, after, {{"app", "bob"}});
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[1].key, "server.port");
  EXPECT_EQ(changes[1].effect, "applies live, servers are replaced as they come back");
}

TEST(PoolChanges, APoolThatNoEntryMatchesEndsWithItsClients) {
  const std::string both = config_of("- {name: app}\n- {name: old}\n");
  const std::string one = config_of("- {name: app}\n");
  EXPECT_THAT(pool_changes(both, one, {{"app", "bob"}, {"old", "bob"}}),
              ElementsAre(PoolChange{"old (bob)", "databases", "\"old\"", "",
                                     "serves the clients that it has, and no others"}));
  EXPECT_THAT(
      pool_changes(one, both, {{"old", "bob"}}),
      ElementsAre(PoolChange{"old (bob)", "databases", "", "\"old\"", "takes clients again"}));
}

TEST(PoolChanges, AreOfASectionToo) {
  const std::string before = config_of("- {name: app}\n- {name: jobs, pool: {size: 20}}\n");
  const std::string after =
      config_of("- {name: app}\n- {name: jobs, pool: {size: 20}}\n", "{size: 30}");
  EXPECT_THAT(pool_changes(before, after, {{"app", "bob"}, {"jobs", "bob"}}),
              ElementsAre(PoolChange{"app (bob)", "pool.size", "20", "30", "applies live"}));
}

TEST(PoolChanges, LeaveOutWhatAPoolOfItsOwnKindDoesNotTakeFromItsEntry) {
  const std::string before = config_of("- {name: app}\n");
  const std::string after =
      config_of("- {name: app}\n", "{minIdle: 2, queryTimeout: 5s, size: 30}");
  const auto keys = [&](const std::string& database) {
    std::vector<std::string> keys;
    for (const PoolChange& change : pool_changes(before, after, {{database, "bob"}})) {
      keys.push_back(change.key);
    }
    return keys;
  };
  EXPECT_THAT(keys("app"), ElementsAre("pool.size", "pool.minIdle", "pool.queryTimeout"));
  EXPECT_THAT(keys("app?options=-c geqo=off"), ElementsAre("pool.size", "pool.queryTimeout"));
  EXPECT_THAT(keys("app?replication=database"), ElementsAre("pool.size"));
}

TEST(PoolChanges, AreNoneWhereNothingWouldChange) {
  const std::string config = config_of("- {name: app}\n");
  EXPECT_THAT(pool_changes(config, config, {{"app", "bob"}}), IsEmpty());
  EXPECT_THAT(pool_changes("no json", "{}", {}), IsEmpty());
}

}  // namespace
}  // namespace carpool::cli
