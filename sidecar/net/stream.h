// Stream: one non-blocking socket on the loop, plain or under TLS. Reads when told that bytes are
// there; writes at once and queues only what did not fit.
//
//   write(bytes) --- send() ---> kernel          the rest --> out_ --- writable ---> kernel
//
// It is watched edge-triggered (epoll(7)): the kernel tells once that bytes came, and
// readable_ remembers it until a read has found nothing more. So a pause costs no system call, and
// bytes that nobody wants yet cost none either.
//
// Invariant: an open stream that is readable_ and not paused stands in the loop's again() between
// turns. It never reads by itself, and while paused it tells of nothing but the end: of one that
// came before the pause in the next turn, since the kernel does not tell twice. close() detaches at
// once: no call to the listener comes after it, except on_closed(), once, when the memory may go.
#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/buffer.h"
#include "net/loop.h"

namespace carpool::net {

// Must outlive its stream until on_closed().
class StreamListener {
 public:
  // One read() is expected; it is called again while there is more.
  virtual void on_readable() = 0;
  // The peer has closed its end, or the connection broke, while reading is paused; what it has sent
  // before may still be read.
  virtual void on_hangup() {}
  // Everything that was queued has been sent.
  virtual void on_drained() = 0;
  // The stream is no longer known to the loop; the last call.
  virtual void on_closed() = 0;

 protected:
  ~StreamListener() = default;
};

class Stream final : private Watched {
 public:
  static constexpr ssize_t kAgain = -1;  // nothing there now
  static constexpr ssize_t kEnd = 0;     // the peer has closed, or the connection broke
  // The same of peek(), to which 0 is a byte.
  static constexpr int kNothing = -1;
  static constexpr int kEnded = -2;

  Stream() = default;
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Takes a connected, non-blocking socket. Closes it at close() only when `owns_fd`.
  // False when the loop cannot watch it; the caller keeps the descriptor then.
  bool open(Loop& loop, int fd, bool owns_fd, StreamListener* listener, Told told = Told::Later);
  bool is_open() const { return open_; }

  // From now on through TLS. The handshake is done, or is done by the first reads. Frees `ssl` at
  // close() only when `owns_ssl`. With `ssl` null: plain.
  void set_tls(SSL* ssl, bool owns_ssl);
  SSL* tls() const { return ssl_; }
  int fd() const { return fd_; }
  // The next byte, which stays where it is; kNothing or kEnded where there is none.
  int peek();

  // Reads what is there: > 0 bytes, kEnd or kAgain.
  ssize_t read(std::span<std::uint8_t> into);

  // Sends, or queues. False when the connection is broken.
  bool write(ByteSpan bytes);
  // Bytes that did not fit.
  std::uint32_t queued() const { return out_.size(); }
  std::uint32_t queued_capacity() const { return out_.capacity(); }
  // What the kernel holds of it, in both directions: sent and not taken, come and not read.
  std::uint64_t kernel_bytes() const;

  void pause_reading();
  void resume_reading();
  bool reading_paused() const { return paused_; }

  // pace_not() of address.h, where the peer is on this machine.
  void pace_not_if_local();

  void close();
  // The peer sees the end of what was written; its own words still arrive.
  void shutdown_write();
  // Who is at the other end, for people: "127.0.0.1:5000", or "unix".
  std::string peer() const;

 private:
  // Reads in one turn, so that one connection cannot keep the loop.
  static constexpr int kReadsMax = 16;

  void on_events(std::uint32_t events) override;
  void on_released() override { listener_->on_closed(); }
  void tell_readable();
  void flush_some();
  void watch_writable();
  ssize_t send_some(ByteSpan bytes);
  bool flush();

  Loop* loop_ = nullptr;
  StreamListener* listener_ = nullptr;
  SSL* ssl_ = nullptr;
  Buffer out_;
  int fd_ = -1;
  bool open_ = false;
  bool owns_fd_ = false;
  bool owns_ssl_ = false;
  bool paused_ = false;
  bool broken_ = false;
  bool readable_ = false;          // a read may find something
  bool ended_ = false;             // the last read will find the end
  bool watches_writable_ = false;  // for good, once something did not fit
  bool tls_wants_write_ = false;   // a read that must first write (renegotiation, handshake)
};

}  // namespace carpool::net
