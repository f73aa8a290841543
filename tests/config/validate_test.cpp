#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fixture.h"

namespace carpool::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Lines = std::vector<std::string>;

struct Case {
  const char* yaml;
  Lines lines;
};

TEST(Validate, RefusesImpossiblePairs) {
  const std::vector<Case> cases = {
      {"pool: {minIdle: 21}",
       {"1:17: pool.minIdle: `pool.minIdle` (21) is more than `pool.size` (20)"}},
      {"pool: {size: 5, minIdle: 6}",
       {"1:26: pool.minIdle: `pool.minIdle` (6) is more than `pool.size` (5)"}},
      {"pool: {size: 6000, overflow: 5000}\nlisten: {clientsMax: 100000}",
       {"1:30: pool.overflow: `pool.size` and `pool.overflow` are 11000 together; at most 10000"}},
      {"drain: {minDelay: 30s}",
       {"1:19: drain.minDelay: `drain.minDelay` (30s) is longer than `drain.timeout` (25s)"}},
      {"drain: {minDelay: 5s, timeout: 1s}",
       {"1:19: drain.minDelay: `drain.minDelay` (5s) is longer than `drain.timeout` (1s)"}},
      {"listen: {address: 0.0.0.0}",
       {"1:19: listen.address: `0.0.0.0` is not a loopback address, and `auth.mode: trust` would "
        "let everybody in; use 127.0.0.1, or passthrough or scram-sha-256"}},
      {"listen: {address: localhost}",
       {"1:19: listen.address: `localhost` is not an IP address, such as 127.0.0.1"}},
      {"listen: {address: \"\"}",
       {"1:19: listen.address: `` is not an IP address, such as 127.0.0.1"}},
      {"listen: {unixSocketDir: run}", {"1:25: listen.unixSocketDir: has to be an absolute path"}},
      {"admin: {address: example.com}",
       {"1:18: admin.address: `example.com` is not an IP address, such as 0.0.0.0"}},
      {"admin: {controlAddress: 0.0.0.0}",
       {"1:25: admin.controlAddress: `0.0.0.0` is not a loopback address, such as 127.0.0.1; who "
        "can reach the control port can stop Carpool"}},
      {"admin: {port: 6432}", {"1:15: admin.port: is 6432, which `listen.port` takes already"}},
      {"listen: {port: 9931}", {"1:16: listen.port: is 9931, which `listen.port` takes already"}},
      {"admin: {controlPort: 9930}",
       {"1:22: admin.controlPort: is 9930, which `admin.port` takes already"}},
      {"listen: {tls: {mode: require}}",
       {"1:22: listen.tls.mode: needs `listen.tls.certFile`",
        "1:22: listen.tls.mode: needs `listen.tls.keyFile`"}},
      {"listen: {tls: {mode: allow, certFile: /c}}",
       {"1:22: listen.tls.mode: needs `listen.tls.keyFile`"}},
      {"auth: {mode: scram-sha-256}", {"1:14: auth.mode: scram-sha-256 needs `auth.usersFile`"}},
      {"server: {host: \"postgres://h/d\"}",
       {"1:16: server.host: is a whole connection string; that belongs in `server.url`"}},
      {"server: {host: \"host=h password=x\"}",
       {"1:16: server.host: is a whole connection string; that belongs in `server.url`"}},
      {"server: {host: \"u:pw@h\"}",
       {"1:16: server.host: holds an `@`; the user belongs in `server.user`"}},
      {"server: {host: \"a,b:5432\"}",
       {"1:16: server.host: `b:5432` holds a `:`; the port belongs in `server.port`"}},
      {"server: {host: a b}", {"1:16: server.host: `a b` is not a host name"}},
      {"server: {url: db.example.com}",
       {"1:15: server.url: is neither `postgres://user@host:5432/database` nor `host=... "
        "dbname=...`"}},
      {"server: {host: h, password: \"${P}\", passwordFile: /p}",
       {"1:29: server.password: `server.passwordFile` is given too; only one of them can hold"}},
      {"server: {url: \"postgres://127.0.0.1:6432/d\"}",
       {"1:15: server.url: the server at `127.0.0.1` port 6432 is where Carpool itself listens"}},
      {"server: {host: \"db,localhost\", port: 6432}",
       {"1:38: server.port: the server at `localhost` port 6432 is where Carpool itself listens"}},
      {"server: {host: /run/pg/, port: 6432}\nlisten: {unixSocketDir: /run/pg}",
       {"1:32: server.port: the server at `/run/pg` port 6432 is where Carpool itself listens"}},
      {"databases: [{name: a, pool: {minIdle: 30}}]",
       {"1:39: databases[0].pool.minIdle: `pool.minIdle` (30) is more than `pool.size` (20)"}},
      {"pool: {minIdle: 10}\ndatabases: [{name: a, pool: {size: 5}}]",
       {"2:36: databases[0].pool.size: `pool.minIdle` (10) is more than `pool.size` (5)"}},
  };
  Environment env = fixed({{"PGHOST", "db"}, {"P", "pw"}});
  for (const Case& c : cases) EXPECT_EQ(problems_of(c.yaml, env), c.lines) << c.yaml;
}

