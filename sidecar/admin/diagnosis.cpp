#include "admin/diagnosis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>

#include "admin/level.h"

namespace carpool::admin {
namespace {

using pool::ClientSnapshot;
using pool::ClientState;
using pool::PoolSnapshot;
using pool::SlotState;

std::uint32_t in(const PoolSnapshot& pool, SlotState state) {
  return pool.servers[static_cast<std::size_t>(state)];
}

std::uint32_t waiting(const PoolSnapshot& pool) {
  return pool.clients[static_cast<std::size_t>(ClientState::Waiting)];
}

std::string span(Micros us) {
  if (us < 10 * kMicrosPerSecond) return fmt::format("{:.1f} s", seconds(us));
  if (us < 120 * kMicrosPerSecond) return fmt::format("{:.0f} s", seconds(us));
  return fmt::format("{:.0f} min", seconds(us) / 60);
}

// libpq explains over several lines; the first says what happened.
std::string first_line(const std::string& error) {
  return error.empty() ? "the last attempt failed" : error.substr(0, error.find('\n'));
}

std::string plural(std::uint64_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

// "3 clients of app/web wait (the first for 4.2 s)".
std::string who_waits(const PoolSnapshot& pool) {
  return fmt::format("{} of {}/{} {} (the first for {})",
                     plural(waiting(pool), "client", "clients"), pool.database, pool.user,
                     waiting(pool) == 1 ? "waits" : "wait", span(pool.oldest_waiter_us));
}

// The clients that hold a server for one reason.
struct Holders {
  std::uint32_t count = 0;
  const ClientSnapshot* longest = nullptr;
  Micros longest_us = 0;

  void add(const ClientSnapshot& client, Micros us) {
    count++;
    if (longest != nullptr && us <= longest_us) return;
    longest = &client;
    longest_us = us;
  }
  // `, longest 35 s by "worker-3": SELECT ...`
  std::string who() const {
    std::string out = ", the longest for " + span(longest_us);
    if (!longest->application_name.empty()) {
      out += fmt::format(" by \"{}\"", longest->application_name);
    }
    constexpr std::size_t kQuery_max = 120;
    std::string query = longest->query.substr(0, kQuery_max);
    if (longest->query.size() > kQuery_max) query += "...";
    query.erase(query.find_last_not_of("; ") + 1);
    if (!query.empty()) out += ": " + query;
    return out;
  }
};

struct Held {
  Holders pinned, idle_in_transaction, idle_in_session, slow;
  std::map<std::string, std::uint32_t> pin_causes;

  std::uint32_t sum() const {
    return pinned.count + idle_in_transaction.count + idle_in_session.count + slow.count;
  }
  std::uint32_t most() const {
    return std::max({pinned.count, idle_in_transaction.count, idle_in_session.count, slow.count});
  }
};

Held who_holds(const PoolSnapshot& pool, const pool::Snapshot& snapshot) {
  Held out;
  for (const ClientSnapshot& client : snapshot.client_list) {
    if (client.database != pool.database || client.user != pool.user) continue;
    if (client.in_state_us < kLong_us) continue;
    if (!client.pinned_by.empty()) {
      out.pinned.add(client, client.in_state_us);
      out.pin_causes[client.pinned_by]++;
    } else if (client.state == kIdleInTransaction) {
      out.idle_in_transaction.add(client, client.in_state_us);
    } else if (client.state == kIdleInSession) {
      out.idle_in_session.add(client, client.in_state_us);
    } else if (client.state == kAttached) {
      out.slow.add(client, client.in_state_us);
    }
  }
  return out;
}

std::string causes_text(const std::map<std::string, std::uint32_t>& causes) {
  std::string out;
  for (const auto& [cause, count] : causes) {
    out += fmt::format("{}{} by {}", out.empty() ? "" : ", ", count, cause);
  }
  return out;
}

// " (besides, 2 run long queries)": what else holds servers than the reason that is named.
std::string besides(const Held& held, const Holders& named) {
  std::string out;
  const auto mention = [&](const Holders& holders, const char* one, const char* many) {
    if (&holders == &named || holders.count == 0) return;
    out +=
        fmt::format("{}{}", out.empty() ? " (besides, " : ", ", plural(holders.count, one, many));
  };
  mention(held.pinned, "is pinned", "are pinned");
  mention(held.idle_in_transaction, "is idle in a transaction", "are idle in a transaction");
  mention(held.idle_in_session, "belongs to a session that runs nothing",
          "belong to sessions that run nothing");
  mention(held.slow, "runs a long query", "run long queries");
  return out.empty() ? out : out + ")";
}

Diagnosis of_full_pool(const PoolSnapshot& pool, const pool::Snapshot& snapshot) {
  const std::uint32_t busy = busy_servers(pool);
  const Held held = who_holds(pool, snapshot);
  const std::uint32_t most = held.most();
  const std::string full =
      fmt::format("{}: of the {}, ", who_waits(pool), plural(busy, "server lent", "servers lent"));
  // Unless long holders take at least half of what is lent, there are simply too few servers for
  // the short work that comes.
  if (most == 0 || 2 * held.sum() < busy) {
    return {"pool_too_small",
            full +
                "most serve short transactions. There is more work than servers: raise "
                "pool.size (now " +
                fmt::format("{}) or pool.overflow (now {}).", pool.size, pool.overflow),
            "pool.size"};
  }
  if (held.pinned.count == most) {
    return {"pinned",
            full + fmt::format("{} pinned until their clients undo it or leave ({}{}){}. Give "
                               "those clients a database of their own with pool.mode session.",
                               plural(most, "is", "are"), causes_text(held.pin_causes),
                               held.pinned.who(), besides(held, held.pinned)),
            "pool.mode"};
  }
  if (held.idle_in_transaction.count == most) {
    return {"idle_in_transaction",
            full + fmt::format("{} held by transactions in which nothing runs{}{}. The application "
                               "should commit sooner; pool.idleTransactionTimeout would end them.",
                               plural(most, "is", "are"), held.idle_in_transaction.who(),
                               besides(held, held.idle_in_transaction)),
            "pool.idleTransactionTimeout"};
  }
  if (held.idle_in_session.count == most) {
    return {"idle_in_session",
            full + fmt::format("{} held by sessions that run nothing{}{}. In session mode a client "
                               "keeps its server until it leaves: raise pool.size (now {}), close "
                               "idle connections, or share by pool.mode transaction.",
                               plural(most, "is", "are"), held.idle_in_session.who(),
                               besides(held, held.idle_in_session), pool.size),
            "pool.size"};
  }
  return {
      "slow_query",
      full + fmt::format("{} long queries{}{}. pool.queryTimeout would end them; a database of "
                         "their own would keep them from the others' way.",
                         plural(most, "runs", "run"), held.slow.who(), besides(held, held.slow)),
      "pool.queryTimeout"};
}

}  // namespace

Diagnosis diagnose(const PoolSnapshot& pool, const pool::Snapshot& snapshot) {
  const std::string name = pool.database + "/" + pool.user;
  const bool waits = waiting(pool) > 0;
  if (pool.paused) {
    return {"paused",
            (waits ? who_waits(pool) + ": the pool" : "The pool " + name) +
                " is paused. `carpool resume` lets it go on.",
            ""};
  }
  const std::uint32_t open = busy_servers(pool) + in(pool, SlotState::Idle);
  const std::string error = first_line(pool.last_connect_error);
  if (pool.connecting_fails && (open == 0 || !waits)) {
    return {"database_unreachable",
            fmt::format("{}: no connection to PostgreSQL can be opened: {}. Carpool tries again "
                        "by itself.",
                        waits ? who_waits(pool) : name, error),
            "server.host"};
  }
  if (pool.connecting_fails && open < pool.size) {
    return {"cannot_open_more",
            fmt::format("{}: {} of {} servers are there, and no more can be opened: {}. The sum "
                        "of pool.size over all pods must fit PostgreSQL's max_connections.",
                        who_waits(pool), open, pool.size, error),
            "pool.size"};
  }
  if (!waits) return {};
  if (in(pool, SlotState::Connecting) > 0 && open < pool.size) {
    return {"opening_servers",
            fmt::format("{}: {} being opened ({} of {} are there). pool.minIdle would keep some "
                        "warm; pool.connectConcurrency opens more at once.",
                        who_waits(pool),
                        plural(in(pool, SlotState::Connecting), "server is", "servers are"), open,
                        pool.size),
            "pool.minIdle"};
  }
  return of_full_pool(pool, snapshot);
}

}  // namespace carpool::admin
