// The wire protocol by hand, for what libpq would never send or accept: a raw client, and a
// scripted server that misbehaves. PostgreSQL manual, "Frontend/Backend Protocol".
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "harness/eventually.h"

namespace carpool::integration {

inline constexpr std::uint32_t kProtocol30 = 196608;
inline constexpr std::uint32_t kSslRequestCode = 80877103;
inline constexpr std::uint32_t kGssRequestCode = 80877104;
inline constexpr std::uint32_t kCancelRequestCode = 80877102;

std::string int32_bytes(std::uint32_t value);
std::uint32_t int32_at(std::string_view bytes, std::size_t offset);
std::string message(char type, std::string_view body);
// A packet without a type byte, as the first ones are.
std::string untyped(std::uint32_t code, std::string_view rest = "");
std::string startup_packet(const std::map<std::string, std::string>& parameters,
                           std::uint32_t version = kProtocol30);
std::string query_message(std::string_view sql);
std::string parse_message(std::string_view name, std::string_view sql);
std::string bind_message(std::string_view portal, std::string_view statement);
// To the unnamed portal, with parameters that are all texts.
std::string bind_texts(std::string_view statement, const std::vector<std::string>& values);
std::string describe_message(char kind, std::string_view name);  // 'S' statement, 'P' portal
std::string execute_message(std::string_view portal);
std::string close_message(char kind, std::string_view name);
std::string sync_message();

struct Message {
  char type = 0;
  std::string body;
  // A field of an ErrorResponse or NoticeResponse; empty where it has none.
  std::string field(char code) const;
  std::string sqlstate() const { return field('C'); }
};

// One end of a connected socket. Every call has a deadline; none throws.
class Wire {
 public:
  explicit Wire(int fd) : fd_(fd) {}
  ~Wire();
  Wire(Wire&& other) noexcept;
  Wire& operator=(Wire&&) = delete;

  static Wire tcp(int port);
  static Wire unix_socket(const std::string& path);

  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  bool send(std::string_view bytes, Millis deadline = kDeadline);
  // What the kernel takes without waiting.
  std::size_t send_some(std::string_view bytes);
  std::string read_bytes(std::size_t count, Millis deadline = kDeadline);
  std::optional<Message> read(Millis deadline = kDeadline);
  // Up to and with the first message of one of these types, or what came before the end.
  std::vector<Message> read_until(std::string_view types, Millis deadline = kDeadline);
  // Nothing but the end of the stream is left; what was still on its way is thrown away.
  bool ended(Millis deadline = kDeadline);
  void close();
  void reset();     // closes so that the peer sees ECONNRESET
  void shutdown();  // wakes a thread that reads here

  // Signs in by trust: true at ReadyForQuery.
  bool sign_in(const std::string& user = "app", const std::string& database = "app",
               std::map<std::string, std::string> more = {});
  std::vector<Message> query(std::string_view sql, Millis deadline = kDeadline);
  // As sign_in() was told it: the body of a BackendKeyData.
  const std::string& cancel_key() const { return cancel_key_; }

 private:
  int fd_ = -1;
  std::string cancel_key_;
};

// The first message of a type, or null.
const Message* find(const std::vector<Message>& messages, char type);
// Their types, in their order.
std::string types(const std::vector<Message>& messages);
// The first column of the first row; empty where there is none.
std::string value_of(const std::vector<Message>& messages);
// Of the first error; empty where there is none.
std::string sqlstate_of(const std::vector<Message>& messages);

// A server side under a script's control. Lives on the thread of its connection.
class FakeSession {
 public:
  explicit FakeSession(Wire& connection) : wire(connection) {}
  Wire& wire;

  // Reads the startup packet; SSLRequest and GSSENCRequest are answered N. False: gone, or a
  // CancelRequest.
  bool read_startup();
  // AuthenticationOk up to ReadyForQuery.
  void accept();
  void error(std::string_view sqlstate, std::string_view text, std::string_view severity = "FATAL");
  // A one-row, one-column answer to a simple query.
  void answer(std::string_view value);
  // Signs a client in and answers every simple query with `value` until it leaves.
  void behave(std::string_view value);
  // Stays open, says nothing, until the peer closes or the server is destroyed.
  void hang();
};

class FakeServer {
 public:
  using Script = std::function<void(FakeSession&, int attempt)>;  // attempt counts from 1
  explicit FakeServer(Script script);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  int port() const { return port_; }
  int accepted() const { return accepted_; }
  int open_peak() const { return open_peak_; }
  int open() const { return open_; }

 private:
  void accept_loop();

  Script script_;
  int listen_fd_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> accepted_ = 0;
  std::atomic<int> open_ = 0;
  std::atomic<int> open_peak_ = 0;
  std::mutex mutex_;  // guards the two below
  std::list<Wire> connections_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace carpool::integration
