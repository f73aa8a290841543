// The promise: secrets may change while Carpool runs. A new one holds at once for whoever comes,
// nobody who is in notices, and a bad one is said and changes nothing.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <set>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using namespace std::string_literals;

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string at(const PostgresCluster& cluster) {
  return "host: 127.0.0.1, port: " + std::to_string(cluster.port());
}

std::string password(const std::string& text) {
  return " password='" + text + "'";
}

ConfigMount::Files with(Carpool& carpool, const std::string& key, const std::string& content) {
  return {{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))}, {key, content}};
}

double auth_errors(const Carpool& carpool) {
  return carpool.metric("carpool_server_connect_errors_total", {{"reason", "auth"}}).value_or(0);
}

// ---- the password towards PostgreSQL

// A role that must show its password.
void make_role(const std::string& name, const std::string& secret) {
  postgres().admin("create role " + name + " login password '" + secret + "'");
  postgres().admin("grant all on database app to " + name);
  postgres().prepend_hba("host all " + name + " 127.0.0.1/32 scram-sha-256");
}

TEST(ARotatedPassword, IsUsedByNewServersWhileOldOnesAgeOutAndNobodyNotices) {
  make_role("rotated", "first");
  Carpool carpool({.server = at(postgres()) + ", user: rotated, passwordFile: '{mount}/password'",
                   .pool = "size: 3, maxLifetime: 1s"},
                  {.files = {{"password", "first"}}});
  std::vector<Connection> clients;
  for (int i = 0; i < 3; i++) clients.push_back(carpool.connect());
  std::set<int> before;
  for (Connection& client : clients) client.query("begin");
  for (Connection& client : clients) before.insert(client.backend_pid());
  for (Connection& client : clients) client.query("commit");
  ASSERT_EQ(before.size(), 3U);
  ASSERT_TRUE(postgres().admin("alter role rotated password 'second'").ok());
  carpool.mount().swap(with(carpool, "password", "second"));
  // All of the old servers go, under load.
  EVENTUALLY([&] {
    for (Connection& client : clients) {
      const Reply reply = client.query("select 1");
      EXPECT_TRUE(reply.ok()) << reply.message;
    }
    std::string pids;
    for (const int pid : before) pids += (pids.empty() ? "" : ",") + std::to_string(pid);
    return postgres().backends_where("pid in (" + pids + ")", "rotated") == 0;
  }());
  EXPECT_EQ(auth_errors(carpool), 0);
}

TEST(ARotatedPassword, ThatIsWrongLeavesTheOldServersServingPastTheirLifetime) {
  make_role("misrotated", "first");
  Carpool carpool(
      {.server = at(postgres()) + ", user: misrotated, passwordFile: '{mount}/password'",
       .pool = "size: 2, maxLifetime: 1s, acquireTimeout: 20s"},
      {.files = {{"password", "wrong"}}});
  carpool.mount().swap(with(carpool, "password", "first"));
  ASSERT_EVENTUALLY(carpool.connect().connected());
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select 1").ok());
  ASSERT_TRUE(postgres().admin("alter role misrotated password 'second'").ok());
  const double errors = auth_errors(carpool);
  carpool.mount().swap(with(carpool, "password", "wrong"));
  // Long past its lifetime, PostgreSQL has turned several new servers away.
  EVENTUALLY([&] {
    const Reply reply = client.query("select 1");
    EXPECT_TRUE(reply.ok()) << reply.message;
    return auth_errors(carpool) >= errors + 4;
  }());
  const int old = client.backend_pid();
  EXPECT_TRUE(carpool.logged("password authentication failed"));
  EXPECT_EQ(carpool.get("/readyz").status, 200);
  Connection newcomer = carpool.connect();
  EXPECT_EQ(newcomer.backend_pid(), old) << newcomer.error();
  // The right one at last: the old server is replaced.
  carpool.mount().swap(with(carpool, "password", "second"));
  EVENTUALLY(client.backend_pid() != old);
  EXPECT_TRUE(client.query("select 1").ok());
  EVENTUALLY(postgres().backends_where("pid = " + std::to_string(old), "misrotated") == 0);
}

// ---- the users' file

const std::string kScram = "mode: scram-sha-256, usersFile: '{mount}/users'";

std::string line(const std::string& user, const std::string& secret) {
  return "\"" + user + "\" \"" + secret + "\"\n";
}

bool signs_in(const Carpool& carpool, const std::string& user, const std::string& secret) {
  return Connection(carpool.conninfo(user) + password(secret)).connected();
}

