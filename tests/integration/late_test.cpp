// The promise: a file that takes long or never comes, as on a network's mount that is gone, holds
// up what needs it and nothing else: neither probes, nor clients, nor other changes; and it is
// said.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "harness/harness.h"
#include "harness/tls.h"

namespace carpool::integration {
namespace {

namespace fs = std::filesystem;

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string line(const std::string& user) {
  return "\"" + user + "\" \"secret\"\n";
}

bool signs_in(const Carpool& carpool, const std::string& user) {
  return Connection(carpool.conninfo(user) + " password=secret").connected();
}

int pool_size(const Carpool& carpool) {
  return carpool.config()["effective"]["pool"].value("size", -1);
}

// Users' files that can be made to hang: see held/held.cpp.
class Late : public ::testing::Test {
 protected:
  std::string file(const std::string& name) const { return dir_.path() / name; }
  void write(const std::string& name, const std::string& text) {
    write_file(file(name + ".new"), text);
    fs::rename(file(name + ".new"), file(name));
  }
  void hold(const std::string& name) { write_file(file(name + ".held"), ""); }
  void let_go(const std::string& name) { fs::remove(file(name + ".held")); }

  Settings settings(const std::string& users, int size, const std::string& auth = "") const {
    return {.auth = "mode: scram-sha-256, usersFile: '" + file(users) + "'" + auth,
            .server = "host: 127.0.0.1, user: app, port: " + std::to_string(postgres().port()),
            .pool = "size: " + std::to_string(size)};
  }
  static Launch launch(bool wait_until_started = true) {
    Launch launch;
    launch.env = {{"LD_PRELOAD", HELD_LIBRARY}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
    launch.wait_until_started = wait_until_started;
    return launch;
  }
  static std::string late(const Carpool& carpool) { return carpool.config()["late"].dump(); }

  TempDir dir_;
};

TEST_F(Late, AtTheStartProbesAnswerAndSayWhatItIsWaitingFor) {
  write("users", line("alice"));
  hold("users");
  Carpool carpool(settings("users", 3), launch(false));
  ASSERT_EVENTUALLY(carpool.get("/livez").status == 200);
  EXPECT_EQ(carpool.get("/startupz").status, 503);
  EXPECT_EQ(carpool.get("/readyz").status, 503);
  EVENTUALLY(carpool.get("/startupz").body.find("reading auth.usersFile has taken 2 s") !=
             std::string::npos);
  EVENTUALLY(carpool.logged("not started: credentials are late"));
  EXPECT_EQ(carpool.get("/metrics").status, 200);
  EXPECT_FALSE(carpool.raw().connected()) << "nobody is let in to wait";
  let_go("users");
  EVENTUALLY(carpool.get("/startupz").status == 200);
  EXPECT_TRUE(signs_in(carpool, "alice"));
}

TEST_F(Late, AtTheStartAnotherFileMayBeNamedInsteadOfTheOneThatHangs) {
  write("users", line("alice"));
  write_file(file("users.stuck"), "");
  write("good", line("bob"));
  Carpool carpool(settings("users", 3), launch(false));
  ASSERT_EVENTUALLY(carpool.get("/livez").status == 200);
  carpool.swap(settings("good", 4));
  EVENTUALLY(carpool.get("/startupz").status == 200);
  EXPECT_TRUE(signs_in(carpool, "bob"));
  EXPECT_EQ(pool_size(carpool), 4);
}

TEST_F(Late, ItEndsAtOnceThoughAFileHangs) {
  write("users", line("alice"));
  write_file(file("users.stuck"), "");
  Carpool carpool(settings("users", 3), launch(false));
  ASSERT_EVENTUALLY(carpool.get("/livez").status == 200);
  carpool.signal(SIGTERM);
  EXPECT_EQ(carpool.wait_exit(), 0);
}

TEST_F(Late, AtTheStartABadFileEndsItWithAClearWord) {
  ASSERT_EQ(mkfifo(file("fifo").c_str(), 0600), 0);
  write("bad", "\"alice\" \"unclosed\n");
  for (const auto& [name, why] : std::map<std::string, std::string>{
           {"fifo", "is not a regular file"}, {"bad", "line 1: "}, {"none", "cannot be read"}}) {
    Carpool carpool(settings(name, 3), launch(false));
    EXPECT_EQ(carpool.wait_exit(), 78) << name;
    EXPECT_TRUE(carpool.logged("auth.usersFile " + file(name) + ": " + why)) << carpool.log();
  }
}

// Seconds of hashing, wherever this runs: the loop's answers do not wait for it.
TEST_F(Late, ManyPasswordsAtManyIterationsHoldUpNoChange) {
  write("users", line("alice"));
  Carpool carpool(settings("users", 3), launch());
  Connection client(carpool.conninfo("alice") + " password=secret");
  std::string many;
  for (int i = 0; i < 12; i++) many += line("user" + std::to_string(i));
  write("many", many);
  carpool.swap(settings("many", 4, ", scramIterations: 100000"));
  EVENTUALLY(pool_size(carpool) == 4);
  EXPECT_EQ(carpool.get("/livez").status, 200);
  carpool.swap(settings("many", 5, ", scramIterations: 100000"));
  EVENTUALLY(pool_size(carpool) == 5);
  EXPECT_TRUE(client.query("select 1").ok());
  EVENTUALLY(signs_in(carpool, "user11"));
  EXPECT_EQ(late(carpool), "[]");
  EXPECT_FALSE(signs_in(carpool, "alice"));
}

TEST_F(Late, WhatIsLateComesLateAndAlone) {
  write("users", line("alice"));
  write("other", line("bob"));
  hold("other");
  Carpool carpool(settings("users", 3), launch());
  Connection client(carpool.conninfo("alice") + " password=secret");
  ASSERT_TRUE(client.query("begin").ok());
  carpool.swap(settings("other", 4));
  EVENTUALLY(pool_size(carpool) == 4);
  EVENTUALLY(late(carpool).find("other): the rest of the change is in force") != std::string::npos);
  EXPECT_TRUE(carpool.logged("configuration in force but for its credentials, which are late"));
  EXPECT_TRUE(signs_in(carpool, "alice"));
  EXPECT_FALSE(signs_in(carpool, "bob"));
  // A later change is not held up, and comes without a wait.
  carpool.swap(settings("other", 5));
  EVENTUALLY(pool_size(carpool) == 5);
  let_go("other");
  EVENTUALLY(signs_in(carpool, "bob"));
  EXPECT_FALSE(signs_in(carpool, "alice"));
  EXPECT_EQ(late(carpool), "[]");
  EXPECT_TRUE(client.query("commit").ok()) << "who is in stays";
}

// The file that is in force changes while another is waited for: it counts.
TEST_F(Late, WhoIsTakenOutOfTheFileInForceIsOutThoughAnotherIsWaitedFor) {
  write("users", line("alice") + line("mallory"));
  write("other", line("bob"));
  hold("other");
  Carpool carpool(settings("users", 3), launch());
  ASSERT_TRUE(signs_in(carpool, "mallory"));
  carpool.swap(settings("other", 4));
  write("users", line("alice"));
  EVENTUALLY(!signs_in(carpool, "mallory"));
  EXPECT_TRUE(signs_in(carpool, "alice"));
  // Back again: what hangs is of no concern any more.
  carpool.swap(settings("users", 6));
  EVENTUALLY(pool_size(carpool) == 6);
  let_go("other");
  EXPECT_EQ(late(carpool), "[]");
  EXPECT_TRUE(signs_in(carpool, "alice"));
}

TEST_F(Late, ANewReadingOvertakesOneThatHangs) {
  write("users", line("alice"));
  Carpool carpool(settings("users", 3), launch());
  write_file(file("users.stuck"), "");
  carpool.signal(SIGHUP);
  EVENTUALLY(late(carpool).find("the old credentials stay meanwhile") != std::string::npos);
  EXPECT_TRUE(signs_in(carpool, "alice"));
  fs::remove(file("users.stuck"));
  write("users", line("bob"));
  EVENTUALLY(signs_in(carpool, "bob"));
  EXPECT_FALSE(signs_in(carpool, "alice"));
  EXPECT_EQ(late(carpool), "[]");
  // A file that hangs with each look takes no more than a few threads.
  write_file(file("users.stuck"), "");
  for (int i = 0; i < 50; i++) carpool.signal(SIGHUP);
  carpool.swap(settings("users", 4));
  EVENTUALLY(pool_size(carpool) == 4);
}

TEST_F(Late, WhatHangsLeavesThreadsForTheFileThatIsNamedInstead) {
  write("users", line("alice"));
  Carpool carpool(settings("users", 3), launch());
  write_file(file("users.stuck"), "");
  for (int size = 4; size < 30; size++) {
    carpool.swap(settings("users", size));
    ASSERT_EVENTUALLY(pool_size(carpool) == size);
  }
  write("good", line("bob"));
  carpool.swap(settings("good", 3));
  EVENTUALLY(signs_in(carpool, "bob"));
}

// A certificate may be a template's mistake: a FIFO that nobody writes to.
TEST_F(Late, ACertificateThatIsNoPlainFileIsAnErrorAtOnceAndHoldsUpNothing) {
  Authority authority;
  const Identity identity = authority.issue("localhost");
  write("cert", read_file(identity.certificate));
  const auto with = [&](int size) {
    return Settings{.listen = "tls: {mode: allow, certFile: '" + file("cert") + "', keyFile: '" +
                              identity.key + "'}",
                    .server = settings("", 3).server,
                    .pool = "size: " + std::to_string(size)};
  };
  Carpool carpool(with(3));
  const auto speaks_tls = [&] {
    return Connection(carpool.conninfo() + " sslmode=require").connected();
  };
  ASSERT_TRUE(speaks_tls());
  ASSERT_EQ(mkfifo(file("fifo").c_str(), 0600), 0);
  fs::rename(file("fifo"), file("cert"));
  EVENTUALLY(carpool.config()["warnings"].dump().find("listen.tls.certFile " + file("cert") +
                                                      ": is not a regular file") !=
             std::string::npos);
  EXPECT_TRUE(speaks_tls()) << "by the old one";
  carpool.swap(with(4));
  EVENTUALLY(pool_size(carpool) == 4);
  write("cert", read_file(identity.certificate));
  EVENTUALLY(carpool.metric("carpool_credentials_last_reload_successful") == 1);
  EXPECT_TRUE(speaks_tls());
  ASSERT_EQ(mkfifo(file("fifo").c_str(), 0600), 0);
  fs::rename(file("fifo"), file("cert"));
  Carpool other(with(3), launch(false));
  EXPECT_EQ(other.wait_exit(), 78);
  EXPECT_TRUE(other.logged(": is not a regular file"));
}

// Bad, or on a mount that is gone: who is taken out of the users' file is out.
TEST_F(Late, ACertificateStopsNoChangeOfTheUsersFile) {
  Authority authority;
  const Identity identity = authority.issue("localhost");
  const auto with_tls = [&](const std::string& users, int size) {
    Settings both = settings(users, size);
    both.listen =
        "tls: {mode: allow, certFile: '" + file("cert") + "', keyFile: '" + identity.key + "'}";
    return both;
  };
  for (const bool hangs : {false, true}) {
    write("cert", read_file(identity.certificate));
    write("users", line("alice") + line("mallory"));
    Carpool carpool(with_tls("users", 3), launch());
    ASSERT_TRUE(signs_in(carpool, "mallory"));
    hangs ? hold("cert") : write("cert", "broken");
    write("users", line("alice"));
    EVENTUALLY(!signs_in(carpool, "mallory"));
    EXPECT_TRUE(signs_in(carpool, "alice"));
    // Nor one that names another file.
    write("other", line("bob"));
    carpool.swap(with_tls("other", 4));
    EVENTUALLY(signs_in(carpool, "bob"));
    EXPECT_FALSE(signs_in(carpool, "alice"));
    EXPECT_EQ(pool_size(carpool), 4);
    if (hangs) {
      EVENTUALLY(late(carpool).find("listen.tls.certFile") != std::string::npos);
      let_go("cert");
      EVENTUALLY(late(carpool) == "[]");
    } else {
      EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 0);
      write("cert", read_file(identity.certificate));
      EVENTUALLY(carpool.metric("carpool_credentials_last_reload_successful") == 1);
    }
  }
}

TEST_F(Late, AUsersFileStopsNoRenewalOfTheCertificate) {
  Authority authority;
  const Identity first = authority.issue("first");
  const Identity second = authority.issue("second");
  write("cert", read_file(first.certificate));
  write("key", read_file(first.key));
  write("users", line("alice"));
  Settings both = settings("users", 3);
  both.listen =
      "tls: {mode: allow, certFile: '" + file("cert") + "', keyFile: '" + file("key") + "'}";
  Carpool carpool(both, launch());
  ASSERT_EQ(TlsWire(carpool.port()).peer_name(), "first");
  write("users", "\"alice\" \"unclosed\n");
  EVENTUALLY(carpool.metric("carpool_credentials_last_reload_successful") == 0);
  write("cert", read_file(second.certificate));
  write("key", read_file(second.key));
  EVENTUALLY(TlsWire(carpool.port()).peer_name() == "second");
  EXPECT_TRUE(signs_in(carpool, "alice"));
  EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 0);
  write("users", line("bob"));
  EVENTUALLY(signs_in(carpool, "bob"));
  EVENTUALLY(carpool.metric("carpool_credentials_last_reload_successful") == 1);
}

// However a look is asked for while a change waits: it is one look more.
TEST_F(Late, ReloadsThatAreAskedForMeanwhileChangeNothing) {
  write("users", line("alice"));
  write("other", line("alice") + line("bob"));
  hold("other");
  Settings console = settings("users", 3);
  console.admin = "users: [alice]";
  Carpool carpool(console, launch());
  console = settings("other", 4);
  console.admin = "users: [alice]";
  carpool.swap(console);
  carpool.signal(SIGHUP);
  Connection admin(carpool.conninfo("alice", "pgbouncer") + " password=secret");
  EXPECT_EQ(admin.query("RELOAD").tag, "RELOAD");
  EVENTUALLY(pool_size(carpool) == 4);
  EXPECT_EQ(admin.query("RELOAD").tag, "RELOAD");
  EXPECT_FALSE(signs_in(carpool, "bob"));
  EXPECT_EQ(carpool.metric("carpool_config_reloads_total", {{"result", "rejected"}}), 0);
  let_go("other");
  EVENTUALLY(signs_in(carpool, "bob"));
  EXPECT_EQ(carpool.metric("carpool_config_reloads_total", {{"result", "applied"}}), 2)
      << "first the rest, then the credentials";
}

// All addresses, and passwords; without the users' file it would be all addresses and trust.
TEST_F(Late, WhatWouldOpenADoorWaitsForThoseWhoMayComeIn) {
  write("users", line("alice"));
  hold("users");
  Settings trust{.server = settings("", 3).server, .pool = "size: 3"};
  Carpool carpool(trust, launch());
  std::string yaml = carpool.render(settings("users", 4));
  yaml.replace(yaml.find("127.0.0.1"), 9, "0.0.0.0");
  carpool.swap_text(yaml);
  EVENTUALLY(pool_size(carpool) == 4);
  EXPECT_EQ(carpool.config()["effective"]["listen"]["address"], "127.0.0.1");
  EXPECT_TRUE(carpool.connect().connected());
  let_go("users");
  EVENTUALLY(carpool.config()["effective"]["listen"]["address"] == "0.0.0.0");
  EXPECT_FALSE(carpool.connect().connected());
  EXPECT_TRUE(signs_in(carpool, "alice"));
}

// Neither file lets anybody without a password into the other database, or to the console.
TEST_F(Late, NobodyGetsByTheOldRulesToWhatTheNewOnesWereMeantFor) {
  write("users", line("ops"));
  hold("users");
  Settings trust{.server = settings("", 3).server, .pool = "size: 3", .databases = "{name: app}"};
  Carpool carpool(trust, launch());
  Settings strict = settings("users", 4);
  strict.admin = "users: [ops]";
  strict.databases = "{name: app}, {name: postgres}";
  carpool.swap(strict);
  EVENTUALLY(pool_size(carpool) == 4);
  EXPECT_EQ(carpool.config()["lastResult"], "waiting");
  EXPECT_EQ(carpool.metric("carpool_config_last_reload_successful"), 0);
  EXPECT_FALSE(carpool.connect("app", "postgres").connected());
  EXPECT_FALSE(carpool.connect("ops", "pgbouncer").connected());
  let_go("users");
  EVENTUALLY(Connection(carpool.conninfo("ops", "postgres") + " password=secret").connected());
  EXPECT_TRUE(Connection(carpool.conninfo("ops", "pgbouncer") + " password=secret").connected());
  EXPECT_EQ(carpool.metric("carpool_config_last_reload_successful"), 1);
}

// Salts are made of a server's place or password, and stay as they are for want of it.
TEST_F(Late, ABadUsersFileHoldsUpNoFailover) {
  write("users", line("alice"));
  Settings at = settings("users", 3);
  Carpool carpool(at, launch());
  write("users", "\"alice\" \"unclosed\n");
  EVENTUALLY(carpool.metric("carpool_credentials_last_reload_successful") == 0);
  at.server += ", password: another";
  carpool.reload(at);
  at.server = "host: localhost, user: app, port: " + std::to_string(postgres().port());
  carpool.reload(at);
  EXPECT_TRUE(signs_in(carpool, "alice"));
  EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 0);
}

