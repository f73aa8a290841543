// The promise: whatever the admin ports are sent, they answer with a reason or close, show no data
// of the application, and the proxy does not notice.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using nlohmann::json;

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string error_of(const HttpReply& reply) {
  const json body = json::parse(reply.body, nullptr, false);
  return body.is_object() ? body.value("error", "") : "not JSON: " + reply.body;
}

// The first line of the answer to a whole request.
std::string status_line(int port, const std::string& request) {
  Wire wire = Wire::tcp(port);
  wire.send(request);
  std::string line;
  for (std::string byte; !(byte = wire.read_bytes(1)).empty() && byte != "\r";) line += byte;
  return line;
}

// What the detailed status shows that a client runs, as soon as one does.
std::string shown_query(const Carpool& carpool) {
  std::string query;
  eventually([&] {
    const json status = json::parse(carpool.get("/status?detailed=1").body);
    for (const json& client : status["clientList"]) query = client.value("query", "");
    return !query.empty();
  });
  return query;
}

TEST(Admin, StatusOfADatabaseThatIsNotThereIs404AndSaysSoAsJson) {
  Carpool carpool(postgres(), {});
  const HttpReply reply = carpool.get("/status?database=nosuch");
  EXPECT_EQ(reply.status, 404);
  EXPECT_NE(error_of(reply).find("nosuch"), std::string::npos) << reply.body;
}

TEST(Admin, NoControlCallIsTakenOnTheReadOnlyPort) {
  Carpool carpool(postgres(), {});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select 1").ok());
  for (const char* call : {"/drain", "/quitquitquit", "/pause", "/resume", "/reconnect"}) {
    const HttpReply reply = carpool.post(call);
    EXPECT_EQ(reply.status, 403) << call;
    EXPECT_NE(error_of(reply).find("control"), std::string::npos) << reply.body;
  }
  EXPECT_TRUE(client.query("select 1").ok());
  EXPECT_EQ(carpool.get("/readyz").status, 200);
}

TEST(Admin, AForeignHostOrOriginIsRefusedOnTheControlPortAndChangesNothing) {
  Carpool carpool(postgres(), {});
  for (const char* header :
       {"Host: evil.example", "Host: evil.example:9931", "Host: localhost.evil.example",
        "Host: localhost\r\nOrigin: http://evil.example", "Host: localhost\r\nOrigin: null"}) {
    for (const char* call : {"POST /pause", "POST /drain", "GET /status"}) {
      const std::string request =
          std::string(call) + " HTTP/1.1\r\n" + header + "\r\nContent-Length: 0\r\n\r\n";
      EXPECT_EQ(status_line(carpool.control_port(), request).substr(0, 13), "HTTP/1.1 403 ")
          << request;
    }
  }
  EXPECT_TRUE(carpool.connect().query("select 1").ok());
  EXPECT_EQ(carpool.get("/readyz").status, 200);
}

TEST(Admin, SlowAndHugeRequestsAreCutAndTheProxyServesMeanwhile) {
  Carpool carpool(postgres(), {});
  Connection client = carpool.connect();
  // More than the door takes at once, and none of them ever finishes its request.
  std::vector<std::unique_ptr<Wire>> slow;
  for (int i = 0; i < 100; i++) {
    slow.push_back(std::make_unique<Wire>(Wire::tcp(carpool.admin_port())));
    slow.back()->send("GET /status HTTP/1.1\r\nX: ");
  }
  for (int i = 0; i < 200; i++) {
    slow[static_cast<std::size_t>(i) % slow.size()]->send("slow");
    ASSERT_EQ(client.query("select " + std::to_string(i)).value(), std::to_string(i));
    if (i % 20 == 0) {
      EXPECT_EQ(carpool.get("/livez").status, 200) << i;
      const std::string huge = "GET / HTTP/1.1\r\nX: " + std::string(64 << 10, 'x');
      EXPECT_EQ(status_line(carpool.admin_port(), huge).substr(0, 13), "HTTP/1.1 431 ") << i;
    }
  }
  for (auto& wire : slow) EXPECT_TRUE(wire->ended());
}

TEST(Admin, AQueryIsShownCutAndWithoutItsLiteralsUnlessAskedForInFull) {
  const std::string sql = "select pg_sleep(600), 'the secret', 424242, $$another$$ /* " +
                          std::string(5000, 'x') + " */";
  for (const char* text : {"masked", "full", "off"}) {
    Carpool carpool(postgres(), {.log = std::string("queryText: ") + text});
    Connection client = carpool.connect();
    client.send(sql);
    if (std::string(text) == "off") {
      ASSERT_EVENTUALLY(carpool.clients("attached") == 1);
      EXPECT_EQ(carpool.get("/status?detailed=1").body.find("pg_sleep"), std::string::npos);
      continue;
    }
    const bool full = std::string(text) == "full";
    const std::string shown = shown_query(carpool);
    EXPECT_EQ(shown.rfind("select pg_sleep(", 0), 0U) << shown;
    EXPECT_LE(shown.size(), 500U);
    for (const char* literal : {"600", "the secret", "424242", "another"}) {
      EXPECT_EQ(shown.find(literal) != std::string::npos, full) << text << ": " << shown;
    }
  }
}

}  // namespace
}  // namespace carpool::integration
