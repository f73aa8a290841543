// Peers: both ends of a proxy under test, in its own process and thread, speaking raw protocol:
// ScriptedPostgres, which says what the test tells it to, and TestClient. Neither blocks: pump()
// moves what can be moved now, between two turns of the loop.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "pg/error_response.h"
#include "pg/messages.h"

namespace carpool::proxy {

struct Message {
  char type = 0;
  Bytes body;
  std::string text() const { return std::string(as_text(body)); }
};

// A non-blocking socket that gathers what comes and keeps what does not fit.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}
  ~Peer() { vanish(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void say(ByteSpan bytes) {
    append(out_, bytes);
    flush();
  }
  // Closes the socket, whatever state the conversation is in.
  void vanish() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // Likewise, with a RST instead of a FIN.
  void reset() {
    const linger hard = {1, 0};
    if (fd_ >= 0) setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    vanish();
  }
  bool open() const { return fd_ >= 0 && !ended; }
  std::size_t unsent() const { return out_.size() - sent_; }

  void pump() {
    flush();
    std::uint8_t into[65536];
    while (fd_ >= 0 && !deaf && !ended) {
      const ssize_t n = recv(fd_, into, sizeof into, 0);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (n <= 0) {
        ended = true;
        break;
      }
      received += static_cast<std::size_t>(n);
      append(in_, {into, static_cast<std::size_t>(n)});
    }
  }

  bool deaf = false;   // reads nothing
  bool ended = false;  // the other side has closed
  std::size_t received = 0;

 protected:
  // The next whole message of in_; false where there is none.
  bool take(Message& message) {
    if (in_.size() - taken_ < 5) return compact();
    const std::uint32_t length = load_u32(in_.data() + taken_ + 1);
    if (in_.size() - taken_ < length + 1) return compact();
    message.type = static_cast<char>(in_[taken_]);
    const auto begin = in_.begin() + static_cast<std::ptrdiff_t>(taken_);
    message.body.assign(begin + 5, begin + 1 + static_cast<std::ptrdiff_t>(length));
    taken_ += length + 1;
    return true;
  }
  Bytes in_;

 private:
  bool compact() {
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
    return false;
  }
  void flush() {
    while (fd_ >= 0 && sent_ < out_.size()) {
      const ssize_t n = send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
      if (n < 0) break;
      sent_ += static_cast<std::size_t>(n);
    }
    if (sent_ == out_.size()) {
      out_.clear();
      sent_ = 0;
    }
  }

  int fd_;
  Bytes out_;
  std::size_t sent_ = 0;
  std::size_t taken_ = 0;
};

// One connection that ScriptedPostgres has accepted.
class Backend : public Peer {
 public:
  Backend(int fd, std::uint32_t number) : Peer(fd), pid(1000 + number) {}

  void greet() {
    Bytes out;
    pg::append_authentication_ok(out);
    pg::append_parameter_status(out, "server_version", "15.4");
    pg::append_parameter_status(out, "TimeZone", "UTC");
    Bytes secret;
    append_u32(secret, pid * 7);
    pg::append_backend_key_data(out, pid, secret);
    pg::append_ready_for_query(out, 'I');
    say(out);
    greeted = true;
  }
  void complete(std::string_view tag) {
    Bytes out;
    pg::append_command_complete(out, tag);
    say(out);
  }
  void ready(char status) {
    transaction = status;
    Bytes out;
    pg::append_ready_for_query(out, status);
    say(out);
  }
  void error(std::string_view sqlstate, pg::Severity severity = pg::Severity::Error) {
    Bytes out;
    pg::append_error(out, severity, sqlstate, "scripted");
    say(out);
  }
  void empty(char type) {
    Bytes out;
    pg::append_empty(out, type);
    say(out);
  }
  // What the requests were: "Q:SELECT 1 P S".
  std::string asked() const {
    std::string all;
    for (const Message& request : requests) {
      if (!all.empty()) all += ' ';
      all += request.type;
      if (request.type == 'Q') all += ":" + std::string(request.text().c_str());
    }
    return all;
  }

  const std::uint32_t pid;
  bool started = false;
  bool greeted = false;
  bool is_cancel = false;
  std::uint32_t cancel_pid = 0;
  std::uint32_t cancel_key = 0;
  char transaction = 'I';
  std::vector<Message> requests;

 private:
  friend class ScriptedPostgres;
};

class ScriptedPostgres {
 public:
  using Script = std::function<void(Backend&, const Message&)>;

  ScriptedPostgres() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd_, 100), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
    script = [](Backend& backend, const Message& request) { well_behaved(backend, request); };
  }
  ~ScriptedPostgres() { ::close(fd_); }

  // Answers as PostgreSQL would, to the few things that tests ask.
  static void well_behaved(Backend& backend, const Message& request) {
    switch (request.type) {
      case 'Q': {
        const std::string sql = request.text().c_str();
        const char before = backend.transaction;
        const char status = sql == "BEGIN"                         ? 'T'
                            : sql == "COMMIT" || sql == "ROLLBACK" ? 'I'
                                                                   : before;
        backend.complete(sql);
        return backend.ready(status);
      }
      case 'P':
        return backend.empty('1');
      case 'B':
        return backend.empty('2');
      case 'C':
        return backend.empty('3');
      case 'D':
        return backend.empty('n');
      case 'E':
        return backend.complete("EXECUTED");
      case 'S':
        return backend.ready(backend.transaction);
      default:
        return;
    }
  }

