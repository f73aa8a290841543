#include "harness/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <utility>

namespace carpool::integration {

namespace {

constexpr std::size_t kMessageBytesMax = 256U << 20U;

bool wait_for(int fd, short events, Clock::time_point end) {
  const auto left = std::chrono::duration_cast<Millis>(end - Clock::now());
  pollfd descriptor{fd, events, 0};
  return poll(&descriptor, 1, left.count() < 0 ? 0 : static_cast<int>(left.count())) > 0;
}

}  // namespace

std::string int32_bytes(std::uint32_t value) {
  const std::uint32_t big_endian = htonl(value);
  return {reinterpret_cast<const char*>(&big_endian), sizeof big_endian};
}

std::uint32_t int32_at(std::string_view bytes, std::size_t offset) {
  std::uint32_t big_endian = 0;
  std::memcpy(&big_endian, bytes.data() + offset, sizeof big_endian);
  return ntohl(big_endian);
}

std::string message(char type, std::string_view body) {
  return std::string(1, type) + int32_bytes(static_cast<std::uint32_t>(body.size() + 4)) +
         std::string(body);
}

std::string untyped(std::uint32_t code, std::string_view rest) {
  return int32_bytes(static_cast<std::uint32_t>(rest.size() + 8)) + int32_bytes(code) +
         std::string(rest);
}

std::string startup_packet(const std::map<std::string, std::string>& parameters,
                           std::uint32_t version) {
  std::string body;
  for (const auto& [name, value] : parameters) body += name + '\0' + value + '\0';
  return untyped(version, body + '\0');
}

std::string query_message(std::string_view sql) {
  return message('Q', std::string(sql) + '\0');
}

std::string parse_message(std::string_view name, std::string_view sql) {
  return message('P', std::string(name) + '\0' + std::string(sql) + '\0' + std::string(2, '\0'));
}

std::string bind_message(std::string_view portal, std::string_view statement) {
  return message('B',
                 std::string(portal) + '\0' + std::string(statement) + '\0' + std::string(6, '\0'));
}

std::string bind_texts(std::string_view statement, const std::vector<std::string>& values) {
  std::string body = '\0' + std::string(statement) + '\0' + std::string(2, '\0');
  body += '\0';
  body += static_cast<char>(values.size());
  for (const std::string& value : values) {
    body += int32_bytes(static_cast<std::uint32_t>(value.size())) + value;
  }
  return message('B', body + std::string(2, '\0'));
}

std::string describe_message(char kind, std::string_view name) {
  return message('D', std::string(1, kind) + std::string(name) + '\0');
}

std::string execute_message(std::string_view portal) {
  return message('E', std::string(portal) + '\0' + int32_bytes(0));
}

std::string close_message(char kind, std::string_view name) {
  return message('C', std::string(1, kind) + std::string(name) + '\0');
}

std::string sync_message() {
  return message('S', "");
}

std::string Message::field(char code) const {
  std::size_t at = 0;
  while (at < body.size() && body[at] != '\0') {
    const std::string text = body.c_str() + at + 1;
    if (body[at] == code) return text;
    at += text.size() + 2;
  }
  return "";
}

Wire::~Wire() {
  close();
}
Wire::Wire(Wire&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), cancel_key_(std::move(other.cancel_key_)) {}

Wire Wire::tcp(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    return Wire(-1);
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return Wire(fd);
}

Wire Wire::unix_socket(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    return Wire(-1);
  }
  return Wire(fd);
}

bool Wire::send(std::string_view bytes, Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  while (!bytes.empty()) {
    const std::size_t sent = send_some(bytes);
    if (sent == std::string_view::npos) return false;
    bytes.remove_prefix(sent);
    if (!bytes.empty() && !wait_for(fd_, POLLOUT, end)) return false;
  }
  return true;
}

std::size_t Wire::send_some(std::string_view bytes) {
  const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return static_cast<std::size_t>(sent);
  return errno == EAGAIN || errno == EINTR ? 0 : std::string_view::npos;
}

