// The promise: Carpool reaches PostgreSQL in every way that libpq's users know, and its own
// clients by TCP and by Unix socket.
#include <gtest/gtest.h>

#include "harness/harness.h"
#include "harness/tls.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  static PostgresCluster cluster({.tls = true});
  return cluster;
}

std::string server_section(const std::string& more) {
  return "host: 127.0.0.1, port: " + std::to_string(postgres().port()) + ", " + more;
}

const std::string kWhoAmI = "select current_user";
const std::string kIsTls = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

// What a newcomer is told where no server can be opened.
Message error_for_a_newcomer(const Carpool& carpool, const std::string& user = "app") {
  Wire client = carpool.raw();
  client.send(startup_packet({{"user", user}, {"database", "app"}}));
  std::vector<Message> answer = client.read_until("EZ");
  if (find(answer, 'Z') != nullptr) answer = client.query("select 1");
  const Message* error = find(answer, 'E');
  return error != nullptr ? *error : Message{};
}

class ServerPassword : public ::testing::TestWithParam<const char*> {};

TEST_P(ServerPassword, ComesFromAFile) {
  Carpool carpool({.server = server_section(std::string("user: ") + GetParam() +
                                            ", passwordFile: '{mount}/password'")},
                  {.files = {{"password", kPassword}}});
  EXPECT_EQ(carpool.connect().query(kWhoAmI).value(), GetParam());
}

TEST_P(ServerPassword, ComesFromAFileThatEndsInANewline) {
  Carpool carpool({.server = server_section(std::string("user: ") + GetParam() +
                                            ", passwordFile: '{mount}/password'")},
                  {.files = {{"password", std::string(kPassword) + "\n"}}});
  EXPECT_EQ(carpool.connect().query(kWhoAmI).value(), GetParam());
}

TEST_P(ServerPassword, ComesFromAVariableInTheUrl) {
  Carpool carpool(
      {.server = "url: 'postgresql://" + std::string(GetParam()) +
                 ":${DB_PASSWORD}@127.0.0.1:" + std::to_string(postgres().port()) + "/app'"},
      {.env = {{"DB_PASSWORD", "correct%20horse"}}});
  EXPECT_EQ(carpool.connect().query(kWhoAmI).value(), GetParam());
  EXPECT_EQ(carpool.get("/config").body.find("correct"), std::string::npos);
  EXPECT_FALSE(carpool.logged("correct"));
}

TEST_P(ServerPassword, ComesFromTheUrl) {
  Carpool carpool({.server = "url: 'postgresql://" + std::string(GetParam()) +
                             ":correct%20horse@127.0.0.1:" + std::to_string(postgres().port()) +
                             "/app'"});
  EXPECT_EQ(carpool.connect().query(kWhoAmI).value(), GetParam());
  EXPECT_EQ(carpool.get("/config").body.find("correct"), std::string::npos) << "it is masked";
  EXPECT_FALSE(carpool.logged("correct"));
}

TEST_P(ServerPassword, ThatIsWrongIsSeenAndNotShown) {
  Carpool carpool({.server = server_section(std::string("user: ") + GetParam() +
                                            ", passwordFile: '{mount}/password'"),
                   .pool = "acquireTimeout: 500ms"},
                  {.files = {{"password", "wrong-battery"}}});
  const Message error = error_for_a_newcomer(carpool);
  EXPECT_FALSE(error.sqlstate().empty());
  EXPECT_GT(carpool.metric("carpool_server_connect_errors_total", {{"reason", "auth"}}).value_or(0),
            0);
  EXPECT_FALSE(carpool.logged("wrong-battery"));
  EXPECT_EQ(error.body.find("wrong-battery"), std::string::npos);
  EXPECT_EQ(carpool.get("/livez").status, 200);
}

INSTANTIATE_TEST_SUITE_P(Method, ServerPassword,
                         ::testing::Values("scram_user", "md5_user", "plain_user"),
                         [](const auto& method) { return std::string(method.param); });

TEST(ServerUser, ThatDoesNotExistLeavesItsCountersAndThereAreFewSuch) {
  constexpr std::size_t kKept_max = 16;
  Carpool carpool(postgres(), {});
  for (std::size_t i = 0; i < kKept_max + 4; ++i) {
    const Message error = error_for_a_newcomer(carpool, "nobody_" + std::to_string(i));
    EXPECT_FALSE(error.sqlstate().empty());
  }
  EVENTUALLY(carpool.status()["pools"].size() == kKept_max);
  EXPECT_GE(carpool.metric("carpool_server_connect_errors_total").value_or(0), kKept_max);
  EXPECT_EQ(carpool.connect().query("select 1").value(), "1") << "others are served";
}

