#include "admin/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "sample.h"

namespace carpool::admin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What `promtool check metrics` says of the text, and its exit code.
std::pair<int, std::string> promtool_on(const std::string& text) {
  const std::string path = ::testing::TempDir() + "metrics." + std::to_string(getpid());
  std::ofstream(path) << text;
  FILE* promtool = popen(("promtool check metrics < " + path + " 2>&1").c_str(), "r");
  std::string said;
  char buffer[512];
  while (promtool != nullptr && fgets(buffer, sizeof buffer, promtool) != nullptr) said += buffer;
  const int code = promtool == nullptr ? -1 : pclose(promtool);
  std::remove(path.c_str());
  return {WEXITSTATUS(code), said};
}

// The value of the line that starts with `series`; NaN-free text is assumed. Empty: no such line.
std::string value_of(const std::string& text, const std::string& series) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind(series + " ", 0) == 0) return line.substr(series.size() + 1);
  }
  return "";
}

TEST(Metrics, PassPromtool) {
  auto [code, said] = promtool_on(metrics_text(sample_snapshot(), sample_config(), "1.2.3"));
  EXPECT_EQ(code, 0) << said;
  EXPECT_EQ(said, "");
}

TEST(Metrics, PassPromtoolBeforeAnyPoolExists) {
  auto [code, said] = promtool_on(metrics_text({}, {}, ""));
  EXPECT_EQ(code, 0) << said;
}

TEST(Metrics, PassPromtoolWithNamesMadeOfRubbish) {
  pool::Snapshot snapshot;
  snapshot.pools = {sample_pool("a\"b\\c\n\xff\xc3", 1)};
  const std::string text = metrics_text(snapshot, sample_config(), "1.2.3");
  auto [code, said] = promtool_on(text);
  EXPECT_EQ(code, 0) << said;
  EXPECT_THAT(text, Not(HasSubstr("\xff")));
}

TEST(Metrics, PromtoolDoesFindWhatIsWrong) {
  EXPECT_NE(promtool_on("carpool_requests 1\n").second, "");
}

TEST(Metrics, NameEverythingThatTheDesignNames) {
  const std::string text = metrics_text(sample_snapshot(), sample_config(), "1.2.3");
  const std::string pool = "{database=\"app\",user=\"app\"";
  EXPECT_EQ(value_of(text, "carpool_pool_size" + pool + "}"), "10");
  EXPECT_EQ(value_of(text, "carpool_pool_servers" + pool + ",state=\"leased\"}"), "3");
  EXPECT_EQ(value_of(text, "carpool_pool_clients" + pool + ",state=\"idle\"}"), "30");
  EXPECT_EQ(value_of(text, "carpool_pool_wait_seconds_count" + pool + "}"), "100");
  EXPECT_EQ(value_of(text, "carpool_pool_oldest_waiter_seconds" + pool + "}"), "0");
  EXPECT_EQ(value_of(text, "carpool_query_seconds_count" + pool + "}"), "1000");
  EXPECT_EQ(value_of(text, "carpool_transaction_seconds_sum" + pool + "}"), "3");
  EXPECT_EQ(value_of(text, "carpool_pool_acquire_timeouts_total" + pool + "}"), "0");
  EXPECT_EQ(value_of(text, "carpool_clients_rejected_total{reason=\"auth_failed\"}"), "5");
  EXPECT_EQ(value_of(text, "carpool_server_connects_total" + pool + "}"), "12");
  EXPECT_EQ(value_of(text, "carpool_server_connect_errors_total" + pool + ",reason=\"timeout\"}"),
            "2");
  EXPECT_EQ(value_of(text, "carpool_server_connect_seconds_count" + pool + "}"), "1");
  EXPECT_EQ(value_of(text, "carpool_errors_total" + pool + ",sqlstate_class=\"22\"}"), "4");
  EXPECT_EQ(value_of(text, "carpool_pins_total" + pool + ",cause=\"listen\"}"), "3");
  EXPECT_EQ(value_of(text, "carpool_session_restores_total" + pool + "}"), "21");
  EXPECT_EQ(value_of(text, "carpool_prepared_statements" + pool + "}"), "7");
  EXPECT_EQ(value_of(text, "carpool_prepared_statement_bytes" + pool + "}"), "2100");
  EXPECT_EQ(value_of(text, "carpool_bytes_total" + pool + ",direction=\"to_clients\"}"), "4567");
  EXPECT_EQ(value_of(text, "carpool_config_info{hash=\"sha256:0123456789abcdef\"}"), "1");
  EXPECT_EQ(value_of(text, "carpool_config_last_reload_successful"), "0");
  EXPECT_EQ(std::stod(value_of(text, "carpool_config_last_reload_success_timestamp_seconds")),
            1'795'231'094.5);
  EXPECT_EQ(value_of(text, "carpool_config_reloads_total{result=\"unchanged\"}"), "4");
  EXPECT_EQ(value_of(text, "carpool_build_info{version=\"1.2.3\"}"), "1");
  EXPECT_EQ(value_of(text, "carpool_clients"), "63");
  EXPECT_EQ(value_of(text, "carpool_clients_max"), "1000");
  EXPECT_EQ(value_of(text, "carpool_draining"), "0");
  EXPECT_GT(std::stod(value_of(text, "process_resident_memory_bytes")), 1e6);
  EXPECT_GT(std::stod(value_of(text, "process_open_fds")), 2);
  EXPECT_GE(std::stod(value_of(text, "process_cpu_seconds_total")), 0);
  EXPECT_GT(std::stod(value_of(text, "process_start_time_seconds")), 1e9);
}

TEST(Metrics, BucketsAreCumulativeSecondsAndEndAtInfinity) {
  const std::string text = metrics_text(sample_snapshot(), sample_config(), "1.2.3");
  const std::string bucket = "carpool_query_seconds_bucket{database=\"app\",user=\"app\",le=";
  EXPECT_EQ(value_of(text, bucket + "\"0.0008\"}"), "0");
  EXPECT_EQ(value_of(text, bucket + "\"0.4096\"}"), "409");
  EXPECT_EQ(value_of(text, bucket + "\"+Inf\"}"), "1000");
}

}  // namespace
}  // namespace carpool::admin
