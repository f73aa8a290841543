#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <vector>

#include "cli/admin_client.h"
#include "cli/table.h"

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;

struct Ran {
  int code;
  std::string out;
  std::string err;
};

Ran run(std::initializer_list<const char*> arguments) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Commands commands{"1.2.3", in, out, err};
  CLI::App app{"Carpool", "carpool"};
  app.require_subcommand(1);
  add_commands(app, commands);
  std::vector<const char*> argv = {"carpool"};
  argv.insert(argv.end(), arguments);
  const int code = run_command_line(app, commands, static_cast<int>(argv.size()), argv.data());
  return {code, out.str(), err.str()};
}

TEST(Commands, EveryHelpFitsAScreenAndShowsAnExample) {
  std::istringstream in;
  std::ostringstream sink;
  Commands commands{"1.2.3", in, sink, sink};
  CLI::App app{"Carpool", "carpool"};
  add_commands(app, commands);
  std::vector<CLI::App*> all = app.get_subcommands({});
  ASSERT_GT(all.size(), 5u);
  for (CLI::App* nested : app.get_subcommand("config")->get_subcommands({})) all.push_back(nested);
  for (CLI::App* command : all) {
    const std::string help = command->help();
    EXPECT_THAT(help, HasSubstr("Example: ")) << command->get_name();
    EXPECT_LE(std::count(help.begin(), help.end(), '\n'), 24) << help;
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 90u) << line;
  }
}

TEST(Commands, WrongUsageIs2AndHelpIs0) {
  EXPECT_EQ(run({}).code, 2);
  EXPECT_EQ(run({"nosuch"}).code, 2);
  EXPECT_EQ(run({"status", "--nosuch"}).code, 2);
  EXPECT_EQ(run({"status", "--json", "--check"}).code, 2);
  EXPECT_EQ(run({"status", "--watch", "0"}).code, 2);
  EXPECT_EQ(run({"check"}).code, 2);
  EXPECT_EQ(run({"wait", "--timeout", "5parsecs"}).code, 2);
  EXPECT_EQ(run({"--help"}).code, 0);
  EXPECT_EQ(run({"status", "--help"}).code, 0);
}

TEST(Commands, NoCommandShowsThemAllAndAWrongOneTheNearest) {
  EXPECT_THAT(run({}).err, HasSubstr("Subcommands:"));
  EXPECT_THAT(run({"config"}).err, HasSubstr("explain"));
  EXPECT_THAT(run({"statsu"}).err, HasSubstr("no command `statsu`; did you mean `status`?"));
  EXPECT_THAT(run({"config", "explian"}).err, HasSubstr("did you mean `explain`?"));
  EXPECT_THAT(run({"status", "--nosuch"}).err, HasSubstr("--nosuch"));
  EXPECT_THAT(run({"config", "explain", "pool.sise"}).err, HasSubstr("did you mean `pool.size`?"));
  EXPECT_THAT(run({"config", "explain", "acquiretimeuot"}).err,
              HasSubstr("did you mean `acquireTimeout`?"));
}

TEST(Commands, VersionPrintsTheVersion) {
  EXPECT_EQ(run({"version"}).out, "carpool 1.2.3\n");
}

TEST(Commands, ExplainTellsOfAKeyAndFailsOnAnUnknownOne) {
  const Ran known = run({"config", "explain", "pool.size"});
  EXPECT_EQ(known.code, 0);
  EXPECT_THAT(known.out, HasSubstr("pool.size"));
  const Ran unknown = run({"config", "explain", "pool.nosuch"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("pool.nosuch"));
}

TEST(Commands, SchemaIsAJsonSchema) {
  EXPECT_THAT(run({"config", "schema"}).out, HasSubstr("$schema"));
}

TEST(Commands, NobodyThereIs3ForStatusAndDrainAnd1ForWait) {
  // Port 1 of the loopback address: nothing listens there.
  const Ran status = run({"status", "--admin", "127.0.0.1:1"});
  EXPECT_EQ(status.code, 3);
  EXPECT_THAT(status.err, HasSubstr("does not answer at 127.0.0.1:1"));
  const Ran check = run({"status", "--check", "--admin", "127.0.0.1:1"});
  EXPECT_EQ(check.code, 3);
  EXPECT_THAT(check.out, HasSubstr("CARPOOL UNKNOWN - "));
  EXPECT_EQ(run({"drain", "--control", "127.0.0.1:1"}).code, 3);
  const Ran waited = run({"wait", "--timeout", "1ms", "--url", "http://127.0.0.1:1/"});
  EXPECT_EQ(waited.code, 1);
  EXPECT_THAT(waited.err, HasSubstr("gave up"));
}

TEST(Commands, TheAddressMayComeFromTheEnvironment) {
  setenv("CARPOOL_ADMIN", "127.0.0.1:2", 1);
  EXPECT_THAT(run({"status"}).err, HasSubstr("127.0.0.1:2"));
  EXPECT_THAT(run({"status", "--admin", "127.0.0.1:1"}).err, HasSubstr("127.0.0.1:1"));
  unsetenv("CARPOOL_ADMIN");
}

TEST(Commands, CompletionKnowsEveryCommandAndOption) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Ran ran = run({"completion", shell});
    EXPECT_EQ(ran.code, 0) << shell;
    for (const char* word : {"status", "explain", "watch", "detailed", "control", "uninject"}) {
      EXPECT_THAT(ran.out, HasSubstr(word)) << shell;
    }
  }
  EXPECT_EQ(run({"completion", "tcsh"}).code, 2);
}

