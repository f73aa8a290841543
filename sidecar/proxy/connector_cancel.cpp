#include "proxy/connector_cancel.h"

#include <dlfcn.h>
#include <libpq-fe.h>

#include <utility>

extern "C" {
using PGcancelConn = struct pg_cancel_conn;
[[gnu::weak]] PGcancelConn* PQcancelCreate(PGconn* conn);
[[gnu::weak]] int PQcancelStart(PGcancelConn* conn);
[[gnu::weak]] PostgresPollingStatusType PQcancelPoll(PGcancelConn* conn);
[[gnu::weak]] int PQcancelSocket(const PGcancelConn* conn);
[[gnu::weak]] void PQcancelFinish(PGcancelConn* conn);
}

namespace carpool::proxy {
namespace {

// libpq's functions for cancels that do not block, since 17. Where libpq is in the binary the
// linker knows them or not; where it is a shared library the process asks, because the one that it
// finds need not be the one that Carpool was linked with.
struct Functions {
  template <typename Function>
  static Function* find(Function* linked, const char* name) {
    if (linked != nullptr) return linked;
    return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  }

  decltype(&PQcancelCreate) create = find(PQcancelCreate, "PQcancelCreate");
  decltype(&PQcancelStart) start = find(PQcancelStart, "PQcancelStart");
  decltype(&PQcancelPoll) poll = find(PQcancelPoll, "PQcancelPoll");
  decltype(&PQcancelSocket) socket = find(PQcancelSocket, "PQcancelSocket");
  decltype(&PQcancelFinish) finish = find(PQcancelFinish, "PQcancelFinish");
};

const Functions& libpq() {
  static const Functions found;
  return found;
}

}  // namespace

bool CancelRequest::available() {
  const Functions& found = libpq();
  return found.create != nullptr && found.start != nullptr && found.poll != nullptr &&
         found.socket != nullptr && found.finish != nullptr;
}

CancelRequest::CancelRequest(net::Loop& loop, pg_conn* server, std::shared_ptr<const void> files,
                             Done on_done)
    : loop_(loop),
      files_(std::move(files)),
      on_done_(std::move(on_done)),
      request_(libpq().create(server)) {
  if (request_ != nullptr && libpq().start(request_) == 1) {
    watch(net::Poll::kWritable);
  } else {
    soon_.start(loop_, 0, 0, [this] { end(); });
  }
}

CancelRequest::~CancelRequest() {
  poll_.close();
  if (request_ != nullptr) libpq().finish(request_);
}

void CancelRequest::watch(int events) {
  // poll_ is closed while libpq runs, as the Connector's is.
  const int rc = poll_.open(loop_, libpq().socket(request_), events, [this](int) { advance(); });
  if (rc != 0) soon_.start(loop_, 0, 0, [this] { end(); });
}

void CancelRequest::advance() {
  poll_.close();
  switch (libpq().poll(request_)) {
    case PGRES_POLLING_READING:
      return watch(net::Poll::kReadable);
    case PGRES_POLLING_WRITING:
      return watch(net::Poll::kWritable);
    default:
      return end();
  }
}

void CancelRequest::end() {
  soon_.stop();
  const Done done = std::move(on_done_);
  done();
}

}  // namespace carpool::proxy
