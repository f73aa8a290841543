// The promise: a value in a client's startup packet that PostgreSQL does not take fails at sign-in,
// in PostgreSQL's own words, as it does without a pooler; and what it has taken once needs no
// server any more.
#include <gtest/gtest.h>

#include <optional>

#include "one_server.h"

namespace carpool::integration {
namespace {

using Parameters = std::map<std::string, std::string>;

std::string packet(Parameters more) {
  more["user"] = "app";
  more["database"] = "app";
  return startup_packet(more);
}

Message refused(Wire wire, const Parameters& more) {
  wire.send(packet(more));
  for (;;) {
    const std::optional<Message> message = wire.read();
    if (!message) return {};
    if (message->type == 'E' || message->type == 'Z') return *message;
  }
}

class StartupValues : public OneServer {
 protected:
  double restores() { return carpool.metric("carpool_session_restores_total").value_or(0); }
};

TEST_F(StartupValues, ThatPostgresqlDoesNotTakeFailTheSignInInItsWords) {
  const std::vector<Parameters> all = {
      {{"TimeZone", "Nowhere/Land"}},
      {{"DateStyle", "of my own"}},
      {{"client_encoding", "nothing"}},
      {{"no_such_parameter", "1"}},
      {{"options", "-c work_mem=much"}},
      {{"options", "-c statement_timeout=-5"}},
      {{"options", "-c search_path=good -c extra_float_digits=99"}},
      {{"role", "nobody_of_that_name"}},
      {{"application_name", "good"}, {"IntervalStyle", "bad"}},
  };
  for (const Parameters& more : all) {
    const Message direct = refused(Wire::tcp(postgres().port()), more);
    const Message pooled = refused(carpool.raw(), more);
    ASSERT_EQ(direct.type, 'E');
    EXPECT_EQ(pooled.type, 'E') << direct.field('M');
    for (const char field : {'S', 'C'}) EXPECT_EQ(pooled.field(field), direct.field(field));
    // It may name the parameter in lower case.
    EXPECT_STRCASEEQ(pooled.field('M').c_str(), direct.field('M').c_str());
  }
  EXPECT_EQ(carpool.servers(), 1) << "the server has lost nothing by it";
  EXPECT_EQ(value_of(client().query("show search_path")), "\"$user\", public");
}

TEST_F(StartupValues, ThatAreKnownNeedNoServer) {
  const Parameters known = {{"TimeZone", "UTC"}, {"options", "-c search_path=mine"}};
  EXPECT_EQ(value_of(client(known).query("show search_path")), "mine");
  Wire holder = client();
  holder.query("begin");
  // The only server is taken.
  client(known);
  client({{"TimeZone", "UTC"}, {"application_name", "each has its own"}});
  Wire other = carpool.raw();
  other.send(packet({{"TimeZone", "Europe/Berlin"}}));
  EVENTUALLY(carpool.clients("waiting") == 1);
  holder.query("commit");
  const std::vector<Message> greeting = other.read_until("Z");
  EXPECT_EQ(sqlstate_of(greeting), "");
  EXPECT_EQ(value_of(other.query("show timezone")), "Europe/Berlin");
}

TEST_F(StartupValues, AreToldAsPostgresqlSpellsThem) {
  for (const char* who : {"the first", "one that comes behind it"}) {
    Wire wire = carpool.raw();
    wire.send(packet(
        {{"DateStyle", "sql, dmy"}, {"TimeZone", "utc"}, {"standard_conforming_strings", "yes"}}));
    std::map<std::string, std::string> told;
    const std::vector<Message> greeting = wire.read_until("Z");
    ASSERT_EQ(greeting.front().type, 'R') << "nothing comes before it is let in";
    for (const Message& message : greeting) {
      if (message.type != 'S') continue;
      const std::size_t end = message.body.find('\0');
      told[message.body.substr(0, end)] =
          message.body.substr(end + 1, message.body.size() - end - 2);
    }
    EXPECT_EQ(told["DateStyle"], "SQL, DMY") << who;
    EXPECT_EQ(told["TimeZone"], "UTC") << who;
    EXPECT_EQ(told["standard_conforming_strings"], "on") << who;
  }
}

TEST_F(StartupValues, WaitForAServerNoLongerThanAQueryAndThenTheFirstQueryFails) {
  Carpool impatient(postgres(), {.pool = "size: 1, acquireTimeout: 300ms"});
  Wire holder = impatient.raw();
  ASSERT_TRUE(holder.sign_in());
  holder.query("begin");
  Wire wire = impatient.raw();
  ASSERT_TRUE(wire.sign_in("app", "app", {{"TimeZone", "Nowhere/Land"}}));
  holder.query("commit");
  EXPECT_EQ(sqlstate_of(wire.query("select 1")), "22023");
}

TEST_F(StartupValues, AreAskedAgainAfterAReconnect) {
  postgres().admin(
      "drop role if exists short_lived; create role short_lived; "
      "grant short_lived to app");
  const Parameters more = {{"role", "short_lived"}};
  EXPECT_EQ(value_of(client(more).query("select current_user")), "short_lived");
  postgres().admin("drop role short_lived");
  EXPECT_EQ(carpool.post_control("/reconnect").status, 200);
  EXPECT_EQ(refused(carpool.raw(), more).sqlstate(), "22023");
}

TEST_F(StartupValues, OfOneThatLeavesMeanwhileHoldUpNobody) {
  Wire holder = client();
  holder.query("begin");
  for (int i = 0; i < 3; ++i) {
    Wire wire = carpool.raw();
    wire.send(packet({{"TimeZone", "Asia/Tokyo"}}));
    EVENTUALLY(carpool.clients("waiting") == 1);
    i == 1 ? wire.reset() : wire.close();
    EVENTUALLY(carpool.clients("waiting") == 0);
  }
  holder.query("commit");
  EXPECT_EQ(value_of(client().query("show timezone")), postgres().admin("show timezone").value());
}

TEST_F(StartupValues, ThatAServerDiesOverAreTriedOnAnother) {
  FakeServer server([](FakeSession& session, int attempt) {
    if (!session.read_startup()) return;
    session.accept();
    if (attempt > 1) return session.behave("answer");
    session.wire.read();  // and goes without a word
  });
  Carpool fragile(
      {.server = "host: 127.0.0.1, port: " + std::to_string(server.port()), .pool = "size: 1"});
  Wire wire = fragile.raw();
  ASSERT_TRUE(wire.sign_in("app", "app", {{"TimeZone", "UTC"}}));
  EXPECT_EQ(value_of(wire.query("select 1")), "answer");
  EXPECT_EQ(server.accepted(), 2);
}

TEST_F(StartupValues, HoldAlsoWhereTheyAreKnown) {
  for (int i = 0; i < 2; ++i) {
    Wire wire = client({{"options", "-c idle_session_timeout=200"}});
    const std::optional<Message> end = wire.read();
    ASSERT_TRUE(end) << i;
    EXPECT_EQ(end->sqlstate(), "57P05") << i;
  }
}

TEST_F(StartupValues, OfBoundlessLengthAreTriedEachTime) {
  const Parameters more = {{"options", "-c app.long=" + std::string(5000, 'x')}};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(value_of(client(more).query("select length(current_setting('app.long'))")), "5000");
  }
}

// The values of whoever signs in are being tried, and that waits for a lock.
class StartupValuesUnderWay : public ::testing::Test {
 protected:
  StartupValuesUnderWay()
      : carpool_({.server = at("127.0.0.1"), .pool = kPool}),
        holder_(postgres().connect("postgres")) {
    Wire first = carpool_.raw();
    EXPECT_TRUE(first.sign_in());
    EXPECT_TRUE(holder_.query("begin; lock table pg_ts_config in access exclusive mode").ok());
    wire_.emplace(carpool_.raw());
    wire_->send(packet({{"default_text_search_config", "pg_catalog.simple"}}));
    EVENTUALLY(trying() == 1);
  }
  static int trying() {
    return postgres().backends_where("wait_event_type = 'Lock' and query like '%text_search%'");
  }
  static std::string at(const std::string& host) {
    return "host: " + host + ", port: " + std::to_string(postgres().port());
  }
  std::map<std::string, int> greeting() {
    std::map<std::string, int> told;
    for (const Message& message : wire_->read_until("ZE")) {
      ++told[std::string(1, message.type)];
      if (message.type == 'S') ++told[message.body.substr(0, message.body.find('\0'))];
    }
    return told;
  }

