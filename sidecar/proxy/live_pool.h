// LivePool: a pool (pool/pool.h, which decides) with the clients and servers that live in it, and
// what it has counted. It carries decisions out: run_plan() opens, closes, grants and times out.
//
// Invariant: every client that has signed in, or wants to, stands in one of clients_, by state, in
// the order in which it entered that state; every server stands in pool_. It may be destroyed when
// both are empty.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/intrusive_list.h"
#include "config/config.h"
#include "pool/counters.h"
#include "pool/pool.h"
#include "proxy/client_passwords.h"
#include "proxy/connector.h"
#include "proxy/known_values.h"
#include "proxy/session.h"
#include "proxy/vouchers.h"

namespace carpool::proxy {

class Client;
class Proxy;
class Server;
struct ClientsByState {};
struct DirtyPools {};

class LivePool : public ListHook<DirtyPools> {
 public:
  // `proxy` must outlive it.
  LivePool(Proxy& proxy, std::string database, std::string user, ServerStartup startup,
           const config::Database& settings, std::uint64_t seed);
  ~LivePool();

  const std::string& database() const { return database_; }
  const std::string& user() const { return user_; }
  // What its servers are opened with beside the settings.
  const ServerStartup& startup() const { return startup_; }
  const config::Database& settings() const { return *settings_; }
  // The same, to keep: whoever begins something under these settings ends it under them.
  const std::shared_ptr<const config::Database>& terms() const { return settings_; }
  Proxy& proxy() { return proxy_; }
  pool::Pool& pool() { return pool_; }
  pool::PoolCounters& counters() { return counters_; }
  SessionTables& tables() { return tables_; }

  // New settings from a reload; servers opened to another place are replaced as they come back.
  void configure(const config::Database& settings, Micros now);
  // That with which servers are opened has changed. Attempts by the former are dropped, counted
  // nowhere and told to nobody, and the next one comes at once.
  void open_anew();
  // Every server open now is closed as it comes back, and what PostgreSQL took is asked again.
  void reconnect();

  // Its database is no longer configured: it serves the clients that it has, and keeps nothing.
  void retire();
  bool retired() const { return retired_; }

  // Not for a client, but since the file has it kept warm (Proxy::open_configured_pools()).
  void set_made_for_file() { made_for_file_ = true; }
  bool made_for_file() const { return made_for_file_; }

  // What to do next, done. Once a loop turn while dirty, and at each tick.
  void run_plan(Micros now);
  void mark_dirty();

  // Those by which its clients sign in, in passthrough: its servers may need one.
  const ClientPasswords& client_passwords() const { return client_passwords_; }
  // PostgreSQL has taken that one of a client's, at that time.
  void password_taken(const std::string& password, Micros taken_us);
  // No server is opened with that one any more, and those that were go as they come back.
  void password_refused(const std::string& password);
  // Clients sign in in another way now: by their passwords nobody else may come to PostgreSQL.
  void forget_client_passwords();

  // A client that signs in waits here until a server has told its parameters.
  // Where none can be opened that would tell better, what former servers have told is good enough.
  bool welcome_known() const {
    return !welcome_.empty() || (!former_welcome_.empty() && pool_.held() >= settings_->pool.size);
  }
  // The ParameterStatus messages that a new client gets.
  const Bytes& welcome() const { return welcome_.empty() ? former_welcome_ : welcome_; }
  void want_welcome();
  KnownValues& known_values() { return known_values_; }

  void server_opened(Server& server,
                     const std::vector<std::pair<std::string, std::string>>& parameters,
                     Micros now);
  void server_failed(Server& server, const ConnectFailure& failure, Micros now);

  // A client of its own has an idle_session_timeout.
  void idle_limit_set() { idle_limits_ = true; }

  // Timeouts that need a look at the clock only now and then.
  void tick(Micros now);

  // In any state.
  bool has_servers() const;

  // No client, no server and nothing worth keeping but its counters.
  bool abandoned() const;
  // Whether it is, and has been for as long as anybody might want to read why it came to nothing.
  bool forgotten(Micros now);

  void count_error(std::string_view sqlstate);
  pool::PoolSnapshot snapshot(Micros now) const;
  // The database, and what else tells the pool from others of its user: for labels.
  std::string label() const;
  // "pool app/alice (5 of 5 servers lent)": for messages to people.
  std::string describe() const;

  using ClientList = IntrusiveList<Client, ClientsByState>;
  ClientList& clients(pool::ClientState state) { return clients_[static_cast<std::size_t>(state)]; }
  const ClientList& clients(pool::ClientState state) const {
    return clients_[static_cast<std::size_t>(state)];
  }
  std::uint32_t client_count() const;

 private:
  void reject_waiting(const ConnectFailure& failure);
  // Why nobody gets a server: SQLSTATE and text, for a client that waited too long.
  std::pair<const char*, std::string> why_no_server(Micros waited_us) const;
  void time_out_logins(Micros now);
  bool opens_as_its_clients() const;
  Claimant claimant() const;

  Proxy& proxy_;
  SessionTables tables_;
  const std::string database_;
  const std::string user_;
  const ServerStartup startup_;
  std::shared_ptr<const config::Database> settings_;
  pool::Pool pool_;
  std::array<ClientList, pool::kClientStates> clients_;
  pool::PoolCounters counters_;
  Bytes welcome_;
  Bytes former_welcome_;  // of servers that are opened otherwise now
  KnownValues known_values_;
  ClientPasswords client_passwords_;
  std::string last_connect_error_;
  pool::ConnectError last_connect_kind_ = pool::ConnectError::Other;
  Micros error_logged_us_ = 0;
  Micros abandoned_us_ = 0;  // since when; 0: it is not
  bool retired_ = false;
  bool idle_limits_ = false;  // of some client, ever
  bool made_for_file_ = false;
};

}  // namespace carpool::proxy