// What bash itself offers after `carpool words... `.
std::string completed(const std::string& words, const std::string& last) {
  const std::string script = ::testing::TempDir() + "completion.bash";
  std::ofstream(script) << run({"completion", "bash"}).out << "COMP_WORDS=(carpool " << words
                        << " '" << last << "'); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _carpool; "
                        << "echo \"${COMPREPLY[*]}\"\n";
  FILE* bash = popen(("bash " + script).c_str(), "r");
  char said[1024] = "";
  if (bash != nullptr && fgets(said, sizeof said, bash) == nullptr) said[0] = '\0';
  if (bash != nullptr) pclose(bash);
  return said;
}

TEST(Commands, CompletionWorksInBash) {
  EXPECT_EQ(completed("", "sta"), "status\n");
  EXPECT_EQ(completed("config", "ex"), "explain\n");
  EXPECT_EQ(completed("status --database app", "--det"), "--detailed\n");
  EXPECT_EQ(completed("drain", "--wat"), "\n");
}

TEST(Endpoint, IsAHostAndAPort) {
  EXPECT_EQ(parse_endpoint("localhost:9930")->text(), "localhost:9930");
  EXPECT_EQ(parse_endpoint("http://10.1.2.3:80/")->text(), "10.1.2.3:80");
  EXPECT_EQ(parse_endpoint("[::1]:9930")->host, "::1");
  EXPECT_EQ(parse_endpoint("[::1]:9930")->text(), "[::1]:9930");
  EXPECT_EQ(parse_endpoint(":9930")->text(), "127.0.0.1:9930");
}

TEST(Endpoint, RefusesWhatIsNone) {
  for (const char* text : {"", "localhost", "9930", "localhost:", "localhost:0", "localhost:70000",
                           "localhost:99x", "::1:9930", "https://localhost:9930", "a/b:1"}) {
    EXPECT_FALSE(parse_endpoint(text)) << text;
  }
}

TEST(Endpoint, EncodesWhatAQueryCannotHold) {
  EXPECT_EQ(percent_encoded("app-1_x.y~"), "app-1_x.y~");
  EXPECT_EQ(percent_encoded("a b&c=\xc3\xa9"), "a%20b%26c%3D%C3%A9");
}

TEST(Table, AlignsNamesLeftAndFiguresRight) {
  Table table({"<NAME", "N"});
  table.add({"a", "10"});
  table.add({"\u00e4\u00f6\u00fc", "7"});
  EXPECT_EQ(table.text(), "NAME   N\na     10\n\u00e4\u00f6\u00fc    7\n");
}

TEST(Table, ANameCannotWriteOnTheTerminal) {
  Table table({"<NAME"});
  table.add({"\033[2Jx\n"});
  EXPECT_EQ(table.text(), "NAME\n?[2Jx?\n");
}

TEST(Table, KeepsToATerminalsWidth) {
  Table table({"<NAME", "NUMBER", "<WHAT"});
  table.add({"app", "10", "something long"});
  table.fit(0, {"NUMBER"});
  EXPECT_EQ(table.text(), "NAME  NUMBER  WHAT\napp       10  something long\n");
  table.fit(40, {"NUMBER"});
  EXPECT_EQ(table.text(), "NAME  NUMBER  WHAT\napp       10  something long\n");
  table.fit(20, {"NUMBER"});
  EXPECT_EQ(table.text(), "NAME  WHAT\napp   something long\n");
  table.fit(12, {});
  EXPECT_EQ(table.text(), "NAME  WHAT\napp   som...\n");
  EXPECT_EQ(cut("\u00e4\u00f6\u00fc\u00e4\u00f6", 4), "\u00e4...");
}

TEST(Table, SentencesAreWrappedBetweenWords) {
  EXPECT_EQ(wrapped("one two three", 100), "one two three\n");
  EXPECT_EQ(wrapped("one two three", 7), "one two\nthree\n");
  EXPECT_EQ(wrapped("\u00e4\u00f6\u00fc two extraordinary", 7),
            "\u00e4\u00f6\u00fc two\nextraordinary\n");
}

TEST(Table, TimesAndCountsAreShort) {
  EXPECT_EQ(time_text(0), "0");
  EXPECT_EQ(time_text(0.00008), "80 us");
  EXPECT_EQ(time_text(0.0012), "1.2 ms");
  EXPECT_EQ(time_text(0.5), "500 ms");
  EXPECT_EQ(time_text(90), "90.0 s");
  EXPECT_EQ(time_text(600), "10 min");
  EXPECT_EQ(time_text(3600 * 5), "5 h");
  EXPECT_EQ(time_text(86400 * 3), "3 d");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(2.25), "2.2");
  EXPECT_EQ(count_text(950), "950");
  EXPECT_EQ(count_text(12345), "12.3k");
  EXPECT_EQ(count_text(4.5e6), "4.5M");
}

}  // namespace
}  // namespace carpool::cli
