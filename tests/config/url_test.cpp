#include "config/url.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace carpool::config {
namespace {

TEST(Url, IsTakenApartAsLibpqWould) {
  Result<UrlParts> parts = parse_url(
      "postgresql://app:p%40ss@h1:5433,[::1]:5434/shop?sslmode=require&options=-c%20a%3Db");
  ASSERT_TRUE(parts) << parts.error().message;
  EXPECT_EQ(*parts, (UrlParts{{"user", "app"},
                              {"password", "p@ss"},
                              {"host", "h1,::1"},
                              {"port", "5433,5434"},
                              {"dbname", "shop"},
                              {"sslmode", "require"},
                              {"options", "-c a=b"}}));
}

TEST(Url, MayLeaveOutNearlyEverything) {
  EXPECT_EQ(*parse_url("postgres://"), UrlParts{});
  EXPECT_EQ(*parse_url("postgres:///db?host=/run/pg"),
            (UrlParts{{"dbname", "db"}, {"host", "/run/pg"}}));
  EXPECT_EQ(*parse_url("postgres://h"), (UrlParts{{"host", "h"}}));
  EXPECT_EQ(*parse_url("postgres://u@h?ssl=true"),
            (UrlParts{{"user", "u"}, {"host", "h"}, {"sslmode", "require"}}));
}

TEST(Url, MayBeKeywordsAndValues) {
  Result<UrlParts> parts =
      parse_url(R"(host=h port = 5433 dbname='my db' password='it\'s \\' user=)");
  ASSERT_TRUE(parts) << parts.error().message;
  EXPECT_EQ(
      *parts,
      (UrlParts{{"host", "h"}, {"port", "5433"}, {"dbname", "my db"}, {"password", "it's \\"}}));
  // To libpq an empty value is none, also where it comes later.
  EXPECT_EQ(*parse_url("host=h sslmode=require sslmode="), (UrlParts{{"host", "h"}}));
}

TEST(Url, SaysWhatIsWrongWithoutShowingAPassword) {
  struct Case {
    const char* url;
    const char* message;
  };
  const char* kPort =
      "the port is not a number from 1 to 65535 (in a password, `@`, `:`, `/`, `?` and `#` have to "
      "be percent-encoded)";
  const std::vector<Case> cases = {
      {"mysql://h/d",
       "has the scheme `mysql`; it must start with `postgres://` or `postgresql://`"},
      {"postgresql+psycopg2://u:hunter2@h/d",
       "has the scheme `postgresql+psycopg2`; it must start with `postgres://` or "
       "`postgresql://`"},
      {"db.example.com",
       "is neither `postgres://user@host:5432/database` nor `host=... "
       "dbname=...`"},
      {"postgres://h:five/d", kPort},
      {"postgres://h:0/d", kPort},
      {"postgres://h:65536/d", kPort},
      {"postgres://h:99999999999999/d", kPort},
      {"postgres://u:hunter2/x@h/d", kPort},
      {"host=h port=abc", kPort},
      {"postgres://u:hunter2@x@h/d", "has more than one `@`; in a user or password write `%40`"},
      {"postgres://u:100%@h/d",
       "the password has a `%` without two hexadecimal digits; write `%25` for a percent sign"},
      {"postgres://u:a%0@h/d",
       "the password has a `%` without two hexadecimal digits; write `%25` for a percent sign"},
      {"postgres://u@h/d%00", "the database holds a %00"},
      {"postgres://[::1/d", "the IPv6 address lacks its `]`"},
      {"postgres://[::1]5432/d", "after the `]` of an IPv6 address only `:port` may follow"},
      {"postgres://h/d?sslmod=require",
       "`sslmod` is not a parameter that libpq knows; did you mean `sslmode`?"},
      {"postgres://h/d?pgbouncer=true", "`pgbouncer` is not a parameter that libpq knows"},
      {"postgres://h/d?sslmode", "a parameter after `?` lacks its `=`"},
      {"postgres://h/d?ssl=yes", "`ssl` can only be `true`; use `sslmode`"},
      {"host=h password=hunter2 word",
       "a `name=value` lacks its `=` (a value with spaces needs single quotes)"},
      {"host=h password='hunter2", "a quoted value lacks its closing `'`"},
  };
  for (const Case& c : cases) {
    Result<UrlParts> parts = parse_url(c.url);
    ASSERT_FALSE(parts) << c.url;
    EXPECT_EQ(parts.error().message, c.message) << c.url;
    EXPECT_EQ(parts.error().message.find("hunter2"), std::string::npos) << c.url;
  }
}

TEST(Url, IsMaskedInAllItsForms) {
  struct Case {
    const char* url;
    const char* masked;
  };
  const std::vector<Case> cases = {
      {"", ""},
      {"postgres://h/d", "postgres://h/d"},
      {"postgres://u@h:5433/d", "postgres://u@h:5433/d"},
      {"postgres://u:hunter2@h/d", "postgres://u:***@h/d"},
      {"postgres://u:hunter2@h/d?sslmode=require", "postgres://u:***@h/d?sslmode=require"},
      {"postgres://h/d?password=hunter2&user=u", "postgres://h/d?password=***&user=u"},
      {"postgres://h/d?password=hunter2@x", "postgres://h/d?password=***"},
      {"postgres://h/d?pass%77ord=hunter2", "postgres://h/d?pass%77ord=***"},
      {"postgres://h/d?pass%7=hunter2", "postgres://h/d?pass%7=***"},
      {"postgres://h/d?a=b:c&sslpassword=hunter2@", "postgres://h/d?a=b:c&sslpassword=***"},
      {"host=h password=hunter2 user=u", "host=h password=*** user=u"},
      {"host=h password = 'hunter2 \\'x' user=u", "host=h password = *** user=u"},
      {"password=hunter2", "password=***"},
      // Broken ones hide more rather than less.
      {"postgres://u:hunt/er2@h/d", "postgres://u:***@h/d"},
      {"postgres://u:hunt?er2@h/d", "postgres://u:***@h/d"},
      {"postgres://u:hunt@er2@h/d", "postgres://u:***@h/d"},
      {"postgresql+psycopg2://u:hunter2@h/d", "postgresql+psycopg2://u:***@h/d"},
      {"host=h password='hunter2", "host=h***"},
      {"hunter2", "***"},
  };
  for (const Case& c : cases) EXPECT_EQ(mask_url(c.url), c.masked) << c.url;
}

}  // namespace
}  // namespace carpool::config
