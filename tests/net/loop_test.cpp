#include "net/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/signals.h"
#include "turns.h"

namespace carpool::net {
namespace {

using namespace std::chrono_literals;

TEST(Loop, RunsWhatAnotherThreadPostsOnItsOwnThread) {
  Loop loop;
  std::thread::id ran_on;
  std::thread other([&] { EXPECT_TRUE(loop.post([&] { ran_on = std::this_thread::get_id(); })); });
  EXPECT_TRUE(run_until(loop, [&] { return ran_on != std::thread::id(); }));
  other.join();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(Loop, RunsPostedFunctionsInTheirOrderAndNeverFromInsidePost) {
  Loop loop;
  std::vector<int> order;
  for (int i = 0; i < 10; ++i) loop.post([&, i] { order.push_back(i); });
  loop.post([&] { loop.post([&] { order.push_back(100); }); });
  EXPECT_TRUE(order.empty());
  EXPECT_TRUE(run_until(loop, [&] { return order.size() == 11; }));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100}));
}

TEST(Loop, RefusesToHoldMorePostedFunctionsThanItsLimit) {
  Loop loop;
  int ran = 0;
  for (std::size_t i = 0; i < Loop::kPostedMax; ++i) ASSERT_TRUE(loop.post([&] { ++ran; }));
  EXPECT_FALSE(loop.post([&] { ++ran; }));
  EXPECT_TRUE(run_until(loop, [&] { return ran == static_cast<int>(Loop::kPostedMax); }));
  EXPECT_TRUE(loop.post([&] { ++ran; })) << "there is room again";
}

TEST(Loop, RunsWhatIsPostedInItsNextTurnThoughNothingElseStandsOnIt) {
  Loop loop;
  bool ran = false;
  loop.post([&] { ran = true; });
  loop.run_once();
  EXPECT_TRUE(ran);
}

TEST(Loop, HandsAValueToTheThreadThatCalls) {
  Loop loop;
  std::atomic<bool> done = false;
  std::optional<std::string> value;
  std::thread other([&] {
    value = loop.call([] { return std::string("from the loop"); }, 20s);
    done = true;
  });
  EXPECT_TRUE(run_until(loop, [&] { return done.load(); }));
  other.join();
  EXPECT_EQ(value, "from the loop");
}

TEST(Loop, AnswersACallWithNothingWhenItDoesNotTurn) {
  Loop loop;
  bool ran = false;
  const std::optional<int> value = loop.call([&] { return ran = true, 1; }, 5ms);
  EXPECT_EQ(value, std::nullopt);
  EXPECT_FALSE(ran);
  EXPECT_TRUE(run_until(loop, [&] { return ran; })) << "it may run later even so";
}

TEST(Loop, RefusesPostsAndCallsOnceStopped) {
  Loop loop;
  loop.post([] { FAIL() << "it was stopped before"; });
  loop.stop();
  EXPECT_FALSE(loop.post([] {}));
  EXPECT_EQ(loop.call([] { return 1; }, 20s), std::nullopt) << "at once, not after the deadline";
  run_turns(loop, 3);
}

TEST(Loop, RunsUntilItIsStopped) {
  Loop loop;
  int turns = 0;
  Timer timer;
  timer.start(loop, kMicrosPerMilli, kMicrosPerMilli, [&] {
    if (++turns == 3) loop.stop();
  });
  loop.run();
  EXPECT_EQ(turns, 3);
}

TEST(Loop, EndsByItselfWhenNothingStandsOnIt) {
  Loop loop;
  loop.run();
}

TEST(Loop, DoesBlockingWorkElsewhereAndEndsItOnTheLoop) {
  Loop loop;
  std::thread::id worked_on;
  std::thread::id done_on;
  loop.run_blocking([&] { worked_on = std::this_thread::get_id(); },
                    [&] { done_on = std::this_thread::get_id(); });
  EXPECT_EQ(done_on, std::thread::id()) << "never from inside";
  EXPECT_TRUE(run_until(loop, [&] { return done_on != std::thread::id(); }));
  EXPECT_EQ(done_on, std::this_thread::get_id());
  EXPECT_NE(worked_on, done_on);
}

TEST(Loop, ReadsTheClockOnceATurn) {
  Loop loop;
  const Micros before = Loop::clock_us();
  const Micros now = loop.now_us();
  EXPECT_GE(now, before);
  while (Loop::clock_us() == now) continue;
  EXPECT_EQ(loop.now_us(), now);
  run_turns(loop, 3);
  EXPECT_GT(loop.now_us(), now);
}

TEST(Loop, CallsTheEndOfEachTurn) {
  Loop loop;
  int ends = 0;
  loop.set_turn_end([&] { ++ends; });
  run_turns(loop, 5);
  EXPECT_GE(ends, 5);
  loop.set_turn_end(nullptr);
  const int before = ends;
  run_turns(loop, 5);
  EXPECT_EQ(ends, before);
}

TEST(Loop, LendsOneReadBuffer) {
  Loop loop;
  EXPECT_EQ(loop.read_buffer().size(), Loop::kReadSize);
  EXPECT_EQ(loop.read_buffer().data(), loop.read_buffer().data());
}

