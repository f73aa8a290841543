#include "net/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "net/address.h"
#include "turns.h"

namespace carpool::net {
namespace {

int connect_tcp(std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

int connect_unix(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

class ListenerTest : public testing::Test {
 protected:
  ListenerTest() {
    char path[] = "/tmp/carpool-listener-XXXXXX";
    dir_ = mkdtemp(path);
  }
  ~ListenerTest() {
    for (const int fd : accepted_) ::close(fd);
    for (const int fd : clients_) ::close(fd);
    listener_.close();
    run_turns(loop_, 3);
    std::filesystem::remove_all(dir_);
  }

  Listener::Handler handler() {
    return {[this](int fd) {
              accepted_.push_back(fd);
              if (close_at_first_) listener_.close();
            },
            [this](bool stopped, const std::string& why) {
              exhausted_.push_back(stopped);
              why_ += why;
            }};
  }
  std::string path() const { return dir_ + "/.s.PGSQL.1"; }

  Loop loop_;
  Listener listener_;
  std::string dir_;
  std::vector<int> clients_;
  std::vector<int> accepted_;
  std::vector<bool> exhausted_;
  std::string why_;
  bool close_at_first_ = false;
};

TEST_F(ListenerTest, AcceptsOnAFreePort) {
  ASSERT_TRUE(listener_.listen_tcp(loop_, "127.0.0.1", 0, handler()));
  EXPECT_TRUE(listener_.is_open());
  ASSERT_NE(listener_.port(), 0);
  for (int i = 0; i < 3; ++i) clients_.push_back(connect_tcp(listener_.port()));
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.size() == 3; }));
  for (const int fd : accepted_) {
    int on = 0;
    socklen_t size = sizeof on;
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    EXPECT_NE(on, 0);
    EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST_F(ListenerTest, AcceptsMoreThanItTakesInOneTurn) {
  ASSERT_TRUE(listener_.listen_tcp(loop_, "localhost", 0, handler()));
  constexpr std::size_t kClients = Listener::kAcceptMax + 20;
  ASSERT_TRUE(run_until(loop_, [&] { return true; }));
  for (std::size_t i = 0; i < kClients; ++i) {
    const int fd = connect_tcp(listener_.port());
    if (fd < 0) break;  // "localhost" may be ::1 alone
    clients_.push_back(fd);
  }
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.size() == clients_.size(); }));
}

TEST_F(ListenerTest, SaysWhichAddressIsTaken) {
  ASSERT_TRUE(listener_.listen_tcp(loop_, "127.0.0.1", 0, handler()));
  Listener second;
  const Status status = second.listen_tcp(loop_, "127.0.0.1", listener_.port(), handler());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("127.0.0.1:" + std::to_string(listener_.port())),
            std::string::npos);
  EXPECT_NE(status.error().message.find("in use"), std::string::npos);
  EXPECT_FALSE(second.is_open());
}

TEST_F(ListenerTest, RefusesWhatIsNotAnAddress) {
  const Status status = listener_.listen_tcp(loop_, "no address", 0, handler());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("no address"), std::string::npos);
  EXPECT_FALSE(listener_.is_open());
}

TEST_F(ListenerTest, RefusesConnectionsOnceClosed) {
  ASSERT_TRUE(listener_.listen_tcp(loop_, "127.0.0.1", 0, handler()));
  const std::uint16_t port = listener_.port();
  listener_.close();
  EXPECT_FALSE(listener_.is_open());
  EXPECT_EQ(connect_tcp(port), -1);
  listener_.close();
}

TEST_F(ListenerTest, MayBeClosedInsideItsCallback) {
  ASSERT_TRUE(listener_.listen_tcp(loop_, "127.0.0.1", 0, handler()));
  close_at_first_ = true;
  for (int i = 0; i < 3; ++i) clients_.push_back(connect_tcp(listener_.port()));
  ASSERT_TRUE(run_until(loop_, [&] { return !accepted_.empty(); }));
  run_turns(loop_);
  EXPECT_EQ(accepted_.size(), 1u);
}