TEST_F(Late, APasswordFileThatHangsKeepsNobodyFromComingInOrFromBeingKeptOut) {
  write("users", line("alice") + line("bob"));
  write_file(file("secret"), "secret\n");
  hold("secret");
  Settings two = settings("users", 3);
  two.databases = "{name: app}, {name: other, server: {passwordFile: '" + file("secret") + "'}}";
  Carpool carpool(two, launch(false));
  EVENTUALLY(carpool.get("/startupz").status == 200);
  EXPECT_TRUE(signs_in(carpool, "bob"));
  write("users", line("alice"));
  EVENTUALLY(!signs_in(carpool, "bob"));
  EXPECT_TRUE(signs_in(carpool, "alice"));
  EXPECT_TRUE(carpool.logged("so that a restart may tell which users exist"));
}

TEST_F(Late, ABadFileThatComesLateIsRejectedAloneAndMayBeMended) {
  write("users", line("alice"));
  write("other", "\"bob\" \"unclosed\n");
  hold("other");
  Carpool carpool(settings("users", 3), launch());
  carpool.swap(settings("other", 4));
  EVENTUALLY(pool_size(carpool) == 4);
  let_go("other");
  EVENTUALLY(carpool.config()["lastResult"] == "rejected");
  EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 0);
  EXPECT_TRUE(signs_in(carpool, "alice"));
  write("other", line("bob"));
  EVENTUALLY(signs_in(carpool, "bob"));
  EXPECT_EQ(carpool.config()["lastResult"], "applied");
  EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 1);
}

