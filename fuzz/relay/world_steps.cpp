// World, the steps of a program.
#include <utility>

#include "base/check.h"
#include "relay/simulated.h"
#include "relay/tag.h"
#include "relay/world.h"

namespace carpool::fuzz {
namespace {

constexpr Micros kTimes[] = {1'000,      50'000,     100'000,    500'000,     600'000,
                             1'000'000,  2'000'000,  4'200'000,  5'200'000,   10'000'000,
                             15'500'000, 31'000'000, 61'000'000, 301'000'000, 3'700'000'000};

constexpr std::size_t kAskersMax = 8;

std::uint64_t tags = 0;

}  // namespace

void World::carry_out(const Step& step, Program& program) {
  if (step.op < Op::HoldSteps) return carry_out_of_client(step, program);
  if (step.op < Op::Welcoming) return carry_out_of_server(step, program);
  switch (step.op) {
    case Op::Welcoming:
      welcome_ = static_cast<Welcome>(step.a % kWelcomes);
      return;
    case Op::HoldCancels:
      hold_cancels_ = (step.a & 1) != 0;
      return;
    case Op::Pass:
      return pass(kTimes[step.a % std::size(kTimes)]);
    case Op::Reload:
      return reload(step.a, step.b);
    case Op::Drain:
      if (!proxy_->closed()) drainer_->drain("fuzz", (step.a & 1) != 0);
      return;
    case Op::Control:
      return control(step.a);
    default:
      for (int i = 0; i <= step.a % 8; ++i) turn();
      return;
  }
}

void World::carry_out_of_client(const Step& step, Program& program) {
  const std::size_t which = step.who % kClients;
  if (step.op == Op::Connect) return connect(which, step.a);
  if (step.op == Op::Cancel) return cancel(which, (step.a & 1) != 0);
  const ByteSpan payload = step.op == Op::Raw ? program.payload(step.a) : ByteSpan();
  RelayClient* client = clients_[which].get();
  if (client == nullptr) return;
  switch (step.op) {
    case Op::Message:
      return client->say_message(step.a, step.b);
    case Op::Burst:
      return client->say_burst(step.a, step.b);
    case Op::Raw:
      return client->say_raw(payload);
    case Op::Hold:
      return client->hold();
    case Op::Allow:
      return client->allow(step.a == 0 ? Peer::kNoLimit : step.a);
    case Op::Shut:
      return client->shut_down();
    case Op::Vanish:
      clients_[which].reset();
      return;
    default:
      return client->set_deaf((step.a & 1) != 0);
  }
}

void World::connect(std::size_t which, std::uint8_t how) {
  if (clients_[which] != nullptr && !clients_[which]->ended()) return;
  const int fd = connect_to(listening_);
  if (fd < 0) return;
  clients_[which] = std::make_unique<RelayClient>(fd, make_tag(++tags * 0x9e3779b97f4a7c15));
  clients_[which]->start(how);
}

void World::cancel(std::size_t which, bool wrong_key) {
  const RelayClient* client = clients_[which].get();
  if (client == nullptr || !client->greeted() || askers_.size() >= kAskersMax) return;
  const int fd = connect_to(listening_);
  if (fd < 0) return;
  askers_.push_back(std::make_unique<RelayClient>(fd, ""));
  askers_.back()->ask_to_cancel(*client, wrong_key);
}

Backend* World::server(std::uint8_t which) {
  std::vector<Backend*> all;
  for (auto& backend : backends_) {
    if (backend->is_server()) all.push_back(backend.get());
  }
  return all.empty() ? nullptr : all[which % all.size()];
}

void World::carry_out_of_server(const Step& step, Program& program) {
  const ByteSpan payload = step.op == Op::RawServer ? program.payload(step.a) : ByteSpan();
  Backend* backend = server(step.who);
  if (backend == nullptr) return;
  Postgres* postgres = backend->postgres();
  switch (step.op) {
    case Op::HoldSteps:
      return backend->hold_steps();
    case Op::Step:
      return backend->step(step.a == 0 ? Peer::kNoLimit : step.a);
    case Op::HoldOut:
      return backend->hold();
    case Op::AllowOut:
      return backend->allow(step.a == 0 ? Peer::kNoLimit : step.a);
    case Op::Drop:
      return backend->vanish();
    case Op::DeafServer:
      return backend->set_deaf((step.a & 1) != 0);
    case Op::Lie:
      return backend->lie(step.a, step.b);
    case Op::RawServer:
      return backend->say_rubbish(payload);
    default:
      break;
  }
  if (postgres == nullptr) return;
  switch (step.op) {
    case Op::Fail:
      return postgres->fail_next(step.a);
    case Op::Rows:
      return postgres->set_rows(step.a % 9, (1u << (step.b % 17)) - 1);
    case Op::Unasked:
      return postgres->say_unasked(step.a);
    default:
      return postgres->end("57P01");
  }
}

void World::control(std::uint8_t what) {
  if (proxy_->closed()) return;
  switch (what % 10) {
    case 0:
      CHECK(proxy_->pause(""));
      return;
    case 1:  // refused where there is none of that name
      static_cast<void>(proxy_->pause("app"));
      return;
    case 2:
      static_cast<void>(proxy_->resume("app"));
      return;
    case 3:
      CHECK(proxy_->resume(""));
      return;
    case 4:
      CHECK(proxy_->reconnect(""));
      return;
    case 5:
      static_cast<void>(proxy_->kill("app"));
      return;
    case 6:
      static_cast<void>(proxy_->snapshot(true));
      return proxy_->log_stats();
    case 7:
      return proxy_->look_at_listeners();
    case 8:
      return drainer_->end_now();
    default:
      return proxy_->end_clients();
  }
}

void World::reload(std::uint8_t key, std::uint8_t value) {
  using config::PoolMode;
  config::Pool& pool = config_.pool;
  config::Server& server = config_.server;
  const auto one_of = [value]<typename T>(std::initializer_list<T> all) {
    return std::data(all)[value % all.size()];
  };
  constexpr Micros kSecond = kMicrosPerSecond;
  std::vector<std::string> names = {"app", "other"};
  switch (key % 20) {
    case 0:
      pool.mode = one_of({PoolMode::Transaction, PoolMode::Session, PoolMode::Statement});
      break;
    case 1:
      pool.size = one_of({1u, 2u, 3u});
      break;
    case 2:
      pool.overflow = one_of({0u, 1u});
      break;
    case 3:
      pool.acquire_timeout_us = one_of({5 * kSecond, kSecond, 30 * kSecond});
      break;
    case 4:
      pool.waiters_max = one_of({100u, 1u, 2u});
      break;
    case 5:
      pool.query_timeout_us = one_of({Micros{0}, kSecond});
      break;
    case 6:
      pool.idle_transaction_timeout_us = one_of({Micros{0}, kSecond});
      break;
    case 7:
      pool.session_state = one_of(
          {config::SessionState::Follow, config::SessionState::Pin, config::SessionState::Refuse});
      break;
    case 8:
      pool.reset_query = one_of({"DISCARD ALL", "", "SELECT 1"});
      break;
    case 9:
      pool.prepared_statements_max = one_of({500u, 1u, 2u});
      break;
    case 10:
      pool.min_idle = one_of({0u, 1u});
      break;
    case 11:
      config_.listen.clients_max = one_of({1000u, 1u, 3u});
      break;
    case 12:
      names.resize(value % 3);
      if (names.empty()) names = {"*"};
      break;
    case 13:
      server.port = static_cast<std::uint16_t>(Places::kFirstPort + value % Places::kCount);
      break;
    case 14:
      server.user = one_of({"", "bob"});
      break;
    case 15:
      pool.idle_timeout_us = one_of({300 * kSecond, kSecond});
      break;
    case 16:
      pool.max_lifetime_us = one_of({3600 * kSecond, 2 * kSecond});
      break;
    case 17:
      pool.statement_timeout_us = one_of({Micros{0}, 2 * kSecond});
      break;
    case 18:
      server.connect_timeout_us = one_of({10 * kSecond, 2 * kSecond});
      break;
    default:
      config_.drain.timeout_us = one_of({25 * kSecond, kSecond});
      break;
  }
  if (pool.mode == PoolMode::Session && pool.reset_query != "DISCARD ALL") {
    isolation_promised = false;
  }
  config_.databases.clear();
  for (const std::string& name : names) config_.databases.push_back({name, server, pool});
  if (!proxy_->closed()) CHECK(proxy_->apply(config_));
}

}  // namespace carpool::fuzz
