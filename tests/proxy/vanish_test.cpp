// A client that vanishes, and a server that dies, in each state of theirs: whoever is left is told,
// and nobody else is harmed.
#include <sys/resource.h>

#include "fixture.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::SlotState;

// ---- clients

using ClientVanishes = ProxyTest;

TEST_F(ClientVanishes, BeforeItHasSaidAnything) {
  serve();
  connect().vanish();
  TestClient& half = connect();
  half.say(Bytes{0, 0, 0});
  settle();
  half.reset();
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 0; }));
  expect_still_serving();
}

TEST_F(ClientVanishes, WhileItIsSigningIn) {
  serve();
  postgres_.at_start = [](Backend&) {};  // says nothing for now
  TestClient& leaves = connect().start();
  TestClient& stays = connect().start();
  ASSERT_TRUE(until([&] { return clients(ClientState::Authenticating) == 2; }));
  ASSERT_TRUE(
      until([&] { return postgres_.backends.size() == 1 && postgres_.backends[0]->started; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 1; }));
  postgres_.backends[0]->greet();
  ASSERT_TRUE(until([&] { return stays.count('Z') == 1; }));
}

TEST_F(ClientVanishes, WhileItIsIdle) {
  serve();
  TestClient& leaves = client();
  leaves.query("SELECT 1");
  ASSERT_TRUE(until([&] { return leaves.types == "CZ"; }));
  leaves.reset();
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 0; }));
  expect_still_serving();
  EXPECT_EQ(postgres_.backends.size(), 1u);
  EXPECT_EQ(postgres_.backends[0]->requests.size(), 2u) << "the server heard nothing of it";
}

TEST_F(ClientVanishes, InATransactionAndCostsARollback) {
  serve();
  TestClient& leaves = client();
  leaves.query("BEGIN");
  ASSERT_TRUE(until([&] { return leaves.status() == 'T'; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return servers(SlotState::Idle) == 1; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:BEGIN Q:ROLLBACK");
  expect_still_serving();
  EXPECT_EQ(postgres_.greeted(), 1u) << "not a connection";
}

TEST_F(ClientVanishes, InARunningQueryWhichIsCanceledFirst) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  postgres_.hold_cancels = true;
  TestClient& leaves = client();
  TestClient& waits = client();
  leaves.query("SELECT pg_sleep(1000)");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return backend.requests.size() == 1; }));
  waits.query("SELECT 2");
  leaves.vanish();
  ASSERT_TRUE(until([&] { return postgres_.cancels().size() == 1; }));
  EXPECT_EQ(postgres_.cancels()[0]->cancel_pid, backend.pid);
  EXPECT_EQ(postgres_.cancels()[0]->cancel_key, backend.pid * 7);
  postgres_.script = ScriptedPostgres::well_behaved;
  backend.error("57014");
  backend.ready('I');
  settle();
  EXPECT_EQ(servers(SlotState::Canceling), 1u) << "the cancel might hit the next query";
  EXPECT_EQ(waits.types, "");
  postgres_.hold_cancels = false;
  ASSERT_TRUE(until([&] { return waits.types == "CZ"; }));
  EXPECT_EQ(postgres_.greeted(), 1u);
}

TEST_F(ClientVanishes, InAPipelineWithoutItsSync) {
  serve();
  postgres_.script = [](Backend& backend, const Message& request) {
    if (request.type == 'Q') backend.complete("ROLLBACK");
    if (request.type == 'Q' || request.type == 'S') backend.ready('I');
  };
  TestClient& leaves = client();
  leaves.requests("PBE");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return backend.requests.size() == 3; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return servers(SlotState::Idle) == 1; }));
  EXPECT_EQ(backend.asked(), "P B E f Q:ROLLBACK S") << "a Sync alone would commit it";
  expect_still_serving();
}

TEST_F(ClientVanishes, InACopyWhichIsFailed) {
  serve();
  postgres_.script = [](Backend& backend, const Message& request) {
    if (request.type == 'Q' && backend.requests.size() == 1) {
      Bytes out;
      const std::size_t start = pg::begin_message(out, 'G');
      append_text(out, std::string("\0\0\0", 3));
      pg::finish_message(out, start);
      return backend.say(out);
    }
    if (request.type == 'f') {
      backend.error("57014");
      return backend.ready('I');
    }
  };
  TestClient& leaves = client();
  leaves.query("COPY t FROM STDIN");
  ASSERT_TRUE(until([&] { return leaves.types == "G"; }));
  leaves.requests("d");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return backend.requests.size() == 2; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return servers(SlotState::Idle) == 1; }));
  EXPECT_EQ(backend.asked(), "Q:COPY t FROM STDIN d f");
  expect_still_serving();
}