TEST(ServerPasswordFile, IsReadAnewForEachConnectionSoThatARotationNeedsNothing) {
  postgres().admin("create role rotating login password 'first'");
  postgres().admin("grant all on database app to rotating");
  Carpool carpool({.server = server_section("user: rotating, passwordFile: '{mount}/password',"
                                            " sslMode: disable"),
                   .pool = "size: 2"},
                  {.files = {{"password", "first"}}});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  const int pid = client.backend_pid();
  ASSERT_TRUE(postgres().admin("alter role rotating password 'second'").ok());
  carpool.mount().swap(
      {{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))}, {"password", "second"}});
  // A new server uses the new one; the old server, and its transaction, are left alone.
  Connection newcomer = carpool.connect();
  EXPECT_TRUE(newcomer.query("select 1").ok());
  EXPECT_EQ(client.backend_pid(), pid);
  EXPECT_TRUE(client.query("commit").ok());
}

TEST(ServerTls, IsUsedWherePostgresOffersItAndNotWhereDisabled) {
  Carpool prefer({.server = server_section("sslMode: prefer")});
  EXPECT_EQ(prefer.connect().query(kIsTls).value(), "t");
  Carpool disable({.server = server_section("sslMode: disable")});
  EXPECT_EQ(disable.connect().query(kIsTls).value(), "f");
}

TEST(ServerTls, RequireWorksWithScramAndItsChannelBinding) {
  Carpool carpool({.server = server_section("user: tls_user, sslMode: require,"
                                            " passwordFile: '{mount}/password'")},
                  {.files = {{"password", kPassword}}});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query(kWhoAmI).value(), "tls_user");
  EXPECT_EQ(client.query(kIsTls).value(), "t");
}

TEST(ServerTls, VerifyFullWorksWithTheRootCertificateAndFailsWithoutIt) {
  Carpool good({.server = server_section("sslMode: verify-full, sslRootCert: '" +
                                         postgres().root_cert() + "'")});
  EXPECT_EQ(good.connect().query(kIsTls).value(), "t");
  Carpool by_name({.server = "host: localhost, port: " + std::to_string(postgres().port()) +
                             ", sslMode: verify-full, sslRootCert: '" + postgres().root_cert() +
                             "'"});
  EXPECT_EQ(by_name.connect().query(kIsTls).value(), "t");
  // Another root: made for a server that is not this one.
  TempDir dir;
  run_command({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=someone else", "-keyout",
               dir.path() / "key", "-out", dir.path() / "other.crt"});
  Carpool bad({.server = server_section("sslMode: verify-full, sslRootCert: '" +
                                        (dir.path() / "other.crt").string() + "'"),
               .pool = "acquireTimeout: 500ms"});
  EXPECT_EQ(error_for_a_newcomer(bad).sqlstate(), "08001");
  EXPECT_TRUE(bad.logged("certificate"));
}

TEST(ServerTls, ChannelBindingIsDoneWhereItIsRequired) {
  const auto url = [](const std::string& user, const std::string& more) {
    return "url: 'postgresql://" + user +
           ":correct%20horse@127.0.0.1:" + std::to_string(postgres().port()) +
           "/app?channel_binding=require&" + more + "'";
  };
  // libpq with channel_binding=require takes nothing but SCRAM-SHA-256-PLUS.
  Carpool bound({.server = url("scram_user", "sslmode=require")});
  EXPECT_EQ(bound.connect().query(kWhoAmI).value(), "scram_user");
  // Without TLS there is nothing to bind to, which a start refuses (tests/config).
  Carpool unbound({.server = url("md5_user", "sslmode=require"), .pool = "acquireTimeout: 500ms"});
  EXPECT_FALSE(error_for_a_newcomer(unbound).sqlstate().empty());
  EXPECT_TRUE(unbound.logged("channel binding"));
}

TEST(ServerTls, ACertificateOfCarpoolsOwnSignsItIn) {
  Authority authority;
  postgres().set_file("ssl_ca_file", authority.certificate());
  postgres().admin("create role by_certificate login");
  postgres().prepend_hba(
      "hostssl all by_certificate 127.0.0.1/32 cert\n"
      "host all by_certificate 127.0.0.1/32 reject");
  const auto server = [](const Identity& identity) {
    return server_section("user: by_certificate, sslMode: require, sslCert: '" +
                          identity.certificate + "', sslKey: '" + identity.key + "'");
  };
  Carpool good({.server = server(authority.issue("by_certificate"))});
  Connection client = good.connect();
  EXPECT_EQ(client.query(kWhoAmI).value(), "by_certificate") << client.error();
  EXPECT_EQ(client.query("select client_dn from pg_stat_ssl where pid = pg_backend_pid()").value(),
            "/CN=by_certificate");
  Authority stranger("another authority");
  for (const Identity& identity : {authority.issue("somebody else"), stranger.issue("app")}) {
    Carpool bad({.server = server(identity), .pool = "acquireTimeout: 500ms"});
    EXPECT_FALSE(error_for_a_newcomer(bad).sqlstate().empty());
    EXPECT_TRUE(bad.logged("cannot open a server"));
  }
  EXPECT_EQ(client.query("select 1").value(), "1");
}

