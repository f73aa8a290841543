// The environment names the server only where no file does, and the effective configuration shows
// what it said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "config/conninfo.h"
#include "fixture.h"

namespace carpool::config {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Variables = std::map<std::string, std::string>;

LoadResult loaded(const Variables& variables, const std::string& yaml = "") {
  LoadResult result = load_text(yaml, fixed(variables));
  EXPECT_TRUE(result.config) << ::testing::PrintToString(lines_of(result.problems));
  if (!result.config) result.config = Config{};
  return result;
}

// What libpq is told.
UrlParts told(const Variables& variables, const std::string& yaml = "") {
  Result<UrlParts> parts =
      conninfo_of(loaded(variables, yaml).config->databases.at(0).server, Libpq());
  EXPECT_TRUE(parts);
  if (!parts) return {};
  parts->erase("gssencmode");
  return *parts;
}

TEST(Environment, SaysAllThatLibpqWouldTakeFromIt) {
  const Variables variables = {{"PGHOST", "db"},
                               {"PGCHANNELBINDING", "require"},
                               {"PGREQUIREAUTH", "scram-sha-256"},
                               {"PGAPPNAME", "it's \\ me"},
                               {"PGCLIENTENCODING", "LATIN1"},
                               {"PGSSLMODE", "require"},
                               {"PGPASSFILE", "/p"},
                               {"PGLOADBALANCEHOSTS", "random"},
                               {"PGTZ", "Europe/Berlin"},
                               {"PGDATESTYLE", "ISO, DMY"},
                               {"PGGEQO", "off"},
                               {"PGOPTIONS", "-c work_mem=1MB"}};
  EXPECT_EQ(told(variables),
            (UrlParts{{"host", "db"},
                      {"port", "5432"},
                      {"channel_binding", "require"},
                      {"require_auth", "scram-sha-256"},
                      {"application_name", "it's \\ me"},
                      {"client_encoding", "LATIN1"},
                      {"sslmode", "require"},
                      {"passfile", "/p"},
                      {"load_balance_hosts", "random"},
                      {"options",
                       "-c work_mem=1MB -c datestyle=ISO,\\ DMY -c timezone=Europe/Berlin "
                       "-c geqo=off"}}));
  const std::string shown = masked_json(*loaded(variables).config);
  for (const char* text : {"channel_binding", "LATIN1", "Europe/Berlin", "require_auth"}) {
    EXPECT_THAT(shown, HasSubstr(text));
  }
}

TEST(Environment, AddsToDatabaseUrlWhatThatDoesNotSay) {
  const Variables more = {{"PGSSLMODE", "require"},
                          {"PGAPPNAME", "a&b c"},
                          {"PGUSER", "other"},
                          {"PGPORT", "1"},
                          {"PGTZ", "UTC"}};
  Variables variables = more;
  variables["DATABASE_URL"] = "postgres://u:p?w@h/d?options=-c%20geqo%3Doff&sslmode=disable";
  EXPECT_EQ(told(variables), (UrlParts{{"host", "h"},
                                       {"port", "5432"},
                                       {"dbname", "d"},
                                       {"user", "u"},
                                       {"password", "p?w"},
                                       {"sslmode", "disable"},
                                       {"application_name", "a&b c"},
                                       {"options", "-c geqo=off -c timezone=UTC"}}));
  variables["DATABASE_URL"] = "postgres://u:p?w@h";
  EXPECT_EQ(told(variables).at("application_name"), "a&b c");
  EXPECT_EQ(told(variables).at("sslmode"), "require");
  variables["DATABASE_URL"] = "host=h user=u";
  EXPECT_EQ(told(variables).at("application_name"), "a&b c");
}

// PGREQUIRESSL=1 is the older way to say PGSSLMODE=require, and libpq still takes it.
TEST(Environment, WhoseWordForTlsIsTheOlderOneGetsTls) {
  EXPECT_EQ(told({{"PGHOST", "db"}, {"PGREQUIRESSL", "1"}}).at("sslmode"), "require");
  EXPECT_EQ(told({{"DATABASE_URL", "postgres://h"}, {"PGREQUIRESSL", "1"}}).at("sslmode"),
            "require");
  EXPECT_EQ(told({{"PGHOST", "db"}, {"PGREQUIRESSL", "1"}, {"PGSSLMODE", "allow"}}).at("sslmode"),
            "allow");
  EXPECT_FALSE(told({{"PGHOST", "db"}, {"PGREQUIRESSL", "0"}}).contains("sslmode"));
  EXPECT_EQ(told({{"DATABASE_URL", "postgres://h?requiressl=1"}}).at("sslmode"), "require");
  EXPECT_THAT(lines_of(loaded({{"PGREQUIRESSL", "1"}}, "server: {host: h}").warnings),
              ElementsAre(HasSubstr("PGREQUIRESSL of the environment has no effect")));
}

TEST(Environment, StandsBackBehindTheKeysOfTheFile) {
  const UrlParts parts = told({{"PGHOST", "db"}, {"PGTZ", "UTC"}, {"PGOPTIONS", "-c geqo=on"}},
                              "server: {options: -c timezone=PST8PDT}");
  // Of two equal settings PostgreSQL takes the last.
  EXPECT_EQ(parts.at("options"), "-c timezone=UTC -c timezone=PST8PDT");
}

TEST(Environment, CountsNothingWhereAFileNamesTheServer) {
  const Variables variables = {{"PGOPTIONS", "-c geqo=off"}, {"PGTZ", "UTC"},
                               {"PGPASSWORD", "hunter2"},    {"PGSSLMODE", "disable"},
                               {"PGHOST", "other"},          {"PGUSER", "other"},
                               {"PGSERVICE", "other"}};
  const std::string yaml = "server: {host: h, user: u, sslMode: require}";
  EXPECT_EQ(told(variables, yaml),
            (UrlParts{{"host", "h"}, {"port", "5432"}, {"user", "u"}, {"sslmode", "require"}}));
  EXPECT_THAT(
      lines_of(loaded(variables, yaml).warnings),
      ElementsAre("1:1: server: PGPASSWORD, PGOPTIONS, PGSERVICE and PGTZ of the environment "
                  "have no effect, since the file names the server; what is to count stands "
                  "in the file, as in `password: ${PGPASSWORD}`"));
  EXPECT_THAT(loaded({{"PGHOST", "other"}}, yaml).warnings, IsEmpty());
}

TEST(Environment, KeepsAnAddressApartFromItsName) {
  EXPECT_EQ(told({{"PGHOST", "db"}, {"PGHOSTADDR", "10.0.0.1"}, {"PGPORT", "1"}}),
            (UrlParts{{"host", "db"}, {"hostaddr", "10.0.0.1"}, {"port", "1"}}));
  EXPECT_EQ(told({{"PGHOSTADDR", "10.0.0.1"}}), (UrlParts{{"host", "10.0.0.1"}, {"port", "5432"}}));
  EXPECT_EQ(told({{"PGHOST", "a,b"}, {"PGPORT", "1,2"}}),
            (UrlParts{{"host", "a,b"}, {"port", "1,2"}}));
  // libpq takes the rest of a url from the environment.
  EXPECT_EQ(told({{"DATABASE_URL", "postgres:///d"}, {"PGHOST", "db"}, {"PGPORT", "7"}}),
            (UrlParts{{"host", "db"}, {"port", "7"}, {"dbname", "d"}}));
}

TEST(Environment, NamesTheVariableThatIsWrong) {
  const auto problem = [](const char* name, const char* value) {
    return lines_of(load_text("", fixed({{"PGHOST", "h"}, {name, value}})).problems);
  };
  EXPECT_THAT(problem("PGCHANNELBINDING", "yes"),
              ElementsAre(HasSubstr(" PGCHANNELBINDING: is none of disable, prefer or require")));
  EXPECT_THAT(problem("PGOPTIONS", "geqo=off"), ElementsAre(HasSubstr(" PGOPTIONS: word 1 is no")));
  EXPECT_THAT(problem("PGDATESTYLE", "isoo"),
              ElementsAre(" PGDATESTYLE: the value of `datestyle` is no style of dates"));
  EXPECT_THAT(problem("PGCLIENTENCODING", "utf9"), ElementsAre(HasSubstr(" PGCLIENTENCODING: ")));
  EXPECT_THAT(problem("PGCONNECT_TIMEOUT", "soon"),
              ElementsAre(" PGCONNECT_TIMEOUT: is not a whole number"));
  EXPECT_THAT(problem("PGGSSENCMODE", "require"),
              ElementsAre(HasSubstr(" PGGSSENCMODE: cannot be")));
  EXPECT_THAT(problem("PGSERVICE", "main"), ElementsAre(HasSubstr(" PGSERVICE: names an entry")));
  EXPECT_THAT(problem("PGGEQO", "default"), IsEmpty());
  EXPECT_THAT(problem("PGCONNECT_TIMEOUT", "0"), IsEmpty());
  EXPECT_THAT(lines_of(load_text("", fixed({{"PGSERVICE", "main"}})).problems),
              Contains(HasSubstr(" PGSERVICE: names an entry")));
  EXPECT_THAT(
      lines_of(load_text("", fixed({{"DATABASE_URL", "postgres://h/d?sslmode=x"}})).problems),
      ElementsAre(HasSubstr(" DATABASE_URL: `sslmode` is none of")));
  const Environment old(
      [](const std::string& name) -> std::optional<std::string> {
        if (name == "PGHOST") return "h";
        if (name == "PGREQUIREAUTH") return "md5";
        return std::nullopt;
      },
      {.version = 15});
  EXPECT_THAT(lines_of(load_text("", old).problems),
              ElementsAre(" PGREQUIREAUTH: is of libpq 16 and later, and this is libpq 15"));
}

}  // namespace
}  // namespace carpool::config