TEST_F(ClientVanishes, WhileItWaits) {
  serve();
  TestClient& holder = client();
  TestClient& leaves = client();
  TestClient& stays = client();
  holder.query("BEGIN");
  ASSERT_TRUE(until([&] { return holder.status() == 'T'; }));
  leaves.query("NEVER");
  stays.query("SELECT 2");
  ASSERT_TRUE(until([&] { return clients(ClientState::Waiting) == 2; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return clients(ClientState::Waiting) == 1; }));
  holder.query("COMMIT");
  ASSERT_TRUE(until([&] { return stays.types == "CZ"; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:BEGIN Q:COMMIT Q:SELECT 2");
}

TEST_F(ClientVanishes, WhileItWaitsWithATerminateBehindWhatItAskedWhichIsCarriedOut) {
  serve();
  TestClient& holder = client();
  TestClient& leaves = client();
  holder.query("BEGIN");
  ASSERT_TRUE(until([&] { return holder.status() == 'T'; }));
  leaves.query("INSERT").requests("X").vanish();
  settle();
  EXPECT_EQ(clients(ClientState::Waiting), 1u);
  Backend& backend = *postgres_.backends[0];
  holder.query("COMMIT");
  ASSERT_TRUE(until([&] { return holder.status() == 'I'; }));
  postgres_.script = [](Backend&, const Message&) {};
  ASSERT_TRUE(until([&] { return backend.asked() == "Q:BEGIN Q:COMMIT Q:INSERT f"; }));
  settle();
  EXPECT_EQ(clients(ClientState::Attached), 1u) << "it is not taken for one that is gone";
  EXPECT_TRUE(postgres_.cancels().empty());
  backend.complete("INSERT 0 1");
  backend.ready('I');
  ASSERT_TRUE(until([&] { return proxy_->client_count() == 1; }));
  EXPECT_TRUE(postgres_.cancels().empty());
  expect_still_serving();
}

TEST_F(ClientVanishes, WithItsLastBytesOfWhichSomeMustWaitAndIsNoticedAllTheSame) {
  config_.pool.query_timeout_us = 1000 * kMicrosPerSecond;  // so that the second query waits
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  TestClient& leaves = client();
  leaves.query("SELECT pg_sleep(1000)").query("SELECT 2").vanish();
  ASSERT_TRUE(until([&] { return postgres_.cancels().size() == 1; }));
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:SELECT pg_sleep(1000) f");
  EXPECT_EQ(proxy_->client_count(), 0u);
  postgres_.backends[0]->error("57014");
  postgres_.backends[0]->ready('I');
  expect_still_serving();
}

TEST_F(ClientVanishes, InTheMiddleOfAMessage) {
  serve();
  TestClient& leaves = client();
  leaves.query("BEGIN");
  ASSERT_TRUE(until([&] { return leaves.status() == 'T'; }));
  Bytes part;
  append_u8(part, 'B');
  append_u32(part, 1'000'000);
  part.resize(100'000);
  leaves.say(part);
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->received > 90'000; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->ended; })) << "nobody can finish it";
  expect_still_serving();
}

TEST_F(ClientVanishes, AfterTerminateAndWhatItAskedIsCarriedOut) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  TestClient& leaves = client();
  leaves.query("INSERT").requests("X");
  Backend& backend = *postgres_.backends[0];
  ASSERT_TRUE(until([&] { return !backend.requests.empty(); }));
  settle();
  backend.complete("INSERT 0 1");
  backend.ready('I');
  ASSERT_TRUE(until([&] { return servers(SlotState::Idle) == 1; }));
  EXPECT_TRUE(postgres_.cancels().empty());
  EXPECT_EQ(backend.asked(), "Q:INSERT f") << "which is for nobody, unless a COPY runs";
}

// No ReadyForQuery comes behind an error that skips to a Sync which nobody has sent.
TEST_F(ClientVanishes, BehindAnErrorThatSkipsItsQueryAndItsServerIsFreeAtOnce) {
  serve();
  for (const bool says_terminate : {true, false}) {
    SCOPED_TRACE(says_terminate ? "Terminate" : "vanishes");
    postgres_.script = [](Backend&, const Message&) {};
    TestClient& leaves = client();
    Backend& backend = *postgres_.backends[0];
    const std::size_t before = backend.requests.size();
    leaves.requests("PBE").query("SELECT 'skipped'");
    ASSERT_TRUE(until([&] { return backend.requests.size() == before + 4; }));
    says_terminate ? static_cast<void>(leaves.requests("X")) : leaves.vanish();
    settle();
    postgres_.script = [this](Backend& one, const Message& request) {
      if (request.type != 'S') return;  // skipped
      one.ready('I');
      postgres_.script = ScriptedPostgres::well_behaved;
    };
    backend.error("22012");
    ASSERT_TRUE(until([&] { return servers(SlotState::Idle) == 1; })) << backend.asked();
    EXPECT_EQ(proxy_->client_count(), 0u);
  }
  EXPECT_EQ(postgres_.greeted(), 1u) << "not a connection";
  expect_still_serving();
}

// ---- servers

using ServerDies = ProxyTest;

TEST_F(ServerDies, WhileItIsIdleAndNobodyNotices) {
  serve();
  TestClient& first = client();
  postgres_.backends[0]->reset();
  ASSERT_TRUE(until([&] { return pool().servers == decltype(pool().servers){}; }));
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
  EXPECT_EQ(postgres_.greeted(), 2u);
}

TEST_F(ServerDies, InTheTurnInWhichAClientAsksAndAnotherIsLent) {
  config_.pool.size = 2;
  serve();
  TestClient& first = client();
  first.query("INSERT");
  postgres_.backends[0]->error("57P01", pg::Severity::Fatal);
  postgres_.backends[0]->vanish();
  ASSERT_TRUE(until([&] { return first.types == "CZ"; })) << first.types;
  EXPECT_EQ(postgres_.backends[0]->asked(), "");
  EXPECT_EQ(postgres_.backends[1]->asked(), "Q:INSERT");
}

TEST_F(ServerDies, WhenMoreHasComeThanOneTurnCanTake) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  config_.pool.size = 2;
  serve();
  TestClient& first = client();
  TestClient& second = client();
  for (std::size_t i = 0; i < net::Loop::kEventsMax; ++i) connect().say(Bytes{0});
  ASSERT_TRUE(until([&] { return proxy_->client_count() == net::Loop::kEventsMax + 2; }));
  settle();
  first.query("INSERT");
  second.query("UPDATE");  // is queued: a server is opened for it
  for (TestClient& other : clients_) {
    if (&other != &first && &other != &second) other.say(Bytes{0});
  }
  postgres_.backends[0]->error("57P01", pg::Severity::Fatal);
  postgres_.backends[0]->vanish();
  ASSERT_TRUE(until([&] { return first.types == "CZ" && second.types == "CZ"; }))
      << first.types << " " << second.types;
  EXPECT_EQ(postgres_.backends[0]->asked(), "");
  clients_.clear();
  limit.rlim_cur = before;
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TEST_F(ServerDies, UnderAQueryAndTheClientIsTold) {
  serve();
  postgres_.script = [](Backend& backend, const Message&) { backend.vanish(); };
  TestClient& first = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.ended; }));
  EXPECT_EQ(first.sqlstate(), "08006");
  expect_still_serving();
}

