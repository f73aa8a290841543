// Holds /status to docs/status.schema.json in both directions: what is answered is valid, and
// nothing is answered that the schema does not describe.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "admin/diagnosis.h"
#include "admin/history.h"
#include "admin/status_json.h"
#include "sample.h"

namespace carpool::admin {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json schema() {
  const auto here = std::filesystem::path(__FILE__).parent_path();
  std::ifstream file(here / "../../docs/status.schema.json");
  return json::parse(file, nullptr, false);
}

// As much of JSON Schema draft 7 as the document uses; a keyword that is not known here is a
// complaint, so that the test cannot pass by looking away.
class Validator {
 public:
  explicit Validator(json document) : document_(std::move(document)) {}

  std::vector<std::string> complaints(const json& value) {
    complaints_.clear();
    check(document_, value, "");
    return complaints_;
  }

 private:
  void complain(const std::string& at, const std::string& what) {
    complaints_.push_back(at + ": " + what);
  }

  void check(const json& rule, const json& value, const std::string& at) {
    static const std::vector<std::string> kKnown = {
        "$schema", "title",      "description", "definitions", "type",    "required",
        "enum",    "properties", "items",       "minimum",     "maximum", "additionalProperties",
        "$ref"};
    for (const auto& [keyword, unused] : rule.items()) {
      if (std::find(kKnown.begin(), kKnown.end(), keyword) == kKnown.end()) {
        complain(at, "the schema uses " + keyword);
      }
    }
    if (rule.contains("$ref")) {
      const std::string pointer = rule["$ref"].get<std::string>().substr(1);
      return check(document_.at(json::json_pointer(pointer)), value, at);
    }
    if (rule.contains("type") && !is_a(rule["type"], value)) {
      return complain(at, "is no " + rule["type"].get<std::string>());
    }
    if (rule.contains("enum") &&
        std::find(rule["enum"].begin(), rule["enum"].end(), value) == rule["enum"].end()) {
      complain(at, value.dump() + " is not one of " + rule["enum"].dump());
    }
    if (rule.contains("minimum") && value < rule["minimum"]) complain(at, "is too small");
    if (rule.contains("maximum") && value > rule["maximum"]) complain(at, "is too large");
    for (const json& key : rule.value("required", json::array())) {
      if (!value.contains(key)) complain(at, "lacks " + key.get<std::string>());
    }
    if (value.is_object()) check_members(rule, value, at);
    if (value.is_array()) {
      for (const json& entry : value) check(rule.value("items", json::object()), entry, at + "[]");
    }
  }

  void check_members(const json& rule, const json& value, const std::string& at) {
    const json properties = rule.value("properties", json::object());
    for (const auto& [key, member] : value.items()) {
      const std::string where = at + "/" + key;
      if (properties.contains(key)) {
        check(properties[key], member, where);
      } else if (rule.contains("additionalProperties")) {
        check(rule["additionalProperties"], member, where);
      } else {
        complain(where, "is not described");
      }
    }
  }

  static bool is_a(const std::string& type, const json& value) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "integer") return value.is_number_integer();
    return type == "number" && value.is_number();
  }

  const json document_;
  std::vector<std::string> complaints_;
};

// Every optional part is there: the last minute, a reason, both lists.
json fullest_status() {
  pool::Snapshot snapshot = sample_snapshot();
  add_lists(snapshot);
  History history;
  history.add(snapshot, 0);
  snapshot.pools[0].clients[static_cast<std::size_t>(pool::ClientState::Waiting)] = 1;
  return json::parse(
      status_json(snapshot, "1.2.3", {&history, 10 * kMicrosPerSecond, /*lists=*/true}));
}

TEST(StatusSchema, DescribesAllThatIsAnswered) {
  ASSERT_TRUE(schema().is_object());
  const json status = fullest_status();
  EXPECT_TRUE(status["pools"][0].contains("lastMinute"));
  EXPECT_TRUE(status["pools"][0].contains("why"));
  EXPECT_EQ(status["clientList"].size(), 1u);
  EXPECT_THAT(Validator(schema()).complaints(status), IsEmpty());
}

TEST(StatusSchema, HoldsForTheServersOwnAnswer) {
  SampleProxy proxy;
  auto server = start_sample(proxy);
  ASSERT_NE(server, nullptr);
  httplib::Client client("127.0.0.1", server->port());
  auto answer = client.Get("/status");
  ASSERT_TRUE(answer);
  EXPECT_THAT(Validator(schema()).complaints(json::parse(answer->body)), IsEmpty());
}

TEST(StatusSchema, KnowsEveryCauseOfAWait) {
  const json document = schema();
  const json causes =
      document.at(json::json_pointer("/definitions/pool/properties/why/properties/cause"));
  for (const char* cause : {"paused", "database_unreachable", "cannot_open_more", "opening_servers",
                            "pinned", "idle_in_transaction", "slow_query", "pool_too_small"}) {
    EXPECT_THAT(causes["enum"], Contains(cause));
  }
}

TEST(StatusSchema, WouldNoticeWhatIsWrong) {
  Validator validator(schema());
  json status = fullest_status();
  status["pools"][0]["utilisation"] = "full";
  EXPECT_THAT(validator.complaints(status), Contains(HasSubstr("/pools[]/utilisation: is no")));
  status = fullest_status();
  status["pools"][0].erase("waiting");
  EXPECT_THAT(validator.complaints(status), Contains(HasSubstr("lacks waiting")));
  status = fullest_status();
  status["pools"][0]["surprise"] = 1;
  EXPECT_THAT(validator.complaints(status), Contains(HasSubstr("surprise: is not described")));
  status = fullest_status();
  status["level"] = "fine";
  EXPECT_THAT(validator.complaints(status), Contains(HasSubstr("is not one of")));
}

}  // namespace
}  // namespace carpool::admin
