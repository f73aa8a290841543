#include "net/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <thread>

#include "turns.h"

namespace carpool::net {
namespace {

Bytes pattern(std::size_t n) {
  Bytes bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + i / 255);
  return bytes;
}

// A stream over one end of a socket pair, and what it is told.
class StreamTest : public testing::Test, public StreamListener {
 protected:
  StreamTest() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    fd_ = fds[0];
    peer_ = fds[1];
    const int small = 4096;
    for (const int fd : fds) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    EXPECT_TRUE(stream_.open(loop_, fd_, true, this));
  }
  ~StreamTest() {
    stream_.close();
    EXPECT_TRUE(run_until(loop_, [&] { return closed_ == 1; }));
    run_turns(loop_, 3);
    EXPECT_EQ(closed_, 1);
    close_peer();
  }

  void on_readable() override {
    ++readable_;
    if (when_readable_) return when_readable_();
    std::uint8_t into[1000];
    const ssize_t n = stream_.read(into);
    if (n == Stream::kEnd) {
      ended_ = true;
      stream_.pause_reading();
    }
    if (n > 0) append(received_, {into, static_cast<std::size_t>(n)});
  }
  void on_drained() override {
    ++drained_;
    if (when_drained_) when_drained_();
  }
  void on_hangup() override { ++hung_up_; }
  void on_closed() override { ++closed_; }

