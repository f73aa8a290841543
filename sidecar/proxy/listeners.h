// Listeners: where clients connect, as `listen` of the configuration says: a TCP address, and a
// Unix socket where one is wanted. They follow a change while clients are served: what is new is
// opened first, what is not wanted any more is closed after it, and nobody who has connected is
// lost. It knows no client, and closes none.
//
// Invariant: listen_on() has it listen exactly where it says, or where it did before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "net/listener.h"
#include "net/loop.h"

namespace carpool::proxy {

class Listeners {
 public:
  // `loop`, and what `handler` uses, must outlive it.
  Listeners(net::Loop& loop, net::Listener::Handler handler)
      : loop_(loop), handler_(std::move(handler)) {}

  // Calls no handler: who waits at an address that is given up is accepted by close_former().
  Status listen_on(const config::Listen& wanted);
  // At the end of the turn.
  void close_former();
  void close();

  bool is_open() const { return tcp_ != nullptr; }
  // Whether nobody finds the Unix socket any more: its folder was removed, and perhaps made anew.
  bool lost_unix() const { return unix_ != nullptr && !unix_->can_be_found(); }
  // Makes it anew where it is lost.
  Status find_unix_again();
  // Of TCP; 0 while nothing is open.
  std::uint16_t port() const { return tcp_ == nullptr ? 0 : tcp_->port(); }
  // As the kernel says: "127.0.0.1:6432", "/run/.s.PGSQL.6432".
  std::vector<std::string> where() const;

 private:
  std::vector<const net::Listener*> those_at(std::uint16_t port) const;
  void replace(std::unique_ptr<net::Listener>& now, std::unique_ptr<net::Listener> next);

  net::Loop& loop_;
  net::Listener::Handler handler_;
  config::Listen asked_;  // port 0 stays what it is, whichever is taken
  std::unique_ptr<net::Listener> tcp_;
  std::unique_ptr<net::Listener> unix_;                 // null: none is wanted
  std::vector<std::unique_ptr<net::Listener>> former_;  // given up in this turn
};

}  // namespace carpool::proxy
