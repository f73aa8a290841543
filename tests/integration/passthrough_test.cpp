// The promise: in passthrough, PostgreSQL decides who may enter, and what it takes back opens
// nothing any more, while nobody who may enter is kept out by others.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using namespace std::string_literals;

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string at_postgres(const std::string& more = "") {
  return "host: 127.0.0.1, port: " + std::to_string(postgres().port()) + more;
}

// A role that must show its password, for replication too.
void make_role(const std::string& name, const std::string& secret, const std::string& more = "") {
  postgres().admin("create role " + name + " login password '" + secret + "' " + more);
  postgres().admin("grant all on database app to " + name);
  postgres().prepend_hba("host all " + name + " 127.0.0.1/32 scram-sha-256");
}

struct Sign {
  bool in = false;
  std::string sqlstate;
  std::string message;
};

Wire knock(const Carpool& carpool, const std::string& user, const std::string& password,
           std::map<std::string, std::string> parameters = {{"database", "app"}}) {
  parameters["user"] = user;
  Wire wire = carpool.raw();
  wire.send(startup_packet(parameters));
  const std::optional<Message> asked = wire.read();
  EXPECT_TRUE(asked && asked->type == 'R') << "a password is asked for before all else";
  wire.send(message('p', password + '\0'));
  return wire;
}

Sign answer(Wire& wire, Millis deadline = kDeadline) {
  const std::vector<Message> messages = wire.read_until("EZ", deadline);
  const Message* error = find(messages, 'E');
  return {find(messages, 'Z') != nullptr, error == nullptr ? "" : error->sqlstate(),
          error == nullptr ? "" : error->field('M')};
}

Sign sign_in(const Carpool& carpool, const std::string& user, const std::string& password,
             const std::map<std::string, std::string>& parameters = {{"database", "app"}}) {
  Wire wire = knock(carpool, user, password, parameters);
  return answer(wire);
}

Settings passthrough(const std::string& recheck, const std::string& pool = "size: 3") {
  return {.auth = "mode: passthrough, recheck: " + recheck, .server = at_postgres(), .pool = pool};
}

TEST(APasswordThatIsTakenBack, OpensNothingOnceRecheckIsOverWhateverServersLive) {
  make_role("leaver", "old");
  Carpool carpool(passthrough("1s", "size: 3, maxLifetime: 0s"));
  Wire stays = knock(carpool, "leaver", "old");
  ASSERT_TRUE(answer(stays).in);
  ASSERT_EQ(value_of(stays.query("select 1")), "1");
  postgres().admin("alter role leaver password 'new'");
  std::this_thread::sleep_for(1100ms);
  const Sign refused = sign_in(carpool, "leaver", "old");
  EXPECT_FALSE(refused.in);
  EXPECT_EQ(refused.sqlstate, "28P01");
  EXPECT_EQ(refused.message, "password authentication failed for user \"leaver\"");
  EXPECT_TRUE(sign_in(carpool, "leaver", "new").in);
}

TEST(APasswordThatIsTakenBack, IsFoundOutBehindTheFirstWhoComesWithItBeforeRecheckIsOver) {
  make_role("slowleaver", "old");
  Carpool carpool(passthrough("1h"));
  ASSERT_TRUE(sign_in(carpool, "slowleaver", "old").in);
  postgres().admin("alter role slowleaver password 'new'");
  EVENTUALLY(!sign_in(carpool, "slowleaver", "old").in);
  EXPECT_TRUE(carpool.logged("no longer takes a password"));
  EXPECT_TRUE(sign_in(carpool, "slowleaver", "new").in);
}

TEST(APasswordThatIsTakenBack, OpensNothingWhereEachSignInIsAskedFor) {
  make_role("strict", "old");
  Carpool carpool(passthrough("0s"));
  ASSERT_TRUE(sign_in(carpool, "strict", "old").in);
  postgres().admin("alter role strict password 'new'");
  EXPECT_FALSE(sign_in(carpool, "strict", "old").in);
  EXPECT_TRUE(sign_in(carpool, "strict", "new").in);
}

