// A client as applications are: libpq, with a deadline on every answer, so that a proxy that
// hangs is a failed expectation and not a hanging test.
#pragma once

#include <libpq-fe.h>

#include <string>
#include <vector>

#include "harness/eventually.h"

namespace carpool::integration {

struct Reply {
  ExecStatusType status = PGRES_FATAL_ERROR;
  std::string sqlstate;  // empty: no error; "none": no answer in time or the connection is lost
  std::string message;
  std::string tag;
  std::vector<std::vector<std::string>> rows;

  bool ok() const { return sqlstate.empty(); }
  // The first column of the first row; empty where there is none.
  std::string value() const { return rows.empty() || rows[0].empty() ? "" : rows[0][0]; }
};

class Connection {
 public:
  // Connects, blocking. What came of it says connected().
  explicit Connection(const std::string& conninfo);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;

  bool connected() const;
  std::string error() const;
  PGconn* raw() { return conn_; }
  // The process ID of BackendKeyData: the proxy's own invention.
  int key_pid() const { return PQbackendPID(conn_); }
  PGTransactionStatusType transaction_status() const { return PQtransactionStatus(conn_); }

  // Simple protocol. The last result, or the first that is an error.
  Reply query(const std::string& sql, Millis deadline = kDeadline);
  // Extended protocol with the unnamed statement.
  Reply query_params(const std::string& sql, const std::vector<std::string>& values,
                     Millis deadline = kDeadline);
  // The PostgreSQL process behind this very query.
  int backend_pid();

  // The halves of query(). answered() never blocks.
  void send(const std::string& sql);
  bool answered();
  Reply wait(Millis deadline = kDeadline);

  // Asks for a cancel the way libpq does: by a connection of its own.
  bool cancel();
  void close();   // with a Terminate
  void vanish();  // without: the peer gets a reset, as from a process that was killed

 private:
  PGconn* conn_;
};

}  // namespace carpool::integration
