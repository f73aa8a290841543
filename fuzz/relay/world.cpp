#include "relay/world.h"

#include <poll.h>
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
    if (nobody_is_left()) break;
    pass_and_settle(us);
  }
  if (somebody_lied_ && !nobody_is_left()) {
    // Who has said Terminate waits as long as its query runs, and one that lies never says the end.
    for (auto& backend : backends_) backend->vanish();
    settle();
    pass_and_settle(6'000'000);
  }
  CHECK(nobody_is_left());
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
  const auto left = [&] {
    std::size_t count = 0;
    for (std::size_t i = 0; i < kClients; ++i) {
      const auto& client = clients_[i];
      if (client == nullptr || client->ended()) continue;
      // Who has not come in, or leaves, is closed.
      const bool closes = !client->greeted() || client->leaves();
      if (closes || (client->orderly() && client->readies() == before[i])) ++count;
    }
    return count;
  };
  for (const Micros us : {600'000, 5'200'000, 31'000'000, 31'000'000}) {
    if (left() > 0) pass_and_settle(us);
  }
  CHECK(somebody_lied_ || left() == 0);
}

bool World::nobody_is_left() const {
  const pool::Snapshot now = proxy_->snapshot(true);
  if (now.clients > 0 || !now.client_list.empty() || !proxy_->cancels().empty()) return false;
  return std::all_of(now.pools.begin(), now.pools.end(), [](const pool::PoolSnapshot& pool) {
    std::uint32_t left = 0;
    for (const std::uint32_t clients : pool.clients) left += clients;
    for (const SlotState state :
         {SlotState::Leased, SlotState::Resetting, SlotState::Canceling, SlotState::Closing}) {
      left += pool.servers[static_cast<std::size_t>(state)];
    }
    return left == 0 && pool.oldest_waiter_us == 0;
  });
}

// ---- what moves

void World::turn() {
  loop_.uv();  // which it looks at, rather than sleep
  loop_.run_once();
}

// Who has something to read, asked of the kernel once for all.
void World::look() {
  looked_.clear();
  const auto add = [this](int fd) { looked_.push_back({fd, POLLIN, 0}); };
  for (const int fd : places_.fds()) add(fd);
  for (const auto& client : clients_) add(client == nullptr ? -1 : client->readable_fd());
  for (const auto& asker : askers_) add(asker->readable_fd());
  for (const auto& backend : backends_) add(backend->readable_fd());
  CHECK(poll(looked_.data(), looked_.size(), 0) >= 0);
}

bool World::pump() {
  look();
  auto looked = looked_.begin();
  const auto comes = [&looked] { return looked++->revents != 0; };
  bool moved = false;
  bool somebody_knocks = false;
  for (std::size_t i = 0; i < Places::kCount; ++i) somebody_knocks = comes() || somebody_knocks;
  for (auto& client : clients_) {
    const bool some = comes();
    if (client != nullptr) moved = client->pump(some) || moved;
  }
  for (auto& asker : askers_) moved = asker->pump(comes()) || moved;
  for (auto& backend : backends_) {
    moved = backend->pump(comes()) || moved;
    if (backend->lies()) somebody_lied_ = true;
  }
  std::erase_if(askers_, [](const auto& asker) { return asker->ended(); });
  moved = answer_cancels() || moved;
  std::erase_if(backends_, [](const auto& backend) { return !backend->is_open(); });
  for (int fd = somebody_knocks ? places_.accept() : -1; fd >= 0; fd = places_.accept()) {
    backends_.push_back(std::make_unique<Backend>(fd, ++pids_, welcome_));
    moved = true;
  }
  return moved;
}

bool World::answer_cancels() {
  bool moved = false;
  for (auto& asks : backends_) {
    if (!asks->cancels() || !asks->is_open() || hold_cancels_) continue;
    for (auto& backend : backends_) {
      if (backend->pid() * 7 == *asks->cancels()) backend->cancel();
    }
    asks->vanish();
    moved = true;
  }
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