TEST(APasswordThatIsTakenBack, TakesItsServersAlongAsTheyComeBackAndNoOther) {
  make_role("keeper", "old");
  Carpool carpool(passthrough("1h"));
  const auto pid = [](Wire& wire) { return value_of(wire.query("select pg_backend_pid()")); };
  Wire old_one = knock(carpool, "keeper", "old");
  ASSERT_TRUE(answer(old_one).in);
  old_one.query("begin");
  const std::string of_old = pid(old_one);
  postgres().admin("alter role keeper password 'new'");
  Wire new_one = knock(carpool, "keeper", "new");
  ASSERT_TRUE(answer(new_one).in);
  new_one.query("begin");
  const std::string of_new = pid(new_one);
  ASSERT_NE(of_old, of_new);
  EVENTUALLY(!sign_in(carpool, "keeper", "old").in);
  EXPECT_EQ(pid(old_one), of_old) << "no transaction is cut";
  EXPECT_EQ(sqlstate_of(old_one.query("commit")), "");
  EVENTUALLY(postgres().backends_where("pid = " + of_old, "keeper") == 0);
  EXPECT_EQ(pid(new_one), of_new);
  EXPECT_EQ(sqlstate_of(new_one.query("commit")), "");
  EXPECT_EQ(postgres().backends_where("pid = " + of_new, "keeper"), 1);
  // Who is in stays, by a server that the new password has opened.
  EXPECT_EQ(pid(old_one), of_new);
}

// What PostgreSQL has refused under TLS libpq tries in clear, for which there is no line.
TEST(APasswordThatIsTakenBack, IsFoundOutWhereOnlyTlsIsLetIn) {
  PostgresCluster shielded({.tls = true});
  shielded.admin("create role shielded login password 'old'");
  shielded.admin("grant all on database app to shielded");
  shielded.prepend_hba(
      "hostssl all shielded 127.0.0.1/32 scram-sha-256\n"
      "hostnossl all shielded 127.0.0.1/32 reject");
  Carpool carpool({.auth = "mode: passthrough, recheck: 1h",
                   .server = "host: 127.0.0.1, port: " + std::to_string(shielded.port())});
  ASSERT_TRUE(sign_in(carpool, "shielded", "old").in);
  const Sign guess = sign_in(carpool, "shielded", "guess");
  EXPECT_EQ(guess.sqlstate, "28P01");
  EXPECT_EQ(guess.message, "password authentication failed for user \"shielded\"");
  shielded.admin("alter role shielded password 'new'");
  EVENTUALLY(!sign_in(carpool, "shielded", "old").in);
  EXPECT_TRUE(carpool.logged("no longer takes a password"));
  EXPECT_TRUE(sign_in(carpool, "shielded", "new").in);
}

// A server is being opened with the old one while a client comes in by the new one.
TEST(APasswordThatIsTakenBack, TurnsNobodyAwayWhoCameInByANewOneMeanwhile) {
  std::atomic<bool> let = false;
  FakeServer changed([&](FakeSession& session, int attempt) {
    if (!session.read_startup()) return;
    session.wire.send(message('R', int32_bytes(3)));
    const std::optional<Message> password = session.wire.read();
    if (!password) return;
    if (password->body == "old\0"s && attempt > 1) {
      eventually([&] { return let.load(); });
      return session.error("28P01", "password authentication failed");
    }
    session.behave("1");
  });
  Carpool carpool(
      {.auth = "mode: passthrough, recheck: 1h",
       .server = "host: 127.0.0.1, port: " + std::to_string(changed.port()) + ", sslMode: disable",
       .pool = "size: 1"});
  Wire old_one = knock(carpool, "changed", "old");
  ASSERT_EVENTUALLY(changed.accepted() == 2);  // its trial, and the server that it waits for
  Wire new_one = knock(carpool, "changed", "new");
  ASSERT_EVENTUALLY(carpool.clients("authenticating") == 2);
  let = true;
  const Sign sign = answer(new_one);
  EXPECT_TRUE(sign.in) << sign.message;
  EXPECT_EQ(answer(old_one).sqlstate, "28P01");
}

