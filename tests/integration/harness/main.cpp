// `integration_test PROMISE` runs the tests of PROMISE_test.cpp, and none is not enough; without a
// promise --gtest_filter says which.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace {

// The tests of that file, as --gtest_filter takes them.
std::string tests_of(const std::string& promise) {
  std::string found;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); i++) {
    const testing::TestSuite& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); j++) {
      const testing::TestInfo& test = *suite.GetTestInfo(j);
      if (std::filesystem::path(test.file()).stem() == promise + "_test")
        found += std::string(suite.name()) + "." + test.name() + ":";
    }
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1) {
    const std::string tests = tests_of(argv[1]);
    if (tests.empty() || argc > 2) {
      std::fprintf(stderr, "usage: integration_test [PROMISE]; a promise is a file of tests\n");
      return 2;
    }
    GTEST_FLAG_SET(filter, tests);
  }
  return RUN_ALL_TESTS();
}
