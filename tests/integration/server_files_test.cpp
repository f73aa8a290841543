// The promise: a file that a server is opened with is an error for its database where it is no
// good, and stops nobody else, however it is no good.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>

#include "harness/harness.h"
#include "harness/tls.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  static PostgresCluster cluster({.tls = true});
  return cluster;
}

std::string at_postgres() {
  return "host: 127.0.0.1, port: " + std::to_string(postgres().port());
}

std::string url(const std::string& parameters) {
  return "url: 'postgresql://127.0.0.1:" + std::to_string(postgres().port()) + "/app?" +
         parameters + "'";
}

class ABadFile : public ::testing::Test {
 protected:
  ABadFile() { mkfifo(fifo_.c_str(), 0600); }

  // What a client of the database `bad` is told, while one of `app` goes on.
  std::string error_with(const std::string& server, const Launch& launch = {}) {
    Settings settings;
    settings.server = at_postgres();
    settings.databases = "{name: app}, {name: bad, server: {" + server + "}}";
    Carpool carpool(settings, launch);
    Connection good = carpool.connect();
    EXPECT_EQ(good.query("select 1").value(), "1");
    Connection bad = carpool.connect("app", "bad");
    EXPECT_FALSE(bad.connected()) << server;
    EXPECT_EQ(good.query("select 2").value(), "2");
    EXPECT_EQ(carpool.get("/livez").status, 200);
    return bad.error();
  }

  TempDir dir_;
  const std::string fifo_ = dir_.path() / "fifo";
};

TEST_F(ABadFile, IsSaidWithItsKeyItsPathAndWhatItIs) {
  const std::string said = fifo_ + ": is not a regular file";
  for (const std::string key : {"sslRootCert", "sslCert", "sslKey"}) {
    const std::string error =
        error_with("sslMode: require, " + key + ": '" + fifo_ + "'" +
                   (key == "sslKey" ? ", sslCert: '" + postgres().root_cert() + "'" : ""));
    EXPECT_NE(error.find("server." + key + " " + said), std::string::npos) << error;
  }
  const std::string error = error_with("passwordFile: '" + fifo_ + "'");
  EXPECT_NE(error.find("server.passwordFile " + said), std::string::npos) << error;
  EXPECT_NE(error_with("passwordFile: '" + dir_.path().string() + "'").find("is a directory"),
            std::string::npos);
  EXPECT_NE(error_with("sslMode: require, sslRootCert: /dev/zero").find("is not a regular file"),
            std::string::npos);
  EXPECT_NE(error_with("sslMode: require, sslRootCert: /nowhere").find("/nowhere: cannot be read"),
            std::string::npos);
}

TEST_F(ABadFile, IsSaidWhereTheUrlNamesIt) {
  for (const std::string keyword : {"sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"}) {
    const std::string error = error_with(url("sslmode=require&" + keyword + "=" + fifo_));
    EXPECT_NE(error.find(keyword + " of server.url " + fifo_ + ": is not a regular file"),
              std::string::npos)
        << error;
  }
  const std::string folder = dir_.path() / "crls";
  mkdir(folder.c_str(), 0700);
  mkfifo((folder + "/01234567.r0").c_str(), 0600);
  const std::string error = error_with(url("sslmode=require&sslcrldir=" + folder));
  EXPECT_NE(error.find("01234567.r0 in it: is not a regular file"), std::string::npos) << error;
}

TEST_F(ABadFile, InTheHomeFolderWhereLibpqLooksByItselfIsSaid) {
  mkdir((dir_.path() / ".postgresql").c_str(), 0700);
  const std::string root = dir_.path() / ".postgresql" / "root.crt";
  mkfifo(root.c_str(), 0600);
  Settings settings;
  settings.server = at_postgres() + ", sslMode: disable";
  settings.databases = "{name: app}, {name: bad, server: {sslMode: require}}";
  Carpool carpool(settings, {.env = {{"HOME", dir_.path()}}});
  EXPECT_EQ(carpool.connect().query("select 1").value(), "1") << "no TLS, no file";
  Connection bad = carpool.connect("app", "bad");
  EXPECT_NE(bad.error().find("~/.postgresql/root.crt: is not a regular file"), std::string::npos)
      << bad.error();
}

