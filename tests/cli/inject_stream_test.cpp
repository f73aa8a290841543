// Values through text and back, and streams whatever they hold: nothing is lost.
#include "cli/inject_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;

std::vector<Value> read(const std::string& text) {
  const Result<std::vector<Object>> objects = read_stream(text);
  EXPECT_TRUE(objects) << (objects ? "" : objects.error().message) << "\n" << text;
  std::vector<Value> values;
  if (!objects) return values;
  for (const Object& object : *objects) {
    if (!object.value.is_null()) values.push_back(object.value);
  }
  return values;
}

// Random values, of texts that readers of YAML stumble over. The same ones each time.
class Some {
 public:
  explicit Some(std::uint32_t seed) : random_(seed) {}

  std::string text() {
    static constexpr std::array<const char*, 40> kPieces = {"a",
                                                            "Zz",
                                                            "0",
                                                            "9",
                                                            " ",
                                                            "  ",
                                                            "\n",
                                                            "\n\n",
                                                            "\t",
                                                            "- ",
                                                            "-",
                                                            ": ",
                                                            ":",
                                                            " #",
                                                            "#",
                                                            "'",
                                                            "\"",
                                                            "\\",
                                                            "{",
                                                            "}",
                                                            "[",
                                                            "]",
                                                            ",",
                                                            "&x",
                                                            "*x",
                                                            "!t",
                                                            "|",
                                                            ">",
                                                            "%",
                                                            "@",
                                                            "true",
                                                            "null",
                                                            "---",
                                                            "...",
                                                            "<<",
                                                            "\x7f",
                                                            "\xc2\x85",
                                                            "\xe2\x80\xa8",
                                                            "\xf0\x9f\x98\x80",
                                                            "\r"};
    std::string text;
    for (std::uint32_t i = below(7); i > 0; i--) text += kPieces.at(below(kPieces.size()));
    return text;
  }

  Value value(int depth) {
    switch (below(depth > 3 ? 3 : 6)) {
      case 0:
        return Value(Scalar{below(2) == 0 ? "42" : "true", false, {}});
      case 1:
        return Value();
      case 2:
        return Value::text(text());
      case 3: {
        List list;
        for (std::uint32_t i = below(4); i > 0; i--) list.push_back(value(depth + 1));
        return list;
      }
      default:
        return map(depth);
    }
  }

  Value map(int depth) {
    Value made{Map()};
    for (std::uint32_t i = below(5); i > 0; i--) made.set(text(), value(depth + 1));
    return made;
  }

 private:
  std::uint32_t below(std::size_t limit) {
    return static_cast<std::uint32_t>(random_() % limit);  // the same on every library
  }

  std::mt19937 random_;
};

TEST(InjectStream, EveryValueIsWhatItWasWhenItIsWrittenAndRead) {
  for (std::uint32_t seed = 0; seed < 1000; seed++) {
    Some some(seed);
    Value value = some.map(0);
    value.set("kind", Value::text("Pod"));
    for (const Syntax syntax : {Syntax::Yaml, Syntax::Json}) {
      for (const char* like : {"", "\n"}) {
        const std::string text = write_value(value, syntax, like);
        const std::vector<Value> back = read(text);
        ASSERT_EQ(back.size(), 1u) << seed << "\n" << text;
        ASSERT_EQ(back[0], value) << seed << "\n" << text;
      }
    }
  }
}

TEST(InjectStream, AStreamIsTheSumOfItsObjects) {
  for (std::uint32_t seed = 0; seed < 200; seed++) {
    Some some(seed);
    std::string text;
    std::vector<Value> meant;
    const bool json = seed % 2 == 0;
    for (int i = 0; i < 4; i++) {
      Value value = some.map(0);
      value.set("kind", Value::text("Pod"));
      if (!json || seed % 4 == 0) text += text.empty() || text.back() == '\n' ? "---\n" : "\n---\n";
      text += write_value(value, json ? Syntax::Json : Syntax::Yaml, seed % 3 == 0 ? "" : "\n");
      if (json && seed % 3 == 0) text += '\n';
      meant.push_back(std::move(value));
    }
    EXPECT_EQ(read(text), meant) << text;
    const Result<std::vector<Object>> objects = read_stream(text);
    ASSERT_TRUE(objects);
    std::string sum;
    for (const Object& object : *objects) sum += object.before + object.text;
    EXPECT_EQ(sum, text);
  }
}

TEST(InjectStream, NumbersOfJsonStayTheTextThatTheyWere) {
  const std::vector<Value> values = read(R"({"a":1e3,"b":12345678901234567890,"c":1.10,"d":-0})");
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values[0].text_at({"a"}), "1e3");
  EXPECT_EQ(values[0].text_at({"b"}), "12345678901234567890");
  EXPECT_EQ(values[0].text_at({"c"}), "1.10");
}

TEST(InjectStream, PlainTextsKeepTheKindThatYamlGivesThem) {
  const std::string text =
      "a: 0644\nb: \"0644\"\nc: yes\nd: 'yes'\ne: 1_000\nf: 12:30:45\ng: .5\nh: ~\ni: !!str 1\n"
      "j: 2001-12-14\nk: word\nl: =\non: x\n\"on2\": x\n";
  const std::vector<Value> values = read(text);
  ASSERT_EQ(values.size(), 1u);
  const std::string again = write_yaml(values[0]);
  EXPECT_THAT(again, HasSubstr("a: 0644\nb: \"0644\"\nc: yes\nd: \"yes\"\ne: 1_000\nf: 12:30:45\n"
                               "g: .5\nh: null\ni: !<tag:yaml.org,2002:str> \"1\"\n"
                               "j: 2001-12-14\nk: word\nl: =\non: x\n"));
}

// yaml-cpp lost them.
TEST(InjectStream, EmptyLinesAtTheEndOfATextStay) {
  const std::vector<Value> values =
      read("a: 'x\n\n\n  '\nb: '\n\n  '\nc: >+\n  x\n\nd: |+\n  x\n\n");
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values[0].text_at({"a"}), "x\n\n");
  EXPECT_EQ(values[0].text_at({"b"}), "\n");
  EXPECT_EQ(values[0].text_at({"c"}), "x\n\n");
  EXPECT_EQ(values[0].text_at({"d"}), "x\n\n");
}

TEST(InjectStream, WhatWouldNeverEndIsRefused) {
  std::string deep = "a: &a [*a]\n";
  EXPECT_FALSE(read_stream(deep));
  std::string nested(100'000, '[');
  EXPECT_FALSE(read_stream(nested));
  EXPECT_FALSE(read_stream("{\"a\":" + nested));
  std::string keys = "{";
  for (int i = 0; i <= kKeys_max; i++) keys += "\"k" + std::to_string(i) + "\":1,";
  keys.back() = '}';
  EXPECT_FALSE(read_stream(keys));
}

}  // namespace
}  // namespace carpool::cli
