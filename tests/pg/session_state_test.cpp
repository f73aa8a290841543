#include "pg/session_state.h"

#include <gtest/gtest.h>

#include <random>

#include "pg/session_effect.h"

namespace carpool::pg {
namespace {

using Texts = std::vector<std::string>;

Parameter setting(std::string name, std::string_view value) {
  std::string sql = set_sql(name, value);
  return {std::move(name), std::move(sql)};
}

class SessionStateTest : public testing::Test {
 protected:
  StatePtr state(std::vector<Parameter> parameters) { return table_.make(std::move(parameters)); }
  StateTable table_;
};

TEST_F(SessionStateTest, IsANullPointerWhereNothingIsSet) {
  EXPECT_EQ(state({}), nullptr);
  EXPECT_EQ(table_.without(state({setting("a", "1")}), "a"), nullptr);
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(SessionStateTest, IsOnePointerForEqualSettingsInAnyOrder) {
  const StatePtr one = state({setting("a", "1"), setting("b", "2")});
  const StatePtr two = state({setting("b", "2"), setting("a", "1")});
  EXPECT_EQ(one, two);
  EXPECT_EQ(table_.with(state({setting("b", "2")}), "a", set_sql("a", "1")), one);
  EXPECT_EQ(table_.size(), 1u);
}

TEST_F(SessionStateTest, IsForgottenWithTheLastSessionThatHasIt) {
  {
    const StatePtr one = state({setting("a", "1")});
    const StatePtr two = state({setting("a", "2")});
    EXPECT_EQ(table_.size(), 2u);
  }
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(SessionStateTest, KeepsTheLastOfANameThatComesTwice) {
  const StatePtr one = state({setting("a", "1"), setting("b", "0"), setting("a", "2")});
  ASSERT_EQ(one->parameters().size(), 2u);
  EXPECT_EQ(*one->find("a"), set_sql("a", "2"));
  EXPECT_EQ(one->find("c"), nullptr);
}

TEST_F(SessionStateTest, ReplaysNothingBetweenEqualStates) {
  const StatePtr one = state({setting("a", "1")});
  EXPECT_TRUE(replay(one, state({setting("a", "1")})).empty());
  EXPECT_TRUE(replay(nullptr, nullptr).empty());
}

TEST_F(SessionStateTest, ReplaysOnlyWhatDiffers) {
  const StatePtr has = state({setting("a", "1"), setting("b", "2"), setting("c", "3")});
  const StatePtr wants = state({setting("b", "2"), setting("c", "4"), setting("d", "5")});
  EXPECT_EQ(replay(has, wants), Texts{"RESET \"a\";SET \"c\" TO '4';SET \"d\" TO '5';"});
  EXPECT_EQ(replay(nullptr, state({setting("a", "1")})), Texts{"SET \"a\" TO '1';"});
  EXPECT_EQ(replay(state({setting("a", "1")}), nullptr), Texts{"RESET \"a\";"});
}

TEST_F(SessionStateTest, ReplaysAListAsTheListThatItWas) {
  const StatePtr wants = state({{"search_path", "SET \"search_path\" TO 'a', 'b'"}});
  EXPECT_EQ(replay(nullptr, wants), Texts{"SET \"search_path\" TO 'a', 'b';"});
  EXPECT_EQ(replay(nullptr, state({setting("search_path", "\"$user\", public")})),
            Texts{"SELECT pg_catalog.set_config('search_path', '\"$user\", public', false);"});
}

TEST_F(SessionStateTest, TakesTheRoleLastAndGivesItUpFirst) {
  const StatePtr alice = state({setting("role", "alice"), setting("a", "1")});
  const StatePtr bob = state({setting("role", "bob"), setting("a", "2")});
  EXPECT_EQ(replay(alice, bob), Texts{"RESET ROLE;SET \"a\" TO '2';SET ROLE 'bob';"});
  EXPECT_EQ(replay(alice, nullptr), Texts{"RESET ROLE;RESET \"a\";"});
  EXPECT_EQ(replay(nullptr, bob), Texts{"SET \"a\" TO '2';SET ROLE 'bob';"});
}

TEST_F(SessionStateTest, MakesSettingsAsTheUserThatSignedInEvenWhereTheRoleStays) {
  const StatePtr has = state({setting("role", "alice"), setting("a", "1")});
  const StatePtr wants = state({setting("role", "alice"), setting("a", "2")});
  EXPECT_EQ(replay(has, wants), Texts{"RESET ROLE;SET \"a\" TO '2';SET ROLE 'alice';"});
}

TEST_F(SessionStateTest, SetsTheSessionsUserBeforeTheRoleWhichThatEnds) {
  const StatePtr has = state({setting("session_authorization", "alice"), setting("role", "r")});
  const StatePtr wants = state({setting("session_authorization", "bob"), setting("role", "r")});
  EXPECT_EQ(replay(has, wants), Texts{"RESET ROLE;RESET SESSION AUTHORIZATION;"
                                      "SET SESSION AUTHORIZATION 'bob';SET ROLE 'r';"});
}

TEST_F(SessionStateTest, ChangesTheEncodingInATextOfItsOwnWhereTheRestIsNotAscii) {
  const StatePtr ascii = state({setting("client_encoding", "LATIN1"), setting("a", "x")});
  EXPECT_EQ(replay(nullptr, ascii), Texts{"SET \"client_encoding\" TO 'LATIN1';SET \"a\" TO 'x';"});
  const StatePtr umlaut = state({setting("client_encoding", "LATIN1"), setting("a", "\xE4")});
  EXPECT_EQ(replay(nullptr, umlaut),
            (Texts{"SET \"client_encoding\" TO 'LATIN1';", "SET \"a\" TO '\xE4';"}));
  const StatePtr role = state({setting("client_encoding", "LATIN1"), setting("role", "\xE4")});
  EXPECT_EQ(replay(role, umlaut), (Texts{"RESET ROLE;SET \"a\" TO '\xE4';"}));
}

TEST_F(SessionStateTest, KnowsItsLimits) {
  std::vector<Parameter> many;
  for (std::size_t i = 0; i < kSessionParametersMax; ++i) {
    many.push_back(setting("my.a" + std::to_string(i), "1"));
  }
  EXPECT_TRUE(within_limits(nullptr));
  const StatePtr full = state(many);
  EXPECT_TRUE(within_limits(full));
  EXPECT_FALSE(within_limits(table_.with(full, "my.b", "SET my.b TO 1")));
  EXPECT_FALSE(within_limits(state({setting("a", std::string(kSessionBytesMax, 'x'))})));
}

TEST_F(SessionStateTest, AReplayLeadsFromAnyStateToAnyOther) {
  // A server that is nothing but a table of values runs each replay.
  std::mt19937 random(20240103);
  const auto any_state = [&] {
    std::vector<Parameter> parameters;
    for (const char* name :
         {"a", "b", "client_encoding", "my.c", "role", "search_path", "session_authorization"}) {
      if (random() % 2 == 0) parameters.push_back(setting(name, std::to_string(random() % 3)));
    }
    return state(std::move(parameters));
  };
  StatePtr has;
  for (int round = 0; round < 5'000; ++round) {
    const StatePtr wants = any_state();
    std::vector<std::pair<std::string, std::string>> server;  // statement set, by name
    const auto put = [&server](const std::string& name, const std::string& sql) {
      std::erase_if(server, [&](const auto& entry) { return entry.first == name; });
      if (!sql.empty()) server.emplace_back(name, sql);
    };
    for (const auto& parameter : has ? has->parameters() : std::vector<Parameter>{}) {
      put(parameter.name, parameter.sql);
    }
    const auto has_value = [&server](const std::string& name) {
      for (const auto& entry : server) {
        if (entry.first == name) return true;
      }
      return false;
    };
    for (const std::string& text : replay(has, wants)) {
      std::size_t at = 0;
      while (at < text.size()) {
        const std::size_t end = text.find(';', at);
        const std::string sql = text.substr(at, end - at);
        at = end + 1;
        if (sql == "RESET ROLE") {
          put("role", "");
        } else if (sql == "RESET SESSION AUTHORIZATION") {
          put("session_authorization", "");
          put("role", "");
        } else if (sql.starts_with("SET ROLE")) {
          put("role", sql);
        } else if (sql.starts_with("SET SESSION AUTHORIZATION")) {
          put("session_authorization", sql);
          put("role", "");
        } else {
          EXPECT_FALSE(has_value("role")) << "as another user: " << text;
          EXPECT_FALSE(has_value("session_authorization")) << "as another user: " << text;
          bool known = false;
          for (const std::string name : {"a", "b", "client_encoding", "my.c", "search_path"}) {
            if (sql == "RESET " + quote_parameter(name)) {
              put(name, "");
              known = true;
            } else if (sql.find(quote_parameter(name) + " TO") != std::string::npos ||
                       sql.find("'" + name + "'") != std::string::npos) {
              put(name, sql);
              known = true;
            }
          }
          EXPECT_TRUE(known) << sql;
        }
      }
    }
    std::vector<Parameter> reached;
    for (const auto& [name, sql] : server) reached.push_back({name, sql});
    ASSERT_EQ(state(reached), wants);
    has = wants;
  }
}

TEST(StartupSettings, AreTheParametersThatAreSettings) {
  const auto settings = startup_settings("", {{"user", "alice"},
                                              {"database", "app"},
                                              {"DateStyle", "ISO, MDY"},
                                              {"replication", "database"},
                                              {"_pq_.x", "1"},
                                              {"search_path", "a, b"}});
  EXPECT_TRUE(settings.replayable);
  ASSERT_EQ(settings.parameters.size(), 2u);
  EXPECT_EQ(settings.parameters[0], (Parameter{"datestyle", "SET \"datestyle\" TO 'ISO, MDY'"}));
  EXPECT_EQ(settings.parameters[1].sql,
            "SELECT pg_catalog.set_config('search_path', 'a, b', false)");
}

TEST(StartupSettings, TakeOptionsApartAsPostgresqlDoes) {
  const auto settings = startup_settings(
      "-c statement_timeout=5s -cwork_mem=4MB --search-path=a,b  -c application_name=a\\ b\\\\c",
      {});
  EXPECT_TRUE(settings.replayable);
  ASSERT_EQ(settings.parameters.size(), 4u);
  EXPECT_EQ(settings.parameters[0], setting("statement_timeout", "5s"));
  EXPECT_EQ(settings.parameters[1], setting("work_mem", "4MB"));
  EXPECT_EQ(settings.parameters[2], setting("search_path", "a,b"));
  EXPECT_EQ(settings.parameters[3], setting("application_name", "a b\\c"));
}

TEST(StartupSettings, OverrideOptionsByWhatThePacketNames) {
  StateTable table;
  const auto settings = startup_settings("-c application_name=x", {{"application_name", "y"}});
  const StatePtr state = table.make(settings.parameters);
  EXPECT_EQ(*state->find("application_name"), set_sql("application_name", "y"));
}

TEST(StartupSettings, BecomeOptionsThatAreTakenApartAgain) {
  EXPECT_EQ(all_options("", {}), "");
  const std::string all = all_options("-c a.b=1", {{"application_name", "a b\\c\td"}, {"x.y", ""}});
  EXPECT_EQ(startup_settings(all, {}).values,
            (std::vector<std::pair<std::string, std::string>>{
                {"a.b", "1"}, {"application_name", "a b\\c\td"}, {"x.y", ""}}));
}

TEST(StartupSettings, SaySoWhenASwitchIsNoSetting) {
  for (const std::string options : {"-S 4096", "-c", "-c x", "--x", "--=1", "stray", "-e", "\\"}) {
    EXPECT_FALSE(startup_settings(options, {}).replayable) << options;
  }
  EXPECT_TRUE(startup_settings("   ", {}).replayable);
}

TEST(ReportedValues, FindANameInAnyCase) {
  ReportedValues values;
  values.set("DateStyle", "ISO, MDY");
  values.set("datestyle", "German");
  ASSERT_NE(values.find("DATESTYLE"), nullptr);
  EXPECT_EQ(*values.find("DateStyle"), "German");
  EXPECT_EQ(values.find("work_mem"), nullptr);
}

TEST(SessionState, TellsAValueThatOneLiteralSays) {
  StateTable table;
  EXPECT_EQ(value_of(nullptr, "application_name"), "");
  StatePtr state =
      table.make(startup_settings("", {{"application_name", "it's \\ a worker"}}).parameters);
  EXPECT_EQ(value_of(state, "application_name"), "it's \\ a worker");
  EXPECT_EQ(value_of(state, "search_path"), "");
  state = table.with(state, "application_name", "SET application_name TO 'job-7'");
  EXPECT_EQ(value_of(state, "application_name"), "job-7");
}

TEST(StartupSettings, BeyondAsciiCannotBeQuotedInSomeEncodings) {
  const auto quotable = [](const char* encoding, const char* name) {
    return startup_settings("", {{"application_name", name}, {"client_encoding", encoding}})
        .quotable;
  };
  EXPECT_TRUE(quotable("UTF8", "\xe8\xa1\xa8"));
  EXPECT_TRUE(quotable("SJIS", "plain \\"));
  EXPECT_FALSE(quotable("SJIS", "\x95\\"));
  EXPECT_FALSE(startup_settings("-c client_encoding=sjis", {{"my.a", "\x95\\"}}).quotable);
}

}  // namespace
}  // namespace carpool::pg
