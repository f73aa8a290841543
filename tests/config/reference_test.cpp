#include "config/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "config/keys.h"
#include "config/text.h"
#include "fixture.h"

namespace carpool::config {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// The schema of a path below an object's schema; null where there is none.
Json schema_at(const Json& object, const std::string& path) {
  std::size_t dot = path.find('.');
  const Json& properties = object.at("properties");
  std::string name = path.substr(0, dot);
  if (!properties.contains(name)) return nullptr;
  if (dot == std::string::npos) return properties.at(name);
  return schema_at(properties.at(name), path.substr(dot + 1));
}

// Whether a string is valid by the part of JSON schema that the keys use.
bool allows_text(const Json& schema, const std::string& text) {
  if (schema.contains("anyOf")) {
    for (const Json& one : schema.at("anyOf")) {
      if (allows_text(one, text)) return true;
    }
    return false;
  }
  if (schema.contains("enum")) {
    for (const Json& one : schema.at("enum")) {
      if (one == text) return true;
    }
    return false;
  }
  if (schema.contains("not") && allows_text(schema.at("not"), text)) return false;
  Json type = schema.at("type");
  bool is_text = type == "string" || (type.is_array() && type.at(0) == "string");
  if (!is_text) return false;
  if (schema.contains("minLength") && text.size() < schema.at("minLength")) return false;
  if (!schema.contains("pattern")) return true;
  return std::regex_search(text, std::regex(schema.at("pattern").get<std::string>()));
}

TEST(Reference, HasARowForEveryKey) {
  std::string page = reference_markdown();
  for (const Key& key : keys()) {
    EXPECT_THAT(page, HasSubstr("| `" + key.path + "` | "));
    EXPECT_THAT(page, HasSubstr(key.meaning));
  }
  EXPECT_THAT(page, HasSubstr("| `pool.size` | number of servers, 1 to 10000 | `20` | live | "));
  EXPECT_THAT(page, HasSubstr("| `admin.port` | whole number, 1 to 65535, or 0: any free port, "
                              "which the log names | `9930` | restart | "));
}

TEST(Reference, IsThePageInDocs) {
  EXPECT_EQ(content_of(test_file("../../docs/configuration.md")), reference_markdown());
}

TEST(Explain, KnowsKeysDatabasesBareNamesAndSections) {
  EXPECT_EQ(explain("pool.idleTimeout"),
            "pool.idleTimeout\n"
            "  When an idle server beyond `minIdle` is closed.\n"
            "  type     duration\n"
            "  limits   100ms to 365d, or 0s: never\n"
            "  default  5m\n"
            "  applies  live\n"
            "  also     databases[].pool.idleTimeout\n");
  EXPECT_EQ(explain("databases[app].pool.idleTimeout"), explain("pool.idleTimeout"));
  EXPECT_EQ(explain("idleTimeout"), explain("pool.idleTimeout"));
  EXPECT_THAT(explain("admin.port").value(), HasSubstr("applies  after a restart\n"));
  // Three keys are called `address` or `port`.
  EXPECT_THAT(explain("port").value(), HasSubstr("admin.port\n"));
  EXPECT_THAT(explain("port").value(), HasSubstr("server.port\n"));
  EXPECT_THAT(explain("pool").value(), HasSubstr("pool.acquireTimeout"));
  EXPECT_THAT(explain("databases").value(), HasSubstr("one entry \"*\""));
}

TEST(Explain, DoesNotKnowWhatThereIsNot) {
  for (const char* key : {"", "nope", "pool.nope", "databases[].listen.port", "databases[", "."}) {
    EXPECT_FALSE(explain(key)) << key;
  }
}

TEST(Schema, DescribesEveryKeyAndNothingElse) {
  Json schema = Json::parse(json_schema());
  EXPECT_EQ(schema.at("additionalProperties"), false);
  Json entry = schema_at(schema, "databases").at("items");
  EXPECT_EQ(entry.at("additionalProperties"), false);
  EXPECT_EQ(entry.at("required"), Json({"name"}));
  for (const Key& key : keys()) {
    Json found = schema_at(schema, key.path);
    ASSERT_FALSE(found.is_null()) << key.path;
    EXPECT_TRUE(found.contains("default")) << key.path;
    EXPECT_EQ(schema_at(entry, key.in_databases() ? key.path : "server").is_null(), false);
    EXPECT_EQ(schema_at(schema, key.path.substr(0, key.path.find('.'))).at("additionalProperties"),
              false);
  }
  EXPECT_TRUE(schema_at(entry, "pool").at("additionalProperties") == false);
}

TEST(Schema, AgreesWithTheLoaderOnWhatIsAValue) {
  Json schema = Json::parse(json_schema());
  const std::vector<std::string> durations = {"0s",     "5m",  "500ms", "1h30m", "250us", "2d",
                                              "30",     "5 s", "-5s",   "1.5s",  "30m1h", "s",
                                              "5 days", "",    "1s1s",  "5M"};
  for (const std::string& text : durations) {
    EXPECT_EQ(allows_text(schema_at(schema, "drain.minDelay"), text),
              static_cast<bool>(parse_duration(text, text)))
        << text;
  }
  for (const Key& key : keys()) {
    if (key.type == KeyType::StringList) continue;
    Json found = schema_at(schema, key.path);
    EXPECT_TRUE(allows_text(found, "${SOME_VAR:-x}")) << key.path;
    if (key.type == KeyType::Enum) {
      for (const std::string& name : key.values) EXPECT_TRUE(allows_text(found, name)) << key.path;
    }
    bool any_text = key.type == KeyType::String && key.pattern.empty();
    EXPECT_EQ(allows_text(found, "nonsense"), any_text) << key.path;
    if (key.type == KeyType::Int) {
      EXPECT_EQ(found.at("anyOf").at(0).at("maximum"), key.max) << key.path;
      EXPECT_EQ(found.at("anyOf").at(0).at("minimum"), key.zero.empty() ? key.min : 0) << key.path;
    }
  }
}

TEST(Schema, RefusesNoAddressThatTheLoaderTakes) {
  Json schema = Json::parse(json_schema());
  struct Case {
    const char* path;
    const char* text;
    bool allowed;
  };
  const std::vector<Case> cases = {
      {"listen.address", "127.0.0.1", true},
      {"listen.address", "::1", true},
      {"listen.address", "::ffff:10.0.0.1", true},
      {"listen.address", "localhost", false},
      {"listen.unixSocketDir", "", true},
      {"listen.unixSocketDir", "/run", true},
      {"listen.unixSocketDir", "run", false},
      {"admin.controlAddress", "127.0.0.1", true},
      {"admin.controlAddress", "::1", true},
      {"admin.controlAddress", "0:0:0:0:0:0:0:1", true},
      {"admin.controlAddress", "::ffff:127.0.0.1", true},
      {"admin.controlAddress", "::ffff:7f00:1", true},
      {"admin.controlAddress", "0.0.0.0", false},
      {"admin.controlAddress", "10.0.0.1", false},
      {"pool.acquireTimeout", "0s", false},
      {"pool.queryTimeout", "0s", true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(allows_text(schema_at(schema, c.path), c.text), c.allowed) << c.path << c.text;
  }
}

TEST(Schema, KnowsThePairsThatASchemaCanExpress) {
  Json schema = Json::parse(json_schema());
  EXPECT_EQ(schema_at(schema, "auth").at("then").at("required"), Json({"usersFile"}));
  EXPECT_EQ(schema_at(schema, "listen.tls").at("then").at("allOf").size(), 2u);
  EXPECT_EQ(schema.at("then").at("required"), Json({"auth"}));
}

}  // namespace
}  // namespace carpool::config
