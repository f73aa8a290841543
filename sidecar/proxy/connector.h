// Connector: opens one server with libpq and then hands its socket over. libpq does all of signing
// in (every way of authenticating, every sslmode, several hosts, target_session_attrs), driven by
// the loop without blocking it: names are resolved beforehand and given to libpq as hostaddr, and
// its files are read beforehand and given to it as copies (ServerFiles).
//
//   start() -> read files -> resolve names -> PQconnectStartParams -> PQconnectPoll ... -> on_done,
//   once
//
// server.connectTimeout holds for the files and look-ups, and then for each host, as libpq's
// connect_timeout does: one that keeps silent costs that long, and the next is tried.
//
// After success the relay speaks the raw protocol on fd() (and through tls(), where there is any);
// the PGconn stays alive only to own the socket. Never calls back from inside start(), and not at
// all after it is destroyed. What else includes libpq-fe.h: connector_cancel,
// connector_environment.
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
#include "proxy/connect_failure.h"
#include "proxy/connector_cancel.h"
#include "proxy/server_files.h"

struct pg_conn;

namespace carpool::proxy {

// What a client asks for in its startup packet that no server can be given later: servers are
// opened with it, and shared only by clients that ask for the same.
struct ServerStartup {
  std::string options;      // as of PostgreSQL's command line, after those of the settings
  std::string replication;  // as pg::replication_meant() says; empty: an ordinary session

  bool plain() const { return options.empty() && replication.empty(); }
  auto operator<=>(const ServerStartup&) const = default;
};

// Asks PostgreSQL to cancel what a server runs, in clear, whatever the server's connection is: for
// where the libpq at hand is older than 17. Copyable, outlives the server.
class CancelTicket {
 public:
  CancelTicket() = default;
  // Blocks until PostgreSQL has taken the request, or it failed: for a thread of its own. By then
  // the signal has been sent.
  void run() const;

 private:
  friend class Connector;
  std::shared_ptr<void> cancel_;
  std::shared_ptr<const void> files_;  // that it may open
};

class Connector {
 public:
  // Null on success. It may destroy the Connector.
  using Done = std::function<void(const ConnectFailure*)>;

  // `loop` and `files` must outlive it.
  Connector(net::Loop& loop, ServerFiles& files, Done on_done);
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
  // After start(): whether the password given to it is the one that is shown to PostgreSQL.
  bool shows_given_password() const;
  // After start(): the database, as PostgreSQL calls it.
  std::string database() const;
  CancelTicket cancel_ticket() const;
  // Only where CancelRequest::available().
  std::unique_ptr<CancelRequest> cancel_request(CancelRequest::Done on_done) const;
  // What PostgreSQL reported at the start: names and values.
  std::vector<std::pair<std::string, std::string>> parameters() const;
  // Says Terminate and closes the socket. The stream on it must be closed before.
  void finish();

 private:
  struct Attempt;  // what a lookup that is under way needs, and may outlive this
  void files_read(const std::shared_ptr<Attempt>& attempt, const ServerFiles::Answer& answer);
  void resolve_next(const std::shared_ptr<Attempt>& attempt);
  void connect();
  std::size_t current_place() const;
  void start_deadline();
  void on_deadline();
  void advance();
  void watch(int events);
  void note_refusal(const std::string& before);
  void fail(ConnectFailure failure);

  net::Loop& loop_;
  ServerFiles& files_;
  Done on_done_;
  std::shared_ptr<ServerFiles::Done> files_read_;  // while they are being read
  std::shared_ptr<Attempt> attempt_;
  pg_conn* conn_ = nullptr;
  net::Poll poll_;
  net::Timer soon_;
  net::Timer deadline_;
  std::size_t place_ = 0;  // of those of the attempt, which is being tried
};

}  // namespace carpool::proxy
