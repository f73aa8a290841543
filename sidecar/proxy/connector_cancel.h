// CancelRequest: one cancel request that the loop sends, by TLS where the server's connection is,
// with libpq's PQcancelStart (17 and newer). It holds nothing of the server, and may outlive it.
//
// Source: PostgreSQL manual, chapter libpq, "Canceling Queries in Progress".
#pragma once

#include <functional>
#include <memory>

#include "net/loop.h"
#include "net/poll.h"
#include "net/timer.h"

struct pg_conn;
struct pg_cancel_conn;

namespace carpool::proxy {

class CancelRequest {
 public:
  // PostgreSQL has closed the connection, by when the signal has been sent; or it failed. It may
  // destroy the CancelRequest. Never from inside the constructor, and not after the destructor.
  using Done = std::function<void()>;

  // Whether the libpq at hand can.
  static bool available();
  // For what `server` runs, which is open; only where available(). `loop` must outlive it. `files`
  // are those that libpq may open, kept as long.
  CancelRequest(net::Loop& loop, pg_conn* server, std::shared_ptr<const void> files, Done on_done);
  ~CancelRequest();
  CancelRequest(const CancelRequest&) = delete;
  CancelRequest& operator=(const CancelRequest&) = delete;

 private:
  void watch(int events);
  void advance();
  void end();

  net::Loop& loop_;
  const std::shared_ptr<const void> files_;
  Done on_done_;
  pg_cancel_conn* request_ = nullptr;
  net::Poll poll_;
  net::Timer soon_;
};

}  // namespace carpool::proxy
