#include "cli/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "cli/pgbouncer_ini.h"
#include "config/load.h"

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What `carpool check` would make of it, in an empty environment.
config::Config loaded(const std::string& yaml) {
  config::LoadResult result =
      config::load_text(yaml, [](const std::string&) { return std::nullopt; });
  for (const config::Problem& problem : result.problems) {
    ADD_FAILURE() << config::format(problem, "yaml") << "\n" << yaml;
  }
  return result.config ? *result.config : config::Config{};
}

std::string converted(const std::string& ini) {
  const Result<Converted> result = convert_pgbouncer(ini, nullptr);
  EXPECT_TRUE(result) << (result ? "" : result.error().message);
  return result ? result->yaml : "";
}

std::string refused(const std::string& ini) {
  const Result<Converted> result = convert_pgbouncer(ini, nullptr);
  return result ? "converted" : result.error().message;
}

// The notes of the comment at the top, as one text without line ends.
std::string notes(const std::string& yaml) {
  std::istringstream lines(yaml);
  std::string text;
  for (std::string line; std::getline(lines, line) && line.starts_with("#");) {
    const std::size_t at = line.find_first_not_of("# ");
    if (at != std::string::npos) text += " " + line.substr(at);
  }
  return text;
}

constexpr const char* kIni = R"(;; a comment
[databases]
; the fallback, which PgBouncer looks at last wherever it stands
* = host=db.example.com user=app
app = host=db.example.com port=5433 dbname=app_production user=app password='s3cr''et$' pool_size=40 min_pool_size=5 reserve_pool=3 pool_mode=transaction timezone='Europe/Berlin' connect_query='SELECT 1' max_db_connections=50
"reporting db" = host=replica-0,replica-1 user=report datestyle='ISO, DMY'

[users]
batch = pool_mode=session max_user_connections=5

[peers]
1 = host=/tmp/peer1

# settings
[pgbouncer]
listen_addr = *
listen_port = 6433
unix_socket_dir = /var/run/pgbouncer
auth_type = md5
auth_file = /etc/pgbouncer/userlist.txt
admin_users = postgres, ops
stats_users = monitor
pool_mode = session
max_client_conn = 2000
default_pool_size = 25
min_pool_size = 2
reserve_pool_size = 5
reserve_pool_timeout = 3
server_reset_query = DISCARD ALL
server_reset_query_always = 1
server_check_delay = 30
server_lifetime = 1800
server_idle_timeout = 300.5
query_wait_timeout = 60
query_timeout = 0
idle_transaction_timeout = 30
server_tls_sslmode = verify-full
server_tls_ca_file = /etc/ssl/ca.pem
client_tls_sslmode = prefer
client_tls_cert_file = /tls/tls.crt
client_tls_key_file = /tls/tls.key
max_prepared_statements = 200
ignore_startup_parameters = extra_float_digits
logfile = /var/log/pgbouncer.log
pidfile = /var/run/pgbouncer.pid
stats_period = 30
tcp_keepalive = 1
no_such_setting = 7
)";

