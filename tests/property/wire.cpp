#include "wire.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace carpool::property {

namespace {

constexpr const char* kFollowed[] = {"application_name",
                                     "client_encoding",
                                     "DateStyle",
                                     "IntervalStyle",
                                     "TimeZone",
                                     "is_superuser",
                                     "session_authorization",
                                     "standard_conforming_strings"};

std::string int16(int value) {
  const uint16_t wire = htons(static_cast<uint16_t>(value));
  return std::string(reinterpret_cast<const char*>(&wire), sizeof wire);
}

std::string int32(long value) {
  const uint32_t wire = htonl(static_cast<uint32_t>(value));
  return std::string(reinterpret_cast<const char*>(&wire), sizeof wire);
}

std::string cstring(const std::string& text) {
  return text + '\0';
}

std::string quoted(const std::string& text) {
  return text.size() > 60 ? '"' + text.substr(0, 57) + "...\"" : '"' + text + '"';
}

long now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

// Walks a message's body; reading past its end yields zeros, which then differ and are seen.
class Body {
 public:
  explicit Body(std::string_view bytes) : bytes_(bytes) {}

  long int32() { return integer(4); }
  long int16() { return integer(2); }
  std::string cstring() {
    const size_t end = bytes_.find('\0');
    std::string text(bytes_.substr(0, end));
    bytes_.remove_prefix(end == std::string_view::npos ? bytes_.size() : end + 1);
    return text;
  }
  std::string bytes(long size) {
    std::string text(bytes_.substr(0, static_cast<size_t>(size)));
    bytes_.remove_prefix(text.size());
    return text;
  }
  char byte() {
    const std::string one = bytes(1);
    return one.empty() ? '\0' : one[0];
  }

 private:
  long integer(size_t size) {
    long value = 0;
    for (size_t i = 0; i < size; i++) {
      value = (value << 8) | (i < bytes_.size() ? static_cast<unsigned char>(bytes_[i]) : 0);
    }
    bytes_.remove_prefix(std::min(size, bytes_.size()));
    return size == 2 ? static_cast<int16_t>(value) : static_cast<int32_t>(value);
  }

  std::string_view bytes_;
};

// Severity, SQLSTATE; after a tab the text, which is shown but not compared.
std::string error_line(std::string_view bytes) {
  Body body(bytes);
  std::string severity, state, text;
  for (char field = body.byte(); field != '\0'; field = body.byte()) {
    const std::string value = body.cstring();
    if (field == 'V') severity = value;
    if (field == 'C') state = value;
    if (field == 'M') text = value;
  }
  return severity + ' ' + state + '\t' + text;
}

std::string row_line(std::string_view bytes) {
  Body body(bytes);
  std::string line;
  const long columns = body.int16();
  for (long i = 0; i < columns; i++) {
    const long size = body.int32();
    line += (i == 0 ? "row " : "|") + (size < 0 ? std::string("NULL") : body.bytes(size));
  }
  return columns == 0 ? "row" : line;
}

std::string description_line(std::string_view bytes) {
  Body body(bytes);
  std::string line = "columns";
  const long columns = body.int16();
  for (long i = 0; i < columns; i++) {
    line += ' ' + body.cstring();
    body.int32();  // the table's OID differs between two databases
    body.int16();
    line += ':' + std::to_string(body.int32());
    body.int16();
    body.int32();
    line += ':' + std::to_string(body.int16());
  }
  return line;
}

bool ends_a_request(char type) {
  return std::strchr("123CIsTnE", type) != nullptr;
}

}  // namespace

Message query(const std::string& sql) {
  return {'Q', cstring(sql), "Query " + quoted(sql)};
}

Message parse(const std::string& statement, const std::string& sql) {
  return {'P', cstring(statement) + cstring(sql) + int16(0),
          "Parse " + quoted(statement) + " " + quoted(sql)};
}

Message bind(const std::string& portal, const std::string& statement,
             const std::vector<std::optional<std::string>>& values) {
  std::string body = cstring(portal) + cstring(statement) + int16(0);
  body += int16(static_cast<int>(values.size()));
  std::string shown;
  for (const auto& value : values) {
    body += value ? int32(static_cast<long>(value->size())) + *value : int32(-1);
    shown += " " + (value ? quoted(*value) : "NULL");
  }
  return {'B', body + int16(0), "Bind " + quoted(portal) + " " + quoted(statement) + shown};
}

Message describe(char what, const std::string& name) {
  return {'D', what + cstring(name), std::string("Describe ") + what + " " + quoted(name)};
}

Message execute(const std::string& portal, int rows_max) {
  return {'E', cstring(portal) + int32(rows_max),
          "Execute " + quoted(portal) + (rows_max ? " max " + std::to_string(rows_max) : "")};
}

Message close(char what, const std::string& name) {
  return {'C', what + cstring(name), std::string("Close ") + what + " " + quoted(name)};
}

Message sync() {
  return {'S', "", "Sync"};
}
Message flush() {
  return {'H', "", "Flush"};
}
Message copy_data(const std::string& text) {
  return {'d', text, "CopyData " + quoted(text)};
}
Message copy_done() {
  return {'c', "", "CopyDone"};
}
Message copy_fail(const std::string& why) {
  return {'f', cstring(why), "CopyFail"};
}

bool Reply::has_error(std::string_view sqlstate) const {
  for (const auto& line : lines) {
    if (line.starts_with("ERROR " + std::string(sqlstate))) return true;
  }
  return false;
}

