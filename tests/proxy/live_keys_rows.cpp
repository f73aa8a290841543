// A row for each live key: how it is changed, when that counts, and how it is seen.
#include <fstream>

#include "live_keys.h"

namespace carpool::proxy {
namespace {

using config::Config;
using config::Moment;
using config::PoolMode;
using pool::SlotState;

std::string a_file() {
  const std::string path = testing::TempDir() + "live_keys_file";
  std::ofstream(path) << "secret\n";
  return path;
}

std::uint16_t free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

}  // namespace

const std::map<std::string, LiveKey::Row>& LiveKey::rows() {
  const auto row_of = [](std::function<void(config::Server&)> change) {
    return Row{.change = [change](Config& config) { change(config.server); },
               .moment = Moment::EachServer,
               .counts = [](LiveKey& test) { test.expect_replaced(); }};
  };
  static const std::map<std::string, Row> table = {
      // ---- listen, admin, auth
      {"listen.address",
       {.change = [](Config& config) { config.listen.address = "127.0.0.2"; },
        .moment = Moment::NextClient,
        .shown_by = "integration/listen_test.cpp: ListeningAddress, WidensAndNarrows"}},
      {"listen.port",
       {.change = [](Config& config) { config.listen.port = free_port(); },
        .moment = Moment::NextClient,
        .shown_by = "integration/listen_test.cpp: ListeningPort, MovesWhileClientsStay"}},
      {"listen.unixSocketDir",
       {.change = [](Config& config) { config.listen.unix_socket_dir = testing::TempDir(); },
        .moment = Moment::NextClient,
        .shown_by = "integration/listen_test.cpp: UnixSocket, ComesMovesAndGoes"}},
      {"listen.clientsMax",
       {.change = [](Config& config) { config.listen.clients_max = 1; },
        .moment = Moment::NextClient,
        .counts =
            [](LiveKey& test) {
              TestClient& another = test.connect().start();
              EXPECT_TRUE(test.until([&] { return another.types == "E"; })) << another.types;
              EXPECT_EQ(another.sqlstate(), "53300");
            },
        .startup = "E"}},
      {"listen.tls.mode",
       {.change = [](Config& config) { config.listen.tls.mode = config::TlsMode::Require; },
        .moment = Moment::NextClient,
        .counts =
            [](LiveKey& test) {
              TestClient& plain = test.connect().start();
              EXPECT_TRUE(test.until([&] { return plain.types == "E"; })) << plain.types;
              EXPECT_EQ(plain.sqlstate(), "28000");
            },
        .startup = "E",
        .signing_in = "E"}},
      {"listen.tls.certFile",
       {.change = [](Config& config) { config.listen.tls.cert_file = "/another"; },
        .moment = Moment::NextClient,
        .shown_by = "integration/tls_test.cpp: NewClientsSeeTheNewOneAndOldOnesLiveOn"}},
      {"listen.tls.keyFile",
       {.change = [](Config& config) { config.listen.tls.key_file = "/another"; },
        .moment = Moment::NextClient,
        .shown_by = "integration/tls_test.cpp: NewClientsSeeTheNewOneAndOldOnesLiveOn"}},
      {"listen.tls.caFile",
       {.change = [](Config& config) { config.listen.tls.ca_file = "/another"; },
        .moment = Moment::NextClient,
        .shown_by = "integration/tls_test.cpp: OfTheRightAuthorityIsTakenAndNoOther"}},
      {"admin.readyWhen",
       {.change = [](Config& config) { config.admin.ready_when = config::ReadyWhen::Database; },
        .counts =
            [](LiveKey& test) {
              const std::size_t before = test.postgres_.greeted();
              EXPECT_TRUE(test.until([&] { return test.postgres_.greeted() > before; }));
            }}},
      {"admin.users",
       {.change = [](Config& config) { config.admin.users = {"alice"}; },
        .counts =
            [](LiveKey& test) {
              TestClient& console = test.connect().start("pgbouncer");
              EXPECT_TRUE(test.until([&] { return console.count('Z') == 1; })) << console.types;
            }}},
      {"auth.mode",
       {.change = [](Config& config) { config.auth.mode = config::AuthMode::ScramSha256; },
        .moment = Moment::NextClient,
        .counts =
            [](LiveKey& test) {
              TestClient& asked = test.connect().start();
              EXPECT_TRUE(test.until([&] { return asked.types == "R"; })) << asked.types;
              EXPECT_EQ(load_u32(asked.messages[0].body.data()), 10u);  // AuthenticationSASL
            },
        .startup = "R",
        .signing_in = "E"}},
      {"auth.usersFile",
       {.change = [](Config& config) { config.auth.users_file = "/another"; },
        .moment = Moment::NextClient,
        .shown_by = "integration/credentials_test.cpp: IsTakenAnewWhereItChangesAndWhoIsInStays"}},
      {"auth.saltFile",
       {.change = [](Config& config) { config.auth.salt_file = a_file(); },
        .moment = Moment::NextClient,
        .shown_by = "integration/live_keys_test.cpp: SaltsAreMadeFromAnotherFile"}},
      {"auth.recheck",
       {.change = [](Config& config) { config.auth.recheck_us = 0; },
        .moment = Moment::NextClient,
        .shown_by =
            "integration/passthrough_test.cpp: StandsWhileItCannotBeAskedAndNotForAnother"}},
      {"auth.scramIterations",
       {.change = [](Config& config) { config.auth.scram_iterations = 5000; },
        .moment = Moment::NextClient,
        .shown_by = "integration/live_keys_test.cpp: PasswordsAreHashedAnewWithOtherIterations"}},

      // ---- server
      {"server.url", row_of([](config::Server& server) {
         server.url =
             "postgres://127.0.0.1:" + std::to_string(server.port) + "/app?sslmode=disable";
         server.host.clear();
         server.port_set = false;
       })},
      {"server.host", row_of([](config::Server& server) { server.host = "127.0.0.1,127.0.0.1"; })},
      {"server.port",
       {.change = [](Config& config) { config.server.port = other_port_; },
        .moment = Moment::EachServer,
        .counts =
            [](LiveKey& test) {
              test.expect_replaced();
              EXPECT_GT(test.other_postgres_.greeted(), 0u);
            }}},
      {"server.database", row_of([](config::Server& server) { server.database = "another"; })},
      {"server.user", row_of([](config::Server& server) { server.user = "another"; })},
      {"server.password", row_of([](config::Server& server) { server.password = "another"; })},
      {"server.passwordFile",
       row_of([](config::Server& server) { server.password_file = a_file(); })},
      {"server.sslMode", row_of([](config::Server& server) { server.ssl_mode = "prefer"; })},
      {"server.sslRootCert",
       row_of([](config::Server& server) { server.ssl_root_cert = a_file(); })},
      {"server.sslCert", row_of([](config::Server& server) { server.ssl_cert = a_file(); })},
      {"server.sslKey", row_of([](config::Server& server) { server.ssl_key = a_file(); })},
      {"server.targetSessionAttrs",
       row_of([](config::Server& server) { server.target_session_attrs = "any"; })},
      {"server.connectTimeout",
       row_of([](config::Server& server) { server.connect_timeout_us = 60 * kMicrosPerSecond; })},
      {"server.options", row_of([](config::Server& server) { server.options = "-c geqo=off"; })},

      // ---- pool: who gets a server
      {"pool.size",
       {.change = [](Config& config) { config.pool.size = 6; },
        .while_full =
            [](LiveKey& test) {
              EXPECT_TRUE(test.until([&] {
                return test.of_alice().servers[static_cast<std::size_t>(SlotState::Connecting)] ==
                       1;
              }));
            }}},
      {"pool.minIdle",
       {.change = [](Config& config) { config.pool.min_idle = 3; },
        .counts =
            [](LiveKey& test) {
              EXPECT_TRUE(test.until([&] { return test.of_carl(SlotState::Idle) == 3; }));
            }}},
      {"pool.overflow",
       {.change = [](Config& config) { config.pool.overflow = 1; },
        .before = [](Config& config) { config.pool.overflow_after_us = 0; },
        .while_full =
            [](LiveKey& test) {
              EXPECT_TRUE(test.until([&] {
                return test.of_alice().servers[static_cast<std::size_t>(SlotState::Connecting)] ==
                       1;
              }));
            }}},
      {"pool.overflowAfter",
       {.change = [](Config& config) { config.pool.overflow_after_us = 0; },
        .before =
            [](Config& config) {
              config.pool.overflow = 1;
              config.pool.overflow_after_us = 3600 * kMicrosPerSecond;
            },
        .while_full =
            [](LiveKey& test) {
              EXPECT_TRUE(test.until([&] {
                return test.of_alice().servers[static_cast<std::size_t>(SlotState::Connecting)] ==
                       1;
              }));
            }}},
      {"pool.acquireTimeout",
       {.change = [](Config& config) { config.pool.acquire_timeout_us = 60 * kMicrosPerSecond; },
        .shown_by = "integration/reload_test.cpp: acquireTimeout: 100ms"}},
      {"pool.waitersMax",
       {.change = [](Config& config) { config.pool.waiters_max = 1; },
        .while_full =
            [](LiveKey& test) {
              TestClient& another = test.client();
              another.query("SELECT 'another'");
              EXPECT_TRUE(test.until([&] { return another.types == "EZ"; })) << another.types;
              another.vanish();
            }}},
      {"pool.idleTimeout",
       {.change = [](Config& config) { config.pool.idle_timeout_us = 1; },
        .before = [](Config& config) { config.pool.prune_interval_us = kMicrosPerMilli; },
        .while_full =
            [](LiveKey& test) {
              EXPECT_TRUE(test.until([&] { return test.of_carl(SlotState::Idle) == 0; }));
            }}},
      {"pool.pruneInterval",
       {.change = [](Config& config) { config.pool.prune_interval_us = kMicrosPerMilli; },
        .before =
            [](Config& config) {
              config.pool.idle_timeout_us = 1;
              config.pool.prune_interval_us = 3600 * kMicrosPerSecond;
            },
        .while_full =
            [](LiveKey& test) {
              EXPECT_TRUE(test.until([&] { return test.of_carl(SlotState::Idle) == 0; }));
            }}},
      {"pool.maxLifetime",
       {.change = [](Config& config) { config.pool.max_lifetime_us = 300 * kMicrosPerMilli; },
        .while_full =
            [](LiveKey& test) {  // what takes its place hangs, and until then it stays
              EXPECT_TRUE(test.until([&] { return test.of_carl(SlotState::Connecting) == 1; }));
              EXPECT_EQ(test.of_carl(SlotState::Idle), 1u);
            }}},
      {"pool.connectConcurrency",
       {.change = [](Config& config) { config.pool.connect_concurrency = 3; },
        .before =
            [](Config& config) {
              config.pool.size = 8;
              config.pool.connect_concurrency = 1;
            },
        .while_full =
            [](LiveKey& test) {
              for (int i = 0; i < 2; ++i) test.client().query("SELECT 'more'");
              EXPECT_TRUE(test.until([&] {
                return test.of_alice().servers[static_cast<std::size_t>(SlotState::Connecting)] ==
                       3;
              }));
            }}},

      // ---- pool: what a lease is
      {"pool.mode",
       {.change =
            [](Config& config) {
              config.pool.mode =
                  config.pool.mode == PoolMode::Session ? PoolMode::Transaction : PoolMode::Session;
            },
        .moment = Moment::NextLease,
        .counts =
            [](LiveKey& test) {
              const auto leased = [&] {
                return test.of_alice().servers[static_cast<std::size_t>(SlotState::Leased)];
              };
              const std::uint32_t before = leased();
              TestClient& next = test.client();
              next.query("SELECT 'next'");
              EXPECT_TRUE(test.until([&] { return next.types == "CZ"; })) << next.types;
              EXPECT_EQ(leased(), before + (test.transaction_mode() ? 1 : 0));
            }}},
      {"pool.resetQuery",
       {.change = [](Config& config) { config.pool.reset_query = "CLEAN"; },
        .moment = Moment::NextLease}},
      {"pool.sessionState",
       {.change = [](Config& config) { config.pool.session_state = config::SessionState::Refuse; },
        .moment = Moment::NextLease,
        .counts =
            [](LiveKey& test) {
              if (!test.transaction_mode()) return;
              TestClient& next = test.client();
              next.query("SET app.x = '1'");
              EXPECT_TRUE(test.until([&] { return next.types == "EZ"; })) << next.types;
            }}},
      {"pool.preparedStatementsMax",
       {.change = [](Config& config) { config.pool.prepared_statements_max = 1; },
        .moment = Moment::NextLease,
        .counts =
            [](LiveKey& test) {
              if (!test.transaction_mode()) return;
              TestClient& next = test.client();
              Bytes out;
              for (const char* name : {"one", "two"}) {
                const std::size_t start = pg::begin_message(out, 'P');
                append_cstring(out, name);
                append_cstring(out, std::string("SELECT '") + name + "'");
                append_text(out, std::string("\0\0", 2));
                pg::finish_message(out, start);
              }
              next.say(out);
              next.requests("S");
              EXPECT_TRUE(test.until([&] { return next.count('Z') == 1; })) << next.types;
              bool closed = false;
              for (const auto& backend : test.postgres_.backends) {
                for (const Message& request : backend->requests) closed |= request.type == 'C';
              }
              EXPECT_TRUE(closed);
            }}},
      {"pool.queryTimeout",
       {.change = [](Config& config) { config.pool.query_timeout_us = 1; },
        .moment = Moment::NextTransaction,
        .counts =
            [](LiveKey& test) {
              const std::size_t before = test.postgres_.cancels().size();
              test.client().query("SLOW");
              EXPECT_TRUE(test.until([&] { return test.postgres_.cancels().size() > before; }));
            }}},
      {"pool.idleTransactionTimeout",
       {.change = [](Config& config) { config.pool.idle_transaction_timeout_us = 1; },
        .moment = Moment::NextTransaction,
        .counts =
            [](LiveKey& test) {
              TestClient& next = test.in_transaction();
              EXPECT_TRUE(test.until([&] { return next.ended; }));
              EXPECT_EQ(next.sqlstate(), "25P03");
            }}},
      {"pool.statementTimeout",
       {.change = [](Config& config) { config.pool.statement_timeout_us = kMicrosPerSecond; },
        .moment = Moment::EachServer,
        .counts = [](LiveKey& test) { test.expect_replaced(); }}},

      // ---- log, drain
      {"log.level",
       {.change = [](Config& config) { config.log.level = config::LogLevel::Warn; },
        .shown_by = "integration/reload_test.cpp: TheLogLevelFollows"}},
      {"log.slowQuery",
       {.change = [](Config& config) { config.log.slow_query_us = 0; },
        .shown_by = "integration/live_keys_test.cpp: TheLogFollowsInEachOfItsKeys"}},
      {"log.queryText",
       {.change = [](Config& config) { config.log.query_text = config::QueryText::Off; },
        .shown_by = "integration/live_keys_test.cpp: TheLogFollowsInEachOfItsKeys"}},
      {"log.statsInterval",
       {.change = [](Config& config) { config.log.stats_interval_us = 0; },
        .shown_by = "integration/live_keys_test.cpp: TheLogFollowsInEachOfItsKeys"}},
      {"drain.minDelay",
       {.change = [](Config& config) { config.drain.min_delay_us = kMicrosPerSecond; },
        .shown_by = "integration/live_keys_test.cpp: ADrainGoesByWhatHoldsThen"}},
      {"drain.timeout",
       {.change = [](Config& config) { config.drain.timeout_us = kMicrosPerSecond; },
        .shown_by = "integration/live_keys_test.cpp: ADrainGoesByWhatHoldsThen"}},
  };
  return table;
}

}  // namespace carpool::proxy
