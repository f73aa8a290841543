// World: a whole relay in this process, between clients and a PostgreSQL that the harness plays.
// The Proxy, its pools, leases and libpq are the real ones, on the real loop; nothing sleeps: the
// clock is simulated, and after each step the loop turns until nothing moves.
//
// What must hold, whatever the input: see end(), RelayClient, Postgres, and CHECK and the
// sanitizers in all that runs.
#pragma once

#include <poll.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "drainer.h"
#include "net/loop.h"
#include "proxy/proxy.h"
#include "relay/backend.h"
#include "relay/client.h"
#include "relay/places.h"
#include "relay/program.h"

namespace carpool::fuzz {

class World {
 public:
  static constexpr std::size_t kClients = 4;

  explicit World(Places& places);
  ~World();

  void run(Program program);
  // Whoever was kept back goes on, who can be answered is, all leave, and nothing is left.
  void end();

 private:
  void carry_out(const Step& step, Program& program);
  void carry_out_of_client(const Step& step, Program& program);
  void carry_out_of_server(const Step& step, Program& program);
  void connect(std::size_t which, std::uint8_t how);
  void cancel(std::size_t which, bool wrong_key);
  void reload(std::uint8_t key, std::uint8_t value);
  void control(std::uint8_t what);
  void close();

  // By number, among those that are there; null: none.
  Backend* server(std::uint8_t which);
  void turn();
  // Whether something has moved.
  bool pump();
  void look();
  bool answer_cancels();
  bool awaits_cancels() const;
  void settle();
  void pass_and_settle(Micros us);
  void relent();
  void probe();
  bool nobody_is_left() const;

  Places& places_;
  net::Loop loop_;
  config::Config config_;
  std::unique_ptr<proxy::Proxy> proxy_;
  std::optional<Drainer> drainer_;
  std::array<std::unique_ptr<RelayClient>, kClients> clients_;
  std::vector<std::unique_ptr<RelayClient>> askers_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<pollfd> looked_;
  std::string listening_;
  Welcome welcome_ = Welcome::Proper;
  std::uint32_t pids_ = 1000;
  bool hold_cancels_ = false;
  bool somebody_lied_ = false;
};

}  // namespace carpool::fuzz
