#include "proxy/console_command.h"

#include <gtest/gtest.h>

#include "proxy/console_tables.h"

namespace carpool::proxy {
namespace {

using Verb = ConsoleCommand::Verb;

TEST(ConsoleCommand, NamesAreOfAnyCaseAndASemicolonMayEndThem) {
  for (const char* text : {"SHOW POOLS", "show pools;", " Show\n\tpools ; ", "show pools -- all"}) {
    const ConsoleCommand command = parse_console_command(text);
    EXPECT_EQ(command.verb, Verb::Show) << text;
    EXPECT_EQ(command.argument, "pools") << text;
  }
  EXPECT_EQ(parse_console_command("show").argument, "help");
}

TEST(ConsoleCommand, ADatabasesNameIsTakenAsItIsWritten) {
  EXPECT_EQ(parse_console_command("PAUSE App").argument, "App");
  EXPECT_EQ(parse_console_command("kill \"my \"\"db\"\"\";").argument, "my \"db\"");
  EXPECT_EQ(parse_console_command("RESUME").argument, "");
}

TEST(ConsoleCommand, WhatIsNoneIsUnknownAndWhatIsNothingIsEmpty) {
  for (const char* text : {"SELECT 1", "SHOW POOLS; SHOW STATS", "PAUSE a b", "RELOAD now",
                           "\"SHOW\" POOLS", "PAUSE \"a", "SHOW a b"}) {
    EXPECT_EQ(parse_console_command(text).verb, Verb::Unknown) << text;
  }
  for (const char* text : {"", ";", " -- nothing", ";;"}) {
    EXPECT_EQ(parse_console_command(text).verb, Verb::Empty) << text;
  }
  EXPECT_EQ(parse_console_command("shutdown").verb, Verb::Unsupported);
}

TEST(ConsoleAverages, AreOfTheLastWholePeriodAndUntilThenSinceTheStart) {
  ConsoleAverages averages;
  averages.begin(0);
  const ConsoleTotals total{.transactions = 20, .queries = 40, .query_us = 4000};
  ConsoleTotals average = averages.of("app", total, 2 * kMicrosPerSecond);
  EXPECT_EQ(average.transactions, 10u);
  EXPECT_EQ(average.queries, 20u);
  EXPECT_EQ(average.query_us, 100u);
  averages.end_period({{"app", {.transactions = 100}}}, 10 * kMicrosPerSecond);
  averages.end_period({{"app", {.transactions = 150}}}, 20 * kMicrosPerSecond);
  EXPECT_EQ(averages.of("app", total, 25 * kMicrosPerSecond).transactions, 5u);
  EXPECT_EQ(averages.of("new", total, 25 * kMicrosPerSecond).transactions, 0u);
}

}  // namespace
}  // namespace carpool::proxy
