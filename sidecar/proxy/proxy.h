// Proxy: accepts clients, finds their pools, and owns all of both. The composition root (app)
// makes one, hands it configurations and asks it for snapshots; everything runs on the loop.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "net/loop.h"
#include "net/timer.h"
#include "pool/counters.h"
#include "proxy/cancels.h"
#include "proxy/console_tables.h"
#include "proxy/database_check.h"
#include "proxy/gatekeeper.h"
#include "proxy/listeners.h"
#include "proxy/live_pool.h"
#include "proxy/memory_guard.h"
#include "proxy/passthrough.h"
#include "proxy/pauses.h"
#include "proxy/secret_watch.h"

namespace carpool::proxy {

class Proxy {
 public:
  // All timeouts are looked at this often.
  static constexpr Micros kTick_us = 100 * kMicrosPerMilli;
  // Turns in a row that only read what has arrived.
  static constexpr std::uint32_t kTurnsBehindMax = 16;
  // A client that has not signed in by then is closed.
  static constexpr Micros kStartupMax_us = 15 * kMicrosPerSecond;
  // Clients above clientsMax that are kept just long enough to be told so.
  static constexpr std::uint32_t kRefusedMax = 64;
  // A client that holds less is not closed for want of memory.
  static constexpr std::uint32_t kHeldMin = 4u << 10;
  // Pools that exist at once; a client may name any user.
  static constexpr std::size_t kPoolsMax = 1000;

  // `loop` must outlive it. `cgroups`: where they are mounted, for the memory limit.
  Proxy(net::Loop& loop, const config::Config& config,
        const std::string& cgroups = "/sys/fs/cgroup");
  ~Proxy();

  // Opens the listening sockets.
  Status listen() { return listeners_.listen_on(config_.listen); }
  std::uint16_t port() const { return listeners_.port(); }
  const Listeners& listeners() const { return listeners_; }

  // Who may sign in. The composition root hands it what the files say.
  Gatekeeper& gatekeeper() { return gatekeeper_; }

  ServerFiles& server_files() { return server_files_; }
  // Who may sign in by the word of PostgreSQL.
  Passthrough& passthrough() { return passthrough_; }

  // Takes a new configuration, between two turns of the loop, or leaves everything as it is: where
  // its listening address cannot be had. No transaction is cut, and connected clients stay.
  Status apply(const config::Config& config);
  const config::Config& config() const { return config_; }
  // Files with which servers are opened may have changed.
  void look_at_server_files();
  // The folder of the Unix socket may have been made anew.
  void look_at_listeners();

  pool::Snapshot snapshot(bool detailed);
  // Logs a line for each pool.
  void log_stats();

  // Servers that nobody uses are closed, and none is kept warm; clients go on being served.
  void begin_drain();
  // Closes idle clients now, and the others at the end of their transactions.
  void end_clients();
  // Those of the console do not count: nobody waits for them when draining.
  std::uint32_t client_count() const {
    return static_cast<std::uint32_t>(clients_.size()) - console_clients_.size();
  }
  // Clients inside a transaction, or waiting for their first server in one.
  std::uint32_t busy_clients() const;
  // Whether something runs on a thread that may take long: a cancel, which PostgreSQL may keep
  // waiting for ever, or the reading of a file.
  bool threads_busy() const {
    return !cancels_.empty() || server_files_.busy() || secret_watch_.busy();
  }
  // Closes everything at once, transactions too. The loop ends when all is gone.
  void close();

  // A database, with the pools that it has and those to come; empty: all. An error, in words for
  // whoever asked, when there is none of that name, or nothing was done.
  Status pause(const std::string& database);
  Status resume(const std::string& database);
  Status reconnect(const std::string& database);
  // Closes its clients and servers at once, transactions too, and pauses it.
  Status kill(const std::string& database);

  // For readiness: why a server could not be had within the last check; empty: it could. Only
  // checked while admin.readyWhen is database.
  std::string why_no_database() const;

  // For the console: the version that it tells, and what RELOAD does.
  void set_console(std::string version, std::function<void()> reload);
  const std::string& version() const { return version_; }
  void ask_reload();
  const ConsoleAverages& averages() const { return averages_; }
  const Pauses& pauses() const { return pauses_; }
  // Whether a server is left of what is paused. `database` empty: of all.
  bool paused_with_servers(const std::string& database) const;
  LivePool::ClientList& console_clients() { return console_clients_; }