  static constexpr const char* kPool = "size: 2, acquireTimeout: 3s";
  Carpool carpool_;
  Connection holder_;
  std::optional<Wire> wire_;
};

TEST_F(StartupValuesUnderWay, ADatabaseThatMovesGreetsWithWhatItsServersSay) {
  carpool_.reload({.server = at("localhost"), .pool = kPool});
  holder_.query("commit");
  std::map<std::string, int> told = greeting();
  EXPECT_EQ(told["Z"], 1);
  EXPECT_EQ(told["server_version"], 1);
}

TEST_F(StartupValuesUnderWay, ALostServerOfADatabaseThatMovesIsMadeUpFor) {
  carpool_.reload({.server = at("localhost"), .pool = kPool});
  postgres().terminate_backends();
  holder_.query("commit");
  std::map<std::string, int> told = greeting();
  EXPECT_EQ(told["Z"], 1);
  EXPECT_EQ(told["server_version"], 1);
}

TEST_F(StartupValuesUnderWay, AServerThatKeepsSilentHoldsUpNobodyLongerThanAcquireTimeout) {
  EXPECT_EQ(greeting()["Z"], 1);
  holder_.query("commit");
  EVENTUALLY(carpool_.servers("leased") == 0);
}

TEST_F(StartupValuesUnderWay, AClientThatLeavesTakesNothingAlong) {
  wire_->reset();
  EVENTUALLY(trying() == 0);  // nobody waits for the lock any more
  holder_.query("commit");
  EVENTUALLY(carpool_.clients() == 0 && carpool_.servers("leased") == 0 && trying() == 0);
  Wire next = carpool_.raw();
  ASSERT_TRUE(next.sign_in());
  EXPECT_EQ(value_of(next.query("select 1")), "1");
}

// ---- what a client is told

TEST(Greeting, IsThatOfTheServersThatAreOpenedNow) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Wire before = carpool.raw();
  ASSERT_TRUE(before.sign_in());
  const std::string place = "host: 127.0.0.1, port: " + std::to_string(postgres().port());
  carpool.reload({.server = place + ", options: '-c TimeZone=Asia/Tokyo'", .pool = "size: 2"});
  Wire after = carpool.raw();
  ASSERT_TRUE(after.sign_in());
  EXPECT_EQ(value_of(after.query("show timezone")), "Asia/Tokyo");
}

