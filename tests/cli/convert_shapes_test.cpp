// Files of PgBouncer as people have them, written from its manual (pgbouncer.org, "pgbouncer.ini"):
// what comes out loads, means the same, and names every setting that went in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/convert.h"
#include "cli/pgbouncer_ini.h"
#include "config/load.h"

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kTransaction = R"(
;; a web application, everything by one role
[databases]
shop = host=pg-primary.internal port=5432 dbname=shop auth_user=pgbouncer

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
auth_query = SELECT usename, passwd FROM pgbouncer.get_auth($1)
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
min_pool_size = 5
reserve_pool_size = 5
reserve_pool_timeout = 3
max_db_connections = 30
max_prepared_statements = 100
ignore_startup_parameters = extra_float_digits,search_path
server_reset_query = DISCARD ALL
server_check_query = select 1
server_check_delay = 30
log_connections = 0
log_disconnections = 0
stats_period = 60
)";

constexpr const char* kDistribution = R"(
[databases]
* = port=5432

[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = localhost
listen_port = 6432
unix_socket_dir = /var/run/postgresql
auth_type = md5
auth_file = /etc/pgbouncer/userlist.txt
admin_users = postgres
stats_users = postgres, monitor
)";

constexpr const char* kSmallPools = R"(
[databases]
app = host=127.0.0.1 dbname=app pool_size=10
jobs = host=127.0.0.1 dbname=app pool_size=3 pool_mode=session min_pool_size=8

[pgbouncer]
auth_type = trust
pool_mode = transaction
default_pool_size = 50
min_pool_size = 20
)";

constexpr const char* kReplicas = R"(
[databases]
app = host=primary
app_ro = host=replica-0,replica-1,replica-2 port=5432 dbname=app
app_ha = host=a,b target_session_attrs=read-write load_balance_hosts=disable

[pgbouncer]
auth_type = trust
server_round_robin = 1
dns_max_ttl = 15
)";

constexpr const char* kUsedOnce = R"(
[databases]
app = host=db
jobs = host=db server_lifetime=0 min_pool_size=4

[pgbouncer]
auth_type = trust
server_lifetime = 0
server_idle_timeout = 120
min_pool_size = 2
)";

constexpr const char* kNoReserve = R"(
[databases]
app = host=db pool_size=2 reserve_pool=5
other = host=db reserve_pool_size=3

[pgbouncer]
auth_type = trust
reserve_pool_size = 9
reserve_pool_timeout = 0.0
)";

constexpr const char* kTemplate = R"(
[databases]
app = host=${DB_HOST} port=${DB_PORT} dbname=${DB_NAME:-app} user=${DB_USER} pool_size=${POOL_SIZE}

[pgbouncer]
listen_port = ${PGBOUNCER_PORT:-6432}
auth_type = trust
pool_mode = ${POOL_MODE:-transaction}
max_client_conn = ${MAX_CLIENT_CONN}
default_pool_size = ${DEFAULT_POOL_SIZE:-40}
min_pool_size = ${MIN_POOL_SIZE:-30}
server_lifetime = ${SERVER_LIFETIME:-1200}
query_wait_timeout = ${QUERY_WAIT_TIMEOUT}
)";

constexpr const char* kUsers = R"(
[users]
batch = pool_mode=session max_user_connections=5 query_timeout=600
"odd name" = pool_mode=statement

[databases]
app = host=db user=owner password=secret connect_query='SET work_mem = 1'

[pgbouncer]
auth_type = md5
auth_file = users.txt
max_user_connections = 12
default_pool_size = 40
reserve_pool_size = 10
)";

constexpr const char* kTls = R"(
[databases]
app = host=db.example.com

[pgbouncer]
listen_addr = *
auth_type = cert
client_tls_sslmode = verify-full
client_tls_ca_file = /etc/pki/clients/ca.crt
client_tls_cert_file = /etc/pki/pgbouncer/tls.crt
client_tls_key_file = /etc/pki/pgbouncer/tls.key
client_tls_protocols = secure
server_tls_sslmode = verify-full
server_tls_ca_file = /etc/pki/servers/ca.crt
server_tls_cert_file = /etc/pki/servers/tls.crt
server_tls_key_file = /etc/pki/servers/tls.key
)";

