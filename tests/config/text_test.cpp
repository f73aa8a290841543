#include "config/text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace carpool::config {
namespace {

TEST(Durations, ReadEveryUnitAndPartsFromLargeToSmall) {
  struct Case {
    const char* text;
    Micros us;
  };
  const std::vector<Case> cases = {
      {"0s", 0},
      {"0ms", 0},
      {"250us", 250},
      {"500ms", 500'000},
      {"10s", 10'000'000},
      {"5m", 300'000'000},
      {"1h", 3'600'000'000},
      {"2d", 172'800'000'000},
      {"1h30m", 5'400'000'000},
      {"1d2h3m4s5ms6us", 93'784'005'006},
      {" 10s ", 10'000'000},
  };
  for (const Case& c : cases) {
    Result<Micros> us = parse_duration(c.text, c.text);
    ASSERT_TRUE(us) << c.text << ": " << us.error().message;
    EXPECT_EQ(*us, c.us) << c.text;
  }
}

TEST(Durations, SayWhatIsWrongWithEachOther) {
  struct Case {
    const char* text;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"30", "`30` has no unit; did you mean `30s`? (us, ms, s, m, h or d)"},
      {"0", "`0` has no unit; did you mean `0s`? (us, ms, s, m, h or d)"},
      {"1h30", "`1h30` has no unit; did you mean `1h30s`? (us, ms, s, m, h or d)"},
      {"5 parsecs", "`5 parsecs`: `parsecs` is not a unit of time (us, ms, s, m, h or d)"},
      {"5M", "`5M`: `M` is not a unit of time (us, ms, s, m, h or d)"},
      {"5 s", "`5 s` has a space before its unit; write `5s`"},
      {"-5s", "`-5s` is negative"},
      {"1.5s", "`1.5s` has a fraction; write it in a smaller unit, such as 1500ms"},
      {"s", "`s` is not a duration; write a number and a unit (us, ms, s, m, h or d), such as 5s"},
      {"", "a duration is expected, such as 5s (us, ms, s, m, h or d)"},
      {"30m1h", "`30m1h` does not go from large units to small ones"},
      {"1s1s", "`1s1s` does not go from large units to small ones"},
      {"99999999999999999999s", "`99999999999999999999s` is too long a time"},
      {"9223372036854775807ms", "`9223372036854775807ms` is too long a time"},
      {"106751991d9223372036s", "`106751991d9223372036s` is too long a time"},
  };
  for (const Case& c : cases) {
    Result<Micros> us = parse_duration(c.text, c.text);
    ASSERT_FALSE(us) << c.text;
    EXPECT_EQ(us.error().message, c.message);
  }
}

TEST(Durations, AreWrittenInTheLargestUnitThatIsExact) {
  EXPECT_EQ(format_duration(0), "0s");
  EXPECT_EQ(format_duration(1), "1us");
  EXPECT_EQ(format_duration(1'500'000), "1500ms");
  EXPECT_EQ(format_duration(60'000'000), "1m");
  EXPECT_EQ(format_duration(90'000'000), "90s");
  EXPECT_EQ(format_duration(86'400'000'000), "1d");
}

TEST(Durations, SurviveBeingWrittenAndReadAgain) {
  for (Micros us : {Micros{0}, Micros{7}, Micros{999}, Micros{1000}, Micros{61'000'000},
                    Micros{3'600'000'001}, Micros{9'223'372'036'854'775'807}}) {
    Result<Micros> again = parse_duration(format_duration(us), "");
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, us);
  }
}

TEST(WholeNumbers, TakeWhatHelmMakesOfAMillion) {
  EXPECT_EQ(*parse_whole_number("1e+06", ""), 1'000'000);
  EXPECT_EQ(*parse_whole_number("1.5e+06", ""), 1'500'000);
  EXPECT_EQ(*parse_whole_number("-7", ""), -7);
}

TEST(WholeNumbers, RefuseEverythingElse) {
  for (const char* text :
       {"", " ", "5s", "0x10", "1_000", "1.5", "1.0", "1e-3", "1e400", "nan", "inf", "+5", "5 "}) {
    EXPECT_FALSE(parse_whole_number(text, text)) << text;
  }
  EXPECT_EQ(parse_whole_number("5 servers", "5 servers").error().message,
            "a whole number is expected, not `5 servers`");
  EXPECT_EQ(parse_whole_number("99999999999999999999", "99999999999999999999").error().message,
            "`99999999999999999999` is far too large");
}

TEST(NearestName, FindsTyposOtherCasesAndOtherSpellings) {
  const std::vector<std::string> names = {"size", "minIdle", "acquireTimeout", "waitersMax",
                                          "idleTimeout"};
  EXPECT_EQ(nearest_name("sise", names), "size");
  EXPECT_EQ(nearest_name("szie", names), "size");
  EXPECT_EQ(nearest_name("Size", names), "size");
  EXPECT_EQ(nearest_name("min_idle", names), "minIdle");
  EXPECT_EQ(nearest_name("acquire-timeout", names), "acquireTimeout");
  EXPECT_EQ(nearest_name("waiterMax", names), "waitersMax");
  EXPECT_EQ(nearest_name("maxPoolSize", names), "size");
}

TEST(NearestName, StaysSilentWhenNothingIsNear) {
  const std::vector<std::string> names = {"size", "mode"};
  EXPECT_EQ(nearest_name("prometheus", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name(std::string(100'000, 'x'), names), "");
  EXPECT_EQ(nearest_name("size", {}), "");
}

TEST(Values, MaskSecretsAndOnlyThose) {
  const Key* password = find_key("server.password");
  const Key* url = find_key("server.url");
  const Key* host = find_key("server.host");
  ASSERT_TRUE(password != nullptr && url != nullptr && host != nullptr);
  EXPECT_EQ(to_masked_text(*password, Value{std::string("hunter2")}), "***");
  EXPECT_EQ(to_masked_text(*password, Value{std::string()}), "");
  EXPECT_EQ(to_masked_text(*url, Value{std::string("postgres://a:hunter2@h/d")}),
            "postgres://a:***@h/d");
  EXPECT_EQ(to_masked_text(*host, Value{std::string("h")}), "h");
}

TEST(Values, RefuseControlCharactersAndSayWhere) {
  const Key* password = find_key("server.password");
  ASSERT_TRUE(password != nullptr);
  EXPECT_EQ(parse_value(*password, "hunter2\n", "${P}").error().message, "ends with a line feed");
  EXPECT_EQ(parse_value(*password, std::string("a\0b", 3), "").error().message,
            "holds a control character (0x00) at byte 2");
  EXPECT_EQ(parse_value(*password, std::string(8193, 'x'), "").error().message,
            "is longer than 8192 bytes");
  const Key* reset = find_key("pool.resetQuery");
  ASSERT_TRUE(reset != nullptr);
  EXPECT_TRUE(parse_value(*reset, "DISCARD ALL;\n\tSELECT 1\n", ""));
}

TEST(Values, AreQuotedShortAndWithoutControlCharacters) {
  EXPECT_EQ(quote("a\x1b[31m"), "`a?[31m`");
  EXPECT_EQ(quote(std::string(100, 'x')), "`" + std::string(60, 'x') + "...`");
}

}  // namespace
}  // namespace carpool::config