TEST(Signals, AreDeliveredOnTheLoop) {
  Loop loop;
  std::vector<int> got;
  {
    Signals signals(loop, [&](int signal) { got.push_back(signal); });
    for (const int signal : {SIGHUP, SIGTERM, SIGINT}) {
      const std::size_t before = got.size();
      raise(signal);
      ASSERT_TRUE(run_until(loop, [&] { return got.size() > before; }));
    }
  }
  EXPECT_EQ(got, (std::vector<int>{SIGHUP, SIGTERM, SIGINT}));
  run_turns(loop, 3);
}

// ---- descriptors

// One end of a pair of sockets on the loop.
class End final : public Watched {
 public:
  End(Loop& loop, int fd, Told when = Told::Later) : loop_(loop), fd_(fd) {
    EXPECT_TRUE(loop.watch(fd, EPOLLIN | EPOLLET, *this, when));
  }
  ~End() {
    unwatch();
    ::close(fd_);
  }
  void unwatch() {
    if (watched_) loop_.unwatch(fd_, *this);
    watched_ = false;
  }
  void on_events(std::uint32_t events) override {
    told.push_back(events);
    if (when_told) when_told();
  }
  void on_released() override { released = true; }

  std::vector<std::uint32_t> told;
  std::function<void()> when_told;
  bool released = false;

 private:
  Loop& loop_;
  int fd_;
  bool watched_ = true;
};

struct Pair {
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0); }
  int fds[2];
};

TEST(Loop, TellsOfADescriptorAndNothingOnceItIsUnwatchedInTheSameTurn) {
  Loop loop;
  Pair pair;
  End one(loop, pair.fds[0]);
  End other(loop, pair.fds[1]);
  // Both become readable before the turn; whoever is told first takes the other away.
  one.when_told = [&] { other.unwatch(); };
  other.when_told = [&] { one.unwatch(); };
  EXPECT_EQ(write(pair.fds[0], "x", 1), 1);
  EXPECT_EQ(write(pair.fds[1], "x", 1), 1);
  ASSERT_TRUE(run_until(loop, [&] { return one.told.size() + other.told.size() > 0; }));
  run_turns(loop);
  EXPECT_EQ(one.told.size() + other.told.size(), 1u);
}

TEST(Loop, TellsFirstOfWhatOthersMakeUseOfWhateverCameFirst) {
  Loop loop;
  Pair pair;
  Pair gone;
  Pair served;
  End client(loop, pair.fds[0]);
  End unwatched(loop, gone.fds[0]);
  End server(loop, served.fds[0], Told::First);
  std::string order;
  client.when_told = [&] { order += "client "; };
  unwatched.when_told = [&] { order += "unwatched "; };
  server.when_told = [&] {
    order += "server ";
    unwatched.unwatch();
  };
  for (const int fd : {pair.fds[1], gone.fds[1], served.fds[1]}) EXPECT_EQ(write(fd, "x", 1), 1);
  ASSERT_TRUE(run_until(loop, [&] { return !client.told.empty(); }));
  run_turns(loop);
  EXPECT_EQ(order, "server client ");
  // And once its events were changed.
  loop.rewatch(served.fds[0], EPOLLIN | EPOLLET, server);
  order.clear();
  for (const int fd : {pair.fds[1], served.fds[1]}) EXPECT_EQ(write(fd, "x", 1), 1);
  ASSERT_TRUE(run_until(loop, [&] { return order.size() >= 14; }));
  EXPECT_TRUE(order.starts_with("server ")) << order;
  for (const int fd : {pair.fds[1], gone.fds[1], served.fds[1]}) ::close(fd);
}

