// Cancels, and back-pressure in both directions.
#include "fixture.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::SlotState;

// ---- cancel

class Cancel : public ProxyTest {
 protected:
  // The connection that asks.
  TestClient& ask_to_cancel(std::uint32_t pid, std::uint32_t key) {
    Bytes out;
    append_u32(out, 16);
    append_u32(out, 80877102);
    append_u32(out, pid);
    append_u32(out, key);
    TestClient& asks = connect();
    asks.say(out);
    return asks;
  }
  void cancel(std::uint32_t pid, std::uint32_t key) {
    TestClient& asks = ask_to_cancel(pid, key);
    ASSERT_TRUE(until([&] { return asks.ended; }));
    EXPECT_EQ(asks.received, 0u) << "a cancel request gets no answer";
  }
};

TEST_F(Cancel, ReachesTheServerThatRunsTheQueryWithItsOwnKey) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  TestClient& first = connect().start();
  ASSERT_TRUE(until([&] { return first.count('Z') == 1; }));
  first.query("SELECT 1");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return backend.requests.size() == 1; }));
  cancel(first.pid, first.key);
  ASSERT_TRUE(until([&] { return postgres_.cancels().size() == 1; }));
  EXPECT_EQ(postgres_.cancels()[0]->cancel_pid, backend.pid);
  EXPECT_EQ(postgres_.cancels()[0]->cancel_key, backend.pid * 7);
  backend.error("57014");
  backend.ready('I');
  ASSERT_TRUE(until([&] { return first.sqlstate() == "57014" && first.count('Z') == 2; }));
  EXPECT_FALSE(first.ended);
}

TEST_F(Cancel, KeepsTheServerOutOfIdleUntilItHasLanded) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  postgres_.hold_cancels = true;
  TestClient& first = connect().start();
  ASSERT_TRUE(until([&] { return first.count('Z') == 1; }));
  first.query("SELECT 1");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return backend.requests.size() == 1; }));
  TestClient& second = client();
  second.query("SELECT 2");
  TestClient& asks = ask_to_cancel(first.pid, first.key);
  ASSERT_TRUE(until([&] { return postgres_.cancels().size() == 1; }));
  // The query ends before the cancel arrives.
  backend.complete("X");
  backend.ready('I');
  ASSERT_TRUE(until([&] { return first.count('Z') == 2; })) << "its client need not wait";
  settle();
  EXPECT_EQ(backend.requests.size(), 1u) << "but nobody else's query may be hit";
  EXPECT_EQ(servers(SlotState::Canceling), 1u);
  EXPECT_EQ(clients(ClientState::Waiting), 1u);
  EXPECT_FALSE(asks.ended) << "whoever asks may go by the end of its connection";
  postgres_.script = ScriptedPostgres::well_behaved;
  postgres_.hold_cancels = false;
  ASSERT_TRUE(until([&] { return asks.ended; }));
  ASSERT_TRUE(until([&] { return second.types == "CZ"; }));
}

TEST_F(Cancel, WithAWrongKeyDoesNothing) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  TestClient& first = connect().start();
  ASSERT_TRUE(until([&] { return first.count('Z') == 1; }));
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->requests.size() == 1; }));
  cancel(first.pid, first.key + 1);
  cancel(first.pid + 1, first.key);
  cancel(postgres_.backends[0]->pid, postgres_.backends[0]->pid * 7);
  settle();
  EXPECT_TRUE(postgres_.cancels().empty());
}

TEST_F(Cancel, OfAClientThatRunsNothingDoesNothing) {
  serve();
  TestClient& first = connect().start();
  ASSERT_TRUE(until([&] { return first.count('Z') == 1; }));
  cancel(first.pid, first.key);
  settle();
  EXPECT_TRUE(postgres_.cancels().empty());
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.count('Z') == 2; }));
}

TEST_F(Cancel, OfAClientThatWaitsEndsItsWait) {
  serve();
  TestClient& holder = client();
  holder.query("BEGIN");
  ASSERT_TRUE(until([&] { return holder.status() == 'T'; }));
  TestClient& waits = connect().start();
  ASSERT_TRUE(until([&] { return waits.count('Z') == 1; }));
  waits.query("SELECT 1");
  ASSERT_TRUE(until([&] { return clients(ClientState::Waiting) == 1; }));
  cancel(waits.pid, waits.key);
  ASSERT_TRUE(until([&] { return waits.count('Z') == 2; }));
  EXPECT_EQ(waits.sqlstate(), "57014");
  holder.query("COMMIT");
  ASSERT_TRUE(until([&] { return holder.status() == 'I'; }));
  waits.query("SELECT 2");
  ASSERT_TRUE(until([&] { return waits.count('Z') == 3; }));
}

// ---- back-pressure

class BackPressure : public ProxyTest {
 protected:
  // What may be under way between two peers: four socket buffers, as large as the kernel lets them
  // grow, and what Carpool holds itself.
  static constexpr std::size_t kUnderWayMax = 24u << 20;
  static constexpr std::size_t kTotal = 64u << 20;

  static Bytes row(std::size_t size) {
    Bytes out;
    append_u8(out, 'D');
    append_u32(out, static_cast<std::uint32_t>(size - 1));
    out.resize(size, 'x');
    return out;
  }
};

