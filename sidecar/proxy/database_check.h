// DatabaseCheck: finds out, now and then, whether a server could be had, for admin.readyWhen:
// database. It opens a connection of its own and closes it again, and never takes a pool's place,
// so that a full pool is not mistaken for a database that is away.
#pragma once

#include <optional>
#include <string>

#include "config/config.h"
#include "net/loop.h"
#include "net/timer.h"
#include "proxy/connector.h"

namespace carpool::proxy {

class DatabaseCheck {
 public:
  static constexpr Micros kInterval_us = 2 * kMicrosPerSecond;

  DatabaseCheck(net::Loop& loop, ServerFiles& files) : loop_(loop), files_(files) {}

  // Checks this database as this user from now on, at once and then at each interval. A check of
  // another, or of this one under other settings, is dropped; its last word stands until the next.
  void start(const config::Database& settings, const std::string& database,
             const std::string& user);
  void stop();
  // A file of that name has another content: a check that goes by the former is dropped.
  void file_changed(const std::string& path);
  bool running() const { return timer_.running(); }

  // Whether the last check reached PostgreSQL, whatever it thinks of the user.
  bool ok() const { return ok_; }
  // Why not; empty where it is ok.
  const std::string& why() const { return why_; }

 private:
  void begin();
  void check();
  void done(const ConnectFailure* failure);

  net::Loop& loop_;
  ServerFiles& files_;
  net::Timer timer_;
  config::Database settings_;
  std::string database_;
  std::string user_;
  std::optional<Connector> connector_;
  bool busy_ = false;
  bool ok_ = false;
  std::string why_ = "not checked yet";
};

}  // namespace carpool::proxy
