// Connector: opens one server with libpq and then hands its socket over. libpq does all of signing
// in (every way of authenticating, every sslmode, several hosts, target_session_attrs), driven by
// the loop without blocking it: names are resolved beforehand and given to libpq as hostaddr.
//
//   start() -> resolve names -> PQconnectStartParams -> PQconnectPoll ... -> on_done, once
//
// server.connectTimeout holds for the look-ups and then for each host, as libpq's connect_timeout
// does: one that keeps silent costs that long, and the next is tried.
//
// After success the relay speaks the raw protocol on fd() (and through tls(), where there is any);
// the PGconn stays alive only to own the socket. Never calls back from inside start(), and not at
// all after it is destroyed. This is the only file that includes libpq-fe.h.
//
// Source: PostgreSQL manual, chapter libpq, "Database Connection Control Functions".
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "config/config.h"
#include "net/loop.h"
#include "net/poll.h"
#include "net/timer.h"
#include "pool/counters.h"

struct pg_conn;

namespace carpool::proxy {

// Why a server could not be opened.
struct ConnectFailure {
  pool::ConnectError kind = pool::ConnectError::Other;
  std::string sqlstate;  // PostgreSQL's own, where it said one
  std::string message;
  // PostgreSQL refuses this user or database: trying again does not help.
  bool permanent() const;
};

// What a client asks for in its startup packet that no server can be given later: servers are
// opened with it, and shared only by clients that ask for the same.
struct ServerStartup {
  std::string options;      // as of PostgreSQL's command line, after those of the settings
  std::string replication;  // "true", "database" and their like; empty: an ordinary session

  bool plain() const { return options.empty() && replication.empty(); }
  auto operator<=>(const ServerStartup&) const = default;
};

// Asks PostgreSQL to cancel what a server runs. Copyable, outlives the server.
class CancelTicket {
 public:
  CancelTicket() = default;
  // Blocks until PostgreSQL has taken the request, or it failed: for a thread of its own. By then
  // the signal has been sent.
  void run() const;

 private:
  friend class Connector;
  std::shared_ptr<void> cancel_;
};

class Connector {
 public:
  // Null on success. It may destroy the Connector.
  using Done = std::function<void(const ConnectFailure*)>;

  Connector(net::Loop& loop, Done on_done);
  ~Connector();
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;

  // `database` and `user` are the client's, for where the settings name none, and `password` is
  // that of `user`, for where they have none for it.
  void start(const config::Server& settings, const std::string& database, const std::string& user,
             const std::string& password, Micros statement_timeout_us,
             const ServerStartup& startup = {});

  // After success only.
  int fd() const;
  SSL* tls() const;  // null: plain
  std::int32_t backend_pid() const;
  std::string peer() const;
  // Whether PostgreSQL has asked for a password, rather than trusting an address or a certificate.
  bool used_password() const;
  CancelTicket cancel_ticket() const;
  // What PostgreSQL reported at the start: names and values.
  std::vector<std::pair<std::string, std::string>> parameters() const;
  // Says Terminate and closes the socket. The stream on it must be closed before.
  void finish();

 private:
  struct Attempt;  // what a lookup that is under way needs, and may outlive this
  void resolve_next(const std::shared_ptr<Attempt>& attempt);
  void connect();
  std::size_t current_place() const;
  void start_deadline();
  void on_deadline();
  void advance();
  void watch(int events);
  void fail(ConnectFailure failure);

  net::Loop& loop_;
  Done on_done_;
  std::shared_ptr<Attempt> attempt_;
  pg_conn* conn_ = nullptr;
  net::Poll poll_;
  net::Timer deadline_;
  std::size_t place_ = 0;  // of those of the attempt, which is being tried
};

}  // namespace carpool::proxy