TEST(Greeting, IsKeptToWhereAServerOfAnEarlierDefaultTriedTheValues) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  postgres().admin("alter database app set datestyle to 'ISO, MDY'");
  Wire old_one = carpool.raw();
  ASSERT_TRUE(old_one.sign_in());
  postgres().admin("alter database app set datestyle to 'German, DMY'");
  old_one.query("begin");
  Wire second = carpool.raw();
  ASSERT_TRUE(second.sign_in());
  second.query("select 1");  // opens a server of the new default
  old_one.query("commit");
  Wire tried = carpool.raw();
  ASSERT_TRUE(tried.sign_in("app", "app", {{"IntervalStyle", "sql_standard"}}));
  const std::string told = value_of(tried.query("show datestyle"));
  for (Wire* holder : {&old_one, &second}) {
    holder->query("begin");
    EXPECT_EQ(value_of(tried.query("show datestyle")), told);
    holder->query("commit");
  }
  postgres().admin("alter database app reset datestyle");
}

// ---- who gets which server

TEST(InStep, AServerThatHasAClientsSettingsIsLentToIt) {
  Carpool carpool(postgres(), {.pool = "size: 4"});
  std::vector<Wire> wires;
  for (const char* zone : {"UTC", "Asia/Tokyo", "Europe/Berlin", "America/Lima"}) {
    wires.push_back(carpool.raw());
    ASSERT_TRUE(wires.back().sign_in("app", "app", {{"TimeZone", zone}}));
  }
  // Each has one of its own for a moment.
  for (Wire& wire : wires) EXPECT_EQ(sqlstate_of(wire.query("begin")), "");
  for (Wire& wire : wires) EXPECT_EQ(sqlstate_of(wire.query("commit")), "");
  const auto restores = [&] { return carpool.metric("carpool_session_restores_total"); };
  const std::optional<double> before = restores();
  for (int round = 0; round < 5; ++round) {
    for (Wire& wire : wires) EXPECT_EQ(sqlstate_of(wire.query("select 1")), "");
  }
  EXPECT_EQ(restores(), before);
}

}  // namespace
}  // namespace carpool::integration
