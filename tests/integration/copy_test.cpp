// The promise: COPY streams through in both directions, however large, without being held.
#include <gtest/gtest.h>

#include <algorithm>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

constexpr std::size_t kMiB = 1024 * 1024;
// More than this above where it stood before means that a payload was held.
constexpr std::size_t kGrowthMax = 48 * kMiB;

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string row(int i) {
  return std::to_string(i) + "\t" + std::string(100, 'a' + i % 26) + "\n";
}

// Sends rows until `rows` are in; false when the connection failed meanwhile.
bool put_rows(Connection& client, int rows) {
  std::string chunk;
  for (int i = 0; i < rows; i++) {
    chunk += row(i);
    if (chunk.size() < 64 * 1024 && i + 1 < rows) continue;
    if (PQputCopyData(client.raw(), chunk.data(), static_cast<int>(chunk.size())) != 1)
      return false;
    chunk.clear();
  }
  return true;
}

struct Received {
  std::size_t bytes = 0;
  std::size_t rows = 0;
  std::size_t sum = 0;
  bool complete = false;
};

Received get_rows(Connection& client) {
  Received received;
  char* data = nullptr;
  int length = 0;
  while ((length = PQgetCopyData(client.raw(), &data, 0)) > 0) {
    received.bytes += static_cast<std::size_t>(length);
    received.rows++;
    for (int i = 0; i < length; i++) received.sum += static_cast<unsigned char>(data[i]);
    PQfreemem(data);
  }
  received.complete = length == -1;
  return received;
}

class Copy : public ::testing::Test {
 protected:
  void SetUp() override {
    postgres().connect().query("drop table if exists cargo; create table cargo (n int, t text)");
  }
};

TEST_F(Copy, InAndOutAgree) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  constexpr int kRows = 100'000;
  ASSERT_EQ(client.query("copy cargo from stdin").status, PGRES_COPY_IN);
  ASSERT_TRUE(put_rows(client, kRows)) << client.error();
  ASSERT_EQ(PQputCopyEnd(client.raw(), nullptr), 1);
  EXPECT_EQ(client.wait().tag, "COPY 100000");
  const std::string hash = "select md5(string_agg(n || t, '' order by n)) from cargo";
  EXPECT_EQ(client.query(hash).value(), postgres().connect().query(hash).value());

  ASSERT_EQ(client.query("copy cargo to stdout").status, PGRES_COPY_OUT);
  const Received through = get_rows(client);
  EXPECT_EQ(client.wait().tag, "COPY 100000");
  Connection direct = postgres().connect();
  ASSERT_EQ(direct.query("copy cargo to stdout").status, PGRES_COPY_OUT);
  const Received straight = get_rows(direct);
  EXPECT_TRUE(through.complete);
  EXPECT_EQ(through.bytes, straight.bytes);
  EXPECT_EQ(through.rows, straight.rows);
  EXPECT_EQ(through.sum, straight.sum);
}

TEST_F(Copy, OutOfTwoHundredMegabytesIsStreamedAndNotHeld) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("select 1").ok());
  const std::size_t before = resident_bytes(carpool.pid());
  ASSERT_EQ(
      client.query("copy (select repeat('x', 1000), generate_series(1, 200000)) to stdout").status,
      PGRES_COPY_OUT);
  const Received received = get_rows(client);
  EXPECT_TRUE(received.complete);
  EXPECT_EQ(received.rows, 200'000U);
  EXPECT_TRUE(client.wait().ok());
  EXPECT_LT(resident_bytes(carpool.pid()), before + kGrowthMax);
}

TEST_F(Copy, ASlowReaderHoldsThePostgresSideBackAndMemoryStaysBounded) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Wire reader = carpool.raw();
  ASSERT_TRUE(reader.sign_in());
  const std::size_t before = resident_bytes(carpool.pid());
  reader.send(
      query_message("copy (select repeat('x', 1000), generate_series(1, 200000))"
                    " to stdout"));
  ASSERT_EVENTUALLY(postgres().backends_where("wait_event = 'ClientWrite'") == 1);
  EXPECT_TRUE(
      throughout([&] { return resident_bytes(carpool.pid()) < before + kGrowthMax; }, 500ms));
  EXPECT_TRUE(carpool.connect().query("select 1").ok()) << "the others go on";
  const std::vector<Message> all = reader.read_until("Z", 60s);
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const Message& m) { return m.type == 'd'; }),
            200'000);
}