TEST_F(BackPressure, HoldsAServerBackWhoseClientDoesNotRead) {
  serve();
  postgres_.script = [](Backend& backend, const Message&) {
    const Bytes one = row(64u << 10);
    for (std::size_t sent = 0; sent < kTotal; sent += one.size()) backend.say(one);
    backend.complete("SELECT");
    backend.ready('I');
  };
  TestClient& slow = client();
  slow.keep = false;
  slow.deaf = true;
  const std::size_t before = slow.received;
  slow.query("SELECT");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return backend.unsent() > 0; }));
  // Until nothing moves any more.
  for (std::size_t last = 0; last != backend.unsent();) {
    last = backend.unsent();
    settle();
  }
  EXPECT_GT(backend.unsent(), kTotal - kUnderWayMax) << "the rest has not left the server";
  EXPECT_LT(pool().counters.bytes_to_clients, kUnderWayMax);
  slow.deaf = false;
  ASSERT_TRUE(until([&] { return slow.count('Z') == 1; }));
  EXPECT_EQ(slow.count('D'), kTotal / (64u << 10));
  EXPECT_GE(slow.received - before, kTotal);
  expect_still_serving();
}

TEST_F(BackPressure, HoldsAClientBackWhoseServerDoesNotRead) {
  serve();
  postgres_.script = [](Backend& backend, const Message& request) {
    if (request.type == 'S') backend.ready('I');
  };
  TestClient& first = client();
  Backend& backend = *postgres_.backends[0];
  backend.deaf = true;
  Bytes bind;
  append_u8(bind, 'B');
  append_u32(bind, (1u << 20) - 1);
  append_u16(bind, 0);  // the unnamed portal and statement
  bind.resize(1u << 20, 'x');
  first.requests("P");
  for (std::size_t sent = 0; sent < kTotal; sent += bind.size()) first.say(bind);
  first.requests("S");
  for (std::size_t last = 0; last != first.unsent();) {
    last = first.unsent();
    settle();
  }
  EXPECT_GT(first.unsent(), kTotal - kUnderWayMax) << "the rest has not left the client";
  backend.deaf = false;
  ASSERT_TRUE(until([&] { return first.types == "Z"; }));
  EXPECT_EQ(backend.requests.size(), 2 + kTotal / bind.size());
  expect_still_serving();
}

TEST_F(BackPressure, OfOneClientLeavesTheOthersTheirSpeed) {
  config_.pool.size = 2;
  serve();
  postgres_.script = [](Backend& backend, const Message& request) {
    if (request.text().starts_with("MANY")) {
      const Bytes one = row(64u << 10);
      for (std::size_t sent = 0; sent < kTotal; sent += one.size()) backend.say(one);
      return backend.ready('I');
    }
    ScriptedPostgres::well_behaved(backend, request);
  };
  TestClient& slow = client();
  slow.deaf = true;
  slow.query("MANY");
  settle();
  TestClient& other = client();
  for (int i = 1; i <= 20; ++i) {
    other.query("SELECT 1");
    ASSERT_TRUE(until([&] { return other.count('Z') == static_cast<std::size_t>(i); }));
  }
  slow.vanish();
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 1; }));
}

// ---- doors

using Doors = ProxyTest;

TEST_F(Doors, RefuseAClientTooMany) {
  config_.listen.clients_max = 2;
  serve();
  client();
  client();
  TestClient& third = connect().start();
  ASSERT_TRUE(until([&] { return third.ended; }));
  EXPECT_EQ(third.sqlstate(), "53300");
  clients_.front().vanish();
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 1; }));
  client();
}

TEST_F(Doors, RefuseADatabaseThatNoEntryNames) {
  serve();
  config_.databases[0].name = "app";
  ASSERT_TRUE(proxy_->apply(config_));
  client();
  TestClient& other = connect().start("other");
  ASSERT_TRUE(until([&] { return other.ended; }));
  EXPECT_EQ(other.sqlstate(), "3D000");
}

TEST_F(Doors, AnswerAnEncryptionRequestWithNo) {
  serve();
  for (const std::uint32_t code : {80877103u, 80877104u}) {
    TestClient& asks = connect();
    Bytes out;
    append_u32(out, 8);
    append_u32(out, code);
    asks.say(out);
    ASSERT_TRUE(until([&] { return asks.received == 1; }));
  }
}

TEST_F(Doors, TakeAStartupThatComesAByteAtATime) {
  serve();
  client();
  TestClient& slow = connect();
  Bytes out;
  const std::string body("user\0alice\0database\0app\0\0", 25);
  append_u32(out, static_cast<std::uint32_t>(8 + body.size()));
  append_u32(out, 3u << 16);
  append_text(out, body);
  pg::append_query(out, "SELECT 1");
  for (const std::uint8_t byte : out) {
    slow.say(Bytes{byte});
    turn();
  }
  ASSERT_TRUE(until([&] { return slow.count('Z') == 2; }));
  EXPECT_EQ(slow.types, "RSSKZCZ");
}

TEST_F(Doors, ApplyANewSizeBetweenTwoTurns) {
  serve();
  std::vector<TestClient*> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(&client());
    all.back()->query("BEGIN");
  }
  ASSERT_TRUE(until([&] { return clients(ClientState::Waiting) == 2; }));
  config_.databases[0].pool.size = 3;
  ASSERT_TRUE(proxy_->apply(config_));
  ASSERT_TRUE(until([&] { return servers(SlotState::Leased) == 3; }));
  config_.databases[0].pool.size = 1;
  ASSERT_TRUE(proxy_->apply(config_));
  settle();
  EXPECT_EQ(servers(SlotState::Leased), 3u) << "no transaction is cut";
  for (TestClient* one : all) one->query("COMMIT");
  ASSERT_TRUE(until([&] { return postgres_.sessions().size() == 1; }));
  for (TestClient* one : all) EXPECT_TRUE(until([&] { return one->types == "CZCZ"; }));
}

}  // namespace
}  // namespace carpool::proxy