constexpr const char* kLimits = R"(
[databases]
big = host=db pool_size=100 max_db_connections=15 reserve_pool=10
any = host=db max_db_connections=0
* = host=db

[pgbouncer]
auth_type = trust
default_pool_size = 30
max_db_connections = 10
max_user_connections = 0
max_db_client_connections = 100
)";

constexpr const char* kTimeouts = R"(
[databases]
app = host=db client_encoding=UTF8 timezone='Europe/Berlin' application_name='a b'

[pgbouncer]
auth_type = trust
query_wait_timeout = 0
query_timeout = 30
idle_transaction_timeout = 60.5
transaction_timeout = 10
client_idle_timeout = 0
client_login_timeout = 60
server_connect_timeout = 5
server_login_retry = 1
server_idle_timeout = 0
cancel_wait_timeout = 10
suspend_timeout = 10
autodb_idle_timeout = 3600
tcp_keepalive = 1
tcp_keepidle = 30
pkt_buf = 4096
log_stats = no
)";

constexpr const char* kMinimal = "[databases]\nforcedb = host=127.0.0.1 port=300\n[pgbouncer]\n";

const std::vector<const char*> kShapes = {kTransaction, kDistribution, kSmallPools, kReplicas,
                                          kUsedOnce,    kNoReserve,    kTemplate,   kUsers,
                                          kTls,         kLimits,       kTimeouts,   kMinimal};

std::string converted(const char* ini) {
  const Result<Converted> result = convert_pgbouncer(ini, nullptr);
  EXPECT_TRUE(result) << (result ? "" : result.error().message);
  return result ? result->yaml : "";
}

config::Config loaded(const std::string& yaml, const std::string& variable = "x") {
  const config::LoadResult result =
      config::load_text(yaml, [&variable](const std::string& name) -> std::optional<std::string> {
        if (name == "DB_HOST" || name == "DB_USER") return variable;
        return std::nullopt;
      });
  for (const config::Problem& problem : result.problems) {
    ADD_FAILURE() << config::format(problem, "yaml") << "\n" << yaml;
  }
  return result.config ? *result.config : config::Config{};
}

// A note may stand in several lines.
std::string joined(std::string yaml) {
  for (std::size_t at = 0; (at = yaml.find("\n#   ", at)) != std::string::npos;) {
    yaml.replace(at, 5, " ");
  }
  return yaml;
}

// What says only what Carpool does anyway, or is said by another setting's words.
bool is_named(const std::string& key, const std::string& value) {
  return key != "log_stats" && key != "load_balance_hosts" &&
         !(key.starts_with("max_") && value == "0");
}

TEST(ConvertShapes, EachLoadsAndNamesEverySettingThatWentIn) {
  for (const char* shape : kShapes) {
    const std::string yaml = joined(converted(shape));
    loaded(yaml);
    const auto ini = parse_pgbouncer_ini(shape);
    ASSERT_TRUE(ini);
    for (const IniEntry& entry : *ini) {
      if (!is_named(entry.key, entry.value)) continue;
      EXPECT_THAT(yaml, HasSubstr(entry.key)) << shape;
      if (entry.section == "pgbouncer") continue;
      const auto pairs = parse_connect_string(entry.value);
      ASSERT_TRUE(pairs);
      for (const auto& [key, value] : *pairs) {
        if (is_named(key, value)) {
          EXPECT_THAT(yaml, HasSubstr(key)) << shape;
        }
      }
    }
  }
}

TEST(ConvertShapes, AMinimumAboveTheSizeIsAsMuchAsFits) {
  const config::Config config = loaded(converted(kSmallPools));
  EXPECT_EQ(config.databases.at(0).pool.size, 10u);
  EXPECT_EQ(config.databases.at(0).pool.min_idle, 10u);
  EXPECT_EQ(config.databases.at(1).pool.size, 3u);
  EXPECT_EQ(config.databases.at(1).pool.min_idle, 3u);
  EXPECT_EQ(config.pool.min_idle, 20u);
}

