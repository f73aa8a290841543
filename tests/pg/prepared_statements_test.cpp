#include "pg/prepared_statements.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace carpool::pg {
namespace {

Bytes body_of(std::string_view text) {
  Bytes body;
  append_cstring(body, text);
  append_u16(body, 0);
  return body;
}

TEST(StatementTable, EqualTextsReadAlikeAreOneEntryThatDiesWithItsLastReference) {
  StatementTable table;
  StatementRef first = table.intern(body_of("select 1"));
  StatementRef again = table.intern(body_of("select 1"));
  const StatementRef other = table.intern(body_of("select 1"), "SET datestyle TO 'German';");
  EXPECT_EQ(first, again);
  EXPECT_FALSE(first == other);
  EXPECT_EQ(table.size(), 2u);
  const std::size_t both = table.bytes();
  again = {};
  EXPECT_EQ(table.bytes(), both);
  first = {};
  EXPECT_EQ(table.size(), 1u);
  EXPECT_LT(table.bytes(), both);
}

TEST(StatementTable, TextsAndNamesStayWithinTheBoundHoweverShortTheyAre) {
  StatementTable table;
  auto client = std::make_unique<ClientStatements>();
  // Up to the bound, as a client that never closes anything.
  std::size_t taken = 0;
  while (table.bytes() + ClientStatements::cost("s1000000") <= StatementTable::kBytesMax) {
    StatementRef statement = table.intern(body_of("select " + std::to_string(taken)));
    if (!statement) break;
    client->set("s" + std::to_string(taken++), std::move(statement));
  }
  EXPECT_GT(taken, 100'000u);
  EXPECT_LT(taken, 400'000u);  // 64 MiB of nothing but texts would be millions
  EXPECT_LE(table.bytes(), StatementTable::kBytesMax + 1024);
  const std::string long_text = "select '" + std::string(4096, 'x') + "'";
  EXPECT_FALSE(table.intern(body_of(long_text)));
  // What is there already costs nothing more, and the unnamed statement has room of its own.
  EXPECT_TRUE(table.intern(body_of("select 7")));
  EXPECT_TRUE(table.intern(body_of(long_text), {}, {}, true));
  client.reset();
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.bytes(), 0u);
  EXPECT_TRUE(table.intern(body_of(long_text)));
}

TEST(ClientStatements, EachNameCountsOnceUntilItIsGone) {
  StatementTable table;
  ClientStatements client;
  const StatementRef one = table.intern(body_of("select 1"));
  const StatementRef two = table.intern(body_of("select 2"));
  const std::size_t texts = table.bytes();
  const std::string name(10'000, 'n');
  client.set(name, one);
  const std::size_t named = table.bytes();
  EXPECT_EQ(named, texts + ClientStatements::cost(name));
  EXPECT_GT(named, texts + name.size());
  client.set(name, two);
  EXPECT_EQ(table.bytes(), named);
  client.erase("another");
  client.erase(name);
  EXPECT_EQ(table.bytes(), texts);
  client.set("a", one);
  client.set("b", one);
  client.clear();
  EXPECT_EQ(table.bytes(), texts);
}

TEST(ServerStatements, TheLeastRecentlyUsedIsTheOneToClose) {
  StatementTable table;
  ServerStatements server;
  std::vector<StatementRef> all;
  for (int i = 0; i < 3; i++) {
    all.push_back(table.intern(body_of("select " + std::to_string(i))));
    server.add(all.back());
  }
  EXPECT_TRUE(server.use(*all[0].get()));
  EXPECT_FALSE(server.over(3));
  EXPECT_EQ(server.over(2), all[1]);
  // A newer version is not what the server has, though it has the name.
  all[2]->version++;
  EXPECT_FALSE(server.use(*all[2].get()));
  EXPECT_TRUE(server.has_name(*all[2].get()));
  EXPECT_EQ(server.find_name(all[2]->server_name), all[2]);
  server.forget(*all[2].get());
  EXPECT_FALSE(server.has_name(*all[2].get()));
  server.clear();
}

}  // namespace
}  // namespace carpool::pg
