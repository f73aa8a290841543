#include <gtest/gtest.h>

#include "net/resolver.h"
#include "turns.h"
namespace carpool::net {
namespace {
TEST(Resolver, SaysThatANameOfImpossibleLengthDoesNotResolve) {
  for (const std::string& host : {std::string(300, 'a'), std::string("\xff\xfe")}) {
    Loop loop;
    bool failed = false;
    resolve(loop, host, [&](Result<std::vector<std::string>> found) { failed = !found; });
    EXPECT_TRUE(run_until(loop, [&] { return failed; }));
  }
}
}  // namespace
}  // namespace carpool::net