Connection::Connection(const std::string& conninfo) : conn_(PQconnectdb(conninfo.c_str())) {
  if (PQstatus(conn_) != CONNECTION_OK) {
    failure_ = PQerrorMessage(conn_);
    return;
  }
  fd_ = PQsocket(conn_);
  for (const char* name : kFollowed) {
    const char* value = PQparameterStatus(conn_, name);
    parameters_[name] = value != nullptr ? value : "";
  }
}

Connection::~Connection() {
  PQfinish(conn_);
}

bool Connection::send_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EINTR) {
      pollfd waiting{fd_, POLLOUT, 0};
      ::poll(&waiting, 1, 1000);
    } else {
      return false;
    }
  }
  return true;
}

bool Connection::send_in_pieces(std::string_view bytes, size_t piece) {
  if (piece == 0) return send_all(bytes);
  for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
    if (!send_all(bytes.substr(0, piece))) return false;
    // Long enough, as a rule, for what was asked to be answered. Nothing depends on it.
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

bool Connection::next(char& type, std::string& body, long deadline_ms) {
  for (;;) {
    if (received_.size() >= 5) {
      Body head(std::string_view(received_).substr(1, 4));
      const size_t size = static_cast<size_t>(head.int32()) + 1;
      if (received_.size() >= size) {
        type = received_[0];
        body = received_.substr(5, size - 5);
        received_.erase(0, size);
        return true;
      }
    }
    const long left = deadline_ms - now_ms();
    pollfd waiting{fd_, POLLIN, 0};
    if (left < 0 || ::poll(&waiting, 1, static_cast<int>(left)) == 0) {
      errno = ETIMEDOUT;
      return false;
    }
    char chunk[65536];
    const ssize_t got = ::recv(fd_, chunk, sizeof chunk, 0);
    if (got > 0) {
      received_.append(chunk, static_cast<size_t>(got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      errno = ECONNRESET;
      return false;
    }
  }
}

void Connection::take(char type, std::string_view bytes, Reply& reply) {
  Body body(bytes);
  switch (type) {
    case '1':
      reply.lines.push_back("parsed");
      return;
    case '2':
      reply.lines.push_back("bound");
      return;
    case '3':
      reply.lines.push_back("closed");
      return;
    case 'C':
      reply.lines.push_back("done " + body.cstring());
      return;
    case 'D':
      reply.lines.push_back(row_line(bytes));
      return;
    case 'E':
      reply.lines.push_back(error_line(bytes));
      return;
    case 'N':
      reply.lines.push_back(error_line(bytes));
      return;
    case 'G':
      reply.lines.push_back("copy in");
      return;
    case 'H':
      reply.lines.push_back("copy out");
      return;
    case 'd':
      reply.lines.push_back("copied " + std::string(bytes));
      return;
    case 'c':
      reply.lines.push_back("copy done");
      return;
    case 'I':
      reply.lines.push_back("empty");
      return;
    case 'n':
      reply.lines.push_back("no data");
      return;
    case 's':
      reply.lines.push_back("suspended");
      return;
    case 'T':
      reply.lines.push_back(description_line(bytes));
      return;
    case 't': {
      std::string line = "parameters";
      const long count = body.int16();
      for (long i = 0; i < count; i++) line += ' ' + std::to_string(body.int32());
      reply.lines.push_back(line);
      return;
    }
    case 'S': {
      const std::string name = body.cstring();
      const auto followed = parameters_.find(name);
      if (followed != parameters_.end()) followed->second = body.cstring();
      return;
    }
    case 'A': {
      body.int32();
      const std::string channel = body.cstring();
      notifications_.push_back(channel + ' ' + body.cstring());
      return;
    }
    case 'Z':
      reply.status = body.byte();
      return;
    default:
      reply.lines.push_back(std::string("unknown message ") + type);
      return;
  }
}

Reply Connection::exchange(const std::vector<Message>& messages, int timeout_ms, size_t piece) {
  Reply reply;
  const long deadline = now_ms() + timeout_ms;
  std::string out;
  int owed_ready = 0, owed_replies = 0;
  bool failed = false;  // an error: nothing more comes before the next Sync
  const auto read_one = [&]() {
    char type;
    std::string body;
    if (!next(type, body, deadline)) {
      reply.lost = errno == ETIMEDOUT ? "no answer" : "the connection was closed";
      return false;
    }
    take(type, body, reply);
    if (type == 'Z') {
      owed_ready--;
      failed = false;
    }
    failed = failed || type == 'E';
    owed_replies -= ends_a_request(type) ? 1 : 0;
    return true;
  };
  for (const auto& message : messages) {
    out += message.type + int32(static_cast<long>(message.body.size()) + 4) + message.body;
    if (message.type == 'Q' || message.type == 'S') owed_ready++;
    if (std::strchr("PBDEC", message.type) != nullptr) owed_replies++;
    if (message.type != 'H') continue;
    if (!send_in_pieces(out, piece)) break;
    out.clear();
    while ((owed_ready > 0 || owed_replies > 0) && !failed) {
      if (!read_one()) return reply;
    }
  }
  if (!send_in_pieces(out, piece)) {
    reply.lost = "the connection was closed";
    return reply;
  }
  while (owed_ready > 0) {
    if (!read_one()) return reply;
  }
  return reply;
}

void Connection::send_and_cut(const std::vector<Message>& messages) {
  std::string out;
  for (const auto& message : messages) {
    out += message.type + int32(static_cast<long>(message.body.size()) + 4) + message.body;
  }
  send_all(out);
  ::shutdown(fd_, SHUT_RDWR);
}

std::vector<std::string>& Connection::notifications(int wait_ms) {
  Reply ignored;
  char type;
  std::string body;
  while (next(type, body, now_ms() + wait_ms)) take(type, body, ignored);
  return notifications_;
}

}  // namespace carpool::property