TEST(APasswordThatIsTakenBack, LeavesNoBackOffToANewOne) {
  make_role("backedoff", "old");
  Carpool carpool(passthrough("1h", "size: 1, idleTimeout: 1s, pruneInterval: 1s"));
  Wire old_one = knock(carpool, "backedoff", "old");
  ASSERT_TRUE(answer(old_one).in);
  postgres().admin("alter role backedoff password 'new'");
  ASSERT_EVENTUALLY(postgres().backends("backedoff") == 0);
  EVENTUALLY([&] {
    old_one.query("select 1");
    return carpool.metric("carpool_server_connect_errors_total", {{"reason", "auth"}}) >= 6;
  }());
  Wire new_one = knock(carpool, "backedoff", "new");
  ASSERT_TRUE(answer(new_one).in);
  const auto began = Clock::now();
  EXPECT_EQ(value_of(new_one.query("select 1")), "1");
  EXPECT_LT(Clock::now() - began, 1s) << "it has waited for what the old one had failed by";
}

TEST(ARoleThatMayLogInNoMore, IsRefusedInPostgresWordsWithTheRightPassword) {
  make_role("barred", "right");
  Carpool carpool(passthrough("1h"));
  ASSERT_TRUE(sign_in(carpool, "barred", "right").in);
  postgres().admin("alter role barred nologin");
  EVENTUALLY(!sign_in(carpool, "barred", "right").in);
  const Sign last = sign_in(carpool, "barred", "right");
  EXPECT_EQ(last.sqlstate, "28000");
  EXPECT_EQ(last.message, "role \"barred\" is not permitted to log in");
  postgres().admin("alter role barred login valid until '2001-01-01'");
  EXPECT_EQ(sign_in(carpool, "barred", "right").sqlstate, "28P01");
}

TEST(AStrangersWrongGuess, EvictsNobody) {
  make_role("guessed", "right");
  Carpool carpool(passthrough("1h"));
  Wire client = knock(carpool, "guessed", "right");
  ASSERT_TRUE(answer(client).in);
  const std::string pid = value_of(client.query("select pg_backend_pid()"));
  for (int i = 0; i < 5; i++) {
    EXPECT_EQ(sign_in(carpool, "guessed", "wrong" + std::to_string(i)).sqlstate, "28P01");
  }
  EXPECT_EQ(value_of(client.query("select pg_backend_pid()")), pid);
  // Nor is anybody tried anew in front of the door: PostgreSQL is away, and lets nobody in.
  EXPECT_TRUE(sign_in(carpool, "guessed", "right").in);
  EXPECT_FALSE(carpool.logged("no longer takes a password"));
}

TEST(ARefusalByTheLinesForAddresses, EvictsNobody) {
  make_role("moved", "right");
  Carpool carpool(passthrough("1h"));
  Wire client = knock(carpool, "moved", "right");
  ASSERT_TRUE(answer(client).in);
  const std::string pid = value_of(client.query("select pg_backend_pid()"));
  postgres().prepend_hba("host all moved 127.0.0.1/32 reject");
  const auto attempts = [&] {
    return postgres().log().find(
        "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"moved\"");
  };
  EXPECT_TRUE(sign_in(carpool, "moved", "right").in);
  EVENTUALLY(attempts() != std::string::npos);
  EXPECT_TRUE(sign_in(carpool, "moved", "right").in) << "PostgreSQL's word on the password stands";
  EXPECT_EQ(value_of(client.query("select pg_backend_pid()")), pid);
  EXPECT_FALSE(carpool.logged("no longer takes a password"));
  const Sign newcomer = sign_in(carpool, "moved", "another");
  EXPECT_EQ(newcomer.sqlstate, "28000");
  EXPECT_NE(newcomer.message.find("pg_hba.conf rejects"), std::string::npos) << newcomer.message;
}