TEST(TheUsersFile, IsTakenAnewWhereItChangesAndWhoIsInStays) {
  Carpool carpool({.auth = kScram, .server = at(postgres()) + ", user: app"},
                  {.files = {{"users", line("old", "one") + line("both", "two")}}});
  Connection old_one(carpool.conninfo("old") + password("one"));
  ASSERT_TRUE(old_one.connected()) << old_one.error();
  EXPECT_FALSE(signs_in(carpool, "new", "three"));
  carpool.mount().swap(with(carpool, "users", line("new", "three") + line("both", "changed")));
  EVENTUALLY(signs_in(carpool, "new", "three"));
  EXPECT_FALSE(signs_in(carpool, "old", "one"));
  EXPECT_FALSE(signs_in(carpool, "both", "two"));
  EXPECT_TRUE(signs_in(carpool, "both", "changed"));
  EXPECT_EQ(old_one.query("select 1").value(), "1") << "who is in stays";
}

TEST(TheUsersFile, ThatIsBrokenIsSaidAndTheOldOneStays) {
  Carpool carpool({.auth = kScram, .server = at(postgres()) + ", user: app"},
                  {.files = {{"users", line("good", "one")}}});
  const std::vector<std::pair<std::string, std::string>> broken = {
      {"\"bad\" \"secret-of-hers", "line 1: the password or verifier lacks its closing quote"},
      {line("good", "two") + line("good", "three"), "line 2: the user"},
      {"\"bad\" \"md5" + std::string(32, 'a') + "\"\n", "an MD5 hash cannot check"},
      {line("bad", "SCRAM-SHA-256$4096:broken"), "line 1: "}};
  for (const auto& [text, said] : broken) {
    carpool.mount().swap(with(carpool, "users", text));
    EVENTUALLY(carpool.logged(said));
    EVENTUALLY(carpool.config()["warnings"].dump().find("credentials rejected") !=
               std::string::npos);
    EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 0);
    EXPECT_TRUE(signs_in(carpool, "good", "one")) << text;
  }
  EXPECT_FALSE(carpool.logged("secret-of-hers"));
  carpool.mount().swap(with(carpool, "users", line("good", "two")));
  EVENTUALLY(signs_in(carpool, "good", "two"));
  EXPECT_EQ(carpool.config()["warnings"].dump().find("credentials rejected"), std::string::npos);
  EXPECT_EQ(carpool.metric("carpool_credentials_last_reload_successful"), 1);
}

// Its first message was answered by the old file, and the new one takes it out, or not.
TEST(TheUsersFile, ThatChangesInTheMidstOfASignInHoldsForIt) {
  Carpool carpool({.auth = kScram, .server = at(postgres()) + ", user: app"},
                  {.files = {{"users", line("stays", "one") + line("goes", "one")}}});
  std::vector<PGconn*> halfway;
  for (const std::string user : {"stays", "goes"}) {
    PGconn* conn = PQconnectStart((carpool.conninfo(user) + password("one")).c_str());
    // Until it has been asked for its password, which it has not seen yet.
    ASSERT_EVENTUALLY(PQconnectPoll(conn) != PGRES_POLLING_FAILED &&
                      PQstatus(conn) == CONNECTION_AWAITING_RESPONSE);
    pollfd asked{PQsocket(conn), POLLIN, 0};
    ASSERT_EVENTUALLY(poll(&asked, 1, 0) == 1);
    halfway.push_back(conn);
  }
  carpool.mount().swap(with(carpool, "users", line("stays", "one") + line("new", "two")));
  EVENTUALLY(signs_in(carpool, "new", "two"));
  for (PGconn* conn : halfway) {
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED) {
      status = PQconnectPoll(conn);
    }
    EXPECT_EQ(status == PGRES_POLLING_OK, conn == halfway[0]) << PQerrorMessage(conn);
    PQfinish(conn);
  }
}

TEST(TheUsersFile, ThatComesAfterTheConfigurationThatNamesItLetsThatIn) {
  Carpool carpool({.server = at(postgres()) + ", user: app"});
  const std::string yaml =
      carpool.render({.auth = kScram, .server = at(postgres()) + ", user: app"});
  carpool.mount().swap({{"carpool.yaml", yaml}});
  EVENTUALLY(carpool.metric("carpool_config_reloads_total", {{"result", "rejected"}}) == 1);
  EXPECT_TRUE(carpool.logged("auth.usersFile"));
  EXPECT_TRUE(carpool.connect().connected()) << "the old one stays, which trusts";
  carpool.mount().swap({{"carpool.yaml", yaml}, {"users", line("late", "one")}});
  EVENTUALLY(!carpool.connect().connected());  // the new one is in force: nobody is trusted
  EXPECT_TRUE(signs_in(carpool, "late", "one"));
}

