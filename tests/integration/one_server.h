// What the tests of session and schema share: one server, and the clients that take turns on it.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "harness/harness.h"

namespace carpool::integration {

inline PostgresCluster& postgres() {
  return shared_postgres();
}

// Who is pinned by what.
inline std::map<std::string, int> pins(const Carpool& carpool) {
  std::map<std::string, int> all;
  for (const char* cause : {"listen", "session_parameter", "other"}) {
    const int count =
        static_cast<int>(carpool.metric("carpool_pins_total", {{"cause", cause}}).value_or(0));
    if (count > 0) all[cause] = count;
  }
  return all;
}

class OneServer : public ::testing::Test {
 protected:
  OneServer() : carpool(postgres(), {.pool = "size: 1"}) {}

  Wire client(std::map<std::string, std::string> more = {}) {
    Wire wire = carpool.raw();
    EXPECT_TRUE(wire.sign_in("app", "app", std::move(more)));
    return wire;
  }

  static std::vector<Message> exchange(Wire& wire, const std::string& bytes) {
    EXPECT_TRUE(wire.send(bytes));
    return wire.read_until("Z");
  }

  Carpool carpool;
};

}  // namespace carpool::integration
