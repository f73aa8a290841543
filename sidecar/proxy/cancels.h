// Cancels: the cancel requests that are on their way to PostgreSQL. Where the libpq at hand can,
// the loop sends them; else each blocks a thread of its own for as long as its PostgreSQL likes, so
// that there are few to one place, and some places at once: where one takes connections and never
// answers, the cancels of the others go on.
//
// A server is told once its cancel has landed, or failed; it is never told after forget(). One
// whose server is gone is given up; where a thread has it, it is waited for, and counts, until that
// comes back.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "net/loop.h"
#include "proxy/connector.h"

namespace carpool::proxy {

class Server;

class Cancels {
 public:
  // Threads that run at once: to one place, and in all.
  static constexpr std::uint32_t kPlaceMax = 4;
  static constexpr std::uint32_t kMax = 16;

  // `loop` must outlive it, and what runs.
  explicit Cancels(net::Loop& loop) : loop_(loop) {}

  // `server`, which is open, must call forget() before it dies.
  void run(Server& server);
  void forget(const Server& server);
  // None runs, and none waits.
  bool empty() const { return cancels_.empty(); }
  // Those that run or wait, of servers that are gone too.
  std::uint32_t size() const { return static_cast<std::uint32_t>(cancels_.size()); }

 private:
  struct Cancel {
    std::string place;         // where the server is, or was
    Server* server = nullptr;  // null once it is gone
    // By the loop, or by a thread once there is one for it.
    std::unique_ptr<CancelRequest> request;
    CancelTicket ticket;
    bool on_thread = false;
  };
  void start();
  bool may_run(const Cancel& cancel) const;
  void run_on_a_thread(std::list<Cancel>::iterator cancel);
  void landed(std::list<Cancel>::iterator cancel);

  net::Loop& loop_;
  std::list<Cancel> cancels_;
};

}  // namespace carpool::proxy
