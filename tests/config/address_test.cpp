#include "config/address.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace carpool::config {
namespace {

TEST(Address, OfAListenerIsMetByWhoConnectsToItHoweverItIsWritten) {
  struct Case {
    std::string host;
    std::string address;
    bool same;
  };
  for (const auto& [host, address, same] :
       std::vector<Case>{{"127.0.0.1", "127.0.0.1", true},
                         {"127.0.0.1", "127.0.0.2", false},  // another process may listen there
                         {"127.1", "127.0.0.1", true},
                         {"::ffff:127.0.0.1", "127.0.0.1", true},
                         {"localhost", "127.0.0.1", true},
                         {"localhost", "::1", true},
                         {"localhost", "127.0.0.2", false},
                         {"::1", "0:0:0:0:0:0:0:1", true},
                         {"127.0.0.1", "::1", false},
                         {"127.0.0.3", "0.0.0.0", true},
                         {"::1", "0.0.0.0", false},
                         {"127.0.0.3", "::", true},
                         {"::1", "::0", true},
                         {"0.0.0.0", "127.0.0.1", true},
                         {"0.0.0.0", "0.0.0.0", true},
                         {"10.0.0.1", "10.0.0.1", true},
                         {"10.0.0.1", "0.0.0.0", false},  // whose that is nobody knows
                         {"db", "127.0.0.1", false}}) {
    EXPECT_EQ(leads_to(host, address), same) << host << " " << address;
  }
}

TEST(Address, OverlapsWithAllThatItsPortIsTakenOn) {
  EXPECT_TRUE(overlap("127.0.0.1", "127.0.0.1"));
  EXPECT_TRUE(overlap("::1", "0:0::1"));
  EXPECT_TRUE(overlap("127.0.0.1", "0.0.0.0"));
  EXPECT_TRUE(overlap("::0", "127.0.0.1"));
  EXPECT_TRUE(overlap("0.0.0.0", "::"));
  EXPECT_FALSE(overlap("0.0.0.0", "::1"));
  EXPECT_FALSE(overlap("127.0.0.1", "127.0.0.2"));
}

}  // namespace
}  // namespace carpool::config