TEST(TheUsersFile, OfManyPasswordsIsReadWhileClientsAreServedAndAChangeMeanwhileIsNotLost) {
  std::string many;
  for (int i = 0; i < 100; i++) many += line("user" + std::to_string(i), "secret");
  Carpool carpool({.auth = kScram, .server = at(postgres()) + ", user: app"},
                  {.files = {{"users", line("first", "one")}}});
  Connection client(carpool.conninfo("first") + password("one"));
  carpool.mount().swap(with(carpool, "users", many));
  carpool.mount().swap(with(carpool, "users", many + line("last", "two")));
  EVENTUALLY(client.query("select 1").ok() && signs_in(carpool, "last", "two"));
  EXPECT_TRUE(signs_in(carpool, "user99", "secret"));
  EXPECT_FALSE(signs_in(carpool, "first", "one"));
}

// ---- passthrough

// Another PostgreSQL, where the user's password is another.
PostgresCluster& elsewhere() {
  static PostgresCluster cluster;
  static const bool set = cluster.admin("alter role scram_user password 'elsewhere'").ok();
  (void)set;
  return cluster;
}

// Servers are opened as `app`, so that the client's password is asked for at sign-in alone.
Settings passthrough_to(const PostgresCluster& cluster, const std::string& more = "") {
  return {.auth = "mode: passthrough", .server = at(cluster) + ", user: app" + more};
}

TEST(Passthrough, APasswordIsNotVouchedForWhereItsDatabaseHasMoved) {
  Carpool carpool(passthrough_to(postgres()));
  ASSERT_TRUE(signs_in(carpool, "scram_user", kPassword));
  ASSERT_TRUE(signs_in(carpool, "scram_user", kPassword));
  carpool.reload(passthrough_to(elsewhere()));
  EXPECT_FALSE(signs_in(carpool, "scram_user", kPassword));
  EXPECT_TRUE(signs_in(carpool, "scram_user", "elsewhere"));
  // A change of the pool alone moves nothing: no new trial is made.
  Settings grown = passthrough_to(elsewhere());
  grown.pool = "size: 3";
  carpool.reload(grown);
  EXPECT_TRUE(signs_in(carpool, "scram_user", "elsewhere"));
}

TEST(Passthrough, ATrialThatAMoveOvertakesIsMadeAgain) {
  // A database that asks for the password, and takes any once it is let.
  std::atomic<bool> let = false;
  std::atomic<bool> asked = false;
  FakeServer easy([&](FakeSession& session, int) {
    if (!session.read_startup()) return;
    session.wire.send(message('R', int32_bytes(3)));
    if (!session.wire.read()) return;
    asked = true;
    eventually([&] { return let.load(); });
    session.accept();
    session.hang();
  });
  const std::string easy_server = "host: 127.0.0.1, port: " + std::to_string(easy.port()) +
                                  ", sslMode: disable, user: app, connectTimeout: 60s";
  Carpool carpool({.auth = "mode: passthrough", .server = easy_server});
  const auto begin = [&](const std::string& secret) {
    Wire client = carpool.raw();
    client.send(startup_packet({{"user", "scram_user"}, {"database", "app"}}));
    client.read();
    client.send(message('p', secret + '\0'));
    return client;
  };
  Wire wrong = begin("wrong");
  Wire right = begin("elsewhere");
  ASSERT_EVENTUALLY(asked && easy.accepted() >= 2);
  carpool.reload(passthrough_to(elsewhere()));
  let = true;
  const std::vector<Message> refused = wrong.read_until("EZ");
  ASSERT_NE(find(refused, 'E'), nullptr) << "the old place's word counts no more";
  EXPECT_EQ(find(refused, 'E')->sqlstate(), "28P01");
  EXPECT_NE(find(right.read_until("EZ"), 'Z'), nullptr);
}

TEST(Passthrough, ADatabaseThatKeepsSilentIsSaidSoAtAcquireTimeout) {
  FakeServer silent([](FakeSession& session, int) { session.hang(); });
  Carpool carpool({.auth = "mode: passthrough",
                   .server = "host: 127.0.0.1, port: " + std::to_string(silent.port()) +
                             ", sslMode: disable, connectTimeout: 300ms",
                   .pool = "acquireTimeout: 3s"});
  // More than are tried at once: each gets its turn.
  std::vector<Wire> clients;
  for (int i = 0; i < 10; i++) {
    clients.push_back(carpool.raw());
    clients.back().send(startup_packet({{"user", "u" + std::to_string(i)}, {"database", "app"}}));
    ASSERT_TRUE(clients.back().read());
    clients.back().send(message('p', "secret\0"s));
  }
  // Some leave while they wait.
  clients[5].reset();
  clients[9].close();
  for (int i = 0; i < 9; i++) {
    if (i == 5) continue;
    const std::optional<Message> error = clients[static_cast<std::size_t>(i)].read();
    ASSERT_TRUE(error) << i;
    EXPECT_EQ(error->sqlstate(), "08001") << i;
    EXPECT_NE(error->field('M').find("server.connectTimeout"), std::string::npos);
  }
}

