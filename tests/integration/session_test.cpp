// The promise: in transaction mode a client's session is its own, whichever server it gets. Each
// test speaks the message shapes of real drivers, over a pool of one server that clients share.
#include <gtest/gtest.h>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

PostgresCluster& postgres() {
  return shared_postgres();
}

std::string describe_message(char kind, const std::string& name) {
  return message('D', std::string(1, kind) + name + '\0');
}

std::string close_message(char kind, const std::string& name) {
  return message('C', std::string(1, kind) + name + '\0');
}

// Execute with a row limit.
std::string execute_some(std::uint32_t rows) {
  return message('E', std::string(1, '\0') + int32_bytes(rows));
}

// A Bind to the unnamed portal whose parameters are all texts.
std::string bind_texts(const std::string& statement, const std::vector<std::string>& values) {
  std::string body = '\0' + statement + '\0' + std::string(2, '\0');
  body += '\0';
  body += static_cast<char>(values.size());
  for (const std::string& value : values) {
    body += int32_bytes(static_cast<std::uint32_t>(value.size())) + value;
  }
  return message('B', body + std::string(2, '\0'));
}

std::string types(const std::vector<Message>& messages) {
  std::string all;
  for (const Message& message : messages) all += message.type;
  return all;
}

// The first column of the first row.
std::string value_of(const std::vector<Message>& messages) {
  const Message* row = find(messages, 'D');
  return row == nullptr ? "" : row->body.substr(6);
}

std::string sqlstate_of(const std::vector<Message>& messages) {
  const Message* error = find(messages, 'E');
  return error == nullptr ? "" : error->sqlstate();
}

// One server, and the clients that share it.
class Session : public ::testing::Test {
 protected:
  Session() : carpool(postgres(), {.pool = "size: 1"}) {}

  Wire client(std::map<std::string, std::string> more = {}) {
    Wire wire = carpool.raw();
    EXPECT_TRUE(wire.sign_in("app", "app", std::move(more)));
    return wire;
  }

  static std::vector<Message> exchange(Wire& wire, const std::string& bytes) {
    EXPECT_TRUE(wire.send(bytes));
    return wire.read_until("Z");
  }

  Carpool carpool;
};

TEST_F(Session, ASettingMadeUnderARowLimitIsFollowed) {
  // asyncpg's fetchval: the answer is PortalSuspended, and no CommandComplete ever comes.
  Wire first = client();
  Wire second = client();
  const auto made =
      exchange(first, parse_message("", "select set_config('app.tenant', 'red', false)") +
                          bind_message("", "") + execute_some(1) + sync_message());
  EXPECT_EQ(types(made), "12DsZ");
  EXPECT_EQ(value_of(second.query("select coalesce(current_setting('app.tenant', true), '')")), "");
  EXPECT_EQ(value_of(first.query("show app.tenant")), "red");
  EXPECT_EQ(value_of(second.query("select coalesce(current_setting('app.tenant', true), '')")), "");
}

TEST_F(Session, TheUnnamedStatementOutlivesTheRestoringOfSettings) {
  // lib/pq: Parse, Describe, Sync, and in a lease of its own Bind, Execute, Sync. Between them the
  // server is made another client's, by a simple query of Carpool's own, which ends the unnamed
  // statement (manual, "Extended Query").
  Wire first = client();
  Wire second = client();
  first.query("set app.tenant to 'red'");
  second.query("set app.tenant to 'blue'");
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(
        sqlstate_of(exchange(first, parse_message("", "select current_setting('app.tenant')") +
                                        describe_message('S', "") + sync_message())),
        "");
    EXPECT_EQ(value_of(second.query("show app.tenant")), "blue");
    EXPECT_EQ(
        value_of(exchange(first, bind_message("", "") + execute_message("") + sync_message())),
        "red");
    // And where nothing but the settings came between.
    exchange(second, parse_message("", "select 'the other''s'") + sync_message());
    EXPECT_EQ(
        value_of(exchange(first, bind_message("", "") + execute_message("") + sync_message())),
        "red");
    EXPECT_EQ(
        value_of(exchange(second, bind_message("", "") + execute_message("") + sync_message())),
        "the other's");
  }
}

}  // namespace
}  // namespace carpool::integration
