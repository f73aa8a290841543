#include "cli/check.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace carpool::cli {
namespace {

std::optional<std::string> a_server(const std::string& name) {
  if (name == "PGHOST") return "db";
  return std::nullopt;
}

// A file with the given content for the length of a test, and what `carpool check` says of it.
class Checked {
 public:
  explicit Checked(const std::string& content)
      : path_(::testing::TempDir() + "carpool_check_test_" + std::to_string(getpid()) + ".yaml") {
    std::ofstream(path_, std::ios::binary) << content;
    std::ostringstream out;
    std::ostringstream err;
    exit_code = run_check(path_, a_server, out, err);
    output = without_path(out.str());
    errors = without_path(err.str());
  }
  ~Checked() { unlink(path_.c_str()); }
  Checked(const Checked&) = delete;
  Checked& operator=(const Checked&) = delete;

  int exit_code = -1;
  std::string output;
  std::string errors;

 private:
  std::string without_path(std::string text) const {
    for (std::size_t at = 0; (at = text.find(path_, at)) != std::string::npos;) {
      text.replace(at, path_.size(), "FILE");
    }
    return text;
  }
  std::string path_;
};

TEST(Check, SumsUpAValidFile) {
  Checked check(
      "listen: {unixSocketDir: /run/carpool}\n"
      "pool: {overflow: 2}\n"
      "databases:\n"
      "- {name: jobs, pool: {mode: session, size: 1, overflow: 0}}\n"
      "- {name: \"*\"}\n");
  EXPECT_EQ(check.exit_code, 0);
  EXPECT_EQ(check.errors, "");
  EXPECT_EQ(check.output.substr(0, check.output.find("  sha256 ")),
            "FILE: valid\n"
            "  clients connect to 127.0.0.1 port 6432 and /run/carpool/.s.PGSQL.6432\n"
            "  database jobs: session mode, 1 server a user\n"
            "  database * (any): transaction mode, 20 servers and 2 overflow a user\n");
}

TEST(Check, ShowsEachMistakeWithItsLineAndACaret) {
  Checked check("pool:\n  sise: 5\n\n  mode: [a]\n");
  EXPECT_EQ(check.exit_code, 78);
  EXPECT_EQ(check.output, "");
  EXPECT_EQ(check.errors,
            "FILE:2:3: pool.sise: unknown key; did you mean `size`?\n"
            "      sise: *\n"
            "      ^\n"
            "FILE:4:9: pool.mode: a single value is expected, not a list\n"
            "      mode: [a]\n"
            "            ^\n"
            "FILE: 2 errors\n");
}

TEST(Check, ExitsWith66WhenTheFileCannotBeRead) {
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(run_check("/nonexistent.yaml", a_server, out, err), 66);
  EXPECT_EQ(err.str(), "/nonexistent.yaml: cannot be read: No such file or directory\n");
  EXPECT_EQ(out.str(), "");
}

TEST(Check, WarnsAndStillCallsTheFileValid) {
  Checked check("listen: {port: 0}\n");
  EXPECT_EQ(check.exit_code, 0);
  EXPECT_EQ(check.errors,
            "FILE:1:16: listen.port: warning: is 0: any free port is taken, another one at each "
            "start\n"
            "    listen: {port: 0}\n"
            "                   ^\n");
  EXPECT_EQ(check.output.substr(0, check.output.find('\n')), "FILE: valid, 1 warning");
}

TEST(Check, PutsTheCaretRightBehindTabsAndLettersOfSeveralBytes) {
  Checked check("log: {\"\xc3\xa9\": 1, \tx: 2}\r\n");
  EXPECT_NE(check.errors.find("    log: {\"\xc3\xa9\": *********\n"
                              "                   ^\n"),
            std::string::npos)
      << check.errors;
}

TEST(Check, NeverPrintsAPassword) {
  for (const char* content : {
           "server: {url: \"postgres://u:hunter2@h:port/d\"}",
           "server: {password: hunter2, url: \"postgres://u:hunter2@h/d?password=hunter2\", x: 1}",
           "server:\n  password: 'hunter2\n",
           "server: {url: \"host=h password=hunter2 x\"}",
           "server: {url: \"host=h password='hunter2' x\"}",
           "server: {url: \"postgres://u:hunt@er2hunter2@h/d\"}",
           "server: {url: \"postgres://u:hunt hunter2@h:x/d\"}",
           "server:\n  password: [hunter2, 'hunter2]",
           "server: {\"password\": \"hunter2\", x: 1}",
           "server: {url: \"host=h password='not hunter2' x\"}",
           "server: {Passwd: hunter2}",
           "server: {x: 1, password",
           "server: {host: h, pasword: hunter2}",
           "server:\n  pwd: hunter2",
           "server: hunter2",
           "server:\n  host: h\n  password:\n    hunter2\n  ssl: true",
           "server:\n  host: h\n  password: \"abc\n    hunter2\"\n  sslMode: nope",
           "server:\n  host: h\n  password: |\n    hunter2\n    x\n  ssl: true",
           "server: {host: 'bob:hunter2@h'}",
           "server: {url: 'postgres://u:p@h/d?sslpasword=hunter2'}",
           "server: {host: h, password: 'hunter2, sslMode: nope}",
           "password: hunter2",
           "pool: {sise: 1} # hunter2",
           "server: {port: 5432 password: hunter2}",
           "databases: [{name: x password: hunter2}]",
           "server:\n  port: 5432 password: hunter2",
           "pool: {size: 1, sise: 2, password: hunter2}",
       }) {
    Checked check(content);
    EXPECT_EQ(check.exit_code, 78) << content;
    EXPECT_EQ(check.errors.find("hunter2"), std::string::npos) << check.errors;
  }
}

TEST(Check, WarnsOfAPasswordWithoutShowingIt) {
  Checked check("server:\n  host: h\n  password:\n    hunter2\n");
  EXPECT_NE(check.errors.find("warning"), std::string::npos) << check.errors;
  EXPECT_EQ(check.errors.find("hunter2"), std::string::npos) << check.errors;
}

TEST(Check, ShowsWhatIsNoSecret) {
  Checked check("pool: {size: 0, mode: \"transaction\"}");
  EXPECT_NE(check.errors.find("pool: {size: 0, mode: \"transaction\"}"), std::string::npos)
      << check.errors;
}

TEST(Check, SurvivesAFileOfOneLongLine) {
  Checked check("pool: {a: " + std::string(100'000, 'x') + ", b: 1}");
  EXPECT_EQ(check.exit_code, 78);
  EXPECT_LT(check.errors.size(), 2000u);
}

}  // namespace
}  // namespace carpool::cli