TEST(Convert, ARealisticFileBecomesTheSameInOurWords) {
  const std::string userlist =
      "\"app\" \"md5c0ffeec0ffeec0ffeec0ffeec0ffee00\"\n"
      "\"ops\" \"SCRAM-SHA-256$4096:c2FsdA==$YQ==:YQ==\"\n"
      "\"monitor\" \"plain\"\n\"nobody\" \"\"\n";
  const Result<Converted> result = convert_pgbouncer(kIni, &userlist);
  ASSERT_TRUE(result) << result.error().message;
  const config::Config config = loaded(result->yaml);

  EXPECT_EQ(config.listen.address, "127.0.0.1");
  EXPECT_EQ(config.listen.port, 6433);
  EXPECT_EQ(config.listen.unix_socket_dir, "");
  EXPECT_EQ(config.listen.clients_max, 2000u);
  EXPECT_EQ(config.listen.tls.mode, config::TlsMode::Allow);
  EXPECT_EQ(config.listen.tls.key_file, "/etc/carpool-secrets/tls.key");
  EXPECT_EQ(config.admin.users, (std::vector<std::string>{"postgres", "ops"}));
  EXPECT_EQ(config.auth.mode, config::AuthMode::ScramSha256);
  EXPECT_EQ(config.auth.users_file, "/etc/carpool-secrets/userlist.txt");
  EXPECT_EQ(config.pool.mode, config::PoolMode::Session);
  EXPECT_EQ(config.pool.size, 25u);
  EXPECT_EQ(config.pool.min_idle, 2u);
  EXPECT_EQ(config.pool.overflow, 5u);
  EXPECT_EQ(config.pool.overflow_after_us, 3 * kMicrosPerSecond);
  EXPECT_EQ(config.pool.acquire_timeout_us, 60 * kMicrosPerSecond);
  EXPECT_EQ(config.pool.idle_timeout_us, 300'500 * kMicrosPerMilli);
  EXPECT_EQ(config.pool.max_lifetime_us, 1800 * kMicrosPerSecond);
  EXPECT_EQ(config.pool.query_timeout_us, 0);
  EXPECT_EQ(config.pool.idle_transaction_timeout_us, 30 * kMicrosPerSecond);
  EXPECT_EQ(config.pool.prepared_statements_max, 200u);
  EXPECT_EQ(config.server.ssl_mode, "verify-full");
  EXPECT_EQ(config.server.ssl_root_cert, "/etc/carpool-secrets/ca.pem");
  EXPECT_EQ(config.server.connect_timeout_us, 15 * kMicrosPerSecond);  // PgBouncer's default
  EXPECT_EQ(config.log.stats_interval_us, 30 * kMicrosPerSecond);

  ASSERT_EQ(config.databases.size(), 3u);
  const config::Database& app = config.databases[0];
  EXPECT_EQ(app.name, "app");
  EXPECT_EQ(app.server.host, "db.example.com");
  EXPECT_EQ(app.server.port, 5433);
  EXPECT_EQ(app.server.database, "app_production");
  EXPECT_EQ(app.server.user, "app");
  EXPECT_EQ(app.server.password_file, "/etc/carpool-secrets/app-password");
  EXPECT_EQ(app.server.options, "-c timezone=Europe/Berlin");
  EXPECT_EQ(app.server.ssl_mode, "verify-full");
  EXPECT_EQ(app.pool.mode, config::PoolMode::Transaction);
  EXPECT_EQ(app.pool.size, 40u);
  EXPECT_EQ(app.pool.min_idle, 5u);
  EXPECT_EQ(app.pool.overflow, 3u);
  EXPECT_EQ(config.databases[1].name, "reporting db");
  EXPECT_EQ(config.databases[1].server.host, "replica-0,replica-1");
  EXPECT_EQ(config.databases[1].server.options, "-c datestyle=ISO,\\ DMY");
  EXPECT_EQ(config.databases[2].name, "*");
}

TEST(Convert, WhatIsNotCarriedOverIsSaidAndWhy) {
  const std::string userlist = "\"app\" \"md5c0ffeec0ffeec0ffeec0ffeec0ffee00\"\n\"x\" \"\"\n";
  const Result<Converted> result = convert_pgbouncer(kIni, &userlist);
  ASSERT_TRUE(result);
  const std::string said = notes(result->yaml);
  for (const char* about :
       {"listen_addr = *", "stats_users = monitor", "[users] batch", "[peers] 1",
        "server_reset_query_always", "server_check_delay", "ignore_startup_parameters", "logfile",
        "pidfile", "tcp_keepalive", "no_such_setting = 7: a setting that this converter does not",
        "[databases] app: connect_query", "[databases] app: max_db_connections",
        "userlist line 1, user app: an MD5 hash cannot check scram-sha-256",
        "password_encryption = scram-sha-256", "userlist line 2, user x: an empty password"}) {
    EXPECT_THAT(said, HasSubstr(about));
  }
}

TEST(Convert, NoSecretIsCopied) {
  const std::string userlist = "\"app\" \"hunter2\"\n";
  const Result<Converted> result = convert_pgbouncer(kIni, &userlist);
  ASSERT_TRUE(result);
  EXPECT_THAT(result->yaml, Not(HasSubstr("s3cr")));
  EXPECT_THAT(result->yaml, Not(HasSubstr("hunter2")));
}

TEST(Convert, PgBouncersDefaultsAreWrittenOutWhereOursDiffer) {
  const config::Config config =
      loaded(converted("[databases]\napp = host=db\n[pgbouncer]\nauth_type = trust\n"));
  EXPECT_EQ(config.pool.mode, config::PoolMode::Session);
  EXPECT_EQ(config.listen.clients_max, 100u);
  EXPECT_EQ(config.pool.idle_timeout_us, 600 * kMicrosPerSecond);
  EXPECT_EQ(config.pool.acquire_timeout_us, 120 * kMicrosPerSecond);
  EXPECT_EQ(config.auth.mode, config::AuthMode::Trust);
}

TEST(Convert, ClientsThatComeAsThemselvesSignInByPassthrough) {
  for (const char* type : {"md5", "scram-sha-256", "hba", "cert", "pam"}) {
    const std::string yaml =
        converted(std::string("[databases]\napp = host=db\n[pgbouncer]\nauth_type = ") + type +
                  "\nauth_file = /users\n");
    EXPECT_EQ(loaded(yaml).auth.mode, config::AuthMode::Passthrough) << type;
  }
}

TEST(Convert, WithoutAHostTheServerIsAtTheUnixSocket) {
  const config::Config config = loaded(converted("[databases]\napp = dbname=x\n[pgbouncer]\n"));
  ASSERT_EQ(config.databases.size(), 1u);
  EXPECT_EQ(config.databases[0].server.host, "/var/run/postgresql");
}

TEST(Convert, WhatTheLoaderWouldRefuseBecomesAComment) {
  const std::string yaml = converted(
      "[databases]\napp = host=db pool_size=3 min_pool_size=9\n"
      "[pgbouncer]\nclient_tls_sslmode = require\ndefault_pool_size = lots\n"
      "query_wait_timeout = soon\nunix_socket_dir = run\npool_mode = fast\n");
  const config::Config config = loaded(yaml);
  EXPECT_EQ(config.listen.tls.mode, config::TlsMode::Disable);
  EXPECT_EQ(config.listen.unix_socket_dir, "");
  EXPECT_EQ(config.databases[0].pool.size, 3u);
  EXPECT_EQ(config.databases[0].pool.min_idle, 3u);
  const std::string said = notes(yaml);
  for (const char* about :
       {"default_pool_size = lots", "query_wait_timeout = soon: not a number", "pool_mode = fast",
        "client_tls_sslmode = require", "unix_socket_dir"}) {
    EXPECT_THAT(said, HasSubstr(about));
  }
}

TEST(Convert, AnEndlessWaitAndNoStatsAreSpelledOurWay) {
  const config::Config config =
      loaded(converted("[databases]\n* = host=db\n[pgbouncer]\nquery_wait_timeout = 0\n"
                       "log_stats = 0\nverbose = 2\nreserve_pool_size = 4\n"
                       "reserve_pool_timeout = 0\nserver_reset_query =\n"));
  EXPECT_EQ(config.pool.acquire_timeout_us, 365 * 86400 * kMicrosPerSecond);
  EXPECT_EQ(config.log.stats_interval_us, 0);
  EXPECT_EQ(config.log.level, config::LogLevel::Debug);
  EXPECT_EQ(config.pool.overflow, 0u);
  EXPECT_EQ(config.pool.reset_query, "");
}

TEST(Convert, IncludesAndBrokenLinesAreRefusedWithTheirLine) {
  EXPECT_THAT(refused("[pgbouncer]\n%include /etc/other.ini\n"), HasSubstr("line 2: %include"));
  EXPECT_THAT(refused("pool_mode = session\n"), HasSubstr("line 1: a setting before"));
  EXPECT_THAT(refused("[databases\n"), HasSubstr("line 1: a section without"));
  EXPECT_THAT(refused("[databases]\n\napp\n"), HasSubstr("line 3: neither"));
  EXPECT_THAT(refused("[databases]\napp = host='db\n"), HasSubstr("line 2: a quote"));
  EXPECT_THAT(refused("[databases]\napp = nonsense\n"), HasSubstr("line 2: a word"));
  EXPECT_THAT(refused("[pgbouncer]\npool_mode = session\n"), HasSubstr("[databases] is empty"));
}

TEST(Convert, TextsThatYamlOrTheLoaderWouldReadOtherwiseStayThemselves) {
  const config::Config config = loaded(
      converted("[databases]\n\"we\"\"ird ${HOME}: #1\" = host=db dbname='a \"b\" \\ $${X}'\n"));
  EXPECT_EQ(config.databases[0].name, "we\"ird ${HOME}: #1");
  EXPECT_EQ(config.databases[0].server.database, "a \"b\" \\ $${X}");
}

TEST(Convert, FilesAreReadAndExitCodesSayWhatCameOfIt) {
  const std::string path = ::testing::TempDir() + "convert_test.ini";
  std::ofstream(path) << kIni;
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(run_convert(path, "", out, err), 0);
  EXPECT_THAT(err.str(), HasSubstr("settings carried over"));
  EXPECT_EQ(loaded(out.str()).listen.port, 6433);
  EXPECT_EQ(run_convert(path + ".missing", "", out, err), 66);
  EXPECT_EQ(run_convert(path, path + ".missing", out, err), 66);
  std::ofstream(path) << "[pgbouncer]\n%include x\n";
  EXPECT_EQ(run_convert(path, "", out, err), 78);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace carpool::cli