TEST(Passthrough, WhereNoPasswordIsAskedForNobodyIsVouchedFor) {
  Carpool carpool({.auth = "mode: passthrough", .server = at(postgres())});
  // PostgreSQL trusts `app` by its address: the address is Carpool's, not the client's.
  EXPECT_FALSE(signs_in(carpool, "app", "anything"));
  EXPECT_TRUE(carpool.logged("vouches for none"));
  EXPECT_TRUE(signs_in(carpool, "scram_user", kPassword));
}

// ---- strangers

TEST(Strangers, MakeNoPoolsAndNoLabels) {
  Carpool carpool({.auth = kScram, .server = at(postgres()) + ", user: app"},
                  {.files = {{"users", line("good", "one")}}});
  std::vector<Wire> silent;
  for (int i = 0; i < 40; i++) {
    const std::string user = "stranger" + std::to_string(i);
    EXPECT_FALSE(signs_in(carpool, user, "guess"));
    silent.push_back(carpool.raw());
    silent.back().send(startup_packet({{"user", user}, {"database", "app"}}));
    ASSERT_TRUE(silent.back().read());
  }
  EXPECT_EQ(carpool.get("/metrics").body.find("stranger"), std::string::npos);
  EXPECT_TRUE(carpool.status()["pools"].empty());
  EXPECT_EQ(carpool.metric("carpool_clients_rejected_total", {{"reason", "auth_failed"}}), 40);
  EXPECT_TRUE(signs_in(carpool, "good", "one"));
  EXPECT_EQ(carpool.status()["pools"].size(), 1U);
}

TEST(Strangers, SeeTheIterationsAndSaltsThatUsersHave) {
  // PostgreSQL's verifiers have 4096 iterations, whatever passwords here would get.
  const std::string verifier =
      postgres().admin("select rolpassword from pg_authid where rolname = 'scram_user'").value();
  Carpool carpool({.auth = kScram + ", scramIterations: 10000", .server = at(postgres())},
                  {.files = {{"users", line("known", verifier)}}});
  for (const std::string user : {"known", "unknown", "another"}) {
    Wire client = carpool.raw();
    client.send(startup_packet({{"user", user}, {"database", "app"}}));
    client.read();
    const std::string first = "n,,n=,r=rOprNGfwEbeRWgbNEkqO";
    client.send(message('p', "SCRAM-SHA-256\0"s + int32_bytes(28) + first));
    const std::optional<Message> challenge = client.read();
    ASSERT_TRUE(challenge);
    EXPECT_NE(challenge->body.find(",i=4096"), std::string::npos) << user << challenge->body;
  }
}

TEST(Strangers, WhoDripOrSayNothingAreClosedWhereverTheyStand) {
  Carpool carpool(
      {.auth = kScram, .server = at(postgres()) + ", user: app", .pool = "acquireTimeout: 1h"},
      {.files = {{"users", line("good", "one")}}});
  Wire silent = carpool.raw();
  Wire dripping = carpool.raw();
  Wire half = carpool.raw();
  Wire asked = carpool.raw();
  const std::string packet = startup_packet({{"user", "good"}, {"database", "app"}});
  half.send(packet.substr(0, packet.size() - 1));
  asked.send(packet);
  ASSERT_TRUE(asked.read());
  // A byte now and then, until it is told.
  std::size_t sent = 0;
  EVENTUALLY([&] {
    if (sent < packet.size() - 1) dripping.send(packet.substr(sent++, 1));
    std::this_thread::sleep_for(300ms);
    return carpool.metric("carpool_clients_rejected_total", {{"reason", "startup_timeout"}}) == 4;
  }());
  for (Wire* client : {&silent, &dripping, &half, &asked}) {
    const std::optional<Message> error = client->read();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->sqlstate(), "08P01");
    EXPECT_NE(error->field('M').find("not signed in within"), std::string::npos);
    EXPECT_TRUE(client->ended());
  }
  EXPECT_TRUE(signs_in(carpool, "good", "one"));
}

}  // namespace
}  // namespace carpool::integration