TEST(ServerTls, ANameThatIsNotTheServersFailsVerifyFullAndPassesVerifyCa) {
  Authority authority;
  const Identity elsewhere = authority.issue("db.example", "DNS:db.example");
  PostgresCluster named({.tls = true});
  named.show_certificate(elsewhere.certificate, elsewhere.key);
  const std::string server = "host: 127.0.0.1, port: " + std::to_string(named.port()) +
                             ", sslRootCert: '" + authority.certificate() + "', sslMode: ";
  Carpool by_authority({.server = server + "verify-ca"});
  EXPECT_EQ(by_authority.connect().query(kIsTls).value(), "t");
  Carpool by_name({.server = server + "verify-full", .pool = "acquireTimeout: 500ms"});
  EXPECT_EQ(error_for_a_newcomer(by_name).sqlstate(), "08001");
  EXPECT_TRUE(by_name.logged("does not match host name")) << by_name.log();
}

TEST(ServerTls, LargeValuesGoBothWays) {
  Carpool carpool({.server = server_section("sslMode: require"), .pool = "size: 1"});
  Connection client = carpool.connect();
  const std::string text(8 * 1024 * 1024, 't');
  EXPECT_EQ(client.query_params("select length($1::text)", {text}).value(), "8388608");
  EXPECT_EQ(client.query("select repeat('y', 30000000)").value().size(), 30'000'000U);
  for (int i = 0; i < 200; i++)
    ASSERT_EQ(client.query("select " + std::to_string(i)).value(), std::to_string(i));
}

TEST(ServerTls, ASlowReaderAndACancelWorkToo) {
  Carpool carpool({.server = server_section("sslMode: require"), .pool = "size: 1"});
  Wire reader = carpool.raw();
  ASSERT_TRUE(reader.sign_in());
  reader.send(query_message("select repeat('x', 1000), generate_series(1, 50000)"));
  ASSERT_EVENTUALLY(postgres().backends_where("wait_event = 'ClientWrite'") == 1);
  EXPECT_EQ(reader.read_until("Z", 60s).size(), 50'003U);
  Connection client = carpool.connect();
  client.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%'") == 1);
  EXPECT_TRUE(client.cancel());
  EXPECT_EQ(client.wait().sqlstate, "57014");
  EXPECT_EQ(client.query("select 1").value(), "1");
}

TEST(ServerSocket, AUnixSocketReachesPostgres) {
  Carpool carpool({.server = "host: " + postgres().socket_dir() +
                             ", port: " + std::to_string(postgres().port())});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query("select inet_client_addr() is null").value(), "t");
}

TEST(ClientSocket, CarpoolListensOnAUnixSocketToo) {
  TempDir dir;
  Carpool carpool({.listen = "unixSocketDir: '" + dir.path().string() + "'",
                   .server = server_section("sslMode: prefer")});
  const std::string path = dir.path() / (".s.PGSQL." + std::to_string(carpool.port()));
  EVENTUALLY(std::filesystem::exists(path));
  Connection client("host=" + dir.path().string() + " port=" + std::to_string(carpool.port()) +
                    " user=app dbname=app");
  EXPECT_EQ(client.query("select 1").value(), "1") << client.error();
  client.send("select pg_sleep(600)");
  ASSERT_EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%'") == 1);
  EXPECT_TRUE(client.cancel());
  EXPECT_EQ(client.wait().sqlstate, "57014");
  client.close();
  EXPECT_TRUE(carpool.connect().query("select 1").ok()) << "and on TCP";
  carpool.signal(SIGTERM);
  EXPECT_EQ(carpool.wait_exit(), 0);
  EXPECT_FALSE(std::filesystem::exists(path)) << "the socket file is left behind";
}

TEST(ClientSocket, AStaleSocketFileDoesNotPreventAStart) {
  TempDir dir;
  const Settings settings{.listen = "unixSocketDir: '" + dir.path().string() + "'",
                          .server = server_section("sslMode: prefer")};
  Carpool first(settings);
  const std::string yaml = first.render(settings);
  first.signal(SIGKILL);
  EXPECT_EQ(first.wait_exit(), 128 + SIGKILL);
  write_file(dir.path() / "carpool.yaml", yaml);
  Process second({.argv = {carpool_binary(), "run", "--config", dir.path() / "carpool.yaml"},
                  .env = {},
                  .output_file = dir.path() / "log",
                  .user = ""});
  const std::string path = dir.path() / (".s.PGSQL." + std::to_string(first.port()));
  EVENTUALLY(Wire::unix_socket(path).connected());
  EXPECT_TRUE(second.running()) << read_file(dir.path() / "log");
}

TEST(ServerOptions, AreSentToPostgres) {
  Carpool carpool({.server = server_section("options: '-c work_mem=9MB'")});
  EXPECT_EQ(carpool.connect().query("show work_mem").value(), "9MB");
}

TEST(ServerTarget, TargetSessionAttrsChoosesTheServer) {
  Carpool writable({.server = server_section("targetSessionAttrs: read-write")});
  EXPECT_EQ(writable.connect().query("select 1").value(), "1");
  Carpool standby(
      {.server = server_section("targetSessionAttrs: standby"), .pool = "acquireTimeout: 500ms"});
  EXPECT_EQ(error_for_a_newcomer(standby).sqlstate(), "08001");
}

}  // namespace
}  // namespace carpool::integration
