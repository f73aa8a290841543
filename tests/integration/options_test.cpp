// The promise: what check says of `options` is what PostgreSQL does with them. Held against the
// server at hand; what only another version refuses or knows has to pass here.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "config/postgres_options.h"
#include "harness/harness.h"

namespace carpool::integration {
namespace {

// Empty where a connection comes about.
std::string postgres_says(const std::string& options) {
  std::string quoted;
  for (const char c : options) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  Connection connection(shared_postgres().direct("postgres", "postgres") + " options='" + quoted +
                        "'");
  return connection.connected() ? "" : connection.error();
}

std::string we_say(const std::string& options) {
  return config::check_options(options).error;
}

void expect_same(const std::string& options) {
  const std::string theirs = postgres_says(options);
  const std::string ours = we_say(options);
  EXPECT_EQ(theirs.empty(), ours.empty())
      << options << "\nPostgreSQL: " << theirs << "\nours: " << ours;
}

TEST(Options, AreTakenApartAsPostgresqlDoes) {
  for (const char* options : {"-c geqo=off",
                              "-cgeqo=off",
                              "--geqo=off",
                              "-c geqo=off -c work_mem=1MB",
                              "-c search_path=a\\ b",
                              "-c search_path=a\\\\b",
                              "  -c   geqo=off  ",
                              "",
                              " ",
                              "-c application_name=",
                              "-c geqo",
                              "--geqo",
                              "-c",
                              "--",
                              "-- x",
                              "geqo=off",
                              "-c geqo=off x",
                              "-",
                              "-x",
                              "-e",
                              "-ec geqo=off",
                              "-s -c geqo=off",
                              "-S 1MB",
                              "-S 1",
                              "-S x",
                              "-fs",
                              "-fh",
                              "-fx",
                              "-f",
                              "-tpa",
                              "-tplanner",
                              "-te",
                              "-tp",
                              "-tx",
                              "-F",
                              "-i",
                              "-l",
                              "-B 10",
                              "-N 5",
                              "-p 5433",
                              "-h x",
                              "-k x",
                              "-n",
                              "-T",
                              "-b",
                              "-C x",
                              "-D x",
                              "-E",
                              "-j",
                              "-d 3",
                              "-W 0",
                              "-W x",
                              "-O",
                              "-P",
                              "-r x",
                              "-v 3",
                              "-z",
                              "-1",
                              "-c GEQO=Off",
                              "--search-path=x",
                              "-c search-path=x",
                              "-c =x",
                              "-c a.b=1",
                              "-c a.=1",
                              "-c .b=1",
                              "-c a.b.c=1",
                              "-c a.1b=1",
                              "-c a-b.c=1",
                              "-c 'geqo=off'",
                              "-c \"geqo=off\"",
                              "search_path=x",
                              "-csearch_path=pg_catalog",
                              "-c\tgeqo=off",
                              "-c\ngeqo=off"}) {
    expect_same(options);
  }
}

TEST(Options, AreOfTheSettingsThatPostgresqlHas) {
  const Reply settings = shared_postgres().admin(
      "select name, vartype, coalesce(min_val, ''), coalesce(max_val, ''), context, reset_val, "
      "array_to_string(enumvals, '|') from pg_settings");
  ASSERT_GT(settings.rows.size(), 300u);
  // Of which other versions take more.
  const std::set<std::string> wider = {"maintenance_work_mem", "debug_discard_caches",
                                       "wal_compression", "log_connections"};
  for (const std::vector<std::string>& row : settings.rows) {
    const std::string& name = row[0];
    const std::string& context = row[4];
    if (context == "postmaster" || context == "sighup" || context == "internal") {
      EXPECT_NE(config::check_setting(name, row[5]).error, "") << name;
      continue;
    }
    EXPECT_EQ(config::check_setting(name, row[5]).warning, "") << name << " is not known";
    std::vector<std::string> values = {row[5]};
    if (row[1] == "bool" && !wider.contains(name))
      values = {"on", "OFF", "t", "tru", "o", "of", "yes", "n", "2", "1", "x"};
    if (row[1] == "real") values = {"0.5", "x", "1,5", "nan", "1e"};
    if (row[1] == "integer" && !wider.contains(name)) {
      values = {row[2], row[3], row[2] + "1", row[3] + "0", "-2",  "0x10", "1e1",
                "1.4",  "x",    "1 x",        "010",        "30d", "25 d", "1e10"};
      for (const char* unit : {"ms", "s", "min", "h", "d", "us", "kB", "MB", "TB", "B", "GB"}) {
        values.push_back(std::string("90") + unit);
      }
    }
    if (row[1] == "enum") {
      std::stringstream all(row[6]);
      for (std::string value; std::getline(all, value, '|');) values.push_back(value);
      for (const char* value : {"true", "no", "1", "debug", "x", ""}) values.emplace_back(value);
    }
    if (name == "search_path")
      values = {"a", "a,b", "a b", "\"a b\", c", "", ",", "a,", "\"a", "\"\""};
    if (name == "DateStyle") {
      values = {"iso",     "ISO, DMY",   "sql,us", "isoo",           "iso,sql",
                "dmy,mdy", "postgresql", "Europe", "german default", ""};
    }
    // What is set before the first transaction cannot be set later.
    if (context == "backend" || context == "superuser-backend") continue;
    for (const std::string& value : values) {
      const Reply theirs =
          shared_postgres().admin("select set_config('" + name + "', '" + value + "', true)");
      const std::string ours = config::check_setting(name, value).error;
      if (!ours.empty()) {
        EXPECT_FALSE(theirs.ok()) << name << "=" << value << "\nours: " << ours;
      } else if (!theirs.ok()) {
        // A check of the setting's own: how PostgreSQL was built, or a list that versions differ
        // in.
        const bool by_type = theirs.message.find("requires a") != std::string::npos ||
                             theirs.message.find("outside the valid range") != std::string::npos;
        EXPECT_FALSE(by_type) << name << "=" << value << "\nPostgreSQL: " << theirs.message;
      }
    }
  }
}

TEST(Options, ThatAreMisspeltAreNotTaken) {
  for (const char* name : {"serch_path", "statment_timeout", "geqoo", "work_men", "time_zone_"}) {
    expect_same(std::string("-c ") + name + "=1");
  }
  // A setting of a PostgreSQL to come, or of a relative of it.
  EXPECT_EQ(we_say("-c gp_session_role=utility"), "");
  EXPECT_EQ(config::check_options("-c gp_session_role=utility").warnings.size(), 1u);
}

TEST(Environment, OfLibpqCountsOnlyWhereNoFileNamesTheServer) {
  const std::map<std::string, std::string> variables = {{"PGOPTIONS", "-c work_mem=7MB"},
                                                        {"PGTZ", "Pacific/Fiji"},
                                                        {"PGDATESTYLE", "German"},
                                                        {"PGCLIENTENCODING", "LATIN1"},
                                                        {"PGAPPNAME", "of-the-environment"},
                                                        {"PGSSLMODE", "verify-full"},
                                                        {"PGCHANNELBINDING", "require"},
                                                        {"PGTARGETSESSIONATTRS", "standby"},
                                                        {"PGSERVICE", "nowhere"}};
  const std::string asked =
      "select concat_ws('|', current_setting('work_mem'), current_setting('TimeZone'), "
      "current_setting('DateStyle'))";
  const std::string plain = shared_postgres().admin(asked).value();
  Carpool by_file(shared_postgres(), {}, {.env = variables});
  Connection client = by_file.connect();
  EXPECT_EQ(client.query(asked).value(), plain);
  EXPECT_EQ(client.query("show client_encoding").value(), "UTF8");
  EXPECT_EQ(client
                .query("select count(*) from pg_stat_activity where application_name = "
                       "'of-the-environment'")
                .value(),
            "0");

  std::map<std::string, std::string> naming = variables;
  for (const char* name : {"PGSSLMODE", "PGCHANNELBINDING", "PGTARGETSESSIONATTRS", "PGSERVICE"}) {
    naming.erase(name);
  }
  naming["PGHOST"] = "127.0.0.1";
  naming["PGPORT"] = std::to_string(shared_postgres().port());
  Carpool by_environment({.server = "database: app"}, {.env = naming});
  EXPECT_EQ(by_environment.connect().query(asked).value(), "7MB|Pacific/Fiji|German, DMY");
  const std::string shown = by_environment.config().dump();
  for (const char* text :
       {"work_mem=7MB", "Pacific/Fiji", "German", "LATIN1", "of-the-environment"}) {
    EXPECT_NE(shown.find(text), std::string::npos) << text << " is not in " << shown;
  }
}

TEST(Check, RefusesAServerThatCanNeverBeOpened) {
  TempDir dir;
  const std::string file = dir.path() / "carpool.yaml";
  for (const char* server :
       {"url: 'postgresql://app@127.0.0.1/app?sslmode=requird'",
        "url: 'postgresql://app@127.0.0.1/app?target_session_attrs=readwrite'",
        "url: 'postgresql://app@127.0.0.1/app?options=-csearch_path=pg_catalog'",
        "url: 'postgresql://app@127.0.0.1/app?gssencmode=of'",
        "url: 'postgresql://app@127.0.0.1/app?connect_timeout=abc'",
        "url: 'postgresql://app@127.0.0.1/app?channel_binding=yes'",
        "host: 127.0.0.1, options: '-c work_mem=lots'"}) {
    write_file(file, std::string("server: {") + server + "}\n");
    for (const char* command : {"check", "run"}) {
      const RunResult result = run_carpool(std::string(command) == "check"
                                               ? std::vector<std::string>{"check", file}
                                               : std::vector<std::string>{"run", "--config", file});
      EXPECT_EQ(result.exit_code, 78) << command << " " << server << "\n" << result.output;
    }
  }
}

TEST(Options, KnowTheEncodingsOfPostgresql) {
  const Reply names = shared_postgres().admin(
      "select pg_encoding_to_char(i) from generate_series(0, 60) i where pg_encoding_to_char(i) "
      "<> ''");
  ASSERT_GT(names.rows.size(), 35u);
  for (const std::vector<std::string>& row : names.rows) {
    EXPECT_TRUE(config::is_encoding(row[0])) << row[0];
  }
  for (const char* name :
       {"utf-8", "UTF 8", "Latin1", "iso-8859-1", "utf9", "latin0", "none", ""}) {
    const Reply theirs =
        shared_postgres().admin(std::string("select pg_char_to_encoding('") + name + "')");
    EXPECT_EQ(config::is_encoding(name), theirs.value() != "-1") << name;
  }
}

}  // namespace
}  // namespace carpool::integration