TEST(TheHomeFolder, CountsAsLibpqsUsersKnowIt) {
  TempDir home;
  mkdir((home.path() / ".postgresql").c_str(), 0700);
  std::filesystem::copy(postgres().root_cert(), home.path() / ".postgresql" / "root.crt");
  const Settings settings = {.server = "host: localhost, port: " +
                                       std::to_string(postgres().port()) + ", sslMode: verify-full",
                             .pool = "acquireTimeout: 500ms"};
  Carpool with(settings, {.env = {{"HOME", home.path()}}});
  EXPECT_EQ(with.connect().query("select 1").value(), "1");
  TempDir empty;
  Carpool without(settings, {.env = {{"HOME", empty.path()}}});
  EXPECT_FALSE(without.connect().connected());
  EXPECT_TRUE(without.logged("~/.postgresql/root.crt"));
}

TEST(ThePasswordOfAPgpassFile, IsTakenWhereThereIsNoOther) {
  TempDir dir;
  const std::string file = dir.path() / "pgpass";
  write_file(file, "*:*:*:scram_user:" + std::string(kPassword) + "\n");
  chmod(file.c_str(), 0600);
  const Settings settings = {.server = url("user=scram_user&passfile=" + file)};
  Carpool carpool(settings);
  EXPECT_EQ(carpool.connect().query("select current_user").value(), "scram_user");
  chmod(file.c_str(), 0644);
  Carpool open(settings);
  EXPECT_NE(open.connect().error().find("others than its owner can read it"), std::string::npos);
}

TEST(AKeyThatOthersCanRead, IsRefusedInLibpqsWordsWithItsPath) {
  Authority authority;
  const Identity identity = authority.issue("app");
  chmod(identity.key.c_str(), 0644);
  Carpool carpool({.server = at_postgres() + ", sslMode: require, sslCert: '" +
                             identity.certificate + "', sslKey: '" + identity.key + "'",
                   .pool = "acquireTimeout: 500ms"});
  EXPECT_FALSE(carpool.connect().connected());
  EXPECT_TRUE(carpool.logged("has group or world access")) << carpool.log();
  EXPECT_TRUE(carpool.logged(identity.key));
  EXPECT_FALSE(carpool.logged("/proc/self/fd"));
}

// OpenSSL would ask for the passphrase at the terminal, and everybody would wait for the answer.
TEST(AKeyUnderAPassphrase, IsOpenedByTheUrlsAndNobodyIsAsked) {
  Authority authority;
  const Identity identity = authority.issue("app");
  TempDir dir;
  const std::string key = dir.path() / "encrypted.key";
  run_command(
      {"openssl", "pkcs8", "-topk8", "-in", identity.key, "-out", key, "-passout", "pass:secret"});
  chmod(key.c_str(), 0600);
  const std::string parameters =
      "sslmode=require&sslcert=" + identity.certificate + "&sslkey=" + key;
  Carpool told({.server = url(parameters + "&sslpassword=secret")});
  EXPECT_TRUE(told.connect().connected());
  Carpool untold({.server = url(parameters), .pool = "acquireTimeout: 500ms"});
  EXPECT_FALSE(untold.connect().connected());
  EXPECT_TRUE(untold.logged("cannot open a server"));
  EXPECT_FALSE(untold.logged("pass phrase")) << untold.log();
}

TEST(ARevocation, HoldsByAListAndByAFolderOfLists) {
  TempDir dir;
  Authority authority;
  const Identity server = authority.issue("localhost");
  PostgresCluster revoked({.tls = true});
  revoked.show_certificate(server.certificate, server.key);
  const std::string ca_dir = std::filesystem::path(authority.certificate()).parent_path();
  write_file(dir.path() / "ca.cnf",
             "[ca]\ndefault_ca=d\n[d]\ndatabase=" + (dir.path() / "index").string() +
                 "\ncrlnumber=" + (dir.path() / "number").string() +
                 "\ndefault_md=sha256\ndefault_crl_days=30\n");
  write_file(dir.path() / "index", "");
  write_file(dir.path() / "number", "01\n");
  const std::vector<std::string> ca = {"openssl",  "ca",
                                       "-config",  dir.path() / "ca.cnf",
                                       "-cert",    authority.certificate(),
                                       "-keyfile", ca_dir + "/ca.key"};
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), ca.begin(), ca.end());
    run_command(more);
  };
  mkdir((dir.path() / "crls").c_str(), 0700);
  const std::string list = dir.path() / "crls" / "01234567.r0";
  const auto attempt = [&](const std::string& parameter) {
    Carpool carpool({.server = "url: 'postgresql://localhost:" + std::to_string(revoked.port()) +
                               "/app?sslmode=verify-full&sslrootcert=" + authority.certificate() +
                               "&" + parameter + "'",
                     .pool = "acquireTimeout: 500ms"});
    const bool connected = carpool.connect().connected();
    EXPECT_EQ(carpool.logged("certificate verify failed"), !connected) << carpool.log();
    return connected;
  };
  run({"-gencrl", "-out", list});
  EXPECT_TRUE(attempt("sslcrl=" + list));
  EXPECT_TRUE(attempt("sslcrldir=" + (dir.path() / "crls").string()));
  run({"-revoke", server.certificate});
  run({"-gencrl", "-out", list});
  EXPECT_FALSE(attempt("sslcrl=" + list));
  EXPECT_FALSE(attempt("sslcrldir=" + (dir.path() / "crls").string()));
}