  // For Client, Server and LivePool.
  net::Loop& loop() { return loop_; }
  // Null where none is configured, or there are kPoolsMax.
  LivePool* find_pool(const std::string& database, const std::string& user,
                      const ServerStartup& startup = {});
  // What a pool of this database has, or would have; none where no entry of `databases` is meant.
  std::optional<config::Database> settings_of(const std::string& database,
                                              const ServerStartup& startup) const {
    return settings_in(config_, database, startup);
  }
  IntrusiveList<LivePool, DirtyPools>& dirty_pools() { return dirty_; }
  void bury(Server& server);
  void client_gone(Client& client);
  void client_freed() { --closing_clients_; }
  // Lets a client go on at the end of the turn, when the lists it stands in may change: for
  // Client::look_again().
  void resume_later(Client& client) { resume_later_.push_back(&client); }
  void client_refused(pool::RejectReason reason, LivePool* pool);
  bool too_many_clients() const { return client_count() > config_.listen.clients_max; }
  bool closed() const { return life_ == Life::Closed; }
  bool draining() const { return life_ >= Life::Drains; }
  bool ending_clients() const { return life_ >= Life::EndsClients; }
  // `asking` is the connection that asks. Whether it is to stay until cancel_is_over().
  bool cancel_request(std::uint32_t pid, ByteSpan secret, const Client& asking);
  void cancel_is_over(std::uint32_t asking);
  Cancels& cancels() { return cancels_; }
  MemoryGuard& memory() { return memory_; }
  // The texts of one pool's prepared statements take no more than a part of what there is.
  std::size_t statement_bytes_max() const;
  // For a client's rejection: what the memory is, in words.
  std::string describe_memory() const;
  LivePool::ClientList& startup_clients() { return startup_clients_; }
  LivePool::ClientList& clients_on_trial() { return clients_on_trial_; }
  // For what goes to a server in another form than it came; emptied by each user.
  Bytes& scratch() { return scratch_; }
  std::uint64_t next_server_id() { return ++server_ids_; }
  std::uint64_t random();
  // One that nobody can guess: of four types that PostgreSQL takes for a parameter's.
  std::array<std::uint32_t, 4> token();

 private:
  void accepted(int fd);
  void accepting_rests(bool rests, const std::string& why);
  void tick();
  void forget_pools(Micros now);
  void turn_end();
  void relieve_memory();
  void watch_memory(Micros now);
  void close_servers(LivePool& pool, const char* why);
  static std::optional<config::Database> settings_in(const config::Config& config,
                                                     const std::string& database,
                                                     const ServerStartup& startup);
  static config::Database place_of_trial(const config::Config& config, const Claimant& who);
  void password_refused(const Claimant& who, const std::string& password);
  void update_database_check();
  // The pools that the file has kept warm, whoever comes: databases and users.
  std::set<std::pair<std::string, std::string>> pools_of_file() const;
  void open_configured_pools();
  void server_file_changed(const std::string& path);
  bool has_servers() const;
  Status must_be_database(const std::string& name) const;
  void apply_pauses();
  struct PoolKey {
    std::string database;
    std::string user;
    ServerStartup startup;
    auto operator<=>(const PoolKey&) const = default;
  };

  net::Loop& loop_;
  config::Config config_;
  Listeners listeners_;
  net::Timer tick_;
  MemoryGuard memory_;
  ServerFiles server_files_;
  DatabaseCheck database_check_;
  SecretWatch secret_watch_;
  Gatekeeper gatekeeper_;
  Passthrough passthrough_;
  std::map<PoolKey, std::unique_ptr<LivePool>> pools_;
  IntrusiveList<LivePool, DirtyPools> dirty_;
  std::unordered_map<std::uint32_t, Client*> clients_;  // by id, which is the cancel key's pid
  LivePool::ClientList startup_clients_;                // not in a pool yet
  LivePool::ClientList clients_on_trial_;               // likewise, and PostgreSQL has been asked
  LivePool::ClientList console_clients_;                // never in one
  std::vector<std::unique_ptr<Server>> graveyard_;      // freed at the end of the turn
  std::vector<Client*> resume_later_;                   // null: has gone meanwhile
  Bytes scratch_;
  std::uint32_t turns_behind_ = 0;
  std::uint32_t closing_clients_ = 0;  // gone from clients_, not yet from memory
  Cancels cancels_{loop_};

  std::array<std::uint64_t, 32> random_{};  // the kernel's, fetched in bulk; used from the back
  std::size_t random_left_ = 0;
  std::uint32_t client_ids_ = 0;
  std::uint64_t server_ids_ = 0;
  std::uint64_t client_connects_ = 0;
  std::uint64_t accept_paused_ = 0;
  std::array<std::uint64_t, pool::kRejectReasons> rejected_{};
  std::string version_;
  std::function<void()> reload_;
  ConsoleAverages averages_;
  Micros started_us_;
  Micros memory_logged_us_ = 0;
  Pauses pauses_;
  // In this order, and never back.
  enum class Life : std::uint8_t { Serves, Drains, EndsClients, Closed };
  Life life_ = Life::Serves;
  bool lost_unix_ = false;  // the Unix socket, and so it was said
  bool tick_due_ = false;
};

}  // namespace carpool::proxy
