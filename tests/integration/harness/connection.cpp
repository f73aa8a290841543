#include "harness/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <utility>

namespace carpool::integration {

namespace {

void ignore_notice(void*, const PGresult*) {}

Reply reply_of(const PGresult* result) {
  Reply reply;
  reply.status = PQresultStatus(result);
  reply.tag = PQcmdStatus(const_cast<PGresult*>(result));
  if (reply.status == PGRES_FATAL_ERROR || reply.status == PGRES_BAD_RESPONSE) {
    const char* code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    reply.sqlstate = code != nullptr ? code : "none";
    reply.message = PQresultErrorMessage(result);
    return reply;
  }
  for (int row = 0; row < PQntuples(result); row++) {
    std::vector<std::string>& cells = reply.rows.emplace_back();
    for (int column = 0; column < PQnfields(result); column++)
      cells.emplace_back(PQgetvalue(result, row, column),
                         static_cast<std::size_t>(PQgetlength(result, row, column)));
  }
  return reply;
}

bool is_copy(ExecStatusType status) {
  return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

}  // namespace

Connection::Connection(const std::string& conninfo)
    : conn_(PQconnectdb((conninfo + " connect_timeout=40").c_str())) {
  PQsetNoticeReceiver(conn_, ignore_notice, nullptr);
}

Connection::~Connection() {
  close();
}

Connection::Connection(Connection&& other) noexcept : conn_(std::exchange(other.conn_, nullptr)) {}

bool Connection::connected() const {
  return conn_ != nullptr && PQstatus(conn_) == CONNECTION_OK;
}

std::string Connection::error() const {
  return PQerrorMessage(conn_);
}

void Connection::send(const std::string& sql) {
  PQsendQuery(conn_, sql.c_str());
}

bool Connection::answered() {
  if (PQsocket(conn_) < 0) return true;
  pollfd readable{PQsocket(conn_), POLLIN, 0};
  if (poll(&readable, 1, 0) > 0) PQconsumeInput(conn_);
  return PQisBusy(conn_) == 0;
}

Reply Connection::wait(Millis deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  Reply last;
  last.sqlstate = "none";
  last.message = "no result: " + error();
  bool failed = false;
  while (true) {
    PQflush(conn_);
    while (PQisBusy(conn_) != 0) {
      const auto left = std::chrono::duration_cast<Millis>(end - Clock::now());
      pollfd readable{PQsocket(conn_), POLLIN, 0};
      if (left.count() <= 0 || poll(&readable, 1, static_cast<int>(left.count())) <= 0) {
        last.sqlstate = "none";
        last.message = "no answer within the deadline";
        return last;
      }
      PQconsumeInput(conn_);
    }
    std::unique_ptr<PGresult, decltype(&PQclear)> result(PQgetResult(conn_), PQclear);
    if (result == nullptr) return last;
    if (!failed) last = reply_of(result.get());
    failed = failed || !last.ok();
    if (is_copy(PQresultStatus(result.get()))) return last;
  }
}

Reply Connection::query(const std::string& sql, Millis deadline) {
  send(sql);
  return wait(deadline);
}

Reply Connection::query_params(const std::string& sql, const std::vector<std::string>& values,
                               Millis deadline) {
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(value.c_str());
  PQsendQueryParams(conn_, sql.c_str(), static_cast<int>(values.size()), nullptr, pointers.data(),
                    nullptr, nullptr, 0);
  return wait(deadline);
}

int Connection::backend_pid() {
  const Reply reply = query("select pg_backend_pid()");
  return reply.ok() ? std::stoi(reply.value()) : -1;
}

bool Connection::cancel() {
  std::unique_ptr<PGcancel, decltype(&PQfreeCancel)> handle(PQgetCancel(conn_), PQfreeCancel);
  char error[256];
  return handle != nullptr && PQcancel(handle.get(), error, sizeof error) == 1;
}

void Connection::close() {
  if (conn_ != nullptr) PQfinish(conn_);
  conn_ = nullptr;
}

void Connection::vanish() {
  const linger abrupt{1, 0};
  setsockopt(PQsocket(conn_), SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt);
  // The socket is closed by putting something else in its place: libpq says its goodbye to that.
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, PQsocket(conn_));
  ::close(null);
  close();
}

}  // namespace carpool::integration