TEST_F(ListenerTest, StopsAcceptingWithoutDescriptorsAndGoesOnWhenThereAreSome) {
  ASSERT_TRUE(listener_.listen_tcp(loop_, "127.0.0.1", 0, handler()));
  // One before there are none: UBSan needs a pipe where it sees an object's type for the first
  // time.
  clients_.push_back(connect_tcp(listener_.port()));
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.size() == 1; }));
  for (int i = 0; i < 2; ++i) clients_.push_back(connect_tcp(listener_.port()));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest_free = dup(clients_[0]);
  ::close(lowest_free);
  const rlimit none = {static_cast<rlim_t>(lowest_free), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);

  const bool stopped = bool(run_until(loop_, [&] { return !exhausted_.empty(); }));
  // Several attempts later it has still said so once.
  const Micros until = Loop::clock_us() + 3 * Listener::kRetry_us;
  const bool waited = bool(run_until(loop_, [&] { return Loop::clock_us() > until; }));
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(stopped && waited);
  EXPECT_EQ(exhausted_, std::vector<bool>{true});
  EXPECT_EQ(why_, "Too many open files");
  EXPECT_EQ(accepted_.size(), 1u);

  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.size() == 3; })) << "nobody is lost";
  EXPECT_EQ(exhausted_, (std::vector<bool>{true, false}));
}

TEST_F(ListenerTest, ListensOnAUnixSocketForEveryone) {
  ASSERT_TRUE(listener_.listen_unix(loop_, path(), handler()));
  struct stat status {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0777u);
  clients_.push_back(connect_unix(path()));
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.size() == 1; }));
  listener_.close();
  EXPECT_NE(access(path().c_str(), F_OK), 0) << "the path goes with it";
}

TEST_F(ListenerTest, ReplacesAUnixSocketThatADeadProcessLeft) {
  const int dead = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(dead, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(dead, 1), 0);
  ::close(dead);
  ASSERT_EQ(access(path().c_str(), F_OK), 0);
  ASSERT_TRUE(listener_.listen_unix(loop_, path(), handler()));
  clients_.push_back(connect_unix(path()));
  ASSERT_TRUE(run_until(loop_, [&] { return accepted_.size() == 1; }));
}

TEST_F(ListenerTest, KnowsWhetherItsUnixSocketCanBeFoundAndRemovesNoOther) {
  ASSERT_TRUE(listener_.listen_unix(loop_, path(), handler()));
  EXPECT_TRUE(listener_.can_be_found());
  std::filesystem::remove_all(dir_);
  EXPECT_FALSE(listener_.can_be_found());
  std::filesystem::create_directory(dir_);
  Listener next;
  ASSERT_TRUE(next.listen_unix(loop_, path(), handler()));
  listener_.close();
  EXPECT_TRUE(next.can_be_found());
  EXPECT_GE(clients_.emplace_back(connect_unix(path())), 0);
  next.close();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(ListenerTest, LeavesAUnixSocketAloneThatSomebodyAnswersOn) {
  ASSERT_TRUE(listener_.listen_unix(loop_, path(), handler()));
  Listener second;
  const Status status = second.listen_unix(loop_, path(), handler());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("another process"), std::string::npos);
  second.close();
  clients_.push_back(connect_unix(path()));
  EXPECT_GE(clients_.back(), 0);
}

// As a process that is stopped does: its queue is full, and nobody is waited for.
TEST_F(ListenerTest, TakesNoUnixPathFromOneThatTakesNobodyIn) {
  const int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(other, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(other, 0), 0);
  clients_.push_back(connect_unix(path()));
  const Status status = listener_.listen_unix(loop_, path(), handler());
  ::close(other);
  EXPECT_FALSE(status);
}

TEST_F(ListenerTest, RefusesAUnixPathThatCannotBe) {
  EXPECT_FALSE(listener_.listen_unix(loop_, dir_ + "/" + std::string(120, 'x'), handler()));
  const Status status = listener_.listen_unix(loop_, dir_ + "/missing/socket", handler());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("missing/socket"), std::string::npos);
}

TEST(Address, IsShownForPeople) {
  sockaddr_storage storage{};
  auto& in = reinterpret_cast<sockaddr_in&>(storage);
  in.sin_family = AF_INET;
  in.sin_port = htons(5432);
  inet_pton(AF_INET, "10.1.2.3", &in.sin_addr);
  EXPECT_EQ(describe(storage), "10.1.2.3:5432");
  storage = {};
  auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(1);
  inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr);
  EXPECT_EQ(describe(storage), "[fe80::1]:1");
  storage = {};
  storage.ss_family = AF_UNIX;
  EXPECT_EQ(describe(storage), "unix");
}

}  // namespace
}  // namespace carpool::net
