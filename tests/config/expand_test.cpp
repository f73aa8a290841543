#include "config/expand.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace carpool::config {
namespace {

Environment fixed(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

const Environment kEnv =
    fixed({{"HOST", "db"}, {"_A1", "x"}, {"EMPTY", ""}, {"TRICKY", "${HOST} $$ }: [1"}});

TEST(Expand, ReplacesVariablesDefaultsAndDollarSigns) {
  struct Case {
    const char* text;
    const char* expanded;
  };
  const std::vector<Case> cases = {
      {"", ""},
      {"plain", "plain"},
      {"${HOST}", "db"},
      {"a${HOST}b${_A1}c", "adbbxc"},
      {"${EMPTY}", ""},
      {"${EMPTY:-other}", "other"},
      {"${NOPE:-other}", "other"},
      {"${NOPE:-}", ""},
      {"${NOPE:-a:-b c}", "a:-b c"},
      {"${HOST:-other}", "db"},
      {"$$", "$"},
      {"$${HOST}", "${HOST}"},
      {"$$$$", "$$"},
      {"$HOST", "$HOST"},
      {"pa$s", "pa$s"},
      {"end$", "end$"},
      {"}", "}"},
  };
  for (const Case& c : cases) {
    Result<std::string> out = expand(c.text, kEnv);
    ASSERT_TRUE(out) << c.text << ": " << out.error().message;
    EXPECT_EQ(*out, c.expanded) << c.text;
  }
}

TEST(Expand, DoesNotExpandWhatAVariableHolds) {
  EXPECT_EQ(*expand("${TRICKY}", kEnv), "${HOST} $$ }: [1");
}

TEST(Expand, SaysWhatIsWrong) {
  struct Case {
    const char* text;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"${NOPE}", "the variable NOPE is not set, and has no default (${NOPE:-...})"},
      {"${HOST", "a `${` lacks its `}`"},
      {"${", "a `${` lacks its `}`"},
      {"${}",
       "`${}` is not a variable; write ${NAME} or ${NAME:-default}, and $$ for a dollar "
       "sign"},
      {"${1A}",
       "`${1A}` is not a variable; write ${NAME} or ${NAME:-default}, and $$ for a "
       "dollar sign"},
      {"${HOST-x}",
       "`${HOST-x}` is not a variable; write ${NAME} or ${NAME:-default}, and $$ for "
       "a dollar sign"},
      {"${NOPE:-${HOST}}", "the default of the variable NOPE cannot be a variable itself"},
  };
  for (const Case& c : cases) {
    Result<std::string> out = expand(c.text, kEnv);
    ASSERT_FALSE(out) << c.text;
    EXPECT_EQ(out.error().message, c.message) << c.text;
  }
}

TEST(Expand, RefusesToGrowBeyondTheLimitOfAString) {
  Environment large = fixed({{"L", std::string(4096, 'x')}});
  EXPECT_TRUE(expand("${L}${L}", large));
  EXPECT_EQ(expand("${L}${L}${L}", large).error().message, "is longer than 8192 bytes");
}

}  // namespace
}  // namespace carpool::config
