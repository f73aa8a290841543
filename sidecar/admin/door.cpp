#include "admin/door.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "admin/clock.h"
#include "config/address.h"

namespace carpool::admin {
namespace {

constexpr int kBacklog = 64;
constexpr Micros kAcceptRest_us = kMicrosPerSecond;

// The two answers the door gives by itself, without a worker.
std::string refusal(std::string_view status, std::string_view why) {
  std::string body = fmt::format("{{\"error\":\"{}\"}}\n", why);
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
      "Connection: close\r\n\r\n{}",
      status, body.size(), body);
}

bool is_loopback(const addrinfo& found) {
  char text[NI_MAXHOST];
  return getnameinfo(found.ai_addr, found.ai_addrlen, text, sizeof text, nullptr, 0,
                     NI_NUMERICHOST) == 0 &&
         config::is_loopback(text);
}

std::uint16_t bound_port(int fd) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

}  // namespace

Result<ListeningSocket> ListeningSocket::open(const std::string& address, std::uint16_t port,
                                              bool loopback_only) {
  const std::string where = fmt::format("{}:{}", address, port);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  int failed = getaddrinfo(address.empty() ? nullptr : address.c_str(),
                           std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) {
    return Error{fmt::format("admin: cannot listen on {}: {}", where, gai_strerror(failed))};
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  if (loopback_only && !is_loopback(*found)) {
    return Error{
        fmt::format("admin: {} is not a loopback address: the control calls (drain, "
                    "pause, ...) are for this pod alone",
                    where)};
  }

  int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error{fmt::format("admin: {}: {}", where, std::strerror(errno))};
  ListeningSocket socket(fd, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // "::" then serves IPv4 too, whatever net.ipv6.bindv6only says (ipv6(7)).
  const int off = 0;
  if (found->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, kBacklog) != 0) {
    return Error{fmt::format("admin: cannot listen on {}: {}", where, std::strerror(errno))};
  }
  socket.port_ = bound_port(fd);
  return socket;
}

ListeningSocket::ListeningSocket(ListeningSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), port_(other.port_) {}

ListeningSocket::~ListeningSocket() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::unique_ptr<Door>> Door::open(std::vector<ListeningSocket> listeners, Answer answer,
                                         Options options) {
  int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd < 0) return Error{fmt::format("admin: eventfd: {}", std::strerror(errno))};
  std::unique_ptr<Door> door(
      new Door(std::move(listeners), std::move(answer), std::move(options), wake_fd));

  // Signals are the loop thread's: new threads inherit a mask that blocks them all.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    door->threads_.emplace_back([d = door.get()] { d->run(); });
    for (std::size_t i = 0; i < door->options_.workers; i++) {
      door->threads_.emplace_back([d = door.get()] { d->work(); });
    }
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return Error{fmt::format("admin: cannot start a thread: {}", error.what())};
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return door;
}

Door::Door(std::vector<ListeningSocket> listeners, Answer answer, Options options, int wake_fd)
    : listeners_(std::move(listeners)),
      answer_(std::move(answer)),
      options_(std::move(options)),
      wake_fd_(wake_fd) {
  connections_.reserve(options_.limits.connections_max);
}

Door::~Door() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  job_ready_.notify_all();
  wake();
  for (std::thread& thread : threads_) thread.join();
  // The answer to the call that ended us (/quitquitquit) still goes out, as far as it fits.
  const Micros now_us = monotonic_us();
  take_answers(now_us);
  for (Connection& connection : connections_) {
    if (connection.state == State::Writing) write_some(connection, now_us);
  }
  for (Connection& connection : connections_) close(connection);
  ::close(wake_fd_);
}

void Door::wake() {
  const std::uint64_t one = 1;
  // Only EAGAIN can happen, and then the door is awake already.
  [[maybe_unused]] ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void Door::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    job_ready_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    std::string bytes;
    try {
      if (job.connection == 0) {
        options_.tick();
      } else {
        bytes = answer_(job.listener, job.bytes);
      }
    } catch (const std::exception&) {
      bytes = refusal("500 Internal Server Error", "this request could not be answered");
    }
    lock.lock();
    if (job.connection == 0) {
      tick_in_flight_ = false;
    } else {
      answers_.push_back({job.connection, job.listener, std::move(bytes)});
      wake();
    }
  }
}