TEST(TwoPasswordsThatAreGoodAtOnce, DoNotEvictEachOther) {
  // One of LDAP's kind: whatever is asked, either will do.
  FakeServer either([](FakeSession& session, int) {
    if (!session.read_startup()) return;
    session.wire.send(message('R', int32_bytes(3)));
    const std::optional<Message> password = session.wire.read();
    if (!password) return;
    if (password->body != "one\0"s && password->body != "two\0"s) {
      return session.error("28P01", "password authentication failed");
    }
    session.behave("1");
  });
  Carpool carpool(
      {.auth = "mode: passthrough, recheck: 1h",
       .server = "host: 127.0.0.1, port: " + std::to_string(either.port()) + ", sslMode: disable"});
  ASSERT_TRUE(sign_in(carpool, "both", "one").in);
  ASSERT_TRUE(sign_in(carpool, "both", "two").in);
  EXPECT_TRUE(sign_in(carpool, "both", "one").in);
  EXPECT_FALSE(sign_in(carpool, "both", "three").in);
  EXPECT_TRUE(sign_in(carpool, "both", "two").in);
  EXPECT_FALSE(carpool.logged("no longer takes a password"));
}

TEST(TheLastWordOfPostgres, StandsWhileItCannotBeAskedAndNotForAnotherPassword) {
  PostgresCluster away;
  away.admin("create role faithful login password 'right'");
  away.admin("grant all on database app to faithful");
  away.prepend_hba("host all faithful 127.0.0.1/32 scram-sha-256");
  Carpool carpool({.auth = "mode: passthrough, recheck: 3s",
                   .server = "host: 127.0.0.1, port: " + std::to_string(away.port()),
                   .pool = "acquireTimeout: 500ms"});
  ASSERT_TRUE(sign_in(carpool, "faithful", "right").in);
  away.stop_fast();
  std::this_thread::sleep_for(3100ms);
  EXPECT_TRUE(sign_in(carpool, "faithful", "right").in) << "Old, and PostgreSQL gives no answer";
  const Sign guess = sign_in(carpool, "faithful", "wrong");
  EXPECT_FALSE(guess.in);
  EXPECT_EQ(guess.sqlstate, "08001");
  carpool.reload({.auth = "mode: passthrough, recheck: 0s",
                  .server = "host: 127.0.0.1, port: " + std::to_string(away.port()),
                  .pool = "acquireTimeout: 500ms"});
  EXPECT_FALSE(sign_in(carpool, "faithful", "right").in)
      << "no word stands where each is asked for";
}

// Tokens that a cloud hands out: many are good at once, and no more than a few are remembered.
TEST(TheLastWordOfPostgres, IsNoRefusalWhereItIsForgottenBeforeTheGreeting) {
  FakeServer tokens([](FakeSession& session, int) {
    if (!session.read_startup()) return;
    session.wire.send(message('R', int32_bytes(3)));
    if (session.wire.read()) session.behave("1");
  });
  Carpool carpool(
      {.auth = "mode: passthrough, recheck: 1h",
       .server = "host: 127.0.0.1, port: " + std::to_string(tokens.port()) + ", sslMode: disable"});
  ASSERT_EQ(carpool.post_control("/pause").status, 200);
  std::vector<Wire> clients;
  for (int i = 0; i < 12; i++) {
    clients.push_back(knock(carpool, "cloud", "token" + std::to_string(i)));
  }
  ASSERT_EVENTUALLY(carpool.clients("authenticating") == 12);
  ASSERT_EQ(carpool.post_control("/resume").status, 200);
  for (Wire& client : clients) {
    const Sign sign = answer(client);
    EXPECT_TRUE(sign.in) << sign.message;
  }
}

// Silence is no answer either, though it lasts longer than a client waits.
TEST(TheLastWordOfPostgres, StandsWhereItKeepsSilentForLongerThanAcquireTimeout) {
  PostgresCluster silent;
  silent.admin("create role faithful login password 'right'");
  silent.admin("grant all on database app to faithful");
  silent.prepend_hba("host all faithful 127.0.0.1/32 scram-sha-256");
  Carpool carpool({.auth = "mode: passthrough, recheck: 3s",
                   .server = "host: 127.0.0.1, port: " + std::to_string(silent.port()),
                   .pool = "acquireTimeout: 1s"});
  ASSERT_TRUE(sign_in(carpool, "faithful", "right").in);
  silent.freeze();
  std::this_thread::sleep_for(3100ms);
  EXPECT_TRUE(sign_in(carpool, "faithful", "right").in);
  const Sign guess = sign_in(carpool, "faithful", "wrong");
  EXPECT_EQ(guess.sqlstate, "08001");
  EXPECT_NE(guess.message.find("keeps silent"), std::string::npos) << guess.message;
  silent.thaw();
}