  // Everything that the peer can read now.
  Bytes peer_reads() {
    Bytes all;
    std::uint8_t into[4096];
    for (;;) {
      const ssize_t n = recv(peer_, into, sizeof into, 0);
      if (n <= 0) return all;
      append(all, {into, static_cast<std::size_t>(n)});
    }
  }
  void peer_writes(std::string_view text) {
    ASSERT_EQ(send(peer_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  void close_peer() {
    if (peer_ >= 0) ::close(peer_);
    peer_ = -1;
  }

  Loop loop_;
  Stream stream_;
  int fd_ = -1;
  int peer_ = -1;
  std::function<void()> when_readable_;
  std::function<void()> when_drained_;
  Bytes received_;
  int readable_ = 0;
  int drained_ = 0;
  int closed_ = 0;
  int hung_up_ = 0;
  bool ended_ = false;
};

TEST_F(StreamTest, SendsAtOnceWhatFits) {
  EXPECT_TRUE(stream_.write(as_bytes("hello")));
  EXPECT_EQ(stream_.queued(), 0u);
  EXPECT_EQ(as_text(peer_reads()), "hello") << "before any turn of the loop";
  run_turns(loop_);
  EXPECT_EQ(drained_, 0) << "nothing was queued";
}

TEST_F(StreamTest, QueuesOnlyWhatDidNotFitAndSaysWhenItHasGone) {
  const Bytes sent = pattern(300'000);
  ASSERT_TRUE(stream_.write(sent));
  EXPECT_GT(stream_.queued(), 0u);
  EXPECT_LT(stream_.queued(), sent.size());
  Bytes got = peer_reads();
  EXPECT_EQ(got.size() + stream_.queued(), sent.size());
  ASSERT_TRUE(run_until(loop_, [&] {
    append(got, peer_reads());
    return drained_ > 0;
  }));
  append(got, peer_reads());
  EXPECT_EQ(got, sent);
  EXPECT_EQ(stream_.queued(), 0u);
  run_turns(loop_);
  EXPECT_EQ(drained_, 1);
}

TEST_F(StreamTest, KeepsTheOrderOfWritesBehindAQueue) {
  Bytes sent;
  for (int i = 0; i < 200; ++i) {
    Bytes piece = pattern(static_cast<std::size_t>(37 * i + 1));
    piece[0] = static_cast<std::uint8_t>(i);
    ASSERT_TRUE(stream_.write(piece));
    append(sent, piece);
  }
  Bytes got;
  ASSERT_TRUE(run_until(loop_, [&] {
    append(got, peer_reads());
    return got.size() == sent.size();
  }));
  EXPECT_EQ(got, sent);
}

TEST_F(StreamTest, ReadsWhatThePeerSends) {
  peer_writes("one");
  ASSERT_TRUE(run_until(loop_, [&] { return received_.size() == 3; }));
  EXPECT_EQ(as_text(received_), "one");
  std::uint8_t into[8];
  EXPECT_EQ(stream_.read(into), Stream::kAgain);
}

TEST_F(StreamTest, IsToldAgainUntilAReadHasFoundNothingMore) {
  // The kernel tells once of what came; one read takes a byte of it.
  when_readable_ = [this] {
    std::uint8_t byte = 0;
    if (stream_.read({&byte, 1}) == 1) received_.push_back(byte);
  };
  peer_writes("more than a turn's worth of reads, told of by one event");
  ASSERT_TRUE(run_until(loop_, [&] { return received_.size() == 55; }));
  run_turns(loop_);
  EXPECT_EQ(readable_, 56) << "the last found nothing";
}

TEST_F(StreamTest, FindsTheEndBehindBytesThatFilledARead) {
  when_readable_ = [this] {
    std::uint8_t into[4];
    const ssize_t n = stream_.read(into);
    if (n > 0) append(received_, {into, static_cast<std::size_t>(n)});
    ended_ = n == Stream::kEnd;
    if (ended_) stream_.pause_reading();
  };
  peer_writes("four");
  close_peer();
  ASSERT_TRUE(run_until(loop_, [&] { return ended_; }));
  EXPECT_EQ(as_text(received_), "four");
}

TEST_F(StreamTest, DoesNotLookWhilePausedAndMissesNothing) {
  stream_.pause_reading();
  EXPECT_TRUE(stream_.reading_paused());
  peer_writes("kept in the kernel");
  run_turns(loop_);
  EXPECT_EQ(readable_, 0);
  stream_.resume_reading();
  ASSERT_TRUE(run_until(loop_, [&] { return received_.size() == 18; }));
}

TEST_F(StreamTest, SendsWhatIsQueuedWhilePaused) {
  const Bytes sent = pattern(100'000);
  stream_.pause_reading();
  ASSERT_TRUE(stream_.write(sent));
  peer_writes("unread");
  Bytes got;
  ASSERT_TRUE(run_until(loop_, [&] {
    append(got, peer_reads());
    return got.size() == sent.size();
  }));
  EXPECT_EQ(readable_, 0);
}

TEST_F(StreamTest, EndsWhenThePeerCloses) {
  peer_writes("last words");
  close_peer();
  ASSERT_TRUE(run_until(loop_, [&] { return ended_; }));
  EXPECT_EQ(as_text(received_), "last words");
}

TEST_F(StreamTest, TellsOfAnEndThatCameInTheSameEventAsTheBytesBehindWhichItIsPaused) {
  when_readable_ = [this] {
    std::uint8_t into[100];
    const ssize_t n = stream_.read(into);
    ASSERT_GT(n, 0);
    append(received_, {into, static_cast<std::size_t>(n)});
    stream_.pause_reading();
  };
  peer_writes("last words");
  close_peer();
  ASSERT_TRUE(run_until(loop_, [&] { return hung_up_ > 0; }));
  EXPECT_EQ(as_text(received_), "last words");
  stream_.pause_reading();
  run_turns(loop_);
  EXPECT_EQ(hung_up_, 1) << "once for each pause";
}

TEST_F(StreamTest, EndsWhenThePeerSaysThatItSendsNoMore) {
  shutdown(peer_, SHUT_WR);
  ASSERT_TRUE(run_until(loop_, [&] { return ended_; }));
  EXPECT_TRUE(stream_.write(as_bytes("still heard")));
  EXPECT_EQ(as_text(peer_reads()), "still heard");
}

TEST_F(StreamTest, RefusesToWriteToAPeerThatIsGone) {
  close_peer();
  EXPECT_FALSE(stream_.write(as_bytes("anybody?"))) << "and no SIGPIPE ends the process";
  EXPECT_FALSE(stream_.write(as_bytes("anybody?")));
  std::uint8_t into[8];
  EXPECT_EQ(stream_.read(into), Stream::kEnd);
}

TEST_F(StreamTest, DropsItsQueueAndLetsTheReadTellWhenThePeerGoes) {
  ASSERT_TRUE(stream_.write(pattern(100'000)));
  ASSERT_GT(stream_.queued(), 0u);
  close_peer();
  ASSERT_TRUE(run_until(loop_, [&] { return ended_; }));
  EXPECT_EQ(stream_.queued(), 0u);
  EXPECT_FALSE(stream_.write(as_bytes("x")));
}

TEST_F(StreamTest, TellsAPausedReaderWithAQueueThatThePeerIsGone) {
  stream_.pause_reading();
  ASSERT_TRUE(stream_.write(pattern(100'000)));
  close_peer();
  when_drained_ = [this] { stream_.resume_reading(); };
  ASSERT_TRUE(run_until(loop_, [&] { return ended_; }));
}

TEST_F(StreamTest, SaysNothingMoreOnceClosedInsideOnReadable) {
  when_readable_ = [this] { stream_.close(); };
  peer_writes("one");
  peer_writes("two");
  ASSERT_TRUE(run_until(loop_, [&] { return closed_ == 1; }));
  EXPECT_EQ(readable_, 1);
  EXPECT_FALSE(stream_.is_open());
  EXPECT_FALSE(stream_.write(as_bytes("x")));
  stream_.close();  // again does no harm
  stream_.pause_reading();
  stream_.resume_reading();
  EXPECT_EQ(stream_.peer(), "");
}

TEST_F(StreamTest, SaysNothingMoreOnceClosedInsideOnDrained) {
  when_drained_ = [this] { stream_.close(); };
  ASSERT_TRUE(stream_.write(pattern(50'000)));
  peer_writes("unread");
  stream_.pause_reading();
  ASSERT_TRUE(run_until(loop_, [&] {
    peer_reads();
    return closed_ == 1;
  }));
  EXPECT_EQ(drained_, 1);
  EXPECT_EQ(readable_, 0);
}

TEST_F(StreamTest, ForgetsItsQueueWhenItIsClosed) {
  ASSERT_TRUE(stream_.write(pattern(50'000)));
  stream_.close();
  EXPECT_EQ(stream_.queued(), 0u);
  run_turns(loop_);
  EXPECT_EQ(drained_, 0);
}

TEST_F(StreamTest, ClosesItsSocketAtOnce) {
  peer_writes("x");
  stream_.close();
  std::uint8_t into[8];
  EXPECT_LE(recv(peer_, into, sizeof into, 0), 0);
  EXPECT_EQ(fcntl(fd_, F_GETFD), -1);
}

TEST_F(StreamTest, IsCalledUnixOverAUnixSocket) {
  EXPECT_EQ(stream_.peer(), "unix");
}

struct Deaf final : StreamListener {
  void on_readable() override {}
  void on_drained() override {}
  void on_closed() override { closed = true; }
  bool closed = false;
};

TEST(Stream, LeavesASocketOpenThatIsNotItsOwn) {
  Deaf listener;
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  Loop loop;
  {
    Stream stream;
    ASSERT_TRUE(stream.open(loop, fds[0], false, &listener));
    stream.close();
    ASSERT_TRUE(run_until(loop, [&] { return listener.closed; }));
    // Its memory serves for another connection.
    listener.closed = false;
    ASSERT_TRUE(stream.open(loop, fds[0], false, &listener));
    stream.close();
    ASSERT_TRUE(run_until(loop, [&] { return listener.closed; }));
  }
  EXPECT_NE(fcntl(fds[0], F_GETFD), -1);
  ::close(fds[0]);
  ::close(fds[1]);
}

TEST(Stream, RefusesADescriptorThatCannotBeWatched) {
  Deaf listener;
  Loop loop;
  Stream stream;
  EXPECT_FALSE(stream.open(loop, -1, true, &listener));
  EXPECT_FALSE(stream.is_open());
}

// ---- TLS

// A key and a certificate for it, made on the spot.
SSL_CTX* server_context() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_sign(certificate, key, EVP_sha256());
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  EXPECT_EQ(SSL_CTX_use_certificate(context, certificate), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(context, key), 1);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return context;
}

TEST(TlsStream, ShakesHandsByReadingAndCarriesMegabytesBothWays) {
  constexpr std::size_t kSize = 3'000'000;
  // OpenSSL writes without MSG_NOSIGNAL; the process ignores the signal, as main does.
  signal(SIGPIPE, SIG_IGN);
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  ASSERT_EQ(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
  const Bytes sent = pattern(kSize);

  // The peer asks with one byte, reads the answer, and sends it back.
  Bytes answer;
  std::thread peer([&] {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fds[1]);
    bool ok = SSL_connect(ssl) == 1 && SSL_write(ssl, "?", 1) == 1;
    std::uint8_t into[50'000];
    while (ok && answer.size() < kSize) {
      const int n = SSL_read(ssl, into, sizeof into);
      ok = n > 0;
      if (ok) append(answer, {into, static_cast<std::size_t>(n)});
    }
    if (ok) SSL_write(ssl, answer.data(), static_cast<int>(answer.size()));
    SSL_free(ssl);
    SSL_CTX_free(context);
    ::close(fds[1]);
  });

  struct Echo final : StreamListener {
    void on_readable() override {
      std::uint8_t into[10'000];
      const ssize_t n = stream.read(into);
      if (n == Stream::kAgain) return;
      if (n == Stream::kEnd) {
        ended = true;
        return stream.pause_reading();
      }
      append(received, {into, static_cast<std::size_t>(n)});
      if (received.size() == 1 && to_send != nullptr) {
        EXPECT_TRUE(stream.write(*to_send));
        queued = stream.queued() > 0;
        to_send = nullptr;
        stream.pause_reading();  // until it is gone
      }
    }
    void on_drained() override { stream.resume_reading(); }
    void on_closed() override { closed = true; }
    Stream stream;
    Bytes received;
    const Bytes* to_send = nullptr;
    bool queued = false;
    bool ended = false;
    bool closed = false;
  } echo;
  echo.to_send = &sent;

  Loop loop;
  SSL_CTX* context = server_context();
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, fds[0]);
  SSL_set_accept_state(ssl);
  ASSERT_TRUE(echo.stream.open(loop, fds[0], true, &echo));
  echo.stream.set_tls(ssl, true);
  EXPECT_TRUE(run_until(loop, [&] { return echo.ended; }));
  peer.join();
  EXPECT_TRUE(echo.queued);
  EXPECT_TRUE(answer == sent);
  ASSERT_EQ(echo.received.size(), 1 + kSize);
  EXPECT_TRUE(Bytes(echo.received.begin() + 1, echo.received.end()) == sent);
  echo.stream.close();
  EXPECT_TRUE(run_until(loop, [&] { return echo.closed; }));
  SSL_CTX_free(context);
}

}  // namespace
}  // namespace carpool::net