void Door::run() {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    const Micros now_us = monotonic_us();
    start_tick(now_us);
    turn(now_us);
  }
}

void Door::start_tick(Micros now_us) {
  if (!options_.tick || now_us < next_tick_us_) return;
  next_tick_us_ = now_us + options_.tick_us;
  std::lock_guard lock(mutex_);
  if (std::exchange(tick_in_flight_, true)) return;  // the last one still asks
  jobs_.push_back({0, 0, {}});
  job_ready_.notify_one();
}

int Door::poll_timeout_ms(Micros now_us) const {
  Micros next_us = now_us + 3600 * kMicrosPerSecond;
  if (options_.tick) next_us = std::min(next_us, next_tick_us_);
  if (accept_again_us_ > now_us) next_us = std::min(next_us, accept_again_us_);
  for (const Connection& connection : connections_) {
    if (connection.state != State::Answering) next_us = std::min(next_us, connection.deadline_us);
  }
  return static_cast<int>(std::max<Micros>(0, next_us - now_us) / kMicrosPerMilli) + 1;
}

void Door::turn(Micros now_us) {
  std::vector<pollfd> polled;
  polled.reserve(1 + listeners_.size() + connections_.size());
  polled.push_back({wake_fd_, POLLIN, 0});
  for (const ListeningSocket& listener : listeners_) {
    // A negative descriptor is skipped by poll(2).
    polled.push_back({accept_again_us_ > now_us ? -1 : listener.fd(), POLLIN, 0});
  }
  for (const Connection& connection : connections_) {
    const bool asleep = connection.state == State::Answering;
    const short events = connection.state == State::Writing ? POLLOUT : POLLIN;
    polled.push_back({asleep ? -1 : connection.fd, events, 0});
  }
  if (poll(polled.data(), polled.size(), poll_timeout_ms(now_us)) < 0) return;  // EINTR
  now_us = monotonic_us();

  for (std::size_t i = 0; i < connections_.size(); i++) {
    Connection& connection = connections_[i];
    if (polled[1 + listeners_.size() + i].revents != 0) {
      if (connection.state == State::Reading) {
        read_head(connection, now_us);
      } else if (connection.state == State::Writing) {
        write_some(connection, now_us);
      } else if (connection.state == State::Lingering) {
        linger(connection);
      }
    }
    expire(connection, now_us);
  }
  if (polled[0].revents != 0) {
    std::uint64_t ignored = 0;
    [[maybe_unused]] ssize_t drained = ::read(wake_fd_, &ignored, sizeof ignored);
    take_answers(now_us);
  }
  std::erase_if(connections_, [](const Connection& c) { return c.state == State::Closed; });
  for (std::size_t i = 0; i < listeners_.size(); i++) {
    if (polled[1 + i].revents != 0) accept_all(i, now_us);
  }
}

void Door::accept_all(std::size_t listener, Micros now_us) {
  // Bounded by the backlog, so that one port cannot keep the door from its connections.
  for (int i = 0; i < kBacklog; i++) {
    if (connections_.size() >= options_.limits.connections_max && !make_room()) {
      accept_again_us_ = now_us + kAcceptRest_us / 10;
      return;
    }
    int fd = accept4(listeners_[listener].fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == ECONNABORTED || errno == EINTR) continue;
      // No descriptors or memory left: the listener would stay readable and poll would spin.
      if (errno != EAGAIN) accept_again_us_ = now_us + kAcceptRest_us;
      return;
    }
    Connection connection;
    connection.id = next_id_++;
    connection.fd = fd;
    connection.listener = listener;
    connection.deadline_us = now_us + options_.limits.read_us_max;
    connections_.push_back(std::move(connection));
  }
}

bool Door::make_room() {
  // Who waits for nothing but the peer's last bytes goes first, then who has said least for
  // longest; those in front stand there longest.
  for (State state : {State::Lingering, State::Reading, State::Writing}) {
    auto oldest = std::find_if(connections_.begin(), connections_.end(),
                               [state](const Connection& c) { return c.state == state; });
    if (oldest == connections_.end()) continue;
    close(*oldest);
    connections_.erase(oldest);
    return true;
  }
  return false;
}

