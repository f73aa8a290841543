// A script: what a few clients do, one step after the other, made from a seed.
//
// A step is a whole exchange: it ends where the server has answered everything, so that the order
// of effects is the same wherever the script runs. Nothing in it waits for another client: locks
// are only tried, and each client writes rows of its own. Pure: nothing here touches a socket.
#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "wire.h"

namespace carpool::property {

enum class Act {
  kExchange,   // send the messages, compare the replies
  kReconnect,  // leave, politely, and come back
  kCut,        // leave in the middle of a query, and come back
  kNotices,    // look for notifications
};

struct Step {
  int client = 0;
  Act act = Act::kExchange;
  std::vector<Message> messages;
  size_t piece = 0;       // sent so many bytes at a time; 0: in one piece
  bool pins = false;      // from here on the client may keep its server until it discards or leaves
  bool unpins = false;    // DISCARD ALL: gives it back, where it succeeded
  bool resumes = false;   // runs a portal of an earlier batch
  bool alone = false;     // takes a lock that others wait for: not inside a transaction
  bool healable = false;  // 0A000 may be healed by the pooler, which is documented
};

struct Script {
  uint64_t seed = 0;
  int servers = 1;                   // the size of the pool
  std::vector<std::string> startup;  // one conninfo suffix a client
  std::vector<Step> steps;
};

// What may be left out, and by default is: `hidden` is documented as out of a pooler's sight.
struct Kinds {
  std::set<std::string> on;
  bool has(const std::string& kind) const { return on.contains(kind); }
};
const std::vector<std::string>& all_kinds();
const std::vector<std::string>& default_kinds();

Script make_script(uint64_t seed, const Kinds& kinds, int steps_max);

// The seed of script `index` of a run.
uint64_t seed_of(uint64_t run_seed, uint64_t index);

std::string shown(const Step& step);

}  // namespace carpool::property
