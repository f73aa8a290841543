#include "config/load.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fixture.h"

namespace carpool::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Lines = std::vector<std::string>;

Config config_of(const std::string& yaml, const Environment& env = with_server()) {
  LoadResult loaded = load_text(yaml, env);
  EXPECT_THAT(lines_of(loaded.problems), IsEmpty()) << yaml;
  return loaded.config.value_or(Config{});
}

TEST(Load, ReadsTheExampleOfTheDesign) {
  LoadResult loaded = load_file(test_file("design.yaml"), with_server());
  ASSERT_TRUE(loaded.config) << format(loaded.problems.at(0), "design.yaml");
  EXPECT_THAT(lines_of(loaded.warnings), IsEmpty());
  const Config& config = *loaded.config;
  ASSERT_EQ(config.databases.size(), 3u);
  EXPECT_EQ(config.databases[0].name, "app_jobs");
  EXPECT_EQ(config.databases[0].server.database, "app");
  EXPECT_EQ(config.databases[0].server.host, "db");
  EXPECT_EQ(config.databases[0].pool.mode, PoolMode::Session);
  EXPECT_EQ(config.databases[0].pool.size, 5u);
  EXPECT_EQ(config.databases[0].pool.reset_query, "DISCARD ALL");
  EXPECT_EQ(config.databases[1].server.host, "replica-0,replica-1");
  EXPECT_EQ(config.databases[1].server.target_session_attrs, "prefer-standby");
  EXPECT_EQ(config.databases[2].pool, config.pool);
  EXPECT_EQ(config.find_database("anything"), &config.databases[2]);
  EXPECT_EQ(config.drain.timeout_us, 25 * kMicrosPerSecond);
  EXPECT_EQ(config.listen, Listen{});
  EXPECT_EQ(config.pool, Pool{});
}

TEST(Load, TakesAnEmptyFileForDefaultsAndTheEnvironment) {
  for (const char* yaml : {"", "\n", "# nothing yet\n", "---\n", "{}", "~", "pool:\nlog:\n"}) {
    Config config = config_of(yaml);
    ASSERT_EQ(config.databases.size(), 1u) << yaml;
    EXPECT_EQ(config.databases[0].name, "*");
    EXPECT_EQ(config.databases[0].server.host, "db");
    EXPECT_EQ(config.pool, Pool{});
  }
}

TEST(Load, TakesANullForNotGiven) {
  Config config = config_of("pool: {size: , mode: ~, acquireTimeout: null}\nlog: {level:}\n");
  EXPECT_EQ(config.pool, Pool{});
}

