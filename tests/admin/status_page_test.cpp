#include "admin/status_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <regex>
#include <string>

#include "admin/history.h"
#include "admin/status_json.h"
#include "admin/text.h"
#include "sample.h"

namespace carpool::admin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(StatusPage, IsServedWithAPolicyThatForbidsEverythingForeign) {
  SampleProxy proxy;
  auto server = start_sample(proxy);
  ASSERT_NE(server, nullptr);
  httplib::Client client("127.0.0.1", server->port());
  for (const auto& [path, type] : {std::pair{"/", "text/html"}, std::pair{"/page.css", "text/css"},
                                   std::pair{"/page.js", "text/javascript"}}) {
    auto answer = client.Get(path);
    ASSERT_TRUE(answer) << path;
    EXPECT_EQ(answer->status, 200) << path;
    EXPECT_THAT(answer->get_header_value("Content-Type"), HasSubstr(type));
    EXPECT_EQ(answer->get_header_value("Content-Security-Policy"), kContentSecurityPolicy);
    EXPECT_EQ(answer->get_header_value("X-Content-Type-Options"), "nosniff");
  }
}

TEST(StatusPage, AndItsDataStayUnder60KB) {
  SampleProxy proxy;
  auto server = start_sample(proxy);
  ASSERT_NE(server, nullptr);
  httplib::Client client("127.0.0.1", server->port());
  std::size_t bytes = 0;
  for (const char* path : {"/", "/page.css", "/page.js", "/status", "/config"}) {
    auto answer = client.Get(path);
    ASSERT_TRUE(answer) << path;
    bytes += answer->body.size();
  }
  EXPECT_LT(bytes, 60'000u);
}

// The most that a page asks for: a thousand clients, three pools, and their last ten minutes with
// figures of many digits.
TEST(StatusPage, AndTenMinutesOfThreePoolsStayUnder60KBToo) {
  pool::Snapshot snapshot = sample_snapshot();
  snapshot.pools.push_back(sample_pool("reports", 7));
  for (pool::PoolSnapshot& pool : snapshot.pools) {
    pool.clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 300;
    pool.oldest_waiter_us = 12'345'678;
  }
  History history;
  Micros now_us = 0;
  for (std::size_t i = 0; i < History::kSamples_max; i++) {
    history.add(snapshot, now_us);
    now_us += History::kInterval_us;
    for (pool::PoolSnapshot& pool : snapshot.pools) {
      pool.counters.transactions += 61'234 + i;
      pool.counters.queries += 123'456;
      pool.counters.query.observe(static_cast<Micros>(3456 + i));
      pool.counters.wait.observe(static_cast<Micros>(4567 + i));
    }
  }
  StatusExtras extras;
  extras.history = &history;
  extras.now_us = now_us;
  const std::size_t bytes = status_page_html().size() + status_page_css().size() +
                            status_page_js().size() + history.json(0).size() +
                            status_json(snapshot, "1.2.3", extras).size() +
                            config_json(sample_config()).size();
  EXPECT_LT(bytes, 60'000u);
  EXPECT_GT(history.json(0).size(), 5'000u);
}

TEST(StatusPage, HasNothingInlineThatThePolicyWouldBlock) {
  const std::string html(status_page_html());
  EXPECT_FALSE(std::regex_search(html, std::regex("\\son[a-z]+\\s*=")));
  EXPECT_FALSE(std::regex_search(html, std::regex("<script(?![^>]*\\ssrc=)")));
  EXPECT_FALSE(std::regex_search(html, std::regex("\\sstyle\\s*=|<style")));
  const std::string script(status_page_js());
  EXPECT_THAT(script, Not(HasSubstr("innerHTML")));
  EXPECT_THAT(script, Not(HasSubstr("eval(")));
}

TEST(StatusPage, NamesNoOtherHost) {
  const std::string all = std::string(status_page_html()) + std::string(status_page_css()) +
                          std::string(status_page_js());
  const std::string svg_namespace = "http://www.w3.org/2000/svg";
  std::string rest = all;
  if (std::size_t at = rest.find(svg_namespace); at != std::string::npos) {
    rest.erase(at, svg_namespace.size());  // a name, never fetched
  }
  EXPECT_FALSE(std::regex_search(rest, std::regex("https?://|[\"'(]//[a-z]")));
}

TEST(Text, KeepsWellFormedUtf8AndReplacesTheRest) {
  EXPECT_EQ(valid_utf8("plain"), "plain");
  EXPECT_EQ(valid_utf8("\u00fc\u20ac\U0001F697"), "\u00fc\u20ac\U0001F697");
  EXPECT_EQ(valid_utf8("a\xff"), "a\uFFFD");
  EXPECT_EQ(valid_utf8("\xc3"), "\uFFFD");                                // cut short
  EXPECT_EQ(valid_utf8("\xc0\xaf"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(valid_utf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(valid_utf8("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // past the end
}

}  // namespace
}  // namespace carpool::admin