// ---- waiting

TEST(AClientInPassthrough, WaitsWherePostgresIsFullAsATrustedOneDoes) {
  make_role("limited", "secret", "connection limit 1");
  Carpool carpool(passthrough("30s", "size: 1, acquireTimeout: 20s"));
  Connection other("host=127.0.0.1 port=" + std::to_string(postgres().port()) +
                   " user=limited dbname=app password=secret");
  ASSERT_TRUE(other.connected()) << other.error();
  Wire waits = knock(carpool, "limited", "secret");
  EVENTUALLY(postgres().log().find("too many connections for role \"limited\"") !=
             std::string::npos);
  EXPECT_FALSE(answer(waits, 300ms).in);
  other.close();
  EXPECT_TRUE(answer(waits).in);
}

TEST(AClientInPassthrough, WaitsWherePostgresIsAwayUntilAcquireTimeoutAndIsToldWhy) {
  PostgresCluster away;
  away.admin("create role patient login password 'secret'");
  away.admin("grant all on database app to patient");
  away.prepend_hba("host all patient 127.0.0.1/32 scram-sha-256");
  const std::string server = "host: 127.0.0.1, port: " + std::to_string(away.port());
  away.stop_fast();
  Carpool hasty({.auth = "mode: passthrough", .server = server, .pool = "acquireTimeout: 500ms"});
  const Sign late = sign_in(hasty, "patient", "secret");
  EXPECT_EQ(late.sqlstate, "08001");
  EXPECT_NE(late.message.find("pool.acquireTimeout"), std::string::npos) << late.message;
  EXPECT_NE(late.message.find("refused"), std::string::npos) << late.message;
  Carpool carpool({.auth = "mode: passthrough", .server = server});
  Wire waits = knock(carpool, "patient", "secret");
  EXPECT_FALSE(answer(waits, 300ms).in);
  away.start();
  EXPECT_TRUE(answer(waits).in);
}

TEST(AClientInPassthrough, WaitsLongerThanOneThatSaysNothingMay) {
  // Longer than Proxy::kStartupMax_us, which is for who has not said its password.
  FakeServer busy([](FakeSession& session, int) {
    if (session.read_startup()) session.error("57P03", "the database system is starting up");
  });
  Carpool carpool(
      {.auth = "mode: passthrough",
       .server = "host: 127.0.0.1, port: " + std::to_string(busy.port()) + ", sslMode: disable",
       .pool = "acquireTimeout: 16s"});
  const auto began = Clock::now();
  Wire waits = knock(carpool, "patient", "secret");
  const Sign late = answer(waits, 30s);
  EXPECT_GE(Clock::now() - began, 15900ms);
  EXPECT_EQ(late.sqlstate, "08001");
  EXPECT_NE(late.message.find("starting up"), std::string::npos) << late.message;
}

TEST(AClientInPassthrough, IsHeldUpByNoOtherDatabaseThatKeepsSilent) {
  make_role("elsewhere", "secret");
  FakeServer silent([](FakeSession& session, int) { session.hang(); });
  Carpool carpool({.auth = "mode: passthrough",
                   .server = at_postgres(),
                   .databases = "{name: silent, server: {host: 127.0.0.1, port: " +
                                std::to_string(silent.port()) +
                                ", sslMode: disable}}, {name: '*'}"});
  std::vector<Wire> waiting;
  for (int i = 0; i < 10; i++) {
    waiting.push_back(knock(carpool, "u" + std::to_string(i), "secret", {{"database", "silent"}}));
  }
  ASSERT_EVENTUALLY(silent.accepted() > 0);
  EXPECT_TRUE(sign_in(carpool, "elsewhere", "secret").in);
}

TEST(AClientInPassthrough, MaySendItsFirstQueryBehindItsPassword) {
  make_role("eager", "secret");
  Carpool carpool(passthrough("30s"));
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"user", "eager"}, {"database", "app"}}));
  ASSERT_TRUE(wire.read());
  wire.send(message('p', "secret\0"s) + query_message("select 'first'"));
  wire.read_until("Z");
  EXPECT_EQ(value_of(wire.read_until("Z")), "first");
}