TEST_F(ServerDies, BetweenTheQueriesOfATransaction) {
  serve();
  TestClient& first = client();
  TestClient& waits = client();
  first.query("BEGIN");
  ASSERT_TRUE(until([&] { return first.status() == 'T'; }));
  waits.query("SELECT 2");
  ASSERT_TRUE(until([&] { return clients(ClientState::Waiting) == 1; }));
  postgres_.backends[0]->vanish();
  ASSERT_TRUE(until([&] { return first.ended; }));
  EXPECT_EQ(first.sqlstate(), "08006");
  ASSERT_TRUE(until([&] { return waits.types == "CZ"; })) << "by another server";
}

TEST_F(ServerDies, WithAFatalErrorThatIsPassedOnAlone) {
  serve();
  postgres_.script = [](Backend& backend, const Message&) {
    backend.error("57P01", pg::Severity::Fatal);
    backend.vanish();
  };
  TestClient& first = client();
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.ended; }));
  EXPECT_EQ(first.types, "E");
  EXPECT_EQ(first.sqlstate(), "57P01");
}

TEST_F(ServerDies, InTheMiddleOfARowAndTheClientSeesNoFalseMessage) {
  serve();
  postgres_.script = [](Backend& backend, const Message&) {
    Bytes part;
    append_u8(part, 'D');
    append_u32(part, 100'000);
    part.resize(50'000);
    backend.say(part);
  };
  TestClient& first = client();
  first.query("SELECT 1");
  const std::size_t before = first.received;
  ASSERT_TRUE(until([&] { return first.received == before + 50'000; }));
  postgres_.backends[0]->vanish();
  ASSERT_TRUE(until([&] { return first.ended; }));
  EXPECT_EQ(first.received, before + 50'000) << "an error inside a row would be data";
  expect_still_serving();
}

TEST_F(ServerDies, WhileItIsBeingCleaned) {
  serve();
  TestClient& leaves = client();
  leaves.query("BEGIN");
  ASSERT_TRUE(until([&] { return leaves.status() == 'T'; }));
  postgres_.script = [](Backend& backend, const Message&) { backend.vanish(); };
  leaves.vanish();
  ASSERT_TRUE(until([&] { return !postgres_.backends[0]->open(); }));
  expect_still_serving();
}

TEST_F(ServerDies, WhileItIsOpenedAndTheClientWaitsForAnother) {
  postgres_.hang_up_at_once = 2;
  serve();
  TestClient& first = connect().start();
  ASSERT_TRUE(until([&] { return first.count('Z') == 1; }));
  EXPECT_EQ(postgres_.backends.size(), 3u);
}

TEST_F(ServerDies, WhileACancelForItIsInFlight) {
  serve();
  postgres_.script = [](Backend&, const Message&) {};
  postgres_.hold_cancels = true;
  TestClient& leaves = client();
  leaves.query("SELECT 1");
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->requests.size() == 1; }));
  leaves.vanish();
  ASSERT_TRUE(until([&] { return postgres_.cancels().size() == 1; }));
  postgres_.backends[0]->vanish();
  settle();
  postgres_.hold_cancels = false;
  settle();
  expect_still_serving();
}

// ---- rubbish

using Rubbish = ProxyTest;

TEST_F(Rubbish, FromAServerCostsThatServerAndItsClientIsTold) {
  serve();
  for (const char* rubbish : {"Z\0\0\0\x06II", "D\xff\xff\xff\xff", "D\0\0\0\x01", "\0\0\0\0\0"}) {
    const std::size_t size = rubbish[0] == 'Z' ? 7 : 5;
    postgres_.script = [&](Backend& backend, const Message&) {
      backend.say(as_bytes(std::string_view(rubbish, size)));
    };
    TestClient& first = client();
    first.query("SELECT 1");
    ASSERT_TRUE(until([&] { return first.ended; })) << size;
    EXPECT_EQ(first.sqlstate(), "08006");
    expect_still_serving();
  }
}

TEST_F(Rubbish, FromAServerThatIsIdleCostsOnlyThat) {
  serve();
  TestClient& first = client();
  postgres_.backends[0]->say(as_bytes(std::string_view("D\0\0\0\x01", 5)));
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->ended; }));
  first.query("SELECT 1");
  ASSERT_TRUE(until([&] { return first.types == "CZ"; }));
}

