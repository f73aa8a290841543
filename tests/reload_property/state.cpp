#include "state.h"

#include <algorithm>
#include <stdexcept>

#include "config/load.h"
#include "pg/scram_verifier.h"

namespace carpool::reload_property {
namespace {

// Whether the gatekeeper would let this user in by this password.
bool is_known(const proxy::Gatekeeper& keeper, const std::string& user,
              const std::string& password) {
  const pg::ScramExchange::Start start = keeper.scram_start(user, nullptr);
  return start.user_exists && start.verifier == pg::make_verifier(password, start.verifier.salt,
                                                                  start.verifier.iterations);
}

void wait_for(const std::function<bool()>& condition, const char* what) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error(what);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

Instance::Instance(const std::string& file)
    : reloader_(loop_, file, [](const std::string&) { return std::nullopt; }) {
  const config::LoadResult loaded = reloader_.load();
  if (!loaded.config) throw std::runtime_error(config::format(loaded.problems[0], file));
  proxy_.emplace(loop_, *loaded.config);
  reloader_.begin(*proxy_, loaded, {[] {}, [] {}, [](int) {}});
  thread_ = std::thread([this] { loop_.run(); });
  wait_for([this] { return on_loop([this] { return reloader_.started(); }); }, "it did not start");
}

Instance::~Instance() {
  loop_.post([this] {
    proxy_->close();
    loop_.stop();
  });
  thread_.join();
  proxy_.reset();
}

void Instance::reload() {
  on_loop([this] {
    reloader_.reload("test");
    return true;
  });
  wait_for([this] { return on_loop([this] { return !reloader_.reads(); }); }, "it never settled");
}

std::uint64_t Instance::rejected() {
  return on_loop([this] { return reloader_.view().reloads_rejected; });
}

std::string Instance::errors() {
  return on_loop([this] {
    std::string all;
    for (const std::string& error : reloader_.view().errors) all += error + "\n";
    return all;
  });
}

std::uint16_t Instance::port() {
  return on_loop([this] { return proxy_->port(); });
}

State Instance::state(const std::vector<std::pair<std::string, std::string>>& databases_and_users,
                      const std::vector<std::string>& users,
                      const std::vector<std::string>& passwords) {
  return on_loop([&, this] {
    State state;
    state.config = proxy_->config();
    const std::string port = std::to_string(proxy_->port());
    for (std::string where : proxy_->listeners().where()) {
      if (where.ends_with(port)) where.replace(where.size() - port.size(), port.size(), "PORT");
      state.where.push_back(where);
    }
    for (const auto& [database, user] : databases_and_users) proxy_->find_pool(database, user);
    for (const pool::PoolSnapshot& pool : proxy_->snapshot(false).pools) {
      const auto asked = std::pair(pool.database, pool.user);
      // One whose database is gone lives on until its last server has gone.
      const bool meant = std::find(databases_and_users.begin(), databases_and_users.end(), asked) !=
                         databases_and_users.end();
      if (!meant || !proxy_->settings_of(pool.database, {})) continue;
      state.pools.push_back(
          {pool.database, pool.user, pool.mode, pool.size, pool.min_idle, pool.overflow});
    }
    std::sort(state.pools.begin(), state.pools.end());
    const proxy::Gatekeeper& keeper = proxy_->gatekeeper();
    for (const std::string& user : users) {
      for (const std::string& password : passwords) {
        if (is_known(keeper, user, password)) state.users.push_back(user + "/" + password);
      }
    }
    if (keeper.tls() != nullptr) state.certificate = keeper.tls()->certificate();
    return state;
  });
}

}  // namespace carpool::reload_property
