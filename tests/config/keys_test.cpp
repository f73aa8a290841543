#include "config/keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "config/load.h"
#include "config/text.h"

namespace carpool::config {
namespace {

std::optional<std::string> nothing(const std::string&) {
  return std::nullopt;
}

// Another valid value than the default.
Value another(const Key& key) {
  Value initial = key.get(Config{});
  switch (key.type) {
    case KeyType::String:
      if (key.path == "server.url") return std::string("postgres://u:p@h/d");
      return std::string("other");
    case KeyType::Int:
    case KeyType::Duration:
      return initial == Value{key.max} ? key.min : key.max;
    case KeyType::Enum:
      return initial == Value{key.values.back()} ? key.values.front() : key.values.back();
    case KeyType::StringList:
      return std::vector<std::string>{"a", "b"};
  }
  return initial;
}

TEST(Keys, HaveEachTheirOwnPath) {
  std::set<std::string> names;
  for (const Key& key : keys()) names.insert(key.path);
  EXPECT_EQ(names.size(), keys().size());
}

TEST(Keys, EachSetsItsOwnFieldAndNoOther) {
  for (const Key& key : keys()) {
    Config config;
    key.set(config, another(key));
    EXPECT_EQ(key.get(config), another(key)) << key.path;
    EXPECT_NE(config, Config{}) << key.path;
    for (const Key& other : keys()) {
      if (other.path == key.path) continue;
      EXPECT_EQ(other.get(config), other.get(Config{})) << key.path << " changed " << other.path;
    }
    key.set(config, key.get(Config{}));
    EXPECT_EQ(config, Config{}) << key.path;
  }
}

TEST(Keys, ReadingAndWritingBackChangesNothing) {
  Config config;
  for (const Key& key : keys()) key.set(config, another(key));
  Config again = config;
  for (const Key& key : keys()) key.set(again, key.get(again));
  EXPECT_EQ(again, config);
}

TEST(Keys, EachRoundTripsThroughTheFile) {
  for (const Key& key : keys()) {
    // Only in itself: `minIdle: 10000` alone would be an impossible pair.
    std::string text = to_text(key, another(key));
    if (key.type == KeyType::StringList) continue;
    Result<Value> read = parse_value(key, text, text);
    ASSERT_TRUE(read) << key.path << ": " << read.error().message;
    EXPECT_EQ(*read, another(key)) << key.path;
    std::string initial = to_text(key, key.get(Config{}));
    Result<Value> initial_read = parse_value(key, initial, initial);
    ASSERT_TRUE(initial_read) << key.path << ": " << initial_read.error().message;
    EXPECT_EQ(*initial_read, key.get(Config{})) << key.path;
  }
}

TEST(Keys, EachDefaultWrittenOutInAFileIsTheDefault) {
  std::string yaml;
  std::string section;
  for (const Key& key : keys()) {
    std::string name = key.path;
    std::string indent = "  ";
    std::string head = name.substr(0, name.rfind('.'));
    std::string wanted = head == "listen.tls" ? "listen.tls" : head;
    if (wanted != section) {
      yaml += wanted == "listen.tls" ? "  tls:\n" : wanted + ":\n";
      section = wanted;
    }
    if (section == "listen.tls") indent = "    ";
    std::string value = to_text(key, key.get(Config{}));
    if (key.type == KeyType::String) value = "\"" + value + "\"";
    yaml += indent + name.substr(name.rfind('.') + 1) + ": " + value + "\n";
  }
  yaml += "databases: [{name: \"*\", server: {host: h}}]\n";
  LoadResult loaded = load_text(yaml, nothing);
  ASSERT_TRUE(loaded.config) << format(loaded.problems.at(0), yaml);
  Config expected;
  expected.databases.push_back({"*", {}, {}});
  expected.databases[0].server.host = "h";
  EXPECT_EQ(*loaded.config, expected);
}

TEST(Keys, HaveDefaultsWithinTheirLimits) {
  for (const Key& key : keys()) {
    Value initial = key.get(Config{});
    if (const auto* number = std::get_if<std::int64_t>(&initial)) {
      bool special = *number == 0 && !key.zero.empty();
      EXPECT_TRUE(special || (*number >= key.min && *number <= key.max)) << key.path;
      EXPECT_LE(key.min, key.max) << key.path;
    }
    EXPECT_TRUE(key.meaning.ends_with('.')) << key.path;
    EXPECT_EQ(find_key(key.path), &key);
  }
}

TEST(Keys, ThatNeedARestartAreTheseOnly) {
  std::vector<std::string> restart;
  for (const Key& key : keys()) {
    if (!key.live) restart.push_back(key.path);
  }
  EXPECT_EQ(restart,
            (std::vector<std::string>{"admin.address", "admin.port", "admin.controlAddress",
                                      "admin.controlPort", "log.format"}));
}

}  // namespace
}  // namespace carpool::config
