// The promise: Carpool speaks TLS with its clients as PostgreSQL does, when asked or at once, with
// certificates of theirs or without, and takes a new certificate of its own without a restart.
#include "harness/tls.h"

#include <gtest/gtest.h>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using namespace std::string_literals;

PostgresCluster& postgres() {
  return shared_postgres();
}

Authority& authority() {
  static Authority made;
  return made;
}

const Identity& server_identity() {
  static const Identity made = authority().issue("localhost");
  return made;
}

std::string tls(const std::string& mode, const Identity& identity, const std::string& ca = "") {
  return "tls: {mode: " + mode + ", certFile: '" + identity.certificate + "', keyFile: '" +
         identity.key + "'" + (ca.empty() ? "" : ", caFile: '" + ca + "'") + "}";
}

std::string tls(const std::string& mode) {
  return tls(mode, server_identity());
}

std::string row(const std::vector<Message>& answer) {
  const Message* data = find(answer, 'D');
  return data == nullptr ? "" : data->body.substr(6);
}

// ---- TLS at once

TEST(DirectTls, IsSpokenWithWhoeverAgreesOnPostgresql) {
  for (const std::string mode : {"allow", "require"}) {
    Carpool carpool(postgres(), {.listen = tls(mode)});
    TlsWire client(carpool.port());
    ASSERT_TRUE(client.connected()) << client.error();
    EXPECT_EQ(client.alpn(), "postgresql");
    ASSERT_TRUE(client.sign_in()) << client.error();
    EXPECT_EQ(row(client.query("select 41 + 1")), "42");
    EXPECT_EQ(row(client.query("select repeat('x', 3000000)")).size(), 3'000'000U);
  }
}

TEST(DirectTls, TakesAHandshakeThatComesInPieces) {
  Carpool carpool(postgres(), {.listen = tls("allow")});
  for (const std::size_t bytes : {1U, 7U, 100U}) {
    TlsWire client(carpool.port(), {.piece_bytes = bytes});
    ASSERT_TRUE(client.connected()) << client.error();
    ASSERT_TRUE(client.sign_in()) << client.error();
    EXPECT_EQ(row(client.query("select 1")), "1");
  }
}

TEST(DirectTls, WithoutAlpnIsRefusedAsByPostgres) {
  Carpool carpool(postgres(), {.listen = tls("allow")});
  TlsWire client(carpool.port(), {.alpn = ""});
  ASSERT_TRUE(client.connected()) << client.error();
  client.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  const std::vector<Message> answer = client.read_until("EZ");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "08P01");
  EXPECT_NE(find(answer, 'E')->field('M').find("ALPN"), std::string::npos);
  EXPECT_TRUE(client.ended());
}

TEST(DirectTls, OfAnotherProtocolIsRefusedInTheHandshake) {
  Carpool carpool(postgres(), {.listen = tls("allow")});
  TlsWire client(carpool.port(), {.alpn = "http/1.1"});
  EXPECT_FALSE(client.connected());
  EXPECT_NE(client.error().find("no application protocol"), std::string::npos) << client.error();
  EVENTUALLY(carpool.logged("TLS handshake failed"));
  EXPECT_TRUE(TlsWire(carpool.port()).sign_in()) << "and nobody else is harmed";
}

TEST(DirectTls, WhereTlsIsDisabledIsToldSoInTheClear) {
  Carpool carpool(postgres(), {.listen = tls("disable")});
  TlsWire client(carpool.port());
  EXPECT_FALSE(client.connected());
  EVENTUALLY(carpool.logged("these are TLS bytes"));
  EXPECT_EQ(carpool.metric("carpool_clients_rejected_total", {{"reason", "protocol_error"}}), 1);
}

TEST(DirectTls, CarriesACancelToo) {
  Carpool carpool(postgres(), {.listen = tls("require"), .pool = "size: 1"});
  TlsWire client(carpool.port());
  client.send(startup_packet({{"user", "app"}, {"database", "app"}}, kProtocol30 + 2));
  const std::vector<Message> greeting = client.read_until("ZE");
  ASSERT_NE(find(greeting, 'K'), nullptr);
  client.send(query_message("select pg_sleep(600)"));
  ASSERT_EVENTUALLY(postgres().backends_where("query like '%pg_sleep(600)%'") == 1);
  TlsWire canceler(carpool.port());
  canceler.send(untyped(kCancelRequestCode, find(greeting, 'K')->body));
  EXPECT_TRUE(canceler.ended());
  const std::vector<Message> answer = client.read_until("Z");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "57014");
}

