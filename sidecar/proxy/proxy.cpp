#include "proxy/proxy.h"

#include <fmt/format.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "config/conninfo.h"
#include "pg/replication.h"
#include "proxy/client.h"
#include "proxy/connector_environment.h"
#include "proxy/log.h"
#include "proxy/server.h"

namespace carpool::proxy {

using pool::ClientState;
using pool::SlotState;

namespace {
// What a client may cost that has said nothing yet, its sockets' part included.
constexpr std::size_t kAccepted_bytes = 16 * kKiB;
// Between two looks for memory that the allocator could give back, and two lines in the log.
constexpr Micros kMemoryRest_us = kMicrosPerSecond;
// Pools that nobody could sign in to, kept for their counters.
constexpr std::size_t kAbandonedPoolsMax = 16;
}  // namespace

Proxy::Proxy(net::Loop& loop, const config::Config& config, const std::string& cgroups)
    : loop_(loop),
      config_(config),
      listeners_(loop,
                 {[this](int fd) { accepted(fd); },
                  [this](bool rests, const std::string& why) { accepting_rests(rests, why); }}),
      memory_(cgroups),
      server_files_(loop),
      database_check_(loop, server_files_),
      secret_watch_(loop, [this](const std::string& path) { server_file_changed(path); }),
      passthrough_(
          loop, server_files_, [this](const Claimant& who) { return place_of_trial(config_, who); },
          [this](const Claimant& who, const std::string& password) {
            password_refused(who, password);
          }),
      started_us_(loop.now_us()) {
  loop_.set_turn_end([this] { turn_end(); });
  // Times are judged when all that has come by then has been read: after a freeze, too.
  tick_.start(loop_, kTick_us, kTick_us, [this] { tick_due_ = true; });
  averages_.begin(started_us_);
  update_database_check();
  open_configured_pools();
  look_at_server_files();
}

Proxy::~Proxy() {
  close();
  while (!clients_.empty() || closing_clients_ > 0 || !cancels_.empty() || has_servers()) {
    loop_.run_once();
  }
  graveyard_.clear();
  pools_.clear();
  loop_.set_turn_end(nullptr);
}

std::uint64_t Proxy::random() {
  if (random_left_ == 0) {
    // At most 256 bytes come whole and uninterrupted (getrandom(2)).
    static_assert(sizeof random_ <= 256);
    CHECK(getrandom(random_.data(), sizeof random_, 0) == static_cast<ssize_t>(sizeof random_));
    random_left_ = random_.size();
  }
  return std::exchange(random_[--random_left_], 0);
}

std::array<std::uint32_t, 4> Proxy::token() {
  std::array<std::uint32_t, 4> token;
  // Not 0 and not "unknown" (705), which PostgreSQL does not take for known types.
  for (std::uint32_t& part : token) part = static_cast<std::uint32_t>(random()) | 1u << 31;
  return token;
}

// ---- clients

void Proxy::accepting_rests(bool rests, const std::string& why) {
  if (!rests) return log::info("accepting again");
  accept_paused_++;
  log::error("no descriptors left: not accepting until there are some",
             {{"error", why}, {"clients", client_count()}});
}

void Proxy::accepted(int fd) {
  client_connects_++;
  const bool critical = memory_.level() == MemoryGuard::Level::Critical;
  if (critical || clients_.size() >= std::size_t{config_.listen.clients_max} + kRefusedMax) {
    client_refused(critical ? pool::RejectReason::Memory : pool::RejectReason::ClientsMax, nullptr);
    ::close(fd);
    return;
  }
  memory_.passed(kAccepted_bytes);
  // The process number of the cancel key: positive, as drivers expect, and not in use.
  do {
    client_ids_ = client_ids_ >= INT32_MAX ? 1 : client_ids_ + 1;
  } while (clients_.contains(client_ids_));
  auto* client = new Client(*this, client_ids_, static_cast<std::uint32_t>(random()));
  if (!client->start(fd)) {
    delete client;
    ::close(fd);
    return;
  }
  clients_.emplace(client_ids_, client);
  client->on_readable();  // the startup packet is there, as a rule: see net/listener.cpp
}

void Proxy::client_gone(Client& client) {
  clients_.erase(client.id());
  std::replace(resume_later_.begin(), resume_later_.end(), &client, static_cast<Client*>(nullptr));
  closing_clients_++;
}

void Proxy::client_refused(pool::RejectReason reason, LivePool* pool) {
  rejected_[static_cast<std::size_t>(reason)]++;
  if (pool != nullptr) pool->counters().clients_rejected[static_cast<std::size_t>(reason)]++;
}

std::optional<config::Database> Proxy::settings_in(const config::Config& config,
                                                   const std::string& database,
                                                   const ServerStartup& startup) {
  const config::Database* found = config.find_database(database);
  const std::string& replication = startup.replication;
  // Physical replication is not of one database, and its clients name none.
  if (found == nullptr && pg::is_physical(replication)) {
    found = &config.databases.front();
  }
  if (found == nullptr) return std::nullopt;
  config::Database settings = *found;
  if (startup.plain()) return settings;
  settings.pool.min_idle = 0;
  if (replication.empty()) return settings;
  // A session of the client's own: its server is closed with it, and may run one command for ever.
  settings.pool.mode = config::PoolMode::Session;
  settings.pool.reset_query.clear();
  settings.pool.query_timeout_us = 0;
  settings.pool.statement_timeout_us = 0;
  settings.pool.idle_transaction_timeout_us = 0;
  return settings;
}

// A database that is not configured is told of only to whoever has shown its password: that is
// tried on the first one, so that a stranger sees the same either way.
config::Database Proxy::place_of_trial(const config::Config& config, const Claimant& who) {
  const std::optional<config::Database> settings =
      settings_in(config, who.database, {"", who.replication});
  return settings ? *settings : config.databases.front();
}

void Proxy::password_refused(const Claimant& who, const std::string& password) {
  for (auto& [key, pool] : pools_) {
    if (key.database == who.database && key.user == who.user) pool->password_refused(password);
  }
}

LivePool* Proxy::find_pool(const std::string& database, const std::string& user,
                           const ServerStartup& startup) {
  const PoolKey key{database, user, startup};
  auto found = pools_.find(key);
  // A pool whose database is not configured any more takes no new clients.
  if (found != pools_.end() && !found->second->retired()) return found->second.get();
  const std::optional<config::Database> settings = settings_of(database, startup);
  if (!settings) return nullptr;
  if (found != pools_.end()) {
    found->second->configure(*settings, loop_.now_us());
  } else {
    if (pools_.size() >= kPoolsMax) return nullptr;
    found = pools_
                .emplace(key, std::make_unique<LivePool>(*this, database, user, startup, *settings,
                                                         random()))
                .first;
    found->second->pool().set_draining(draining());
    found->second->pool().set_paused(pauses_.paused(database));
  }
  return found->second.get();
}

std::uint32_t Proxy::busy_clients() const {
  std::uint32_t busy = 0;
  for (const auto& [key, pool] : pools_) {
    busy +=
        pool->clients(ClientState::Waiting).size() + pool->clients(ClientState::Attached).size();
  }
  return busy;
}

// ---- turns and ticks

void Proxy::turn_end() {
  listeners_.close_former();
  if (memory_.level() == MemoryGuard::Level::Critical) relieve_memory();
  // After a pause of the whole node more has arrived than one turn takes: nobody is judged by the
  // clock before that has been read, as long as it does not go on for ever.
  if (loop_.may_have_more() && ++turns_behind_ < kTurnsBehindMax) {
    loop_.post([] {});  // another turn, soon
    return;
  }
  turns_behind_ = 0;
  const Micros now = loop_.now_us();
  if (std::exchange(tick_due_, false)) tick();
  // What one plan does may call for another; a bound, in case they never agree.
  for (int round = 0; round < 8 && !(dirty_.empty() && resume_later_.empty()); ++round) {
    for (std::uint32_t left = dirty_.size(); left > 0 && !dirty_.empty(); --left) {
      LivePool& pool = *dirty_.front();
      dirty_.remove(pool);
      pool.run_plan(now);
    }
    // One may call for another, or end one.
    const std::size_t due = resume_later_.size();
    for (std::size_t i = 0; i < due; ++i) {
      if (Client* client = std::exchange(resume_later_[i], nullptr)) client->resume();
    }
    resume_later_.erase(resume_later_.begin(),
                        resume_later_.begin() + static_cast<std::ptrdiff_t>(due));
  }
  if (!dirty_.empty() || !resume_later_.empty()) loop_.post([] {});  // another turn, soon
  graveyard_.clear();
}

// ---- memory

std::string Proxy::describe_memory() const {
  return fmt::format("{} of {} MiB of the container's memory limit are in use",
                     memory_.used_bytes() / kMiB, memory_.limit_bytes() / kMiB);
}

std::size_t Proxy::statement_bytes_max() const {
  constexpr std::size_t kMost = pg::StatementTable::kBytesMax;
  return memory_.limited() ? std::min<std::size_t>(kMost, memory_.limit_bytes() / 4) : kMost;
}

void Proxy::watch_memory(Micros now) {
  memory_.look();
  if (memory_.level() == MemoryGuard::Level::Fine) return;
  if (now - memory_logged_us_ < kMemoryRest_us) return;
  memory_logged_us_ = now;
  // What was freed may still be the allocator's: newcomers are not refused for that.
  malloc_trim(0);
  memory_.look();
  if (memory_.level() == MemoryGuard::Level::Fine) return;
  log::warn("memory is nearly used up: new clients are refused", {{"used", memory_.used_bytes()},
                                                                  {"limit", memory_.limit_bytes()},
                                                                  {"clients", client_count()}});
}

void Proxy::relieve_memory() {
  malloc_trim(0);
  memory_.look();
  if (memory_.level() != MemoryGuard::Level::Critical) return;
  std::vector<std::pair<std::uint64_t, Client*>> holders;
  for (const auto& [id, client] : clients_) {
    const std::uint64_t held = client->held_bytes(memory_.counts_sockets());
    if (held >= kHeldMin) holders.emplace_back(held, client);
  }
  std::sort(holders.rbegin(), holders.rend());
  std::uint64_t left = memory_.excess_bytes();
  std::uint32_t closed = 0;
  const std::string why = "closed for want of memory: " + describe_memory();
  for (const auto& [held, client] : holders) {
    if (left == 0) break;
    left -= std::min(left, held);
    client_refused(pool::RejectReason::Memory, client->live_pool());
    client->close_with_error("53200", why);
    ++closed;
  }
  if (closed > 0) {
    log::error("clients closed for want of memory", {{"closed", closed},
                                                     {"used", memory_.used_bytes()},
                                                     {"limit", memory_.limit_bytes()},
                                                     {"clients", client_count()}});
  }
  memory_.relieved();
}

void Proxy::tick() {
  const Micros now = loop_.now_us();
  while (Client* first = startup_clients_.front()) {
    if (now - first->in_state_since_us() < kStartupMax_us) break;
    first->close_unknown(kStartupMax_us);
  }
  console_clients_.for_each([](Client& client) { client.look_at_console(); });
  watch_memory(now);
  if (averages_.is_due(now)) averages_.end_period(totals_of(snapshot(false)), now);
  update_database_check();
  for (auto& [key, pool] : pools_) pool->tick(now);
  forget_pools(now);
}

void Proxy::forget_pools(Micros now) {
  // Its servers hold on to a pool's tables until their memory is gone.
  graveyard_.clear();
  std::size_t abandoned = 0;
  for (auto i = pools_.begin(); i != pools_.end();) {
    LivePool& pool = *i->second;
    // Clients choose the names: there must not be many of them.
    if (pool.forgotten(now) || (pool.abandoned() && ++abandoned > kAbandonedPoolsMax)) {
      i = pools_.erase(i);
    } else {
      ++i;
    }
  }
}

void Proxy::bury(Server& server) {
  server.live_pool().pool().removed(server);
  cancels_.forget(server);
  graveyard_.emplace_back(&server);
}

// ---- cancels

bool Proxy::cancel_request(std::uint32_t pid, ByteSpan secret, const Client& asking) {
  const auto found = clients_.find(pid);
  // A wrong key gets no answer, as with PostgreSQL: it might be guessing.
  if (found == clients_.end()) return false;
  const Bytes key = found->second->cancel_key();
  if (key.size() != secret.size() || CRYPTO_memcmp(key.data(), secret.data(), key.size()) != 0) {
    return false;
  }
  Client& client = *found->second;
  if (client.state() == ClientState::Waiting) {
    client.live_pool()->pool().cancel_wait(client);
    client.fail_query("57014", "canceling statement due to user request");
    return false;
  }
  return client.server() != nullptr && !client.server()->rests() &&
         client.server()->cancel_for(asking);
}

void Proxy::cancel_is_over(std::uint32_t asking) {
  const auto found = clients_.find(asking);
  if (found != clients_.end()) found->second->close();
}

// ---- control

Status Proxy::apply(const config::Config& config) {
  // The one part that may fail comes first.
  if (listeners_.is_open()) {
    if (Status status = listeners_.listen_on(config.listen); !status) return status;
  }
  const config::Config before = std::exchange(config_, config);
  passthrough_.forget([&](const Claimant& who) {
    const config::Database was = place_of_trial(before, who);
    const config::Database is = place_of_trial(config_, who);
    return was.name != is.name || !(was.server == is.server);
  });
  if (before.auth.mode == config::AuthMode::Passthrough && config.auth.mode != before.auth.mode) {
    passthrough_.forget([](const Claimant&) { return true; });
    for (auto& [key, pool] : pools_) pool->forget_client_passwords();
  }
  const Micros now = loop_.now_us();
  for (auto& [key, pool] : pools_) {
    const std::optional<config::Database> settings = settings_of(key.database, key.startup);
    if (!settings) {
      pool->retire();
    } else if (pool->retired() || !(*settings == pool->settings())) {
      pool->configure(*settings, now);
    }
  }
  apply_pauses();
  update_database_check();
  open_configured_pools();
  look_at_server_files();
  return Ok{};
}

void Proxy::close_servers(LivePool& pool, const char* why) {
  pool.pool().for_each_slot([why](pool::Slot& slot) {
    Server& server = static_cast<Server&>(slot);
    if (!server.closing()) {
      server.close(why);
    } else if (server.stream().is_open()) {
      server.disconnect();
    }
  });
}

void Proxy::close() {
  if (closed()) return;
  life_ = Life::Closed;
  tick_.stop();
  passthrough_.close();
  database_check_.stop();
  listeners_.close();
  std::vector<Client*> clients;
  for (const auto& [id, client] : clients_) clients.push_back(client);
  for (Client* client : clients) client->close_with_error("57P01", "Carpool is shutting down");
  for (auto& [key, pool] : pools_) {
    pool->pool().set_paused(true);
    close_servers(*pool, "Carpool is shutting down");
  }
}

bool Proxy::has_servers() const {
  return std::any_of(pools_.begin(), pools_.end(),
                     [](const auto& entry) { return entry.second->has_servers(); });
}

std::string Proxy::why_no_database() const {
  if (!database_check_.running() || database_check_.ok()) return "";
  return database_check_.why();
}

// Checked as a pool that is in use would connect, or else as the first configured database says.
void Proxy::update_database_check() {
  if (config_.admin.ready_when != config::ReadyWhen::Database) return database_check_.stop();
  for (const auto& [key, pool] : pools_) {
    if (pool->abandoned() || pool->retired()) continue;
    return database_check_.start(pool->settings(), pool->database(), pool->user());
  }
  const config::Database& first = config_.databases.front();
  const std::string database = first.name == "*" ? "postgres" : first.name;
  database_check_.start(first, database, "postgres");
}

// A pool that keeps servers warm need not wait for its first client, where the file says whose they
// are: it names the database, and the user under which clients come.
std::set<std::pair<std::string, std::string>> Proxy::pools_of_file() const {
  std::set<std::pair<std::string, std::string>> wanted;
  for (const config::Database& database : config_.databases) {
    if (database.name == "*" || database.pool.min_idle == 0) continue;
    Result<config::UrlParts> parts = config::conninfo_of(database.server, libpq_at_hand());
    if (!parts || (*parts)["user"].empty()) continue;
    wanted.emplace(database.name, (*parts)["user"]);
  }
  return wanted;
}

void Proxy::open_configured_pools() {
  const std::set<std::pair<std::string, std::string>> wanted = pools_of_file();
  // One that the file wants no more, as when its user has changed, would stay warm for nobody.
  for (auto& [key, pool] : pools_) {
    if (!pool->made_for_file() || pool->client_count() > 0) continue;
    if (!wanted.contains({key.database, key.user})) pool->retire();
  }
  for (const auto& [database, user] : wanted) {
    const bool known = pools_.contains(PoolKey{database, user, {}});
    LivePool* pool = find_pool(database, user);
    if (pool == nullptr) continue;
    if (!known) pool->set_made_for_file();
    pool->mark_dirty();
  }
}

}  // namespace carpool::proxy
