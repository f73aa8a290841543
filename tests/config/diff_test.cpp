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
using ::testing::HasSubstr;
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
  EXPECT_THAT(changes("admin: {port: 9930}", "admin: {port: 9940, users: [a]}"),
              ElementsAre("admin.port: 9930 -> 9940 (restart)", "admin.users: [] -> [a]"));
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

TEST(InForce, KeepsOnlyTheKeysThatNeedARestart) {
  Config running = config_of("admin: {port: 9930}\npool: {size: 5}\nlog: {format: text}");
  Config desired = config_of(
      "admin: {port: 9940, users: [a]}\nlisten: {port: 6433}\npool: {size: 6}\n"
      "log: {format: json, level: debug}");
  Config applied = in_force(running, desired, Libpq()).config.value();
  EXPECT_EQ(applied.admin.port, 9930);
  EXPECT_EQ(applied.admin.users, desired.admin.users);
  EXPECT_EQ(applied.listen.port, 6433);
  EXPECT_EQ(applied.pool.size, 6u);
  EXPECT_EQ(applied.databases, desired.databases);
  EXPECT_EQ(applied.log.format, LogFormat::Text);
  EXPECT_EQ(applied.log.level, LogLevel::Debug);
}

TEST(InForce, WithoutCredentialsAllElseComes) {
  Config running = config_of("auth: {mode: scram-sha-256, usersFile: /a}");
  Config desired = config_of(
      "auth: {mode: scram-sha-256, usersFile: /b}\npool: {size: 6}\n"
      "listen: {tls: {mode: allow, certFile: /c, keyFile: /k}}");
  Config applied = in_force(running, desired, Libpq(), Late::Credentials).config.value();
  EXPECT_EQ(applied.auth, running.auth);
  EXPECT_EQ(applied.listen.tls, running.listen.tls);
  EXPECT_EQ(applied.pool.size, 6u);
}

TEST(InForce, WithoutThoseWhoMayComeInNothingIsReachedThatWasNot) {
  const Config running =
      config_of("server: {host: dev}\ndatabases: [{name: app, pool: {size: 3}}, {name: old}]");
  const Config desired = config_of(
      "auth: {mode: scram-sha-256, usersFile: /u}\nserver: {host: prod}\nadmin: {users: [ops]}\n"
      "databases: [{name: app, pool: {size: 4}}, {name: payroll}]\npool: {minIdle: 2}");
  const Config applied = in_force(running, desired, Libpq(), Late::Credentials).config.value();
  EXPECT_EQ(applied.auth, running.auth);
  EXPECT_EQ(applied.admin, running.admin);
  EXPECT_EQ(applied.server.host, "dev");
  ASSERT_EQ(applied.databases.size(), 2u);
  EXPECT_EQ(applied.databases[0].server.host, "dev");
  EXPECT_EQ(applied.databases[0].pool.size, 4u);
  EXPECT_EQ(applied.databases[1].name, "old");
  EXPECT_EQ(applied.pool.min_idle, 2u);
}

// What has been seen by nobody as a file is judged as one: else a door could open by halves.
TEST(InForce, AMixtureThatNoFileCouldBeIsAProblemThatNamesBothKeys) {
  // An admin port that stays where it is, and a listening port that comes there.
  const Config running = config_of("listen: {port: 6432}\nadmin: {port: 9930}");
  const Config ports = config_of("listen: {port: 9930}\nadmin: {port: 6432}");
  EXPECT_THAT(
      lines_of(in_force(running, ports, Libpq()).problems),
      ElementsAre(" listen.port: cannot come without `admin.port` (9930), which waits for a "
                  "restart: `admin.port` is 9930, which `listen.port` takes already"));
  EXPECT_FALSE(in_force(running, ports, Libpq()).config);
  // Everybody would be trusted on all addresses.
  const Config asks =
      config_of("listen: {address: 127.0.0.1}\nauth: {mode: scram-sha-256, usersFile: /u}");
  const Config trusts = config_of("listen: {address: 127.0.0.1}");
  const Config open =
      config_of("listen: {address: 0.0.0.0}\nauth: {mode: scram-sha-256, usersFile: /u}");
  EXPECT_EQ(in_force(trusts, open, Libpq(), Late::Credentials).config.value().listen.address,
            "127.0.0.1");
  EXPECT_TRUE(in_force(open, asks, Libpq(), Late::Credentials).config);
}

// A file may do so, and is warned. Nobody has asked for it here.
TEST(InForce, PasswordsAreNotSentInClearUntilACertificateHasBeenRead) {
  const Config running = config_of("auth: {mode: passthrough}");
  const Config desired = config_of(
      "auth: {mode: passthrough}\n"
      "listen: {address: 0.0.0.0, tls: {mode: require, certFile: /c, keyFile: /k}}");
  EXPECT_EQ(in_force(running, desired, Libpq(), Late::Credentials).config.value().listen.address,
            "127.0.0.1");
  EXPECT_TRUE(in_force(running, desired, Libpq()).config);
  const Config already = config_of("auth: {mode: passthrough}\nlisten: {address: 0.0.0.0}");
  EXPECT_TRUE(in_force(already, desired, Libpq(), Late::Credentials).config) << "it is so now";
}

// Where a database differs from its sections, it is judged as in a file, too.
TEST(InForce, ADatabaseThatWouldLeadToCarpoolItselfIsAProblem) {
  Config running = config_of("admin: {port: 9930}\nserver: {host: 127.0.0.1, port: 5432}");
  Config desired = config_of(
      "admin: {port: 9940}\nserver: {host: 127.0.0.1, port: 5432}\n"
      "databases: [{name: a, server: {port: 5433}}]");
  EXPECT_TRUE(in_force(running, desired, Libpq()).config);
  desired.databases[0].server.port = desired.listen.port;  // as a key that waits would have it
  EXPECT_THAT(
      lines_of(in_force(running, desired, Libpq()).problems),
      ElementsAre(HasSubstr("`databases[0].server.port` the server at `127.0.0.1` port 6432 "
                            "is where Carpool itself listens")));
}

// libpq takes raw spaces in a url until 17.
TEST(InForce, UrlsAreReadAsTheLibpqReadsThemThatWillConnect) {
  Libpq older;
  older.version = 15;
  const auto loaded = [&](const std::string& more) {
    const std::string url = "server: {url: 'postgres://h/d?options=-c geqo%3Doff'}\n";
    return load_text(url + more, Environment(fixed({}), older)).config.value();
  };
  const Config running = loaded("admin: {port: 9930}");
  const Config desired = loaded("admin: {port: 9940}\npool: {size: 6}");
  const InForce next = in_force(running, desired, older);
  ASSERT_THAT(lines_of(next.problems), ElementsAre());
  EXPECT_EQ(next.config->pool.size, 6u);
}

TEST(InForce, LeavesExactlyTheRestartsToBeDone) {
  const Config running = config_of("server: {host: db}");
  for (const Key& key : keys()) {
    Config desired = running;
    Value value = key.get(desired);
    if (key.type == KeyType::String) value = std::string("127.0.0.2");
    if (key.type == KeyType::Int || key.type == KeyType::Duration) value = key.max - 1;
    if (key.type == KeyType::StringList) value = std::vector<std::string>{"other"};
    if (key.type == KeyType::Enum) value = key.values.back();
    if (value == key.get(running)) value = key.values.front();
    key.set(desired, value);
    ASSERT_EQ(diff(running, desired).size(), 1u) << key.path;
    EXPECT_EQ(in_force(running, desired, Libpq()).config, key.live ? desired : running) << key.path;
  }
}

}  // namespace
}  // namespace carpool::config