TEST(Load, HashesTheTextAsItStands) {
  EXPECT_EQ(load_text("", with_server()).sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_NE(load_text("#", with_server()).sha256, load_text("# ", with_server()).sha256);
  EXPECT_EQ(load_text("pool: [", with_server()).sha256.size(), 64u);
}

TEST(Load, ListsAllProblemsAtOnceInTheOrderOfTheFile) {
  EXPECT_THAT(
      problems_of("listen:\n"
                  "  prot: 6432\n"
                  "  clientsMax: -1\n"
                  "pool:\n"
                  "  size: 0\n"
                  "  acquireTimeout: 5 parsecs\n"
                  "  mode: transacton\n"
                  "log: {queryText: \"${NOPE}\"}\n"),
      ElementsAre("2:3: listen.prot: unknown key; did you mean `port`?",
                  "3:15: listen.clientsMax: must be at least 1, not `-1`",
                  "5:9: pool.size: must be at least 1, not `0`",
                  "6:19: pool.acquireTimeout: `5 parsecs`: `parsecs` is not a unit of time (us, "
                  "ms, s, m, h or d)",
                  "7:9: pool.mode: `transacton` is none of session, transaction or statement; did "
                  "you mean `transaction`?",
                  "8:18: log.queryText: the variable NOPE is not set, and has no default "
                  "(${NOPE:-...})"));
}

TEST(Load, NamesThePlaceAndTheReasonOfEachMistake) {
  struct Case {
    const char* yaml;
    Lines problems;
  };
  const std::vector<Case> cases = {
      // Values of the wrong kind or size.
      {"pool: {size: -1}", {"1:14: pool.size: must be at least 1, not `-1`"}},
      {"pool: {size: 20000}", {"1:14: pool.size: must be at most 10000, not `20000`"}},
      {"pool: {size: ten}", {"1:14: pool.size: a whole number is expected, not `ten`"}},
      {"pool: {size: [5]}", {"1:14: pool.size: a single value is expected, not a list"}},
      {"pool: {size: {a: 5}}", {"1:14: pool.size: a single value is expected, not a mapping"}},
      {"pool: {idleTimeout: 30}",
       {"1:21: pool.idleTimeout: `30` has no unit; did you mean `30s`? (us, ms, s, m, h or d)"}},
      {"pool: {idleTimeout: 1ms}",
       {"1:21: pool.idleTimeout: must be at least 100ms, or 0s (never), not `1ms`"}},
      {"pool: {acquireTimeout: 0s}", {"1:24: pool.acquireTimeout: must be at least 1ms, not `0s`"}},
      {"pool: {maxLifetime: 400d}", {"1:21: pool.maxLifetime: must be at most 365d, not `400d`"}},
      {"listen: {port: 65536}", {"1:16: listen.port: must be at most 65535, not `65536`"}},
      {"admin: {users: root}",
       {"1:16: admin.users: a list is expected, such as [a, b], not a single value"}},
      {"admin: {users: [a, [b]]}",
       {"1:20: admin.users[1]: a single value is expected, not a list"}},
      {"pool: 5", {"1:7: pool: a mapping of keys is expected, not a single value"}},
      {"pool:\n- size: 5", {"2:1: pool: a mapping of keys is expected, not a list"}},
      {"hello", {"1:1: a mapping of keys is expected, not a single value"}},
      {"[a, b]", {"1:1: a mapping of keys is expected, not a list"}},
      {"auth: {scramIterations: 1000}",
       {"1:25: auth.scramIterations: must be at least 4096, not `1000`"}},
      // Keys.
      {"pool: {sise: 5}", {"1:8: pool.sise: unknown key; did you mean `size`?"}},
      {"pol: {size: 5}", {"1:1: pol: unknown key; did you mean `pool`?"}},
      {"database: []", {"1:1: database: unknown key; did you mean `databases`?"}},
      {"pool: {clientsMax: 5}",
       {"1:8: pool.clientsMax: unknown key; did you mean `listen.clientsMax`?"}},
      {"minIdle: 5", {"1:1: minIdle: unknown key; did you mean `pool.minIdle`?"}},
      {"pool: {size:5}", {"1:8: pool.size:5: unknown key; a `:` needs a space behind it"}},
      {"drain: {prometheus: 5}",
       {"1:9: drain.prometheus: unknown key; known here: minDelay and timeout"}},
      {"listen: {tls: {cert: x}}",
       {"1:16: listen.tls.cert: unknown key; known here: mode, certFile, keyFile and caFile"}},
      {"pool: {size: 5, size: 6}", {"1:17: pool.size: is given twice; the first is in line 1"}},
      {"log: {}\npool: {}\nlog: {}", {"3:1: log: is given twice; the first is in line 1"}},
      {"{[a]: b}", {"1:2: a key has to be a name, not a list"}},
      {"pool: {<<: {size: 5}}",
       {"1:8: pool: merge keys (`<<`) are not supported; write the keys out (a database inherits "
        "`server` and `pool` by itself)"}},
      // Databases.
      {"databases: {name: a}",
       {"1:12: databases: a list of `- name: ...` entries is expected, not a mapping"}},
      {"databases: [{pool: {size: 5}}]",
       {"1:13: databases[0]: lacks its `name`: the database that clients ask for, or \"*\""}},
      {"databases: [{name: \"\"}]", {"1:20: databases[0].name: is empty"}},
      {"databases: [a]", {"1:13: databases[0]: a mapping of keys is expected, not a single value"}},
      {"databases:\n-\n- name: a", {"3:1: databases[0]: is empty; a `name` is the least"}},
      {"databases: [{name: a}, {name: b}, {name: a}]",
       {"1:42: databases[2].name: `a` is named twice; the first is in line 1"}},
      {"databases: [{name: a}, ~, {name: a}]",
       {"1:24: databases[1]: is empty; a `name` is the least",
        "1:34: databases[2].name: `a` is named twice; the first is in line 1"}},
      {"databases: [{name: a, size: 5}]",
       {"1:23: databases[0].size: unknown key; did you mean `pool.size`?"}},
      {"databases: [{name: a, pool: {sise: 5}}]",
       {"1:30: databases[0].pool.sise: unknown key; did you mean `size`?"}},
      {"databases: [{name: a, pool: {size: x}}]",
       {"1:36: databases[0].pool.size: a whole number is expected, not `x`"}},
      {"databases: [{name: a, drain: {timeout: 5s}}]",
       {"1:23: databases[0].drain: unknown key; known here: name, server and pool"}},
  };
  for (const Case& c : cases) EXPECT_EQ(problems_of(c.yaml), c.problems) << c.yaml;
}

TEST(Load, SaysWhereAFileIsNotYaml) {
  struct Case {
    const char* yaml;
    const char* problem;
  };
  const std::vector<Case> cases = {
      {"pool: {size: 5", "1:15: not valid YAML: a `{` lacks its `}`, or a `,` is missing"},
      {"pool: {size: 5\n", "1:15: not valid YAML: a `{` lacks its `}`, or a `,` is missing"},
      {"admin: {users: [a, b}\n", "1:21: not valid YAML: a `}` or `]` without its beginning"},
      {"pool: {size: 5}}\n", "1:16: not valid YAML: a `}` or `]` without its beginning"},
      {"pool:\n  size: 5\n mode: session\n",
       "3:2: not valid YAML: the indentation does not fit, or a `:` is missing"},
      {"pool:\n\tsize: 5\n",
       "2:6: not valid YAML: a `:` is not expected (a value that holds one needs quotes) (the line "
       "is indented with a tab; YAML wants spaces)"},
      {"listen: {port: ${PORT:-6432}}\n",
       "1:17: not valid YAML: a `{` lacks its `}`, or a `,` is missing (inside { }, write "
       "\"${VAR}\" between quotes)"},
      {"pool: {}\n---\nlog: {}\n",
       "2:1: there is more behind the end of the document; only one is expected"},
      {"pool: !secret {size: 5}", "1:7: a tag (`!...`) is not expected"},
      {"pool: *nowhere", "1:7: not valid YAML: the referenced anchor is not defined"},
      // Half-written ones.
      {"databases:\n- name: ", "2:9: databases[0].name: a single value is expected, not nothing"},
      {"pool:\n  size: 5\n  minI",
       "3:3: not valid YAML: the indentation does not fit, or a `:` is "
       "missing"},
      {"log: {level: info}\ndrain\n",
       "2:1: not valid YAML: the indentation does not fit, or a `:` is missing"},
      {"pool:\n  resetQuery: \"DISCARD\n", "2:23: not valid YAML: a quote lacks its end"},
      {"pool:\n  resetQuery: 'DISCARD", "2:23: not valid YAML: a quote lacks its end"},
  };
  for (const Case& c : cases) EXPECT_THAT(problems_of(c.yaml), ElementsAre(c.problem)) << c.yaml;
}

TEST(Load, RefusesBytesThatAreNoText) {
  EXPECT_THAT(problems_of(std::string("pool:\n  size: 5\0\0", 17)),
              ElementsAre("2:1: holds a NUL byte: not UTF-8 text, or half written"));
  EXPECT_THAT(problems_of(std::string(kFileBytes_max + 1, ' ')),
              ElementsAre(" is larger than 1048576 bytes"));
}

TEST(Load, BoundsDepthNodesAndTheListOfProblems) {
  EXPECT_THAT(problems_of(std::string(1000, '[')),
              ElementsAre("1:17: is nested deeper than 32 levels"));
  std::string many = "admin: {users: [";
  for (int i = 0; i < 60'000; i++) many += "a,";
  EXPECT_EQ(problems_of(many + "]}").size(), 1u);
  std::string unknown;
  for (int i = 0; i < 500; i++) unknown += "key" + std::to_string(i) + ": 1\n";
  Lines problems = problems_of(unknown);
  ASSERT_EQ(problems.size(), kProblems_max + 1);
  EXPECT_EQ(problems.back(), " there are more problems; only the first are listed");
}

TEST(Load, SharesWhatAnAliasNames) {
  Config config = config_of(
      "pool: &common {size: 7, mode: session}\n"
      "databases: [{name: a, pool: *common}, {name: b, pool: *common}]\n");
  EXPECT_EQ(config.databases[0].pool.size, 7u);
  EXPECT_EQ(config.databases[1].pool.mode, PoolMode::Session);
}

TEST(Load, SurvivesAliasesThatExplodeOrReferToThemselves) {
  std::string bomb = "a: &a [x, x]\n";
  for (char c = 'b'; c < 'z'; c++) {
    std::string before(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + c + " [*" + before + ", *" + before + "]\n";
  }
  EXPECT_EQ(problems_of(bomb).size(), 25u);
  EXPECT_THAT(problems_of("pool: &p {size: *p}"),
              ElementsAre("1:7: pool.size: a single value is expected, not a mapping"));
  EXPECT_THAT(problems_of("databases: &d [*d]"),
              ElementsAre("1:12: databases[0]: a mapping of keys is expected, not a list"));
}

TEST(Load, ReplacesVariablesInValuesOnly) {
  Environment env = fixed({{"PGHOST", "db"}, {"SIZE", "7"}, {"NAME", "app"}, {"EMPTY", ""}});
  Config config = config_of(
      "pool:\n"
      "  size: ${SIZE}\n"
      "  minIdle: ${MIN:-2}\n"
      "  acquireTimeout: ${SECONDS:-5}s\n"
      "  resetQuery: SELECT '$$1'\n"
      "databases: [{name: \"${NAME}\"}, {name: \"${OTHER:-*}\"}]\n"
      "admin: {users: [\"${NAME}\", b]}\n"
      "listen: {unixSocketDir: \"${EMPTY}\"}\n",
      env);
  EXPECT_EQ(config.pool.size, 7u);
  EXPECT_EQ(config.pool.min_idle, 2u);
  EXPECT_EQ(config.pool.acquire_timeout_us, 5 * kMicrosPerSecond);
  EXPECT_EQ(config.pool.reset_query, "SELECT '$1'");
  EXPECT_EQ(config.databases[0].name, "app");
  EXPECT_EQ(config.databases[1].name, "*");
  EXPECT_EQ(config.admin.users, (std::vector<std::string>{"app", "b"}));
  EXPECT_THAT(problems_of("\"${NAME}\": {}", env),
              ElementsAre("1:1: ${NAME}: unknown key; known here: listen, admin, auth, server, "
                          "pool, log, drain and databases"));
}

TEST(Load, NeverTakesAVariableForYaml) {
  const std::string evil = "x}, pool: {size: 9999}, log: {level: \"debug\" # \\n \n- [";
  Environment env = fixed({{"PGHOST", "db"}, {"EVIL", evil.substr(0, evil.find('\n'))}});
  Config config = config_of("server: {host: db, user: \"${EVIL}\"}", env);
  EXPECT_EQ(config.server.user, evil.substr(0, evil.find('\n')));
  EXPECT_EQ(config.pool, Pool{});
  EXPECT_EQ(config.log, Log{});
}

TEST(Load, QuotesTheVariableAndNotWhatItHolds) {
  Environment env = fixed({{"PGHOST", "db"}, {"PASSWORD", "hunter2"}});
  EXPECT_THAT(problems_of("pool: {size: \"${PASSWORD}\", idleTimeout: \"${PASSWORD}\"}\n"
                          "log: {level: \"${PASSWORD}\"}",
                          env),
              ElementsAre("1:14: pool.size: a whole number is expected, not `${PASSWORD}`",
                          "1:42: pool.idleTimeout: `${PASSWORD}` is not a duration; write a number "
                          "and a unit (us, ms, s, m, h or d), such as 5s",
                          "2:14: log.level: `${PASSWORD}` is none of debug, info, warn or error"));
}

TEST(Load, TakesWhatHelmWritesForNumbersAndForOff) {
  Config config = config_of("pool: {waitersMax: 1e+06}\nlog: {queryText: false}\n");
  EXPECT_EQ(config.pool.waiters_max, 1'000'000u);
  EXPECT_EQ(config.log.query_text, QueryText::Off);
}

TEST(Load, MergesDatabasesOverTheSectionsKeyByKey) {
  Config config = config_of(
      "server: {host: a, port: 5433, user: app, passwordFile: /p, sslMode: require}\n"
      "pool: {size: 8, minIdle: 2, mode: session}\n"
      "databases:\n"
      "- {name: x, server: {host: b}, pool: {size: 4}}\n"
      "- {name: y, server: {user: \"\", port: 0}}\n"
      "- {name: \"*\"}\n");
  EXPECT_EQ(config.databases[0].server.host, "b");
  EXPECT_EQ(config.databases[0].server.port, 5433);
  EXPECT_EQ(config.databases[0].server.user, "app");
  EXPECT_EQ(config.databases[0].pool.size, 4u);
  EXPECT_EQ(config.databases[0].pool.min_idle, 2u);
  EXPECT_EQ(config.databases[0].pool.mode, PoolMode::Session);
  EXPECT_EQ(config.databases[1].server.user, "");
  EXPECT_FALSE(config.databases[1].server.port_set);
  EXPECT_EQ(config.databases[1].server.port, 5432);
  EXPECT_EQ(config.databases[2].server, config.server);
  EXPECT_EQ(config.databases[2].pool, config.pool);
}

TEST(Load, LetsTheUrlOfADatabaseReplaceWhatTheSectionSaysAboutTheSame) {
  Config config = config_of(
      "server: {host: a, port: 5433, user: app, passwordFile: /p, sslMode: require, options: -c "
      "x=y}\n"
      "databases:\n"
      "- {name: x, server: {url: \"postgres://u:pw@b/d\", sslMode: disable}}\n"
      "- {name: y, server: {url: \"postgres:///d\"}}\n");
  const Server& x = config.databases[0].server;
  EXPECT_EQ(x.host, "");
  EXPECT_FALSE(x.port_set);
  EXPECT_EQ(x.user, "");
  EXPECT_EQ(x.password_file, "");
  EXPECT_EQ(x.ssl_mode, "disable");
  EXPECT_EQ(x.options, "-c x=y");
  const Server& y = config.databases[1].server;
  EXPECT_EQ(y.host, "a");
  EXPECT_EQ(y.port, 5433);
  EXPECT_EQ(y.user, "app");
  EXPECT_EQ(y.password_file, "/p");
}

TEST(Load, LetsEitherFormOfADatabasesPasswordReplaceTheSectionsOther) {
  Environment env = fixed({{"P", "pw"}});
  Config config = config_of(
      "server: {host: a, passwordFile: /p}\n"
      "databases:\n"
      "- {name: x, server: {password: \"${P}\"}}\n",
      env);
  EXPECT_EQ(config.databases[0].server.password, "pw");
  EXPECT_EQ(config.databases[0].server.password_file, "");
  config = config_of(
      "server: {host: a, password: \"${P}\"}\n"
      "databases:\n"
      "- {name: x, server: {passwordFile: /p}}\n",
      env);
  EXPECT_EQ(config.databases[0].server.password, "");
  EXPECT_EQ(config.databases[0].server.password_file, "/p");
}

TEST(LoadEnvironment, TakesDatabaseUrlFirst) {
  Environment env = fixed({{"DATABASE_URL", "postgres://u:p@h:6000/d"}, {"PGHOST", "other"}});
  LoadResult loaded = load_environment(env);
  ASSERT_TRUE(loaded.config);
  EXPECT_EQ(loaded.config->server.url, "postgres://u:p@h:6000/d");
  EXPECT_EQ(loaded.config->server.host, "");
  EXPECT_EQ(loaded.config->databases.at(0).server.url, "postgres://u:p@h:6000/d");
  EXPECT_EQ(loaded.sha256.size(), 64u);
}

TEST(LoadEnvironment, HashesTheServerButNotItsPassword) {
  auto hash = [](const char* url) {
    return load_environment(fixed({{"DATABASE_URL", url}})).sha256;
  };
  EXPECT_EQ(hash("postgres://u:a@h/d"), hash("postgres://u:b@h/d"));
  EXPECT_NE(hash("postgres://u:a@h/d"), hash("postgres://u:a@h/e"));
}

TEST(LoadEnvironment, TakesLibpqsVariables) {
  LoadResult loaded = load_environment(fixed({{"PGHOST", "h"},
                                              {"PGPORT", "6000"},
                                              {"PGUSER", "u"},
                                              {"PGPASSWORD", "p"},
                                              {"PGDATABASE", "d"},
                                              {"PGSSLMODE", "verify-full"},
                                              {"PGSSLROOTCERT", "/ca"},
                                              {"PGSSLCERT", "/cert"},
                                              {"PGSSLKEY", "/key"},
                                              {"PGTARGETSESSIONATTRS", "read-write"},
                                              {"PGOPTIONS", "-c geqo=off"},
                                              {"PGCONNECT_TIMEOUT", "3"}}));
  ASSERT_TRUE(loaded.config) << format(loaded.problems.at(0), "");
  Server expected;
  expected.host = "h";
  expected.port = 6000;
  expected.port_set = true;
  expected.user = "u";
  expected.password = "p";
  expected.database = "d";
  expected.ssl_mode = "verify-full";
  expected.ssl_root_cert = "/ca";
  expected.ssl_cert = "/cert";
  expected.ssl_key = "/key";
  expected.target_session_attrs = "read-write";
  expected.options = "-c geqo=off";
  expected.connect_timeout_us = 3 * kMicrosPerSecond;
  EXPECT_EQ(loaded.config->server, expected);
  EXPECT_EQ(loaded.config->databases.at(0).server, expected);
}

TEST(LoadEnvironment, NamesTheVariableThatIsWrong) {
  auto problems = [](std::map<std::string, std::string> variables) {
    return lines_of(load_environment(fixed(std::move(variables))).problems);
  };
  EXPECT_THAT(problems({{"PGHOST", "h"}, {"PGPORT", "http"}, {"PGSSLMODE", "on"}}),
              ElementsAre(" PGPORT: a whole number is expected, not `http`",
                          " PGSSLMODE: `on` is none of disable, allow, prefer, require, verify-ca "
                          "or verify-full"));
  EXPECT_THAT(problems({{"DATABASE_URL", "mysql://u:hunter2@h/d"}}),
              ElementsAre(" DATABASE_URL: has the scheme `mysql`; it must start with "
                          "`postgres://` or `postgresql://`"));
  EXPECT_THAT(problems({}), ElementsAre(" server: no server is named: set `server.url` or "
                                        "`server.host`, or DATABASE_URL or PGHOST in the "
                                        "environment"));
  EXPECT_EQ(problems({{"PGUSER", "u"}, {"DATABASE_URL", ""}}).size(), 1u);
}

TEST(LoadEnvironment, StandsBackBehindTheFile) {
  Environment env = fixed({{"PGHOST", "env"}, {"PGPORT", "6000"}, {"PGPASSWORD", "env"}});
  EXPECT_EQ(config_of("server: {host: file}", env).server.port_set, false);
  EXPECT_EQ(config_of("server: {url: \"postgres://file\"}", env).server.host, "");
  Config partly = config_of("server: {port: 7000, passwordFile: /p}", env);
  EXPECT_EQ(partly.server.host, "env");
  EXPECT_EQ(partly.server.port, 7000);
  EXPECT_EQ(partly.server.password, "");
  EXPECT_EQ(partly.server.password_file, "/p");
}

TEST(LoadFile, SaysWhyAFileCannotBeRead) {
  EXPECT_THAT(lines_of(load_file("/nonexistent/x.yaml", with_server()).problems),
              ElementsAre(" cannot be read: No such file or directory"));
  EXPECT_THAT(lines_of(load_file("/", with_server()).problems),
              ElementsAre(" is a directory, not a file"));
  EXPECT_EQ(read_file("/dev/zero").error().message, "is not a regular file");
  std::string path = ::testing::TempDir() + "carpool_load_test_" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(read_file(path).error().message, "is not a regular file");
  ASSERT_EQ(unlink(path.c_str()), 0);
  int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_EXCL, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, kFileBytes_max + 1), 0);
  EXPECT_EQ(read_file(path).error().message, "is larger than 1048576 bytes");
  ASSERT_EQ(ftruncate(fd, kFileBytes_max), 0);
  EXPECT_EQ(read_file(path)->size(), kFileBytes_max);
  EXPECT_EQ(read_file(path, 10).error().message, "is larger than 10 bytes");
  close(fd);
  unlink(path.c_str());
}

TEST(MaskedJson, ShowsEveryKeyAndNoSecret) {
  Environment env = fixed({{"P", "hunter2"}});
  Config config = config_of(
      "server: {url: \"postgres://u:${P}@h:6000/d?sslmode=require&password=${P}\"}\n"
      "databases:\n"
      "- {name: a, server: {password: \"${P}\"}}\n"
      "- {name: b, server: {url: \"host=h password=${P}\"}}\n",
      env);
  std::string text = masked_json(config);
  EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
  nlohmann::json json = nlohmann::json::parse(text);
  EXPECT_EQ(json["server"]["url"], "postgres://u:***@h:6000/d?sslmode=require&password=***");
  EXPECT_EQ(json["server"]["sslMode"], nullptr);
  EXPECT_EQ(json["server"]["port"], nullptr);
  EXPECT_EQ(json["server"]["password"], "");
  EXPECT_EQ(json["databases"][0]["server"]["password"], "***");
  EXPECT_EQ(json["databases"][1]["server"]["url"], "host=h password=***");
  EXPECT_EQ(json["databases"][1]["name"], "b");
  EXPECT_EQ(json["listen"]["tls"]["mode"], "disable");
  EXPECT_EQ(json["pool"]["idleTimeout"], "5m");
  EXPECT_EQ(json["pool"]["size"], 20);
  EXPECT_EQ(json["admin"]["users"], nlohmann::json::array());
}

TEST(MaskedJson, ShowsDefaultsWhereNoUrlDecides) {
  nlohmann::json json = nlohmann::json::parse(masked_json(config_of("")));
  EXPECT_EQ(json["server"]["sslMode"], "prefer");
  EXPECT_EQ(json["server"]["targetSessionAttrs"], "any");
  EXPECT_EQ(json["server"]["port"], 5432);
}

TEST(MaskedJson, SurvivesBytesThatAreNoUtf8) {
  Config config = config_of("server: {host: h, user: \"${U}\"}", fixed({{"U", "\xff\xfe"}}));
  EXPECT_FALSE(nlohmann::json::parse(masked_json(config)).empty());
}

TEST(Problems, AreWrittenWithoutTheirUnknownParts) {
  EXPECT_EQ(format({"pool.size", 2, 3, "is odd"}, "a.yaml"), "a.yaml:2:3: pool.size: is odd");
  EXPECT_EQ(format({"", 2, 3, "is odd"}, "a.yaml"), "a.yaml:2:3: is odd");
  EXPECT_EQ(format({"PGHOST", 0, 0, "is odd"}, "a.yaml"), "a.yaml: PGHOST: is odd");
}

}  // namespace
}  // namespace carpool::config
