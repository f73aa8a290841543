#include "net/resolver.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "turns.h"

namespace carpool::net {
namespace {

std::optional<Result<std::vector<std::string>>> look_up(Loop& loop, const std::string& host) {
  std::optional<Result<std::vector<std::string>>> answer;
  resolve(loop, host,
          [&](Result<std::vector<std::string>> addresses) { answer = std::move(addresses); });
  EXPECT_FALSE(answer.has_value()) << "never from inside";
  EXPECT_TRUE(run_until(loop, [&] { return answer.has_value(); }));
  return answer;
}

TEST(Resolver, FindsLocalhost) {
  Loop loop;
  const auto answer = look_up(loop, "localhost");
  ASSERT_TRUE(answer && *answer);
  const std::vector<std::string>& addresses = **answer;
  ASSERT_FALSE(addresses.empty());
  for (const std::string& address : addresses) {
    EXPECT_TRUE(address == "127.0.0.1" || address == "::1") << address;
    EXPECT_EQ(std::count(addresses.begin(), addresses.end(), address), 1);
  }
}

TEST(Resolver, SaysWhichNameDoesNotResolve) {
  Loop loop;
  // A label of more than 63 bytes, which no name server needs to be asked about.
  const std::string host = std::string(70, 'x') + ".invalid";
  const auto answer = look_up(loop, host);
  ASSERT_TRUE(answer.has_value());
  ASSERT_FALSE(*answer);
  EXPECT_NE(answer->error().message.find("cannot resolve \"" + host + "\": "), std::string::npos);
}

TEST(Resolver, AnswersManyAtOnce) {
  Loop loop;
  int answers = 0;
  for (int i = 0; i < 20; ++i) {
    resolve(loop, "localhost", [&](Result<std::vector<std::string>> addresses) {
      EXPECT_TRUE(bool(addresses));
      ++answers;
    });
  }
  EXPECT_TRUE(run_until(loop, [&] { return answers == 20; }));
}

TEST(Resolver, TellsAddressesFromNames) {
  for (const char* address : {"127.0.0.1", "::1", "fe80::1", "10.0.0.1"}) {
    EXPECT_TRUE(is_address(address)) << address;
  }
  for (const char* name : {"localhost", "db-0.db", "", "1.2.3", "/run/postgresql", "[::1]"}) {
    EXPECT_FALSE(is_address(name)) << name;
  }
}

}  // namespace
}  // namespace carpool::net