TEST_F(Copy, AStalledPostgresHoldsTheWriterBackAndMemoryStaysBounded) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Wire writer = carpool.raw();
  ASSERT_TRUE(writer.sign_in());
  const std::size_t before = resident_bytes(carpool.pid());
  // A trigger that waits for an advisory lock stops the backend at the first row.
  Connection blocker = postgres().connect();
  postgres().connect().query(
      "create or replace function stall() returns trigger language plpgsql as"
      " $$ begin perform pg_advisory_xact_lock(77); return new; end $$;"
      " create trigger stall before insert on cargo for each row execute function stall()");
  ASSERT_TRUE(blocker.query("select pg_advisory_lock(77)").ok());
  writer.send(query_message("copy cargo from stdin"));
  ASSERT_NE(find(writer.read_until("GE"), 'G'), nullptr);
  std::string block;
  for (int i = 0; i < 200; i++) block += message('d', row(i));
  std::string rest;  // of the block that is under way: the stream may not end inside a message
  std::size_t sent = 0;
  const auto send_until_it_blocks = [&] {
    while (sent < 200 * kMiB) {
      if (rest.empty()) rest = block;
      const std::size_t taken = writer.send_some(rest);
      if (taken == 0 || taken == std::string::npos) return;
      sent += taken;
      rest.erase(0, taken);
    }
  };
  // The buffers of the kernel fill up too; it is stuck when nothing has moved for a while.
  ASSERT_EVENTUALLY([&] {
    const std::size_t at = sent;
    send_until_it_blocks();
    std::this_thread::sleep_for(100ms);
    send_until_it_blocks();
    return sent == at;
  }());
  EXPECT_LT(sent, 64 * kMiB);
  EXPECT_LT(resident_bytes(carpool.pid()), before + kGrowthMax);
  ASSERT_TRUE(blocker.query("select pg_advisory_unlock(77)").ok());
  ASSERT_TRUE(writer.send(rest));
  ASSERT_TRUE(writer.send(message('c', "")));
  const std::vector<Message> end = writer.read_until("Z", 60s);
  EXPECT_NE(find(end, 'C'), nullptr);
}

TEST_F(Copy, AClientsCopyFailIsPostgressErrorAndTheClientGoesOn) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_EQ(client.query("copy cargo from stdin").status, PGRES_COPY_IN);
  ASSERT_TRUE(put_rows(client, 10));
  ASSERT_EQ(PQputCopyEnd(client.raw(), "changed my mind"), 1);
  EXPECT_EQ(client.wait().sqlstate, "57014");
  EXPECT_EQ(client.query("select count(*) from cargo").value(), "0");
}

