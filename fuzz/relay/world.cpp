#include "relay/world.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "proxy/log.h"
#include "relay/simulated.h"
#include "relay/tag.h"

namespace carpool::fuzz {
namespace {

using pool::ClientState;
using pool::SlotState;

// Turns in which nothing moves, by when nothing will: libpq and a timer that is due need some.
constexpr int kQuietTurns = 4;
// A loop that turns so often has lost itself.
constexpr int kTurnsMax = 20'000;
// A thread has a cancel under way, and real time.
constexpr int kYieldsMax = 10'000'000;
}  // namespace

// ---- begin and end

World::World(Places& places) : places_(places) {
  begin_simulation();
  isolation_promised = true;
  config_.listen.port = 0;
  config_.listen.unix_socket_dir = places.folder();
  config_.admin.users = {"alice"};
  config_.server.host = places.folder();
  config_.server.port = Places::kFirstPort;
  config_.server.port_set = true;
  config_.server.ssl_mode = "disable";
  config_.server.password = "secret";  // so that libpq looks for none in the home folder
  config_.pool.size = 1;
  config_.pool.acquire_timeout_us = 5 * kMicrosPerSecond;
  config_.log.level = config::LogLevel::Error;
  config_.databases = {{"app", config_.server, config_.pool},
                       {"other", config_.server, config_.pool}};
  proxy::log::configure(config_.log);
  proxy_ = std::make_unique<proxy::Proxy>(loop_, config_, "/nowhere");
  CHECK(proxy_->listen());
  listening_ = socket_in(places.folder(), proxy_->port());
  drainer_.emplace(loop_, *proxy_, [this](int) { close(); });
}

World::~World() {
  for (auto& client : clients_) client.reset();
  askers_.clear();
  close();
  settle();
  drainer_.reset();
  proxy_.reset();
  backends_.clear();
  for (int fd = places_.accept(); fd >= 0; fd = places_.accept()) ::close(fd);
}

void World::close() {
  drainer_->stop();
  proxy_->close();
}

void World::run(Program program) {
  for (Step step{}; program.next(step);) {
    carry_out(step, program);
    if (!step.joined) settle();
  }
}

void World::end() {
  relent();
  settle();
  probe();
  for (auto& client : clients_) client.reset();
  askers_.clear();
  settle();
  // Cancels are repeated, cleaning has its time, and so has the end of a backend.
  for (const Micros us : {600'000, 5'200'000, 31'000'000, 31'000'000, 6'000'000}) {
    pass_and_settle(us);
  }
  check_nobody_left();
}

void World::relent() {
  welcome_ = Welcome::Proper;
  hold_cancels_ = false;
  if (!proxy_->closed()) CHECK(proxy_->resume(""));
  for (auto& backend : backends_) backend->relent();
  for (auto& client : clients_) {
    if (client == nullptr) continue;
    client->allow(Peer::kNoLimit);
    client->set_deaf(false);
  }
}

// Who has sent nothing but what is in order is answered, or told that it is not.
void World::probe() {
  std::array<std::uint32_t, kClients> before{};
  const auto answers = [](const std::unique_ptr<RelayClient>& client) {
    return client != nullptr && client->greeted() && client->orderly() && !client->leaves() &&
           !client->ended();
  };
  for (std::size_t i = 0; i < kClients; ++i) {
    if (!answers(clients_[i])) continue;
    before[i] = clients_[i]->readies();
    clients_[i]->say_probe();
  }
  settle();
  for (const Micros us : {600'000, 5'200'000, 31'000'000, 31'000'000}) pass_and_settle(us);
  for (std::size_t i = 0; i < kClients; ++i) {
    const auto& client = clients_[i];
    if (client == nullptr || client->ended() || somebody_lied_) continue;
    CHECK(client->greeted());                                    // or closed by now
    CHECK(!client->leaves());                                    // likewise
    CHECK(!client->orderly() || client->readies() > before[i]);  // answered
  }
}

void World::check_nobody_left() const {
  const pool::Snapshot now = proxy_->snapshot(true);
  CHECK(proxy_->cancels().empty());
  CHECK(now.clients == 0 && now.client_list.empty());
  for (const pool::PoolSnapshot& pool : now.pools) {
    for (const std::uint32_t clients : pool.clients) CHECK(clients == 0);
    for (const SlotState state :
         {SlotState::Leased, SlotState::Resetting, SlotState::Canceling, SlotState::Closing}) {
      CHECK(pool.servers[static_cast<std::size_t>(state)] == 0);
    }
    CHECK(pool.oldest_waiter_us == 0);
  }
}

// ---- what moves

void World::turn() {
  loop_.uv();  // which it looks at, rather than sleep
  loop_.run_once();
}

bool World::pump_servers() {
  bool moved = false;
  for (int fd = places_.accept(); fd >= 0; fd = places_.accept()) {
    backends_.push_back(std::make_unique<Backend>(fd, ++pids_, welcome_));
    moved = true;
  }
  for (auto& backend : backends_) {
    moved = backend->pump() || moved;
    if (backend->lies()) somebody_lied_ = true;
  }
  for (auto& asks : backends_) {
    if (!asks->cancels() || !asks->is_open() || hold_cancels_) continue;
    for (auto& backend : backends_) {
      if (backend->pid() * 7 == *asks->cancels()) backend->cancel();
    }
    asks->vanish();
    moved = true;
  }
  std::erase_if(backends_, [](const auto& backend) { return !backend->is_open(); });
  return moved;
}

bool World::pump() {
  bool moved = pump_servers();
  for (auto& client : clients_) {
    if (client != nullptr) moved = client->pump() || moved;
  }
  for (auto& asker : askers_) moved = asker->pump() || moved;
  std::erase_if(askers_, [](const auto& asker) { return asker->ended(); });
  return moved;
}

// Threads that bring one to PostgreSQL, which has not come there yet or is answered.
bool World::awaits_cancels() const {
  const auto held = std::count_if(backends_.begin(), backends_.end(), [](const auto& backend) {
    return backend->cancels().has_value();
  });
  return held < std::min<std::ptrdiff_t>(proxy_->cancels().size(), proxy::Cancels::kPlaceMax);
}

void World::settle() {
  int yields = 0;
  int turns = 0;
  for (int quiet = 0; quiet < kQuietTurns; ++quiet) {
    turn();
    if (pump()) {
      quiet = -1;
      CHECK(++turns < kTurnsMax);
    } else if (awaits_cancels()) {
      quiet = -1;
      CHECK(++yields < kYieldsMax);
      sched_yield();
    }
  }
}

void World::pass_and_settle(Micros us) {
  pass(us);
  settle();
}

}  // namespace carpool::fuzz
