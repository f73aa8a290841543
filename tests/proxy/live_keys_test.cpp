// Each live key, changed while a client and a server stand in each of their states: no transaction
// is cut, no cleaning is skipped, and the new value counts from the moment that config/moment.h
// names. The keys come from the loader's table: one that has no row (live_keys_rows.cpp) fails.
#include "live_keys.h"

#include <fstream>

namespace carpool::proxy {
namespace {

using config::PoolMode;
using pool::ClientState;
using pool::SlotState;

std::vector<std::string> live_keys() {
  std::vector<std::string> paths;
  for (const config::Key& key : config::keys()) {
    if (key.live) paths.push_back(key.path);
  }
  return paths;
}

TEST_P(LiveKey, ChangedInEachStateCutsNothingSkipsNoCleaningAndCounts) {
  const std::string path = std::get<std::string>(GetParam());
  const auto found = rows().find(path);
  ASSERT_NE(found, rows().end()) << path << " is live and has no row in this test";
  const Row& row = found->second;
  EXPECT_EQ(config::moment_of(*config::find_key(path)), row.moment);
  if (row.before) row.before(config_);
  serve();

  // Each state. Five servers of alice's, and one that is idle, of carl's.
  TestClient& carl = connect().start("app", "carl");
  ASSERT_TRUE(until([&] { return carl.count('Z') == 1; }));
  TestClient& idle = client();
  TestClient& open = in_transaction();
  TestClient& running = in_transaction();
  running.query("SLOW");
  TestClient& copying = in_transaction();
  copying.query("COPY");
  ASSERT_TRUE(until([&] { return copying.types == "G"; }));
  TestClient& left_open = in_transaction();
  TestClient& left_running = client();
  left_running.query("SLOW");
  Backend& asked_slowly = backend_that_was_asked("Q:BEGIN Q:SLOW");
  Backend& canceled = backend_that_was_asked("Q:SLOW");
  cleaning_is_answered_ = false;
  postgres_.hold_cancels = true;
  left_open.vanish();
  left_running.vanish();
  Backend& reset = backend_that_was_asked("Q:BEGIN Q:ROLLBACK");
  ASSERT_TRUE(until(
      [&] { return of_alice().servers[static_cast<std::size_t>(SlotState::Canceling)] == 1; }));
  postgres_.at_start = [](Backend&) {};
  TestClient& waiting = client();
  waiting.query("SELECT 'waited'");
  ASSERT_TRUE(until([&] { return clients(ClientState::Waiting) == 1; }));
  TestClient& signing_in = connect().start("app", "bob");
  const std::size_t connecting = postgres_.backends.size();
  ASSERT_TRUE(until([&] { return postgres_.backends.size() > connecting; }));
  TestClient& startup = connect();
  Bytes hello;
  {
    Bytes body;
    append_u32(body, 3u << 16);
    for (const char* text : {"user", "alice", "database", "app"}) append_cstring(body, text);
    append_u8(body, 0);
    append_u32(hello, static_cast<std::uint32_t>(body.size() + 4));
    append(hello, body);
  }
  startup.say(ByteSpan(hello).first(10));
  settle();

  greeted_before_ = postgres_.backends.size();
  const std::string reset_before = reset_of(config_.pool);
  row.change(config_);
  apply();
  const std::string reset_after = reset_of(config_.pool);
  const std::string reset_due = reset_after.empty() ? reset_before : reset_after;
  let_ticks_pass();
  if (row.while_full) row.while_full(*this);

  // Nobody was cut, and each goes on to its end.
  EXPECT_EQ(open.types + running.types + idle.types, "");
  EXPECT_EQ(copying.types, "G");
  for (const Backend* cancel : postgres_.cancels()) {
    EXPECT_TRUE(cancel->cancel_pid == canceled.pid || cancel->cancel_pid == reset.pid)
        << "a query was canceled that somebody waits for";
  }
  open.query("COMMIT");
  ASSERT_TRUE(until([&] { return open.types == "CZ"; })) << open.types;
  copying.requests("c").query("COMMIT");
  ASSERT_TRUE(until([&] { return copying.types == "GCZCZ"; })) << copying.types;
  asked_slowly.complete("SLOW");
  asked_slowly.ready('T');
  running.query("COMMIT");
  ASSERT_TRUE(until([&] { return running.types == "CZCZ"; })) << running.types;

  // Who comes in, comes in.
  for (const auto& backend : postgres_.backends) {
    if (backend->started && !backend->is_cancel && !backend->greeted && !backend->ended)
      backend->greet();
  }
  postgres_.at_start = [](Backend& backend) { backend.greet(); };
  startup.say(ByteSpan(hello).subspan(10));
  ASSERT_TRUE(until([&] { return startup.types.starts_with(row.startup); })) << startup.types;
  EXPECT_EQ(startup.types.size(), row.startup.size()) << startup.types;
  ASSERT_TRUE(until([&] { return signing_in.types == row.signing_in; })) << signing_in.types;

  // What was left behind is cleaned as before, or as now.
  for (const auto& backend : postgres_.backends) {
    if (!backend->requests.empty() && backend->requests.back().type == 'Q') {
      const std::string last = backend->requests.back().text().c_str();
      if (last == "DISCARD ALL" || last == "CLEAN" || last == "ROLLBACK") {
        backend->complete(last);
        backend->ready('I');
      }
    }
  }
  cleaning_is_answered_ = true;
  postgres_.hold_cancels = false;
  canceled.error("57014");
  canceled.ready('I');
  for (TestClient* leaves : {&open, &copying, &running}) leaves->requests("X");
  ASSERT_TRUE(until([&] { return waiting.types == row.waiting; })) << waiting.types;
  waiting.requests("X");
  const std::string and_reset = reset_due.empty() ? "" : " Q:" + reset_due;
  const auto expect_cleaned = [&](Backend& backend, const std::string& requests) {
    EXPECT_TRUE(until([&] { return (backend.asked() + " ").starts_with(requests + " "); }))
        << backend.asked();
  };
  expect_cleaned(reset, "Q:BEGIN Q:ROLLBACK" + and_reset);
  expect_cleaned(canceled, "Q:SLOW f" + and_reset);
  expect_cleaned(asked_slowly, "Q:BEGIN Q:SLOW Q:COMMIT" + and_reset);
  idle.query("SELECT 'idle'");
  ASSERT_TRUE(until([&] { return idle.types == "CZ"; })) << idle.types;
  idle.clear();

  if (row.counts) row.counts(*this);
  EXPECT_EQ(idle.types, "");
  if (row.shown_by.empty()) return;
  EXPECT_FALSE(row.counts);
  const std::size_t colon = row.shown_by.find(": ");
  std::ifstream test(std::string(__FILE__).substr(0, std::string(__FILE__).rfind("proxy/")) +
                     row.shown_by.substr(0, colon));
  const std::string text((std::istreambuf_iterator<char>(test)), {});
  EXPECT_NE(text.find(row.shown_by.substr(colon + 2)), std::string::npos) << row.shown_by;
}

TEST(LiveKeys, EachRowIsOfAKeyThatIsLive) {
  // The other way round, that each live key has a row, the test above sees.
  const std::vector<std::string> live = live_keys();
  struct Rows : LiveKey {
    void TestBody() override {}
    using LiveKey::Row;
    using LiveKey::rows;
  };
  for (const auto& [path, row] : Rows::rows()) {
    EXPECT_NE(std::find(live.begin(), live.end(), path), live.end()) << path;
  }
}

INSTANTIATE_TEST_SUITE_P(Of, LiveKey,
                         testing::Combine(testing::ValuesIn(live_keys()),
                                          testing::Values(PoolMode::Transaction,
                                                          PoolMode::Session)),
                         [](const auto& of) {
                           std::string name = std::get<0>(of.param);
                           std::replace(name.begin(), name.end(), '.', '_');
                           const bool sessions = std::get<1>(of.param) == PoolMode::Session;
                           return name + (sessions ? "_InSessions" : "_InTransactions");
                         });

}  // namespace
}  // namespace carpool::proxy