  void pump() {
    for (;;) {
      const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) break;
      backends.push_back(
          std::make_unique<Backend>(fd, static_cast<std::uint32_t>(backends.size())));
      if (hang_up_at_once > 0) {
        --hang_up_at_once;
        backends.back()->vanish();
      }
    }
    for (std::size_t i = 0; i < backends.size(); ++i) pump(*backends[i]);
  }
  // Those that were greeted and are still there.
  std::vector<Backend*> sessions() const {
    std::vector<Backend*> found;
    for (const auto& backend : backends) {
      if (backend->greeted && backend->open()) found.push_back(backend.get());
    }
    return found;
  }
  std::vector<Backend*> cancels() const {
    std::vector<Backend*> found;
    for (const auto& backend : backends) {
      if (backend->is_cancel) found.push_back(backend.get());
    }
    return found;
  }
  std::size_t greeted() const {
    std::size_t count = 0;
    for (const auto& backend : backends) count += backend->greeted ? 1 : 0;
    return count;
  }

  std::uint16_t port = 0;
  std::vector<std::unique_ptr<Backend>> backends;
  Script script;
  std::function<void(Backend&)> at_start = [](Backend& backend) { backend.greet(); };
  bool hold_cancels = false;
  int hang_up_at_once = 0;

 private:
  void pump(Backend& backend) {
    backend.pump();
    if (!backend.started && backend.in_.size() >= 8 &&
        backend.in_.size() >= load_u32(backend.in_.data())) {
      const std::uint32_t code = load_u32(backend.in_.data() + 4);
      if (code == 80877103) {  // SSLRequest
        backend.in_.clear();
        return backend.say(as_bytes("N"));
      }
      backend.started = true;
      if (code == 80877102) {
        backend.is_cancel = true;
        backend.cancel_pid = load_u32(backend.in_.data() + 8);
        backend.cancel_key = load_u32(backend.in_.data() + 12);
      } else {
        at_start(backend);
      }
      backend.in_.clear();
    }
    // PostgreSQL closes when it sees that the other side has, and, of a cancel, once the signal is
    // sent.
    if (backend.ended) backend.vanish();
    if (backend.is_cancel && !hold_cancels) backend.vanish();
    Message request;
    while (backend.greeted && backend.take(request)) {
      backend.requests.push_back(request);
      script(backend, request);
    }
  }

  int fd_;
};

class TestClient : public Peer {
 public:
  explicit TestClient(std::uint16_t port, const std::string& address = "127.0.0.1")
      : Peer(connected(port, address)) {
    EXPECT_TRUE(open());
  }
  // Whether somebody listens there.
  static bool is_answered(const std::string& address, std::uint16_t port) {
    const int fd = connected(port, address);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }

  TestClient& start(const std::string& database = "app", const std::string& user = "alice") {
    Bytes body;
    append_u32(body, 3u << 16);
    for (const std::string& text : {std::string("user"), user, std::string("database"), database}) {
      append_cstring(body, text);
    }
    append_u8(body, 0);
    Bytes out;
    append_u32(out, static_cast<std::uint32_t>(body.size() + 4));
    append(out, body);
    say(out);
    return *this;
  }
  TestClient& query(std::string_view sql) {
    Bytes out;
    pg::append_query(out, sql);
    say(out);
    return *this;
  }
  // Messages without what matters inside: "PBES".
  TestClient& requests(const std::string& kinds) {
    Bytes out;
    for (const char type : kinds) {
      const std::size_t start = pg::begin_message(out, type);
      if (type == 'P') append_text(out, std::string("\0SELECT 1\0\0\0", 12));
      if (type == 'B') append_text(out, std::string("\0\0\0\0\0\0\0\0", 8));
      if (type == 'D') append_text(out, std::string("P\0", 2));
      if (type == 'E') append_text(out, std::string("\0\0\0\0\0", 5));
      pg::finish_message(out, start);
    }
    say(out);
    return *this;
  }
  void read() {
    pump();
    Message message;
    while (take(message)) {
      if (message.type == 'K') {
        pid = load_u32(message.body.data());
        key = load_u32(message.body.data() + 4);
      }
      types += message.type;
      if (keep) messages.push_back(std::move(message));
    }
  }
  // Forgets what came.
  void clear() {
    types.clear();
    messages.clear();
  }
  // How often a type came.
  std::size_t count(char type) const {
    return static_cast<std::size_t>(std::count(types.begin(), types.end(), type));
  }
  // The SQLSTATE of the last error; empty where none came.
  std::string sqlstate() const {
    for (auto i = messages.rbegin(); i != messages.rend(); ++i) {
      if (i->type != 'E') continue;
      const auto fields = pg::parse_error(i->body);
      return fields ? std::string(fields->sqlstate) : "?";
    }
    return "";
  }
  // The status of the last ReadyForQuery.
  char status() const {
    for (auto i = messages.rbegin(); i != messages.rend(); ++i) {
      if (i->type == 'Z') return static_cast<char>(i->body[0]);
    }
    return 0;
  }

  std::string types;
  std::vector<Message> messages;
  bool keep = true;  // false: only the types
  std::uint32_t pid = 0;
  std::uint32_t key = 0;

 private:
  // -1: nobody answers.
  static int connected(std::uint16_t port, const std::string& where) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    EXPECT_EQ(inet_pton(AF_INET, where.c_str(), &address.sin_addr), 1);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ::close(fd);
      return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
  }
};

}  // namespace carpool::proxy
