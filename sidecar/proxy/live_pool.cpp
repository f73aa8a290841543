#include "proxy/live_pool.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/conninfo.h"
#include "config/place.h"
#include "pg/error_response.h"
#include "pg/messages.h"
#include "proxy/client.h"
#include "proxy/connector_environment.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "proxy/server.h"

namespace carpool::proxy {
namespace {

using pool::ClientState;
using pool::SlotState;

// While PostgreSQL stays away, its absence is logged this often.
constexpr Micros kRepeatError_us = 30 * kMicrosPerSecond;
// Two scrapes of Prometheus, as it is commonly set.
constexpr Micros kAbandoned_us = 2 * 60 * kMicrosPerSecond;
// A client that is being closed has so long to take what is queued for it.
constexpr Micros kFarewellMax_us = 10 * kMicrosPerSecond;
// SQLSTATE classes are two characters; PostgreSQL has about forty of them.
constexpr std::size_t kErrorClassesMax = 64;

// Of startup options in the name of a pool.
constexpr std::size_t kLabelOptionsMax = 64;

constexpr const char* kModeNames[] = {"session", "transaction", "statement"};

// Whether sessions begin with the same settings, as far as that is said here.
bool same_session(const config::Server& one, const config::Server& other) {
  const Result<config::UrlParts> first = config::conninfo_of(one, libpq_at_hand());
  const Result<config::UrlParts> second = config::conninfo_of(other, libpq_at_hand());
  if (!first || !second) return false;
  const auto same = [&](const char* name) {
    const auto in_first = first->find(name);
    const auto in_second = second->find(name);
    if (in_first == first->end() || in_second == second->end()) {
      return in_first == first->end() && in_second == second->end();
    }
    return in_first->second == in_second->second;
  };
  return same("options") && same("user") && same("dbname") && same("client_encoding");
}

}  // namespace

LivePool::LivePool(Proxy& proxy, std::string database, std::string user, ServerStartup startup,
                   const config::Database& settings, std::uint64_t seed)
    : proxy_(proxy),
      tables_(proxy.statement_bytes_max()),
      database_(std::move(database)),
      user_(std::move(user)),
      startup_(std::move(startup)),
      settings_(std::make_shared<const config::Database>(settings)),
      pool_(settings.pool, seed) {}

LivePool::~LivePool() {
  if (ListHook<DirtyPools>::linked()) proxy_.dirty_pools().remove(*this);
}

void LivePool::configure(const config::Database& settings, Micros now) {
  const bool otherwise = !(settings.server == settings_->server) ||
                         settings.pool.statement_timeout_us != settings_->pool.statement_timeout_us;
  const bool elsewhere = !config::same_place(settings.server, settings_->server, libpq_at_hand());
  const bool tells_otherwise = elsewhere || !same_session(settings.server, settings_->server);
  settings_ = std::make_shared<const config::Database>(settings);
  if (retired_) {
    retired_ = false;
    pool_.set_draining(proxy_.draining());
  }
  pool_.configure(settings.pool, now);
  if (otherwise) {
    open_anew();
    known_values_.clear();
    if (tells_otherwise && !welcome_.empty()) former_welcome_ = std::exchange(welcome_, {});
    elsewhere ? pool_.move() : pool_.reconnect();
  } else {
    pool_.for_each_slot(SlotState::Idle,
                        [](pool::Slot& slot) { static_cast<Server&>(slot).terms_changed(); });
  }
  mark_dirty();
}

void LivePool::open_anew() {
  pool_.for_each_slot(SlotState::Connecting, [](pool::Slot& slot) {
    static_cast<Server&>(slot).close("servers are opened otherwise now");
  });
  pool_.retry_at_once();
  last_connect_error_.clear();
  error_logged_us_ = 0;
  mark_dirty();
}

void LivePool::reconnect() {
  pool_.reconnect();
  known_values_.clear();
  mark_dirty();
}

void LivePool::retire() {
  retired_ = true;
  pool_.set_draining(true);
  mark_dirty();
}

void LivePool::mark_dirty() {
  if (!ListHook<DirtyPools>::linked()) proxy_.dirty_pools().push_back(*this);
}

void LivePool::run_plan(Micros now) {
  // Each action names objects of its own, and memory goes only after this turn, so that what one
  // action does cannot pull the ground from under the next.
  for (const pool::Action& action : pool_.plan(now)) {
    switch (action.kind) {
      case pool::Action::Kind::Grant:
        static_cast<Client*>(action.waiter)
            ->granted(*static_cast<Server*>(action.slot), action.waited_us);
        break;
      case pool::Action::Kind::Open: {
        auto* server = new Server(*this, proxy_.next_server_id());
        pool_.add(*server, now);
        server->open();
        break;
      }
      case pool::Action::Kind::Close:
        static_cast<Server*>(action.slot)->finish_closing("not needed any more");
        break;
      case pool::Action::Kind::TimeOut: {
        counters_.acquire_timeouts++;
        const auto [sqlstate, why] = why_no_server(action.waited_us);
        static_cast<Client*>(action.waiter)->fail_query(sqlstate, why);
        break;
      }
    }
  }
}

std::pair<const char*, std::string> LivePool::why_no_server(Micros waited_us) const {
  if (pool_.failing()) {
    // PostgreSQL being full is not PostgreSQL being away.
    const bool full = last_connect_kind_ == pool::ConnectError::TooManyConnections;
    return {full ? "53300" : "08001",
            fmt::format("{} has no server after {:.1f} s (pool.acquireTimeout): {}", describe(),
                        seconds(waited_us), last_connect_error_)};
  }
  if (pool_.paused()) {
    return {"53300", fmt::format("{} is paused, and lent no server within {:.1f} s "
                                 "(pool.acquireTimeout)",
                                 describe(), seconds(waited_us))};
  }
  return {"53300", fmt::format("{} had no server free within {:.1f} s (pool.acquireTimeout); "
                               "raise pool.size or pool.overflow, or look for long transactions",
                               describe(), seconds(waited_us))};
}

std::string LivePool::label() const {
  if (startup_.plain()) return database_;
  return startup_.replication.empty()
             ? fmt::format("{}?options={}", database_, startup_.options.substr(0, kLabelOptionsMax))
             : fmt::format("{}?replication={}", database_, startup_.replication);
}

std::string LivePool::describe() const {
  return fmt::format("pool {}/{} ({} of {} servers lent)", label(), user_,
                     pool_.count(SlotState::Leased),
                     settings_->pool.size + settings_->pool.overflow);
}

// ---- signing in

void LivePool::want_welcome() {
  pool_.set_wanted(1);
  mark_dirty();
}

void LivePool::server_opened(Server& server,
                             const std::vector<std::pair<std::string, std::string>>& parameters,
                             Micros now) {
  counters_.server_connects++;
  counters_.server_connect.observe(now - server.in_state_since_us());
  if (!last_connect_error_.empty()) {
    log::info("PostgreSQL is back", {{"pool", describe()}});
    last_connect_error_.clear();
    error_logged_us_ = 0;
  }
  welcome_.clear();
  former_welcome_.clear();
  for (const auto& [name, value] : parameters) pg::append_parameter_status(welcome_, name, value);
  if (server.proved_client_password()) {
    client_passwords_.taken(server.client_password(), now);
    proxy_.passthrough().taken({claimant(), server.client_password()});
  }
  pool_.opened(server, now);
  pool_.set_wanted(0);
  mark_dirty();
  clients(ClientState::Authenticating).for_each([](Client& client) { client.seek_greeting(); });
}

void LivePool::server_failed(Server& server, const ConnectFailure& failure, Micros now) {
  counters_.connect_errors[static_cast<std::size_t>(failure.kind)]++;
  if (error_logged_us_ == 0 || last_connect_error_ != failure.message ||
      now - error_logged_us_ >= kRepeatError_us) {
    error_logged_us_ = now;
    log::warn("cannot open a server",
              {{"pool", describe()},
               {"reason", pool::kConnectErrorNames[static_cast<std::size_t>(failure.kind)]},
               {"sqlstate", failure.sqlstate},
               {"error", failure.message}});
  }
  last_connect_error_ = failure.message;
  last_connect_kind_ = failure.kind;
  if (failure.of_password() && !server.client_password().empty()) {
    proxy_.passthrough().refused({claimant(), server.client_password()});
  }
  // A client has come in by another one since: that is tried before anybody is told.
  const std::string best = client_passwords_.best();
  const bool another = !best.empty() && best != server.client_password() && opens_as_its_clients();
  pool_.open_failed(server, now);
  if (another) pool_.retry_at_once();
  server.finish_closing(failure.message);
  // With servers left, the pool goes on with those: a wrong new password harms nobody.
  // What a client has asked for and PostgreSQL refuses will not get better.
  const bool refused =
      !startup_.plain() && failure.kind == pool::ConnectError::Other && !failure.sqlstate.empty();
  if ((failure.permanent() || refused) && pool_.open() == 0 && !another) reject_waiting(failure);
}

// Whether it shows PostgreSQL the passwords of its clients, having none of its own.
bool LivePool::opens_as_its_clients() const {
  const config::Server& server = settings_->server;
  const Result<config::UrlParts> parts = config::conninfo_of(server, libpq_at_hand());
  if (!parts || !server.password_file.empty()) return false;
  const auto part = [&parts](const char* name) {
    const auto found = parts->find(name);
    return found == parts->end() ? std::string() : found->second;
  };
  return part("password").empty() && (part("user").empty() || part("user") == user_);
}

void LivePool::password_taken(const std::string& password, Micros taken_us) {
  const std::string before = client_passwords_.best();
  client_passwords_.taken(password, taken_us);
  // What failed by another one, or by none, may go well now.
  if (client_passwords_.best() == before || !pool_.failing() || !opens_as_its_clients()) return;
  pool_.retry_at_once();
  mark_dirty();
}

void LivePool::forget_client_passwords() {
  client_passwords_ = {};
  pool_.for_each_slot([this](pool::Slot& slot) {
    if (!static_cast<Server&>(slot).client_password().empty()) pool_.outdate(slot);
  });
  mark_dirty();
}

Claimant LivePool::claimant() const {
  return {database_, user_, startup_.replication};
}

void LivePool::password_refused(const std::string& password) {
  client_passwords_.refused(password);
  pool_.for_each_slot([&](pool::Slot& slot) {
    if (static_cast<Server&>(slot).client_password() == password) pool_.outdate(slot);
  });
  mark_dirty();
}

void LivePool::reject_waiting(const ConnectFailure& failure) {
  const std::string sqlstate = failure.sqlstate.empty() ? "08001" : failure.sqlstate;
  pool_.set_wanted(0);
  clients(ClientState::Authenticating).for_each([&](Client& client) {
    proxy_.client_refused(pool::RejectReason::AuthFailed, this);
    client.close_with_error(sqlstate, failure.message);
  });
  clients(ClientState::Waiting).for_each([&](Client& client) {
    pool_.cancel_wait(client);
    client.fail_query(sqlstate, failure.message);
  });
}

// ---- time

void LivePool::tick(Micros now) {
  time_out_logins(now);
  clients(ClientState::Closing).for_each([now](Client& client) {
    if (now - client.in_state_since_us() >= kFarewellMax_us) client.part();
  });
  if (idle_limits_) {
    clients(ClientState::Idle).for_each([now](Client& client) { client.end_if_idle(now); });
  }
  for (const SlotState state :
       {SlotState::Leased, SlotState::Resetting, SlotState::Canceling, SlotState::Closing}) {
    pool_.for_each_slot(state,
                        [&](pool::Slot& slot) { static_cast<Server&>(slot).check_timeouts(now); });
  }
  mark_dirty();
}

void LivePool::time_out_logins(Micros now) {
  const Micros limit_us = settings_->pool.acquire_timeout_us;
  if (limit_us == 0) return;
  ClientList& waiting = clients(ClientState::Authenticating);
  while (Client* first = waiting.front()) {
    const Micros waited_us = now - first->in_state_since_us();
    if (waited_us < limit_us) break;
    counters_.acquire_timeouts++;
    const auto [sqlstate, why] = why_no_server(waited_us);
    first->close_with_error(sqlstate, why);
  }
  if (waiting.empty()) pool_.set_wanted(0);
}

bool LivePool::abandoned() const {
  const bool known = !welcome_.empty() && !retired_ && startup_.plain();
  return !known && client_count() == 0 && !has_servers();
}

bool LivePool::has_servers() const {
  bool any = false;
  pool_.for_each_slot([&](const pool::Slot&) { any = true; });
  return any;
}

bool LivePool::forgotten(Micros now) {
  if (!abandoned()) {
    abandoned_us_ = 0;
    return false;
  }
  if (abandoned_us_ == 0) abandoned_us_ = now;
  return retired_ || now - abandoned_us_ >= kAbandoned_us;
}

// ---- counting

std::uint32_t LivePool::client_count() const {
  std::uint32_t total = 0;
  for (const ClientList& list : clients_) total += list.size();
  return total;
}

void LivePool::count_error(std::string_view sqlstate) {
  const std::string_view name = sqlstate.size() == 5 ? sqlstate.substr(0, 2) : "XX";
  for (auto& [known, count] : counters_.errors_by_class) {
    if (known == name) {
      count++;
      return;
    }
  }
  if (counters_.errors_by_class.size() < kErrorClassesMax) {
    counters_.errors_by_class.emplace_back(name, 1);
  }
}

pool::PoolSnapshot LivePool::snapshot(Micros now) const {
  pool::PoolSnapshot snapshot;
  snapshot.database = label();
  snapshot.user = user_;
  snapshot.mode = kModeNames[static_cast<std::size_t>(settings_->pool.mode)];
  snapshot.size = settings_->pool.size;
  snapshot.min_idle = settings_->pool.min_idle;
  snapshot.overflow = settings_->pool.overflow;
  for (std::size_t i = 0; i < pool::kSlotStates; ++i) {
    snapshot.servers[i] = pool_.count(static_cast<SlotState>(i));
  }
  for (std::size_t i = 0; i < pool::kClientStates; ++i) snapshot.clients[i] = clients_[i].size();
  snapshot.oldest_waiter_us = pool_.oldest_wait_us(now);
  snapshot.paused = pool_.paused();
  snapshot.connecting_fails = pool_.failing();
  snapshot.last_connect_error = last_connect_error_;
  snapshot.prepared_statements = tables_.statements.size();
  snapshot.prepared_statement_bytes = tables_.statements.bytes();
  snapshot.counters = counters_;
  return snapshot;
}

}  // namespace carpool::proxy