TEST(ConvertShapes, AReservePoolThatIsSwitchedOffIsOffEverywhere) {
  const config::Config config = loaded(converted(kNoReserve));
  for (const config::Database& database : config.databases) EXPECT_EQ(database.pool.overflow, 0u);
}

TEST(ConvertShapes, PgBouncerWaitsFiveSecondsForItsReserve) {
  EXPECT_EQ(loaded(converted("[databases]\na = host=h reserve_pool=1\n[pgbouncer]\n"))
                .pool.overflow_after_us,
            5 * kMicrosPerSecond);
}

TEST(ConvertShapes, AServerThatIsUsedOnceLivesAsShortAsItCan) {
  const std::string yaml = converted(kUsedOnce);
  EXPECT_THAT(joined(yaml), HasSubstr("PgBouncer uses a server once"));
  const config::Config config = loaded(yaml);
  for (const config::Database& database : config.databases) {
    EXPECT_EQ(database.pool.max_lifetime_us, kMicrosPerSecond);
    EXPECT_EQ(database.pool.idle_timeout_us, 100 * kMicrosPerMilli);
    EXPECT_EQ(database.pool.min_idle, 0u);
  }
}

TEST(ConvertShapes, HostsInTurnAreAskedInTheirOrderAndThatIsSaid) {
  const std::string yaml = joined(converted(kReplicas));
  EXPECT_THAT(yaml,
              HasSubstr("[databases] app_ro: host: PgBouncer opens its connections to several "
                        "hosts in turn (round-robin)"));
  EXPECT_THAT(yaml, Not(HasSubstr("[databases] app_ha: host")));
  EXPECT_EQ(loaded(yaml).databases.at(2).server.target_session_attrs, "read-write");
}

TEST(ConvertShapes, ALimitOverPoolsBoundsEachOfThem) {
  const config::Config config = loaded(converted(kLimits));
  EXPECT_EQ(config.databases.at(0).pool.size, 15u);
  EXPECT_EQ(config.databases.at(0).pool.overflow, 0u);
  EXPECT_EQ(config.databases.at(1).pool.size, 30u) << "which has no limit";
  EXPECT_EQ(config.databases.at(2).name, "*");
  EXPECT_EQ(config.databases.at(2).pool.size, 10u);
  const config::Config users = loaded(converted(kUsers));
  EXPECT_EQ(users.databases.at(0).pool.size + users.databases.at(0).pool.overflow, 12u);
}

TEST(ConvertShapes, AVariableStaysOne) {
  const std::string yaml = converted(kTemplate);
  EXPECT_THAT(yaml, HasSubstr("size: \"${POOL_SIZE:-20}\""));
  EXPECT_THAT(yaml, HasSubstr("maxLifetime: \"${SERVER_LIFETIME:-1200}s\""));
  const config::Config config = loaded(yaml, "somewhere");
  EXPECT_EQ(config.databases.at(0).server.host, "somewhere");
  EXPECT_EQ(config.databases.at(0).server.database, "app");
  EXPECT_EQ(config.pool.size, 40u);
  EXPECT_EQ(config.pool.min_idle, 0u) << "which might be more than a size";
  const config::LoadResult small =
      config::load_text(yaml, [](const std::string& name) -> std::optional<std::string> {
        return name.ends_with("SIZE") ? "1" : "x";
      });
  for (const config::Problem& problem : small.problems) {
    EXPECT_THAT(problem.path, Not(HasSubstr("pool.size"))) << problem.message;
  }
}

TEST(ConvertShapes, FilesLieWhereOurMountsHaveThem) {
  const std::string yaml = converted(kTls);
  const config::Config config = loaded(yaml);
  EXPECT_EQ(config.listen.tls.cert_file, "/etc/carpool-secrets/tls.crt");
  EXPECT_EQ(config.listen.tls.key_file, "/etc/carpool-secrets/tls.key");
  EXPECT_EQ(config.server.ssl_cert, "/etc/carpool-secrets/servers-tls.crt") << "another file";
  EXPECT_THAT(yaml, HasSubstr("client_tls_key_file = /etc/pki/pgbouncer/tls.key: put it into the "
                              "Secret"));
  EXPECT_EQ(loaded(converted(kDistribution)).listen.unix_socket_dir, "");
}

}  // namespace
}  // namespace carpool::cli