TEST(AskedTls, NeedsNoAlpnAndTakesPostgresqls) {
  Carpool carpool(postgres(), {.listen = tls("require")});
  for (const std::string alpn : {"", "postgresql"}) {
    TlsWire client(carpool.port(), {.ask_first = true, .alpn = alpn});
    ASSERT_TRUE(client.connected()) << client.error();
    ASSERT_TRUE(client.sign_in());
    EXPECT_EQ(row(client.query("select 1")), "1");
  }
}

// One of its bytes is 0x16, with which a handshake begins.
TEST(AskedTls, IsAnsweredThoughTheRequestComesAByteAtATime) {
  Carpool carpool(postgres(), {.listen = tls("allow")});
  for (const std::uint32_t code : {kSslRequestCode, kGssRequestCode}) {
    Wire wire = carpool.raw();
    for (const char byte : untyped(code)) {
      wire.send({&byte, 1});
      std::this_thread::sleep_for(10ms);
    }
    EXPECT_EQ(wire.read_bytes(1), code == kSslRequestCode ? "S" : "N");
  }
}

TEST(Tls, AClientThatVanishesInItsHandshakeOrBehindItLeavesNothing) {
  Carpool carpool(postgres(), {.listen = tls("allow")});
  ASSERT_TRUE(TlsWire(carpool.port()).sign_in());
  EVENTUALLY(carpool.status()["clients"]["connected"] == 0);
  for (int i = 0; i < 30; i++) {
    Wire half = carpool.raw();
    if (i % 3 == 0) half.send(untyped(kSslRequestCode));
    // A ClientHello's first bytes, and its record's length.
    if (i % 3 != 1) half.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"s);
    if (i % 3 == 1) half.send("\x16"s);
    if (i % 2 == 0) half.reset();
  }
  TlsWire shaken(carpool.port());
  shaken.vanish();
  EVENTUALLY(carpool.status()["clients"]["connected"] == 0);
  EXPECT_TRUE(TlsWire(carpool.port()).sign_in());
}

TEST(Tls, RubbishInsteadOfAHandshakeIsTurnedAway) {
  Carpool carpool(postgres(), {.listen = tls("allow")});
  Wire client = carpool.raw();
  client.send("\x16\x03\x01\x00\x05"s + "junk!" + std::string(2000, '\x7f'));
  EXPECT_TRUE(client.ended());
  EVENTUALLY(carpool.logged("TLS handshake failed"));
  TlsWire good(carpool.port());
  ASSERT_TRUE(good.sign_in());
  // And rubbish behind a good one, past TLS.
  good.send(std::string(100, '\xff'));
  EXPECT_TRUE(good.ended());
  EXPECT_TRUE(TlsWire(carpool.port()).sign_in());
}

// ---- certificates of clients

TEST(ClientCertificate, OfTheRightAuthorityIsTakenAndNoOther) {
  Carpool carpool(postgres(),
                  {.listen = tls("require", server_identity(), authority().certificate())});
  const Identity good = authority().issue("alice", "DNS:alice");
  Authority stranger("another authority");
  const Identity foreign = stranger.issue("alice", "DNS:alice");
  const std::string base = carpool.conninfo() + " sslmode=require";
  const auto with = [&](const Identity& identity) {
    return base + " sslcert=" + identity.certificate + " sslkey=" + identity.key;
  };
  Connection taken(with(good));
  EXPECT_EQ(taken.query("select 1").value(), "1") << taken.error();

  Connection refused(with(foreign));
  EXPECT_FALSE(refused.connected());
  EXPECT_NE(refused.error().find("unknown ca"), std::string::npos) << refused.error();
  EVENTUALLY(carpool.logged("the client's certificate: "));

  Connection none(base + " sslcert=/nonexistent sslkey=/nonexistent");
  EXPECT_FALSE(none.connected());
  EXPECT_NE(none.error().find("certificate required"), std::string::npos) << none.error();
  EVENTUALLY(carpool.logged("peer did not return a certificate"));

  // The same where TLS comes at once.
  TlsWire direct(carpool.port(), {.identity = good});
  EXPECT_TRUE(direct.sign_in()) << direct.error();
  TlsWire direct_foreign(carpool.port(), {.identity = foreign});
  EXPECT_FALSE(direct_foreign.connected() && direct_foreign.sign_in());
  EXPECT_EQ(taken.query("select 2").value(), "2");
}

