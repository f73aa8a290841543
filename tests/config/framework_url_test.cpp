#include "config/framework_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/load.h"

namespace carpool::config {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

LoadResult load(const std::string& yaml, const std::string& database_url = "",
                const std::string& variable = "DATABASE_URL") {
  return load_text(yaml, [&](const std::string& name) -> std::optional<std::string> {
    if (name == variable && !database_url.empty()) return database_url;
    return std::nullopt;
  });
}

TEST(FrameworkUrl, BecomesWhatLibpqTakes) {
  for (const auto& [url, plain] : std::vector<std::pair<std::string, std::string>>{
           {"postgres://u:p@h/d", "postgres://u:p@h/d"},
           {"postgresql+psycopg2://u:p@h/d", "postgresql://u:p@h/d"},
           {"postgresql+asyncpg://u@h/d?prepared_statement_cache_size=0", "postgresql://u@h/d"},
           {"postgresql+asyncpg://u@h/d?ssl=verify-full", "postgresql://u@h/d?sslmode=verify-full"},
           {"postgis://u@h/d?conn_max_age=60", "postgresql://u@h/d"},
           {"postgresql://u@h/d?schema=public&pgbouncer=true&connection_limit=1&sslmode=require",
            "postgresql://u@h/d?sslmode=require"},
           {"postgres://u@h/d?requiressl=1&pool=5", "postgres://u@h/d?requiressl=1"},
           {"postgres://u@h/d\r\n", "postgres://u@h/d"},
           {"postgres://u:a?pool=1@h/d?pool=2", "postgres://u:a?pool=1@h/d"},
           {"postgres://u@h/d?ssl=true&options=-c%20a%3Db",
            "postgres://u@h/d?sslmode=require&options=-c%20a%3Db"},
           {"host=h dbname=d\n", "host=h dbname=d"},
           {"mysql://u@h/d?charset=utf8", "mysql://u@h/d?charset=utf8"}}) {
    EXPECT_EQ(plain_url(url).url, plain);
    EXPECT_EQ(plain_url(plain).url, plain);
  }
}

TEST(FrameworkUrl, AMisspelledParameterOfLibpqIsNoFrameworks) {
  EXPECT_THAT(plain_url("postgres://h/d?sslmod=require").left_out, IsEmpty());
  const LoadResult result = load("server: {url: \"postgres://u@h/d?sslmod=require\"}");
  ASSERT_EQ(result.problems.size(), 1u);
  EXPECT_THAT(result.problems[0].message, HasSubstr("did you mean `sslmode`?"));
}

TEST(FrameworkUrl, WhatIsLeftOutIsAWarningAndShowsNoPassword) {
  const std::string url =
      "postgresql+psycopg://u:hunter2@h/d?application_name=web&conn_max_age=60&schema=s\n";
  for (const LoadResult& result :
       {load("", url), load("server: {url: \"${URL}\"}", url, "URL"),
        load("databases: [{name: d, server: {url: \"${URL}\"}}]", url, "URL")}) {
    ASSERT_TRUE(result.config) << result.problems.at(0).message;
    std::vector<std::string> said;
    for (const Problem& warning : result.warnings) {
      if (warning.message.find("left out") != std::string::npos) said.push_back(warning.message);
    }
    // An entry of `databases` with a url of its own leaves the section to the environment.
    EXPECT_FALSE(said.empty());
    EXPECT_THAT(said, Each("`conn_max_age` and `schema` are not for libpq and are left out"));
    EXPECT_EQ(result.config->databases.at(0).server.url,
              "postgresql://u:hunter2@h/d?application_name=web");
  }
  EXPECT_THAT(plain_url("postgres://u:pass/word?secret@h/d").left_out, IsEmpty());
}

TEST(FrameworkUrl, AnotherDatabaseSystemStaysAnError) {
  const LoadResult result = load("", "mysql://u:hunter2@h/app");
  ASSERT_EQ(result.problems.size(), 1u);
  EXPECT_THAT(result.problems[0].message, HasSubstr("mysql"));
  EXPECT_THAT(result.problems[0].message, Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace carpool::config