TEST(Loop, SaysWhetherATurnHadNoRoomForMoreEvents) {
  Loop loop;
  std::list<End> ends;
  for (std::size_t i = 0; i <= Loop::kEventsMax; ++i) {
    ends.emplace_back(loop, eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  }
  std::size_t told = 0;
  std::size_t told_in_full_turns = 0;
  for (End& end : ends) {
    end.when_told = [&] {
      ++told;
      if (loop.may_have_more()) ++told_in_full_turns;
    };
  }
  ASSERT_TRUE(run_until(loop, [&] { return told == ends.size(); }));
  EXPECT_EQ(told_in_full_turns, Loop::kEventsMax);
  EXPECT_FALSE(loop.may_have_more());
}

TEST(Loop, ComesAgainInTheNextTurnWhereThatIsAskedFor) {
  Loop loop;
  Pair pair;
  End one(loop, pair.fds[0]);
  End other(loop, pair.fds[1]);
  int rounds = 0;
  one.when_told = [&] {
    if (++rounds < 3) loop.again(one);
  };
  loop.again(one);
  loop.again(other);
  loop.again(other);  // twice is once
  ASSERT_TRUE(run_until(loop, [&] { return rounds == 3; }));
  run_turns(loop);
  EXPECT_EQ(one.told, (std::vector<std::uint32_t>{0, 0, 0}));
  EXPECT_EQ(other.told, std::vector<std::uint32_t>{0});
}

TEST(Loop, ForgetsWhoAskedToBeToldAgainWhenItIsUnwatched) {
  Loop loop;
  Pair pair;
  End one(loop, pair.fds[0]);
  End other(loop, pair.fds[1]);
  loop.again(one);
  one.unwatch();
  run_turns(loop);
  EXPECT_TRUE(one.told.empty());
}

TEST(Loop, ReleasesAtTheEndOfTheTurnAndNotBefore) {
  Loop loop;
  Pair pair;
  End one(loop, pair.fds[0]);
  End other(loop, pair.fds[1]);
  one.when_told = [&] {
    one.unwatch();
    loop.release(one);
    EXPECT_FALSE(one.released);
  };
  loop.again(one);
  ASSERT_TRUE(run_until(loop, [&] { return one.released; }));
}

TEST(Loop, DoesNotEndWhileADescriptorStandsOnIt) {
  Loop loop;
  Pair pair;
  auto one = std::make_unique<End>(loop, pair.fds[0]);
  one->when_told = [&] { one->unwatch(); };
  std::thread other([&] { EXPECT_EQ(write(pair.fds[1], "x", 1), 1); });
  loop.run();
  other.join();
  EXPECT_EQ(one->told.size(), 1u);
  ::close(pair.fds[1]);
}

TEST(Timer, CountsFromNowWhereTheLoopHasLongBeenBusyWithDescriptorsAlone) {
  Loop loop;
  Pair pair;
  End one(loop, pair.fds[0]);
  End other(loop, pair.fds[1]);
  const Micros start = Loop::clock_us();
  // No timer is due and libuv has nothing: it gets no turn, and its clock stands still.
  one.when_told = [&] {
    if (Loop::clock_us() - start < 30 * kMicrosPerMilli) loop.again(one);
  };
  loop.again(one);
  while (Loop::clock_us() - start < 30 * kMicrosPerMilli) loop.run_once();
  Timer timer;
  bool called = false;
  const Micros set = Loop::clock_us();
  timer.start(loop, 20 * kMicrosPerMilli, 0, [&] { called = true; });
  while (!called) loop.run_once();
  EXPECT_GE(Loop::clock_us() - set, 18 * kMicrosPerMilli);
}

// ---- timers

TEST(Timer, CallsOnceWithoutAnInterval) {
  Loop loop;
  Timer timer;
  int calls = 0;
  timer.start(loop, kMicrosPerMilli, 0, [&] { ++calls; });
  EXPECT_TRUE(timer.running());
  EXPECT_EQ(calls, 0);
  ASSERT_TRUE(run_until(loop, [&] { return calls > 0; }));
  run_turns(loop);
  EXPECT_EQ(calls, 1);
}

TEST(Timer, CallsAgainAtItsIntervalUntilItIsStopped) {
  Loop loop;
  Timer timer;
  int calls = 0;
  timer.start(loop, 0, kMicrosPerMilli, [&] {
    if (++calls == 4) timer.stop();
  });
  ASSERT_TRUE(run_until(loop, [&] { return calls == 4; }));
  EXPECT_FALSE(timer.running());
  run_turns(loop);
  EXPECT_EQ(calls, 4);
}

TEST(Timer, NeverCallsEarly) {
  Loop loop;
  Timer timer;
  bool called = false;
  const Micros start = Loop::clock_us();
  timer.start(loop, 30 * kMicrosPerMilli, 0, [&] { called = true; });
  ASSERT_TRUE(run_until(loop, [&] { return called; }));
  // libuv's clock is that of the turn's begin, in whole milliseconds.
  EXPECT_GE(Loop::clock_us() - start, 28 * kMicrosPerMilli);
}

TEST(Timer, ReplacesWhatWasSetBefore) {
  Loop loop;
  Timer timer;
  int first = 0;
  int second = 0;
  timer.start(loop, kMicrosPerMilli, kMicrosPerMilli, [&] { ++first; });
  timer.start(loop, kMicrosPerMilli, kMicrosPerMilli, [&] { ++second; });
  ASSERT_TRUE(run_until(loop, [&] { return second > 2; }));
  EXPECT_EQ(first, 0);
}

TEST(Timer, MaySetItselfAnewInsideItsCallback) {
  Loop loop;
  Timer timer;
  std::string order;
  timer.start(loop, 0, 0, [&] {
    order += 'a';
    timer.start(loop, 0, 0, [&] { order += 'b'; });
    order += 'c';
  });
  ASSERT_TRUE(run_until(loop, [&] { return order.size() == 3; }));
  EXPECT_EQ(order, "acb");
}

TEST(Timer, IsSilentOnceDestroyedEvenByItsOwnCallback) {
  Loop loop;
  int calls = 0;
  auto timer = std::make_unique<Timer>();
  timer->start(loop, 0, kMicrosPerMilli, [&] {
    timer.reset();
    ++calls;
  });
  ASSERT_TRUE(run_until(loop, [&] { return calls > 0; }));
  run_turns(loop);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace carpool::net
