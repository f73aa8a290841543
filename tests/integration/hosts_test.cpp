// The promise: where several hosts may be the database, Carpool finds the one that it is told to
// look for, whichever of them is down, silent or of the other kind, and again when they change.
#include <gtest/gtest.h>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

// A primary and its hot standby.
struct Pair {
  PostgresCluster primary;
  std::unique_ptr<PostgresCluster> standby = PostgresCluster::standby_of(primary);

  std::string url(const std::vector<int>& ports) const {
    std::string hosts;
    for (const int port : ports) {
      hosts += (hosts.empty() ? "" : ",") + ("127.0.0.1:" + std::to_string(port));
    }
    return "url: 'postgresql://app@" + hosts + "/app'";
  }
};

Pair& pair() {
  static Pair made;
  return made;
}

const std::string kPort = "select current_setting('port')";

std::string found(const std::string& server) {
  Carpool carpool({.server = server});
  return carpool.connect().query(kPort).value();
}

TEST(TargetSessionAttrs, ChooseAmongAPrimaryAndItsStandby) {
  const int primary = pair().primary.port();
  const int standby = pair().standby->port();
  struct Case {
    const char* attrs;
    int expected;
  };
  for (const Case& now :
       {Case{"read-write", primary}, Case{"primary", primary}, Case{"read-only", standby},
        Case{"standby", standby}, Case{"prefer-standby", standby}}) {
    // Whatever comes first.
    for (const std::vector<int>& ports : {std::vector{primary, standby}, {standby, primary}}) {
      EXPECT_EQ(found(pair().url(ports) + ", targetSessionAttrs: " + now.attrs),
                std::to_string(now.expected))
          << now.attrs << ", first " << ports[0];
    }
  }
  EXPECT_EQ(found(pair().url({standby, primary}) + ", targetSessionAttrs: any"),
            std::to_string(standby));
  EXPECT_EQ(found(pair().url({primary}) + ", targetSessionAttrs: prefer-standby"),
            std::to_string(primary));
}

TEST(TargetSessionAttrs, ThatNoHostHasIsAnErrorThatSaysSo) {
  Carpool carpool(
      {.server = pair().url({pair().standby->port()}) + ", targetSessionAttrs: read-write",
       .pool = "acquireTimeout: 500ms"});
  Wire client = carpool.raw();
  client.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  const std::vector<Message> answer = client.read_until("EZ");
  ASSERT_NE(find(answer, 'E'), nullptr);
  EXPECT_EQ(find(answer, 'E')->sqlstate(), "08001");
  EXPECT_NE(find(answer, 'E')->field('M').find("session is read-only"), std::string::npos)
      << find(answer, 'E')->field('M');
}

TEST(TargetSessionAttrs, WritersAndReadersOfOnePodReachTheirHosts) {
  const std::string url = pair().url({pair().primary.port(), pair().standby->port()});
  Carpool carpool({.server = url + ", targetSessionAttrs: read-write",
                   .databases = "{name: app}, {name: app_ro, server: {database: app,"
                                " targetSessionAttrs: prefer-standby}}"});
  EXPECT_EQ(carpool.connect("app", "app").query(kPort).value(),
            std::to_string(pair().primary.port()));
  EXPECT_EQ(carpool.connect("app", "app_ro").query(kPort).value(),
            std::to_string(pair().standby->port()));
}

TEST(SeveralHosts, AHostThatKeepsSilentCostsConnectTimeoutAndNoMore) {
  FakeServer silent([](FakeSession& session, int) { session.hang(); });
  const int primary = pair().primary.port();
  for (const char* attrs : {"any", "read-write", "prefer-standby"}) {
    Carpool carpool({.server = pair().url({silent.port(), primary}) +
                               ", connectTimeout: 300ms, targetSessionAttrs: " + attrs});
    Connection client = carpool.connect();
    EXPECT_EQ(client.query(kPort).value(), std::to_string(primary)) << client.error();
  }
  // Behind a good one that is only the second choice.
  Carpool second({.server = pair().url({primary, silent.port()}) +
                            ", connectTimeout: 300ms, targetSessionAttrs: prefer-standby"});
  EXPECT_EQ(second.connect().query(kPort).value(), std::to_string(primary));
}

TEST(SeveralHosts, WhenAllKeepSilentTheErrorSaysSo) {
  FakeServer one([](FakeSession& session, int) { session.hang(); });
  FakeServer two([](FakeSession& session, int) { session.hang(); });
  Carpool carpool({.server = pair().url({one.port(), two.port()}) + ", connectTimeout: 200ms",
                   .pool = "acquireTimeout: 5s"});
  Wire client = carpool.raw();
  client.send(startup_packet({{"user", "app"}, {"database", "app"}}));
  EVENTUALLY(
      carpool.metric("carpool_server_connect_errors_total", {{"reason", "timeout"}}).value_or(0) >
      0);
  EXPECT_GE(one.accepted(), 1);
  EXPECT_GE(two.accepted(), 1);
  // Both are named.
  EVENTUALLY(carpool.logged("127.0.0.1:" + std::to_string(one.port()) + ": no answer within"));
  EVENTUALLY(carpool.logged("server.connectTimeout"));
}

TEST(SeveralHosts, AStandbyThatIsPromotedTakesOver) {
  Pair two;
  const int standby = two.standby->port();
  Carpool carpool(
      {.server = two.url({two.primary.port(), standby}) + ", targetSessionAttrs: read-write",
       .pool = "size: 2"});
  Connection client = carpool.connect();
  EXPECT_EQ(client.query(kPort).value(), std::to_string(two.primary.port()));
  two.primary.stop_immediately();
  two.standby->admin("select pg_promote()");
  EVENTUALLY(client.query(kPort).value() == std::to_string(standby));
  EXPECT_TRUE(client.query("create table born_after_promotion ()").ok());
}

}  // namespace
}  // namespace carpool::integration