void Door::read_head(Connection& connection, Micros now_us) {
  char buffer[2048];
  ssize_t got = recv(connection.fd, buffer, sizeof buffer, 0);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) close(connection);
    return;
  }
  if (got == 0) {  // no more will come: what there is may be garbage, and is answered as such
    if (connection.in.empty()) return close(connection);
    return start_answering(connection);
  }
  // The end of the head may straddle two reads.
  const std::size_t from = connection.in.size() < 3 ? 0 : connection.in.size() - 3;
  connection.in.append(buffer, static_cast<std::size_t>(got));
  const std::size_t end = connection.in.find("\r\n\r\n", from);
  if (end != std::string::npos && end + 4 <= options_.limits.head_bytes_max) {
    connection.in.resize(end + 4);
    return start_answering(connection);
  }
  if (connection.in.size() > options_.limits.head_bytes_max) {
    return start_writing(
        connection,
        refusal("431 Request Header Fields Too Large",
                fmt::format("a request is at most {} bytes", options_.limits.head_bytes_max)),
        now_us);
  }
  // RFC 9110 section 9.1: a method is a token, and all in use are upper-case letters.
  if (connection.in[0] < 'A' || connection.in[0] > 'Z') {
    start_writing(connection, refusal("400 Bad Request", "this port speaks plain HTTP"), now_us);
  }
}

void Door::start_answering(Connection& connection) {
  connection.state = State::Answering;
  std::lock_guard lock(mutex_);
  jobs_.push_back({connection.id, connection.listener, std::exchange(connection.in, {})});
  job_ready_.notify_one();
}

void Door::take_answers(Micros now_us) {
  std::deque<Job> answers;
  {
    std::lock_guard lock(mutex_);
    answers.swap(answers_);
  }
  for (Job& answer : answers) {
    auto waiting = std::find_if(connections_.begin(), connections_.end(),
                                [&](const Connection& c) { return c.id == answer.connection; });
    if (waiting != connections_.end()) start_writing(*waiting, std::move(answer.bytes), now_us);
  }
}

void Door::start_writing(Connection& connection, std::string bytes, Micros now_us) {
  connection.in = {};
  connection.out = std::move(bytes);
  connection.state = State::Writing;
  connection.deadline_us = now_us + options_.limits.write_us_max;
  write_some(connection, now_us);
}

void Door::write_some(Connection& connection, Micros now_us) {
  while (connection.out_done < connection.out.size()) {
    ssize_t sent = send(connection.fd, connection.out.data() + connection.out_done,
                        connection.out.size() - connection.out_done, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) close(connection);
      return;
    }
    connection.out_done += static_cast<std::size_t>(sent);
  }
  // Closing at once while unread bytes stand in the socket would send a reset, and the peer might
  // lose the answer (RFC 9112 section 9.6).
  connection.out = {};
  shutdown(connection.fd, SHUT_WR);
  connection.state = State::Lingering;
  connection.deadline_us = now_us + options_.limits.linger_us_max;
  linger(connection);
}

void Door::linger(Connection& connection) {
  char thrown_away[4096];
  while (true) {
    ssize_t got = recv(connection.fd, thrown_away, sizeof thrown_away, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return close(connection);
    connection.lingered += static_cast<std::size_t>(got);
    if (connection.lingered > options_.limits.linger_bytes_max) return close(connection);
  }
}

void Door::expire(Connection& connection, Micros now_us) {
  if (connection.state == State::Closed || connection.state == State::Answering) return;
  if (now_us < connection.deadline_us) return;
  if (connection.state == State::Reading && !connection.in.empty()) {
    return start_writing(
        connection, refusal("408 Request Timeout", "the request did not arrive in time"), now_us);
  }
  close(connection);
}

void Door::close(Connection& connection) {
  if (connection.state == State::Closed) return;
  ::close(connection.fd);
  connection.state = State::Closed;
}

}  // namespace carpool::admin
