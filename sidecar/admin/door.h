// The door of the admin ports: accepts, waits until a whole request head has arrived, has it
// answered on a worker thread, and writes the answer back. One thread does all socket I/O with
// poll(2); workers turn bytes into bytes and never see a socket.
//
// Why not let the HTTP library accept: it lends a thread to a connection before the first byte
// has come, its timeouts are per read, and it cannot use descriptors past FD_SETSIZE. Two idle
// connections of a browser would then fail a liveness probe, and with a thousand clients every
// probe would.
//
// It never parses HTTP beyond the empty line that ends a head, never reads a body (what arrives
// of one is thrown away) and never keeps a connection alive.
//
//   accept -> Reading --head--> Answering --bytes--> Writing -> Lingering -> closed
//                \__ too long 431, too slow 408 ________/
//
// Invariants: connections <= connections_max, queued requests <= connections_max, every state but
// Answering has a deadline (the worker's own questions have theirs).
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace carpool::admin {

struct DoorLimits {
  std::size_t head_bytes_max = 8 * kKiB;
  std::size_t connections_max = 32;  // past it the longest idle one is closed
  Micros read_us_max = 3 * kMicrosPerSecond;
  Micros write_us_max = 5 * kMicrosPerSecond;
  Micros linger_us_max = kMicrosPerSecond;
  std::size_t linger_bytes_max = 64 * kKiB;
};

// A bound and listening TCP socket, closed with its owner.
class ListeningSocket {
 public:
  // `address` is a numeric address or a name of the hosts file; port 0: any free one.
  static Result<ListeningSocket> open(const std::string& address, std::uint16_t port,
                                      bool loopback_only);
  ListeningSocket(ListeningSocket&& other) noexcept;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  int fd() const { return fd_; }
  std::uint16_t port() const { return port_; }

 private:
  ListeningSocket(int fd, std::uint16_t port) : fd_(fd), port_(port) {}
  int fd_;
  std::uint16_t port_;
};

class Door {
 public:
  // Turns a request head into a whole response. `listener` is the index of the socket it came
  // through. Called on the worker threads, by several at once.
  using Answer = std::function<std::string(std::size_t listener, const std::string& request)>;
  // Called on a worker thread each `tick_us`, never twice at once.
  using Tick = std::function<void()>;

  struct Options {
    DoorLimits limits;
    std::size_t workers = 2;
    Tick tick;  // may be empty
    Micros tick_us = 0;
  };

  // What `answer` captures must outlive the Door.
  static Result<std::unique_ptr<Door>> open(std::vector<ListeningSocket> listeners, Answer answer,
                                            Options options);
  // Closes every connection and joins the threads: at most as long as one answer takes.
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

 private:
  enum class State : std::uint8_t { Reading, Answering, Writing, Lingering, Closed };
  struct Connection {
    std::uint64_t id = 0;
    int fd = -1;
    std::size_t listener = 0;
    State state = State::Reading;
    Micros deadline_us = 0;
    std::string in;
    std::string out;
    std::size_t out_done = 0;
    std::size_t lingered = 0;
  };
  struct Job {
    std::uint64_t connection;  // 0: a tick
    std::size_t listener;
    std::string bytes;
  };

  Door(std::vector<ListeningSocket> listeners, Answer answer, Options options, int wake_fd);
  void run();   // the door's thread
  void work();  // a worker's
  void wake();

  // All below only on the door's thread.
  void turn(Micros now_us);  // one poll, and what it brought
  int poll_timeout_ms(Micros now_us) const;
  void start_tick(Micros now_us);
  void take_answers(Micros now_us);
  void accept_all(std::size_t listener, Micros now_us);
  bool make_room();  // false: every connection is being answered
  void read_head(Connection& connection, Micros now_us);
  void start_answering(Connection& connection);
  void start_writing(Connection& connection, std::string bytes, Micros now_us);
  void write_some(Connection& connection, Micros now_us);
  void linger(Connection& connection);
  void expire(Connection& connection, Micros now_us);
  void close(Connection& connection);

  const std::vector<ListeningSocket> listeners_;
  const Answer answer_;
  const Options options_;
  const int wake_fd_;

  std::vector<Connection> connections_;
  std::uint64_t next_id_ = 1;
  Micros accept_again_us_ = 0;  // accepting rests until then, for want of descriptors
  Micros next_tick_us_ = 0;

  // Guards the two queues between the threads.
  std::mutex mutex_;
  std::condition_variable job_ready_;
  std::deque<Job> jobs_;     // at most one a connection, and one tick
  std::deque<Job> answers_;  // likewise
  bool tick_in_flight_ = false;
  bool stopping_ = false;

  std::vector<std::thread> threads_;
};

}  // namespace carpool::admin