// See held/held.cpp.
TEST(AFileThatNeverOpens, HoldsUpItsDatabaseAloneAndIsSaidAtConnectTimeout) {
  TempDir dir;
  const std::string root = dir.path() / "root.crt";
  const std::string password = dir.path() / "password";
  std::filesystem::copy(postgres().root_cert(), root);
  write_file(password, "secret");
  write_file(root + ".stuck", "");
  write_file(password + ".stuck", "");
  const auto entry = [](const std::string& name, const std::string& server) {
    return "{name: " + name + ", server: {database: app, connectTimeout: 500ms, " + server + "}}";
  };
  Settings settings;
  settings.server = at_postgres();
  settings.pool = "acquireTimeout: 2s";
  settings.databases = "{name: app}, " +
                       entry("tls", "sslMode: require, sslRootCert: '" + root + "'") + ", " +
                       entry("secret", "passwordFile: '" + password + "'");
  Launch launch;
  launch.env = {{"LD_PRELOAD", HELD_LIBRARY}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
  Carpool carpool(settings, launch);
  Connection good = carpool.connect();
  EXPECT_EQ(good.query("select 1").value(), "1");
  // It is tried again and again, on one thread.
  for (const auto& [database, said] : {std::pair{"tls", "server.sslRootCert " + root},
                                       {"secret", "server.passwordFile " + password}}) {
    const std::string error = carpool.connect("app", database).error();
    EXPECT_NE(error.find(said + " not read within server.connectTimeout"), std::string::npos)
        << error;
  }
  EXPECT_EQ(good.query("select 2").value(), "2");
  EXPECT_EQ(carpool.connect().query("select 3").value(), "3");
  EXPECT_EQ(carpool.get("/livez").status, 200);
  good.close();
  carpool.signal(SIGTERM);
  EXPECT_EQ(carpool.wait_exit(), 0) << "not even that keeps the process";
}

// What hangs is left to itself: who waits is served by what stands there now.
TEST(AFileThatNeverOpens, IsReadAnewOnceAGoodOneStandsInItsPlace) {
  TempDir dir;
  const std::string password = dir.path() / "password";
  write_file(password, "secret");
  write_file(password + ".stuck", "");
  Settings settings;
  settings.server = at_postgres() + ", connectTimeout: 60s, passwordFile: '" + password + "'";
  settings.pool = "acquireTimeout: 60s";
  Launch launch;
  launch.env = {{"LD_PRELOAD", HELD_LIBRARY}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
  Carpool carpool(settings, launch);
  auto waits = std::async(std::launch::async, [&] { return carpool.connect().connected(); });
  EXPECT_EQ(waits.wait_for(Millis(500)), std::future_status::timeout);
  std::filesystem::remove(password + ".stuck");
  write_file(password + ".new", "secret");
  std::filesystem::rename(password + ".new", password);
  EVENTUALLY(waits.wait_for(Millis(0)) == std::future_status::ready);
  EXPECT_TRUE(waits.get());
}

TEST(ManyDatabases, ShareOneCopyOfTheFileThatTheyName) {
  Settings settings;
  settings.server = at_postgres() + ", sslMode: require";
  settings.databases = "{name: app}";
  for (int i = 0; i < 40; i++) {
    settings.databases += ", {name: d" + std::to_string(i) + ", server: {database: app, " +
                          "sslRootCert: '" + postgres().root_cert() +
                          "', options: '-c geqo_seed=0." + std::to_string(i + 10) + "'}}";
  }
  Carpool carpool(settings);
  std::vector<Connection> clients;
  for (int i = 0; i < 40; i++) clients.push_back(carpool.connect("app", "d" + std::to_string(i)));
  for (Connection& client : clients) EXPECT_EQ(client.query("select 1").value(), "1");
  int copies = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(carpool.pid()) + "/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry, gone);
    copies += target.find("memfd:carpool") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(copies, 1);
}

}  // namespace
}  // namespace carpool::integration
