// A Carpool in this process, as `carpool run` makes it but for the admin ports: a loop on a thread
// of its own, a Proxy, and the Reloader that brings a file into force. And what is in force of it,
// as a value that can be compared: unmasked, and as it acts, not as it says.
#pragma once

#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "net/loop.h"
#include "proxy/proxy.h"
#include "reloader.h"

namespace carpool::reload_property {

// One pool: what it may do, as it is and as the configuration in force would make it.
struct PoolState {
  std::string database, user, mode;
  std::uint32_t size = 0;
  std::uint32_t min_idle = 0;
  std::uint32_t overflow = 0;
  auto operator<=>(const PoolState&) const = default;
};

struct State {
  config::Config config;
  std::vector<std::string> where;  // it listens, by the kernel's word; its own port is written PORT
  std::vector<PoolState> pools;
  std::vector<std::string> users;  // "alice/a": by which password they are known
  Bytes certificate;               // empty: no TLS
};

class Instance {
 public:
  // Starts with the file, and waits until clients can connect.
  explicit Instance(const std::string& file);
  ~Instance();

  // Looks at the file now, and waits until what came of it is settled.
  void reload();
  // `rejected` of all changes so far.
  std::uint64_t rejected();
  std::string errors();
  std::uint16_t port();
  // Pools of these users are made where they may be, as clients of theirs would make them.
  State state(const std::vector<std::pair<std::string, std::string>>& databases_and_users,
              const std::vector<std::string>& users, const std::vector<std::string>& passwords);

 private:
  template <typename Fn>
  auto on_loop(Fn fn) {
    auto value = loop_.call(std::move(fn), std::chrono::minutes(1));
    if (!value) throw std::runtime_error("the loop does not answer");
    return *value;
  }

  net::Loop loop_;
  Reloader reloader_;
  std::optional<proxy::Proxy> proxy_;
  std::thread thread_;
};

}  // namespace carpool::reload_property