// A file that is written anew in its place is empty for a moment.
TEST(ClientCertificate, IsAskedForThoughTheFileOfAuthoritiesBecomesEmpty) {
  const std::string keys = "tls: {mode: require, certFile: '" + server_identity().certificate +
                           "', keyFile: '" + server_identity().key + "', caFile: '{mount}/ca'}";
  const auto enters = [](const Carpool& carpool) {
    TlsWire client(carpool.port());
    return client.connected() && client.sign_in();
  };
  Carpool carpool(postgres(), {.listen = keys},
                  {.files = {{"ca", read_file(authority().certificate())}}});
  ASSERT_FALSE(enters(carpool));
  carpool.mount().swap(
      {{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))}, {"ca", ""}});
  EVENTUALLY(carpool.logged("listen.tls.caFile"));
  EXPECT_FALSE(enters(carpool));
  Carpool started(postgres(), {.listen = keys},
                  {.wait_until_started = false, .files = {{"ca", ""}}});
  EXPECT_EQ(started.wait_exit(), 78);
}

// ---- new certificates

// What a new client is shown.
std::string shown(const Carpool& carpool) {
  return TlsWire(carpool.port()).peer_name();
}

TEST(CertificateReload, NewClientsSeeTheNewOneAndOldOnesLiveOn) {
  const Identity first = authority().issue("first");
  const Identity second = authority().issue("second");
  Carpool carpool(
      postgres(),
      {.listen = "tls: {mode: require, certFile: '{mount}/tls.crt', keyFile: '{mount}/tls.key'}"},
      {.files = {{"tls.crt", read_file(first.certificate)}, {"tls.key", read_file(first.key)}}});
  TlsWire old_one(carpool.port());
  ASSERT_TRUE(old_one.sign_in()) << old_one.error();
  EXPECT_EQ(old_one.peer_name(), "first");
  old_one.query("begin");
  carpool.mount().swap({{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))},
                        {"tls.crt", read_file(second.certificate)},
                        {"tls.key", read_file(second.key)}});
  EVENTUALLY(shown(carpool) == "second");
  EXPECT_EQ(row(old_one.query("select 'still here'")), "still here");
  old_one.query("commit");
  EXPECT_TRUE(carpool.logged("credentials reloaded"));
}

TEST(CertificateReload, FilesThatAreBrokenAreReportedAndTheOldOnesStay) {
  const Identity first = authority().issue("first");
  const Identity second = authority().issue("second");
  Carpool carpool(
      postgres(),
      {.listen = "tls: {mode: require, certFile: '{mount}/tls.crt', keyFile: '{mount}/tls.key'}"},
      {.files = {{"tls.crt", read_file(first.certificate)}, {"tls.key", read_file(first.key)}}});
  const std::string yaml = read_file(carpool.mount().file("carpool.yaml"));
  const auto warned = [&] {
    return carpool.config()["warnings"].dump().find("credentials rejected") != std::string::npos;
  };
  // Half of a certificate; and a key that belongs to another.
  const std::string half = read_file(second.certificate).substr(0, 200);
  carpool.mount().swap(
      {{"carpool.yaml", yaml}, {"tls.crt", half}, {"tls.key", read_file(second.key)}});
  EVENTUALLY(carpool.logged("credentials rejected, the old ones stay"));
  EVENTUALLY(warned());
  EXPECT_EQ(shown(carpool), "first");
  carpool.mount().swap({{"carpool.yaml", yaml},
                        {"tls.crt", read_file(second.certificate)},
                        {"tls.key", read_file(first.key)}});
  EVENTUALLY(carpool.logged("key values mismatch"));
  EXPECT_EQ(shown(carpool), "first");
  // A change of the configuration applies all the same.
  Settings grown{.listen =
                     "tls: {mode: require, certFile: '{mount}/tls.crt',"
                     " keyFile: '{mount}/tls.key'}",
                 .server = "host: 127.0.0.1, port: " + std::to_string(postgres().port()),
                 .pool = "size: 7"};
  carpool.mount().swap({{"carpool.yaml", carpool.render(grown)},
                        {"tls.crt", read_file(second.certificate)},
                        {"tls.key", read_file(first.key)}});
  EVENTUALLY(carpool.get("/config").body.find("\"size\":7") != std::string::npos ||
             carpool.get("/config").body.find("\"size\": 7") != std::string::npos);
  EXPECT_EQ(shown(carpool), "first");
  carpool.mount().swap({{"carpool.yaml", carpool.render(grown)},
                        {"tls.crt", read_file(second.certificate)},
                        {"tls.key", read_file(second.key)}});
  EVENTUALLY(shown(carpool) == "second");
  EXPECT_FALSE(warned());
}

}  // namespace
}  // namespace carpool::integration