TEST_F(Copy, ABadRowIsAnErrorAndTheRowsThatFollowAreSwallowed) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_EQ(client.query("copy cargo from stdin").status, PGRES_COPY_IN);
  const std::string bad = "not a number\tx\n";
  ASSERT_EQ(PQputCopyData(client.raw(), bad.data(), static_cast<int>(bad.size())), 1);
  ASSERT_TRUE(put_rows(client, 50'000));
  ASSERT_EQ(PQputCopyEnd(client.raw(), nullptr), 1);
  EXPECT_EQ(client.wait().sqlstate, "22P02");
  EXPECT_EQ(client.query("select 1").value(), "1");
  Connection other = carpool.connect();
  EXPECT_EQ(other.query("select count(*) from cargo").value(), "0");
}

TEST_F(Copy, InsideATransactionBelongsToIt) {
  Carpool carpool(postgres(), {.pool = "size: 2"});
  Connection client = carpool.connect();
  ASSERT_TRUE(client.query("begin").ok());
  ASSERT_EQ(client.query("copy cargo from stdin").status, PGRES_COPY_IN);
  ASSERT_TRUE(put_rows(client, 100));
  ASSERT_EQ(PQputCopyEnd(client.raw(), nullptr), 1);
  EXPECT_EQ(client.wait().tag, "COPY 100");
  EXPECT_EQ(carpool.connect().query("select count(*) from cargo").value(), "0");
  ASSERT_TRUE(client.query("rollback").ok());
  EXPECT_EQ(client.query("select count(*) from cargo").value(), "0");
}

TEST_F(Copy, ThroughTheExtendedProtocol) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_EQ(client.query_params("copy cargo from stdin", {}).status, PGRES_COPY_IN);
  ASSERT_TRUE(put_rows(client, 1000));
  ASSERT_EQ(PQputCopyEnd(client.raw(), nullptr), 1);
  EXPECT_EQ(client.wait().tag, "COPY 1000");
  ASSERT_EQ(client.query_params("copy cargo to stdout", {}).status, PGRES_COPY_OUT);
  EXPECT_EQ(get_rows(client).rows, 1000U);
  EXPECT_EQ(client.wait().tag, "COPY 1000");
  Connection other = carpool.connect();
  EXPECT_EQ(other.query("select count(*) from cargo").value(), "1000");
}

TEST_F(Copy, SeveralInOneQuery) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  client.send("copy cargo from stdin; copy cargo to stdout; select 7");
  ASSERT_EQ(client.wait().status, PGRES_COPY_IN);
  ASSERT_TRUE(put_rows(client, 10));
  ASSERT_EQ(PQputCopyEnd(client.raw(), nullptr), 1);
  ASSERT_EQ(client.wait().status, PGRES_COPY_OUT);
  EXPECT_EQ(get_rows(client).rows, 10U);
  EXPECT_EQ(client.wait().value(), "7");
}

TEST_F(Copy, AClientThatDiesWhileItSendsLeavesNoRowAndAUsablePool) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection doomed = carpool.connect();
  ASSERT_EQ(doomed.query("copy cargo from stdin").status, PGRES_COPY_IN);
  ASSERT_TRUE(put_rows(doomed, 10'000));
  doomed.vanish();
  Connection next = carpool.connect();
  EXPECT_EQ(next.query("select count(*) from cargo").value(), "0");
  EXPECT_EQ(postgres().backends(), 1);
}

TEST_F(Copy, AClientThatDiesWhileItReceivesLeavesAUsablePool) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection doomed = carpool.connect();
  ASSERT_EQ(doomed
                .query("copy (select repeat('x', 1000), generate_series(1, 10000000))"
                       " to stdout")
                .status,
            PGRES_COPY_OUT);
  char* data = nullptr;
  ASSERT_GT(PQgetCopyData(doomed.raw(), &data, 0), 0);
  PQfreemem(data);
  doomed.vanish();
  Connection next = carpool.connect();
  EXPECT_EQ(next.query("select 1").value(), "1");
  EVENTUALLY(postgres().backends_where("query like 'copy (select repeat%' and state = 'active'") ==
             0);
}

TEST_F(Copy, OutIsCancelledInTheMiddle) {
  Carpool carpool(postgres(), {.pool = "size: 1"});
  Connection client = carpool.connect();
  ASSERT_EQ(client
                .query("copy (select repeat('x', 1000), generate_series(1, 10000000))"
                       " to stdout")
                .status,
            PGRES_COPY_OUT);
  char* data = nullptr;
  ASSERT_GT(PQgetCopyData(client.raw(), &data, 0), 0);
  PQfreemem(data);
  EXPECT_TRUE(client.cancel());
  EXPECT_LT(get_rows(client).rows, 10'000'000U);
  EXPECT_EQ(client.wait().sqlstate, "57014");
  EXPECT_EQ(client.query("select 1").value(), "1");
}

}  // namespace
}  // namespace carpool::integration
