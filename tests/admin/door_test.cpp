#include "admin/door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "raw_http.h"
#include "sample.h"

namespace carpool::admin {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr const char* kGetLivez = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

// A door on one free port that answers every request with itself.
class EchoDoor {
 public:
  explicit EchoDoor(Door::Options options = {}, Door::Answer answer = echo) {
    auto socket = ListeningSocket::open("127.0.0.1", 0, true);
    if (!socket) return;
    port_ = socket->port();
    std::vector<ListeningSocket> sockets;
    sockets.push_back(std::move(*socket));
    auto door = Door::open(std::move(sockets), std::move(answer), std::move(options));
    if (door) door_ = std::move(*door);
  }
  std::uint16_t port() const { return port_; }
  void close() { door_.reset(); }

 private:
  static std::string echo(std::size_t, const std::string& request) { return request; }
  std::uint16_t port_ = 0;
  std::unique_ptr<Door> door_;
};

TEST(Door, HandsOverAHeadHoweverItsBytesArrive) {
  EchoDoor door;
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  for (std::size_t split = 1; split < head.size(); split++) {
    RawConnection connection(door.port());
    ASSERT_TRUE(connection.send(head.substr(0, split)));
    ASSERT_TRUE(connection.send(head.substr(split)));
    EXPECT_EQ(connection.read_all(), head) << split;
  }
}

TEST(Door, AnswersWhateverCameBeforeThePeerStoppedSending) {
  EchoDoor door;
  RawConnection connection(door.port());
  connection.send("GET /");
  connection.finish();
  EXPECT_EQ(connection.read_all(), "GET /");
}

TEST(Door, CutsARequestThatArrivesTooSlowly) {
  Door::Options options;
  options.limits.read_us_max = 20 * kMicrosPerMilli;
  EchoDoor door(options);
  RawConnection connection(door.port());
  connection.send("GET / HTTP/1.1\r\n");
  EXPECT_THAT(connection.read_all(), StartsWith("HTTP/1.1 408 "));
}

TEST(Door, ClosesAConnectionThatSaysNothing) {
  Door::Options options;
  options.limits.read_us_max = 20 * kMicrosPerMilli;
  EchoDoor door(options);
  EXPECT_THAT(RawConnection(door.port()).read_all(), IsEmpty());
}

TEST(Door, CutsAHeadThatIsTooLong) {
  EchoDoor door;
  RawConnection connection(door.port());
  connection.send("GET / HTTP/1.1\r\nX: " + std::string(1 << 20, 'x'));
  EXPECT_THAT(connection.read_all(), StartsWith("HTTP/1.1 431 "));
}

TEST(Door, CutsALineThatNeverEnds) {
  EchoDoor door;
  RawConnection connection(door.port());
  while (connection.send(std::string(4096, 'G'))) {
  }
  EXPECT_THAT(connection.read_all(), ::testing::AnyOf(IsEmpty(), StartsWith("HTTP/1.1 431 ")));
}

TEST(Door, RefusesWhatIsNotHttpAtItsFirstByte) {
  EchoDoor door;
  EXPECT_THAT(ask(door.port(), std::string("\x16\x03\x01\x02\x00", 5)),
              StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(ask(door.port(), std::string("\0\0\0\x08\x04\xd2\x16\x2f", 8)),
              StartsWith("HTTP/1.1 400 "));
}

TEST(Door, AnswersOneWhileOthersStandSilent) {
  EchoDoor door;
  std::vector<std::unique_ptr<RawConnection>> silent;
  for (int i = 0; i < 10; i++) silent.push_back(std::make_unique<RawConnection>(door.port()));
  silent.front()->send("GET /half HTTP/1.1\r\n");
  EXPECT_EQ(ask(door.port(), kGetLivez), kGetLivez);
}

TEST(Door, AnswersOneWhileAnotherDoesNotReadItsAnswer) {
  const std::string large(64 << 20, 'x');
  EchoDoor door({}, [&](std::size_t, const std::string& request) {
    return request.find("/large") == std::string::npos ? request : large;
  });
  RawConnection deaf(door.port());
  deaf.send("GET /large HTTP/1.1\r\n\r\n");
  EXPECT_EQ(ask(door.port(), kGetLivez), kGetLivez);
}

TEST(Door, MakesRoomForANewConnectionByClosingTheOldestSilentOne) {
  Door::Options options;
  options.limits.connections_max = 4;
  options.limits.read_us_max = 3600 * kMicrosPerSecond;
  EchoDoor door(options);
  std::vector<std::unique_ptr<RawConnection>> silent;
  for (int i = 0; i < 4; i++) silent.push_back(std::make_unique<RawConnection>(door.port()));
  EXPECT_EQ(ask(door.port(), kGetLivez), kGetLivez);
  EXPECT_THAT(silent.front()->read_all(), IsEmpty());
  silent.back()->send(kGetLivez);
  EXPECT_EQ(silent.back()->read_all(), kGetLivez);
}

TEST(Door, ABodyIsThrownAwayAndTheAnswerStillArrives) {
  EchoDoor door;
  const std::string head = "POST /drain HTTP/1.1\r\nContent-Length: 32768\r\n\r\n";
  EXPECT_EQ(ask(door.port(), head + std::string(32768, 'b')), head);
}

TEST(Door, AnAnswerThatThrowsIs500) {
  EchoDoor door({}, [](std::size_t, const std::string&) -> std::string {
    throw std::runtime_error("defect");
  });
  EXPECT_THAT(ask(door.port(), kGetLivez), StartsWith("HTTP/1.1 500 "));
}

TEST(Door, ClosesWhileConnectionsAreOpenInEveryState) {
  const std::string large(64 << 20, 'x');
  EchoDoor door({}, [&](std::size_t, const std::string&) { return large; });
  RawConnection silent(door.port());
  RawConnection half(door.port());
  RawConnection deaf(door.port());
  half.send("GET /");
  deaf.send(kGetLivez);
  door.close();
  EXPECT_THAT(silent.read_all(), IsEmpty());
}

std::size_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

// `carpool quit` to an idle sidecar: the loop ends while the answer to the call is still being
// made. The door's own thread is gone by then, so that nobody but the destructor could send it.
TEST(Door, SendsTheAnswerOfTheCallThatClosesIt) {
  std::promise<void> asked;
  std::promise<void> may_answer;
  Door::Options options;
  options.workers = 1;
  EchoDoor door(options, [&](std::size_t, const std::string& request) {
    asked.set_value();
    may_answer.get_future().wait();
    return request;
  });
  RawConnection caller(door.port());
  ASSERT_TRUE(caller.send(kGetLivez));
  asked.get_future().wait();

  std::promise<void> may_close;
  std::thread closing([&] {
    may_close.get_future().wait();
    door.close();
  });
  const std::size_t threads = threads_of_this_process();
  may_close.set_value();
  while (threads_of_this_process() == threads) std::this_thread::yield();
  may_answer.set_value();
  closing.join();
  EXPECT_EQ(caller.read_all(), kGetLivez);
}

TEST(Door, TicksAgainAndAgainOnAWorker) {
  std::promise<void> third;
  std::atomic<int> ticks = 0;
  Door::Options options;
  options.tick_us = kMicrosPerMilli;
  options.tick = [&] {
    if (++ticks == 3) third.set_value();
  };
  EchoDoor door(options);
  third.get_future().wait();
  door.close();
  EXPECT_GE(ticks, 3);
}

TEST(Door, GarbageToTheAdminServerIsAnsweredWithJson) {
  SampleProxy proxy;
  auto server = start_sample(proxy);
  ASSERT_NE(server, nullptr);
  for (const std::string& garbage : {std::string("GARBAGE\r\n\r\n"), std::string("GET\r\n\r\n"),
                                     std::string("GET /livez HTTP/9.9\r\n\r\n"),
                                     "GET /" + std::string(7000, 'a') + " HTTP/1.1\r\n\r\n",
                                     std::string("GET /%00%ff HTTP/1.1\r\n\r\n")}) {
    const std::string answer = ask(server->port(), garbage);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 4")) << garbage;
    EXPECT_THAT(answer, HasSubstr("{\"error\":")) << garbage;
  }
  EXPECT_THAT(ask(server->port(), kGetLivez), StartsWith("HTTP/1.1 200 "));
}

TEST(Door, TheAdminServerAnswersARangeWithTheWhole) {
  SampleProxy proxy;
  auto server = start_sample(proxy);
  ASSERT_NE(server, nullptr);
  EXPECT_THAT(ask(server->port(), "GET /livez HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n"),
              HasSubstr("\"alive\""));
}

TEST(Door, TheControlPortRefusesARequestWithoutAHost) {
  SampleProxy proxy;
  auto server = start_sample(proxy);
  ASSERT_NE(server, nullptr);
  EXPECT_THAT(ask(server->control_port(), "POST /drain HTTP/1.0\r\n\r\n"),
              StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(ask(server->control_port(),
                  "POST /drain HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
              StartsWith("HTTP/1.1 403 "));
  EXPECT_TRUE(proxy.controls().empty());
}

}  // namespace
}  // namespace carpool::admin