TEST(AClientInPassthrough, HasAPasswordAsLongAsPostgresTakesIt) {
  // A token of a cloud, and the longest there is.
  const std::string token(1800, 't');
  const std::string longest(65530, 'l');
  make_role("tokened", token);
  make_role("longest", longest);
  Carpool carpool(passthrough("30s"));
  EXPECT_TRUE(sign_in(carpool, "tokened", token).in);
  EXPECT_FALSE(sign_in(carpool, "tokened", token + "x").in);
  EXPECT_TRUE(sign_in(carpool, "longest", longest).in);
  const Sign too_long = sign_in(carpool, "longest", longest + "l");
  EXPECT_EQ(too_long.sqlstate, "08P01");
}

// ---- replication

TEST(AReplicationRole, IsLetInForPhysicalReplicationByItsPasswordAndNamesNoDatabase) {
  make_role("replica", "secret", "replication");
  postgres().prepend_hba("host replication replica 127.0.0.1/32 scram-sha-256");
  Settings settings = passthrough("30s");
  settings.databases = "{name: app}";
  Carpool carpool(settings);
  for (const std::string value : {"true", "ON", "1"}) {
    Wire wire = knock(carpool, "replica", "secret", {{"replication", value}});
    const Sign sign = answer(wire);
    ASSERT_TRUE(sign.in) << sign.message;
    EXPECT_EQ(find(wire.query("IDENTIFY_SYSTEM"), 'E'), nullptr);
  }
  EXPECT_EQ(sign_in(carpool, "replica", "wrong", {{"replication", "true"}}).sqlstate, "28P01");
}

TEST(AReplicationRole, IsJudgedByTheLinesForReplication) {
  make_role("noreplica", "secret", "replication");
  postgres().prepend_hba("host replication noreplica 127.0.0.1/32 reject");
  Carpool carpool(passthrough("1h"));
  ASSERT_TRUE(sign_in(carpool, "noreplica", "secret").in);
  const Sign refused = sign_in(carpool, "noreplica", "secret", {{"replication", "true"}});
  EXPECT_EQ(refused.sqlstate, "28000");
  EXPECT_TRUE(sign_in(carpool, "noreplica", "secret").in);
}

// What a start with the new file would do: it has nobody's password.
TEST(AnotherModeThanPassthrough, OpensNoServerByThePasswordOfSomebodyElse) {
  make_role("lent", "secret");
  Carpool carpool(passthrough("1h"));
  Wire wire = knock(carpool, "lent", "secret");
  ASSERT_TRUE(answer(wire).in);
  EXPECT_EQ(value_of(wire.query("select current_user")), "lent");
  carpool.reload({.auth = "mode: trust", .server = at_postgres(", user: lent"), .pool = "size: 3"});
  Wire stranger = carpool.raw();
  stranger.send(startup_packet({{"user", "lent"}, {"database", "app"}}));
  EXPECT_FALSE(answer(stranger).in);
  EVENTUALLY(postgres().backends("lent") == 0);
}

// PostgreSQL counts a role's connections when it has seen its password.
TEST(ARoleThatHasAllItsConnections, IsLetInToThePoolThatHasThem) {
  make_role("limited", "secret", "connection limit 2");
  Carpool carpool(passthrough("200ms", "size: 1, minIdle: 1"));
  ASSERT_TRUE(sign_in(carpool, "limited", "secret").in);
  EVENTUALLY(carpool.servers("idle") == 1);
  // Whoever has it: there is none left for a trial.
  const std::string as_limited = "host=127.0.0.1 port=" + std::to_string(postgres().port()) +
                                 " user=limited dbname=app password=secret";
  const Connection other(as_limited);
  EVENTUALLY(Connection(as_limited).error().find("too many connections") != std::string::npos);
  std::this_thread::sleep_for(2100ms);  // ten times recheck: no word of PostgreSQL's stands
  EXPECT_TRUE(sign_in(carpool, "limited", "secret").in);
  const Sign wrong = sign_in(carpool, "limited", "wrong");
  EXPECT_EQ(wrong.sqlstate, "28P01");
}

