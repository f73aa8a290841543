// The promise: what transaction-mode.md says of each version of PostgreSQL is so on the one that
// the tests run with (`./dev test --postgresql VERSION`).
#include "one_server.h"

namespace carpool::integration {
namespace {

using Versions = OneServer;
using Pins = std::map<std::string, int>;

constexpr const char* kFunction =
    "create or replace function moves() returns void language plpgsql as "
    "$$begin perform set_config('search_path', 'pg_catalog, app', false); end$$";

TEST_F(Versions, ASearchPathIsFollowedWhateverChangedItWherePostgresqlReportsIt) {
  const bool reported =
      std::stoi(postgres().admin("select current_setting('server_version_num')").value()) >= 180000;
  Wire computes = client();
  Wire other = client();
  const std::string usual = value_of(other.query("show search_path"));
  computes.query("select set_config('search_path', 'pg_' || 'catalog', false)");
  EXPECT_EQ(value_of(computes.query("show search_path")), "pg_catalog");
  EXPECT_EQ(pins(carpool), reported ? Pins{} : (Pins{{"session_parameter", 1}}));
  computes.query("discard all");
  EXPECT_EQ(value_of(other.query("show search_path")), usual);
  if (!reported) return;  // what a function does is out of reach there

  ASSERT_EQ(sqlstate_of(other.query(kFunction)), "");
  Wire calls = client();
  calls.query("select moves()");
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(value_of(calls.query("show search_path")), "pg_catalog, app");
    EXPECT_EQ(value_of(other.query("show search_path")), usual);
  }
  EXPECT_EQ(pins(carpool), Pins{});
}

TEST_F(Versions, ACountOfScramIterationsIsFollowedWhereThereIsSuchASetting) {
  const bool known =
      std::stoi(postgres().admin("select current_setting('server_version_num')").value()) >= 160000;
  Wire computes = client();
  Wire other = client();
  const auto answer =
      computes.query("select set_config('scram_iterations', (2000 + 1)::text, false)");
  EXPECT_EQ(sqlstate_of(answer), known ? "" : "42704");
  if (!known) return;
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(value_of(computes.query("show scram_iterations")), "2001");
    EXPECT_EQ(value_of(other.query("show scram_iterations")), "4096");
  }
  EXPECT_EQ(pins(carpool), Pins{});
}

}  // namespace
}  // namespace carpool::integration