// ---- modes of files

TEST_F(Late, ASecretThatEverybodyCanReadIsWarnedOfAndAMountedOneIsNot) {
  write("users", line("alice"));
  write("password", "secret");
  fs::permissions(file("users"), fs::perms(0644));
  fs::permissions(file("password"), fs::perms(0640));
  Settings plain = settings("users", 3);
  plain.server += ", passwordFile: '" + file("password") + "'";
  Carpool carpool(plain);
  const std::string warning =
      "auth.usersFile " + file("users") + " can be read by every user of this machine (mode 0644)";
  EVENTUALLY(carpool.config()["warnings"].dump().find(warning) != std::string::npos);
  EVENTUALLY(carpool.logged(warning));
  EXPECT_FALSE(carpool.logged("passwordFile"));
  Carpool mounted(
      {.auth = "mode: scram-sha-256, usersFile: '{mount}/users'", .server = settings("", 3).server},
      {.files = {{"users", line("alice")}}});
  EXPECT_FALSE(mounted.logged("can be read by every user"));
}

TEST_F(Late, AnEmptyPasswordInTheUsersFileIsWarnedOf) {
  write("users", line("alice") + "\"reporting\" \"\"\n");
  Carpool carpool(settings("users", 3), launch());
  EXPECT_TRUE(signs_in(carpool, "alice"));
  const std::string warning = "auth.usersFile " + file("users") + ": line 2: the password of";
  EXPECT_TRUE(carpool.logged(warning));
  EXPECT_NE(carpool.config()["warnings"].dump().find(warning), std::string::npos);
  EXPECT_FALSE(Connection(carpool.conninfo("reporting") + " password=''").connected());
}

}  // namespace
}  // namespace carpool::integration