TEST(ADatabaseThatIsAdded, TakesNobodysWordBack) {
  make_role("steady", "secret");
  Settings settings = passthrough("1h");
  settings.databases = "{name: app}";
  Carpool carpool(settings);
  ASSERT_TRUE(sign_in(carpool, "steady", "secret").in);
  settings.databases = "{name: app}, {name: other, server: {host: 127.0.0.1, port: 1}}";
  carpool.reload(settings);
  postgres().admin("alter role steady connection limit 0 password 'changed'");
  EXPECT_TRUE(sign_in(carpool, "steady", "secret").in) << "the hour is not over";
}

TEST(ReplicationThatIsNone, IsAnOrdinarySessionOfTheOnePoolWithItsLimits) {
  Carpool carpool(postgres(), {.pool = "size: 1, queryTimeout: 500ms"});
  std::vector<Wire> wires;
  for (const std::string value : {"false", "FALSE", "f", "Off", "N", "0"}) {
    wires.push_back(carpool.raw());
    ASSERT_TRUE(wires.back().sign_in("app", "app", {{"replication", value}})) << value;
    EXPECT_EQ(sqlstate_of(wires.back().query("select pg_sleep(30)")), "57014") << value;
  }
  EXPECT_EQ(carpool.status()["pools"].size(), 1U);
  EXPECT_EQ(carpool.servers(), 1);
}

TEST(ReplicationThatPostgresRefuses, IsRefusedInItsWords) {
  Carpool carpool(postgres(), {});
  for (const std::string value : {"DATABASE", "o", "maybe", ""}) {
    Wire wire = carpool.raw();
    wire.send(startup_packet({{"user", "app"}, {"database", "app"}, {"replication", value}}));
    const std::optional<Message> error = wire.read();
    ASSERT_TRUE(error && error->type == 'E') << value;
    EXPECT_EQ(error->sqlstate(), "22023") << value;
    EXPECT_NE(error->field('M').find("invalid value for parameter \"replication\": \"" + value),
              std::string::npos)
        << error->field('M');
  }
}

// ---- who exists

TEST(ADatabaseThatIsNotConfigured, IsToldOfOnlyToWhoHasShownItsPassword) {
  make_role("curious", "secret");
  Settings settings = passthrough("30s");
  settings.databases = "{name: app}, {name: secret_plans, server: {database: app}}";
  settings.admin = "users: [curious]";
  Carpool carpool(settings);
  const auto guess = [&](const std::string& database) {
    return sign_in(carpool, "curious", "wrong", {{"database", database}});
  };
  for (const std::string database : {"app", "secret_plans", "none", "pgbouncer"}) {
    EXPECT_EQ(guess(database).sqlstate, "28P01") << database;
    EXPECT_EQ(guess(database).message, "password authentication failed for user \"curious\"");
  }
  EXPECT_EQ(sign_in(carpool, "curious", "secret", {{"database", "none"}}).sqlstate, "3D000");
  EXPECT_TRUE(sign_in(carpool, "curious", "secret", {{"database", "secret_plans"}}).in);
  EXPECT_TRUE(sign_in(carpool, "curious", "secret", {{"database", "pgbouncer"}}).in);
  // What is refused before a password is asked for is refused in one form, by the name that was
  // asked for.
  postgres().prepend_hba("host all curious 127.0.0.1/32 reject");
  for (const std::string database : {"app", "secret_plans", "none", "pgbouncer"}) {
    const Sign refused = guess(database);
    EXPECT_EQ(refused.sqlstate, "28000") << database;
    EXPECT_NE(refused.message.find("database \"" + database + "\""), std::string::npos)
        << refused.message;
  }
}

TEST(ADatabaseThatIsNotConfigured, IsToldOfAtOnceToWhoIsTrusted) {
  Carpool carpool(postgres(), {.databases = "{name: app}"});
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"user", "app"}, {"database", "none"}}));
  const std::optional<Message> error = wire.read();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->sqlstate(), "3D000");
}

}  // namespace
}  // namespace carpool::integration