TEST_F(Rubbish, InsteadOfAGreetingIsAConnectErrorThatTheClientIsToldInTheEnd) {
  config_.pool.acquire_timeout_us = 400 * kMicrosPerMilli;
  postgres_.at_start = [](Backend& backend) {
    backend.say(as_bytes("HTTP/1.1 400 Bad Request\r\n\r\n"));
    backend.vanish();
  };
  serve();
  TestClient& first = connect().start();
  ASSERT_TRUE(until([&] { return first.ended; }));
  EXPECT_EQ(first.sqlstate(), "08001");
  postgres_.at_start = [](Backend& backend) { backend.greet(); };
  // The back-off may have grown longer than the first one's patience.
  config_.databases[0].pool.acquire_timeout_us = 0;
  ASSERT_TRUE(proxy_->apply(config_));
  expect_still_serving();
}

TEST_F(Rubbish, FromAClientIsRefusedWithAnError) {
  serve();
  client();
  const std::string_view starts[] = {"GET / HTTP/1.1\r\n\r\n",
                                     std::string_view("\0\0\xff\xff\0\3\0\0", 8),
                                     std::string_view("\0\0\0\x09\0\3\0\0x", 9)};
  for (const std::string_view start : starts) {
    TestClient& bad = connect();
    bad.say(as_bytes(start));
    ASSERT_TRUE(until([&] { return bad.ended; }));
    EXPECT_EQ(bad.sqlstate(), "08P01");
  }
  const std::string_view messages[] = {std::string_view("Q\xff\xff\xff\xff", 5),
                                       std::string_view("Q\0\0\0\2", 5),
                                       std::string_view("?\0\0\0\4", 5)};
  for (const std::string_view message : messages) {
    TestClient& bad = client();
    bad.say(as_bytes(message));
    ASSERT_TRUE(until([&] { return bad.ended; }));
    EXPECT_EQ(bad.sqlstate(), "08P01");
  }
  expect_still_serving();
  EXPECT_EQ(postgres_.greeted(), 1u);
}

}  // namespace
}  // namespace carpool::proxy