TEST(Validate, WarnsOnceOfAUrlWithoutAHost) {
  const auto warnings = [](const std::string& yaml) { return warnings_of(yaml, fixed({})); };
  const std::string says =
      "names no host, so that libpq goes to a Unix socket in the folder that it was built with";
  const std::string url = "{url: \"postgres://u@/d\"}";
  EXPECT_EQ(warnings("server: " + url), std::vector<std::string>{"1:15: server.url: " + says});
  EXPECT_EQ(warnings("server: " + url + "\ndatabases: [{name: a}, {name: b}]"),
            std::vector<std::string>{"1:15: server.url: " + says});
  EXPECT_EQ(warnings("server: {host: h}\ndatabases: [{name: a, server: {host: \"\", url: "
                     "\"postgres://u@/d\"}}]"),
            std::vector<std::string>{"2:47: databases[0].server.url: " + says});
  EXPECT_EQ(warnings("server: " + url + "\ndatabases: [{name: a, server: {host: h}}]"),
            std::vector<std::string>{});
}

TEST(Validate, AllowsWhatOnlyLooksImpossible) {
  const std::vector<const char*> valid = {
      "listen: {address: \"::1\"}",
      "listen: {address: 127.5.0.1}",
      "listen: {address: 127.0.0.2}\nserver: {host: 127.0.0.1, port: 6432}",
      "listen: {address: 0.0.0.0}\nauth: {mode: scram-sha-256, usersFile: /u}",
      "listen: {address: 10.0.0.1}\nauth: {mode: passthrough}",
      "listen: {address: 127.0.0.2}\nadmin: {address: 127.0.0.1, port: 6432}",
      "listen: {port: 0}\nadmin: {port: 0, controlPort: 0}",
      "drain: {minDelay: 25s}",
      "pool: {minIdle: 20}",
      "server: {host: \"::1,10.0.0.1,/run/postgresql,db-0.db\"}",
      "server: {host: localhost, port: 5432}",
      "server: {host: remote, port: 6432}",
      "server: {sslMode: \"\"}",
      "pool: {idleTimeout: 0s, maxLifetime: 0s, queryTimeout: 0s}",
      "log: {statsInterval: 0s, slowQuery: 0s}",
  };
  for (const char* yaml : valid) EXPECT_THAT(problems_of(yaml), IsEmpty()) << yaml;
}

TEST(Validate, MakesOneProblemOfOneMistake) {
  EXPECT_EQ(problems_of("pool: {size: x, minIdle: 30}").size(), 1u);
  EXPECT_EQ(problems_of("pool: {size: x}\ndatabases: [{name: a, pool: {minIdle: 30}}]").size(), 1u);
  EXPECT_EQ(problems_of("pool: {size: 5, minIdle: 9}\ndatabases: [{name: a}, {name: b}]").size(),
            1u);
  EXPECT_EQ(problems_of("server: {url: \"${NOPE}\"}", fixed({})).size(), 1u);
  EXPECT_EQ(problems_of("server: {url: \"mysql://h\"}\ndatabases: [{name: a}, {name: b}]").size(),
            1u);
  EXPECT_EQ(problems_of("", fixed({{"DATABASE_URL", "mysql://h"}})).size(), 1u);
}