std::string Wire::read_bytes(std::size_t count, Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  std::string bytes(count, '\0');
  std::size_t have = 0;
  while (have < count && wait_for(fd_, POLLIN, end)) {
    const ssize_t got = recv(fd_, bytes.data() + have, count - have, 0);
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}

std::optional<Message> Wire::read(Millis deadline) {
  const std::string header = read_bytes(5, deadline);
  if (header.size() < 5) return std::nullopt;
  const std::uint32_t length = int32_at(header, 1);
  if (length < 4 || length > kMessageBytesMax) return std::nullopt;
  Message result{header[0], read_bytes(length - 4, deadline)};
  if (result.body.size() != length - 4) return std::nullopt;
  return result;
}

std::vector<Message> Wire::read_until(std::string_view types, Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  std::vector<Message> messages;
  while (true) {
    std::optional<Message> next =
        read(std::max(0ms, std::chrono::duration_cast<Millis>(end - Clock::now())));
    if (!next) return messages;
    messages.push_back(std::move(*next));
    if (types.find(messages.back().type) != std::string_view::npos) return messages;
  }
}

bool Wire::ended(Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  char rest[4096];
  while (wait_for(fd_, POLLIN, end)) {
    if (recv(fd_, rest, sizeof rest, 0) <= 0) return true;
  }
  return false;
}

void Wire::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void Wire::reset() {
  const linger abrupt{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt);
  close();
}

void Wire::shutdown() {
  ::shutdown(fd_, SHUT_RDWR);
}

bool Wire::sign_in(const std::string& user, const std::string& database,
                   std::map<std::string, std::string> more) {
  more["user"] = user;
  more["database"] = database;
  if (!send(startup_packet(more))) return false;
  const std::vector<Message> greeting = read_until("ZE");
  if (const Message* key = find(greeting, 'K')) cancel_key_ = key->body;
  return find(greeting, 'Z') != nullptr;
}

std::vector<Message> Wire::query(std::string_view sql, Millis deadline) {
  send(query_message(sql));
  return read_until("Z", deadline);
}

const Message* find(const std::vector<Message>& messages, char type) {
  for (const Message& candidate : messages) {
    if (candidate.type == type) return &candidate;
  }
  return nullptr;
}

std::string types(const std::vector<Message>& messages) {
  std::string all;
  for (const Message& message : messages) all += message.type;
  return all;
}

std::string value_of(const std::vector<Message>& messages) {
  const Message* row = find(messages, 'D');
  return row == nullptr ? "" : row->body.substr(6);
}

std::string sqlstate_of(const std::vector<Message>& messages) {
  const Message* error = find(messages, 'E');
  return error == nullptr ? "" : error->sqlstate();
}

bool FakeSession::read_startup() {
  while (true) {
    const std::string header = wire.read_bytes(8);
    if (header.size() < 8) return false;
    const std::uint32_t length = int32_at(header, 0);
    const std::uint32_t code = int32_at(header, 4);
    wire.read_bytes(length - 8);
    if (code == kCancelRequestCode) return false;
    if (code != kSslRequestCode && code != kGssRequestCode) return true;
    wire.send("N");
  }
}

void FakeSession::accept() {
  std::string reply = message('R', int32_bytes(0));
  const std::map<std::string, std::string> parameters = {
      {"server_version", "15.4"},  {"client_encoding", "UTF8"},
      {"server_encoding", "UTF8"}, {"standard_conforming_strings", "on"},
      {"DateStyle", "ISO, MDY"},   {"integer_datetimes", "on"},
      {"TimeZone", "UTC"},         {"in_hot_standby", "off"}};
  for (const auto& [name, value] : parameters) reply += message('S', name + '\0' + value + '\0');
  wire.send(reply + message('K', int32_bytes(4242) + int32_bytes(4711)) + message('Z', "I"));
}

void FakeSession::error(std::string_view sqlstate, std::string_view text,
                        std::string_view severity) {
  const std::string level(severity);
  wire.send(message('E', "S" + level + '\0' + "V" + level + '\0' + "C" + std::string(sqlstate) +
                             '\0' + "M" + std::string(text) + '\0' + '\0'));
}

void FakeSession::answer(std::string_view value) {
  using namespace std::string_literals;
  const std::string row_description =
      "\0\1"s + "v\0"s + "\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"s;
  wire.send(message('T', row_description) +
            message('D', "\0\1"s + int32_bytes(static_cast<std::uint32_t>(value.size())) +
                             std::string(value)) +
            message('C', "SELECT 1\0"s) + message('Z', "I"));
}

void FakeSession::behave(std::string_view value) {
  accept();
  while (true) {
    const std::optional<Message> request = wire.read(60s);
    if (!request || request->type == 'X') return;
    if (request->type == 'Q') answer(value);
  }
}

void FakeSession::hang() {
  wire.ended(60s);
}

FakeServer::FakeServer(Script script) : script_(std::move(script)) {
  listen_fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listen_fd_, 128) != 0 ||
      getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("the fake server cannot listen");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

void FakeServer::accept_loop() {
  while (true) {
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      ::close(fd);
      return;
    }
    const int attempt = ++accepted_;
    open_++;
    if (open_ > open_peak_) open_peak_ = open_.load();
    Wire& wire = connections_.emplace_back(fd);
    threads_.emplace_back([this, &wire, attempt] {
      FakeSession session(wire);
      script_(session, attempt);
      {
        const std::lock_guard closing(mutex_);
        wire.close();
      }
      open_--;
    });
  }
}

FakeServer::~FakeServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (Wire& wire : connections_) wire.shutdown();
  }
  ::shutdown(listen_fd_, SHUT_RDWR);
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
  ::close(listen_fd_);
}

}  // namespace carpool::integration
