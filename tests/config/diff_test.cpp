#include "config/diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "config/keys.h"
#include "fixture.h"

namespace carpool::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Config config_of(const std::string& yaml) {
  LoadResult loaded = load_text(yaml, fixed({{"PGHOST", "db"}, {"P", "one"}, {"Q", "two"}}));
  EXPECT_THAT(lines_of(loaded.problems), IsEmpty()) << yaml;
  return loaded.config.value_or(Config{});
}

// "key: before -> after", with the word restart where it is due.
std::vector<std::string> changes(const std::string& before, const std::string& after) {
  std::vector<std::string> lines;
  for (const KeyChange& change : diff(config_of(before), config_of(after))) {
    lines.push_back(change.key + ": " + change.before + " -> " + change.after +
                    (change.live ? "" : " (restart)"));
  }
  return lines;
}

TEST(Diff, IsEmptyBetweenEqualConfigurations) {
  EXPECT_THAT(changes("pool: {size: 20}", "pool: {size: 20} # as before"), IsEmpty());
}

TEST(Diff, NamesEachKeyOnceWithItsUnits) {
  EXPECT_THAT(changes("pool: {size: 20, acquireTimeout: 30s}",
                      "pool: {size: 40, acquireTimeout: 90s}\nadmin: {users: [a, b]}"),
              ElementsAre("admin.users: [] -> [a, b]", "pool.size: 20 -> 40",
                          "pool.acquireTimeout: 30s -> 90s"));
}

TEST(Diff, SaysWhatWaitsForARestart) {
  EXPECT_THAT(
      changes("listen: {port: 6432}", "listen: {port: 6433, clientsMax: 5000}"),
      ElementsAre("listen.port: 6432 -> 6433 (restart)", "listen.clientsMax: 1000 -> 5000"));
}

TEST(Diff, MasksSecretsAndStillShowsThatTheyChanged) {
  EXPECT_THAT(
      changes("server: {host: h, password: \"${P}\"}", "server: {host: h, password: \"${Q}\"}"),
      ElementsAre("server.password: *** -> *** (changed)"));
  EXPECT_THAT(changes("server: {url: \"postgres://u:${P}@h/d\"}",
                      "server: {url: \"postgres://u:${Q}@h/d\"}"),
              ElementsAre("server.url: postgres://u:***@h/d -> postgres://u:***@h/d (changed)"));
  EXPECT_THAT(changes("server: {host: h}", "server: {host: h, password: \"${P}\"}"),
              ElementsAre("server.password:  -> ***"));
}

TEST(Diff, NamesTheDatabaseOfItsOwnKeys) {
  EXPECT_THAT(changes("databases: [{name: a, pool: {size: 5}}, {name: \"*\"}]",
                      "databases: [{name: a, pool: {size: 6}}, {name: \"*\"}]"),
              ElementsAre("databases[a].pool.size: 5 -> 6"));
}

TEST(Diff, TellsAnInheritedChangeFromOneOfItsOwn) {
  // `a` loses its own size while the section's changes: that is not what the section says.
  EXPECT_THAT(changes("databases: [{name: a, pool: {size: 5}}, {name: \"*\"}]",
                      "pool: {size: 8}\ndatabases: [{name: a}, {name: \"*\"}]"),
              ElementsAre("pool.size: 20 -> 8", "databases[a].pool.size: 5 -> 8"));
}

TEST(Diff, ShowsDatabasesThatComeGoAndMove) {
  EXPECT_THAT(changes("databases: [{name: a}, {name: b}]", "databases: [{name: b}, {name: c}]"),
              ElementsAre("databases[a]: a -> ", "databases[c]:  -> c"));
  EXPECT_THAT(
      changes("databases: [{name: a}, {name: \"*\"}]", "databases: [{name: \"*\"}, {name: a}]"),
      ElementsAre("databases: a then * -> * then a"));
}

TEST(ApplyLive, KeepsOnlyTheKeysThatNeedARestart) {
  Config running = config_of("listen: {port: 6432}\npool: {size: 5}\nlog: {format: text}");
  Config desired = config_of(
      "listen: {port: 6433, clientsMax: 7}\npool: {size: 6}\nlog: {format: json, level: debug}");
  Config applied = apply_live(running, desired);
  EXPECT_EQ(applied.listen.port, 6432);
  EXPECT_EQ(applied.listen.clients_max, 7u);
  EXPECT_EQ(applied.pool.size, 6u);
  EXPECT_EQ(applied.databases, desired.databases);
  EXPECT_EQ(applied.log.format, LogFormat::Text);
  EXPECT_EQ(applied.log.level, LogLevel::Debug);
}

TEST(ApplyLive, LeavesExactlyTheRestartsToBeDone) {
  Config running;
  Config desired;
  desired.databases.push_back({"new", {}, {}});
  for (const Key& key : keys()) {
    Value value = key.get(desired);
    if (key.type == KeyType::String) value = std::string("other");
    if (key.type == KeyType::Int || key.type == KeyType::Duration) value = key.max - 1;
    if (key.type == KeyType::Enum) value = key.values.back();
    key.set(desired, value);
  }
  std::vector<KeyChange> live;
  std::vector<KeyChange> restart;
  for (KeyChange& change : diff(running, desired)) {
    (change.live ? live : restart).push_back(std::move(change));
  }
  Config applied = apply_live(running, desired);
  EXPECT_EQ(diff(running, applied), live);
  EXPECT_EQ(diff(applied, desired), restart);
  EXPECT_EQ(restart.size(), 8u);
}

}  // namespace
}  // namespace carpool::config