TEST(Validate, WantsAServerForEveryDatabase) {
  const std::string message =
      ": no server is named: set `server.url` or `server.host`, or DATABASE_URL or PGHOST in the "
      "environment";
  EXPECT_THAT(problems_of("", fixed({})), ElementsAre(" server" + message));
  EXPECT_THAT(problems_of("server: {user: u}", fixed({})), ElementsAre("1:1: server" + message));
  EXPECT_THAT(problems_of("databases:\n- {name: a, server: {host: h}}\n- {name: b}\n", fixed({})),
              ElementsAre("3:3: databases[1]" + message));
  EXPECT_THAT(problems_of("databases: [{name: a, server: {host: h}}]", fixed({})), IsEmpty());
}

TEST(Validate, WarnsOfWhatIsSuspicious) {
  const std::vector<Case> cases = {
      {"", {}},
      {"server: {host: h, password: hunter2}",
       {"1:29: server.password: a password stands in the file; use ${VAR} or "
        "`server.passwordFile`"}},
      {"server: {host: h, password: \"${P}\"}", {}},
      {"pool: {overflow: 5, overflowAfter: 30s}",
       {"1:36: pool.overflowAfter: `pool.overflowAfter` (30s) is not before `pool.acquireTimeout` "
        "(30s): no client ever gets an overflow server"}},
      {"pool: {idleTimeout: 2h}",
       {"1:21: pool.idleTimeout: `pool.idleTimeout` (2h) is longer than `pool.maxLifetime` (1h), "
        "and never reached"}},
      {"pool: {mode: session, sessionState: refuse}",
       {"1:37: pool.sessionState: has no effect in session mode, where a client keeps its "
        "server"}},
      {"databases: [{name: a, pool: {mode: session, resetQuery: \"\"}}]",
       {"1:57: databases[0].pool.resetQuery: is empty: the next client inherits what the last one "
        "left behind"}},
      {"listen: {clientsMax: 10}",
       {"1:22: listen.clientsMax: `pool.size` (20) is more than `listen.clientsMax` (10) can ever "
        "use"}},
      {"listen: {tls: {certFile: /c, keyFile: /k}}",
       {"1:26: listen.tls.certFile: has no effect while `listen.tls.mode` is disable"}},
      {"auth: {usersFile: /u}",
       {"1:19: auth.usersFile: has no effect unless `auth.mode` is scram-sha-256"}},
      {"auth: {saltFile: /s}",
       {"1:18: auth.saltFile: has no effect unless `auth.mode` is scram-sha-256"}},
      {"auth: {mode: scram-sha-256, usersFile: /u}",
       {"1:14: auth.mode: who guesses where the server is can tell which users exist: name "
        "`auth.saltFile`, since `server` has no password to make salts from"}},
      {"auth: {mode: passthrough}\nlisten: {address: 0.0.0.0}",
       {"1:14: auth.mode: passthrough on an address that is not loopback sends passwords in clear "
        "unless `listen.tls.mode` is require"}},
      {"server: {host: h, sslMode: verify-full}",
       {"1:28: server.sslMode: verify-full without `server.sslRootCert` looks for authorities in "
        "the home folder only"}},
      {"server: {host: h, sslCert: /c}",
       {"1:28: server.sslCert: needs `server.sslKey`: where there is no key in the home folder "
        "either, no server can be opened over TLS"}},
      {"server: {url: \"postgres://h/d?sslmode=verify-full&sslkey=/k\"}",
       {"1:15: server.url: verify-full without `server.sslRootCert` looks for authorities in the "
        "home folder only",
        "1:15: server.url: has no effect without `server.sslCert`"}},
      {"server: {url: \"postgres://h:6000/d?sslmode=verify-full\", port: 5432, sslMode: prefer}",
       {"1:64: server.port: overrides the `port` of the server's url",
        "1:79: server.sslMode: overrides the `sslmode` of the server's url"}},
      {"listen: {port: 0}",
       {"1:16: listen.port: is 0: any free port is taken, another one at each start"}},
      {"databases: [{name: \"*\"}, {name: a}]",
       {"1:33: databases[1].name: `a` is never reached: databases[0], \"*\", matches first"}},
      {"databases: [{name: pgbouncer}]",
       {"1:20: databases[0].name: is never reached: `pgbouncer` is the name of the console"}},
  };
  Environment env = fixed({{"PGHOST", "db"}, {"P", "pw"}});
  for (const Case& c : cases) {
    EXPECT_THAT(problems_of(c.yaml, env), IsEmpty()) << c.yaml;
    EXPECT_EQ(warnings_of(c.yaml, env), c.lines) << c.yaml;
  }
}

}  // namespace
}  // namespace carpool::config
