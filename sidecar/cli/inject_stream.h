// A stream of manifests, as kubectl takes it, to objects and back: YAML documents between `---`,
// JSON objects one after the other, or both.
//
// It never changes a value, and never loses one: what an object is not written anew for stands in
// the output byte for byte. Anchors, aliases and merge keys are resolved where an object is read,
// as kubectl resolves them; its comments go when it is written anew. Invariant:
//   all `before` + `text` of read_stream(text), one after the other, are the same stream as `text`
//   read_stream(write_value(value)) gives that value
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/inject_value.h"

namespace carpool::cli {

// The most values that one object may have when its aliases are expanded, how deep they may lie,
// and the most keys of one map. The API server takes 3 MiB.
inline constexpr int kNodes_max = 1'000'000;
inline constexpr int kDepth_max = 200;
inline constexpr int kKeys_max = 10'000;

enum class Syntax : std::uint8_t { Yaml, Json };

struct Object {
  std::string before;  // `---`, comments and blank lines that belong to it
  std::string text;    // as it was read
  int line = 1;        // where `text` begins
  Syntax syntax = Syntax::Yaml;
  Value value;
  // Why `value` is not all that `text` says, or may be read in two ways: a key that stands twice, a
  // key that is a list. Empty almost always; such an object can be kept, but not written anew.
  std::string unsure;
};

// An error says in which line what is wrong.
Result<std::vector<Object>> read_stream(std::string_view text);

// YAML in block style that ends in a line feed, or JSON that does not, as `syntax` says; JSON in
// one line where `like`, the text that it replaces, is one line.
std::string write_value(const Value& value, Syntax syntax, std::string_view like);

// The parts, of which each knows one syntax. They read `object.text` into its value.
Status read_yaml(Object& object);
bool read_json(Object& object);
std::string write_yaml(const Value& value);
std::string write_json(const Value& value, bool one_line);
// Whether a text without quotes is a string to every reader of YAML, 1.1 or 1.2: what begins like a
// word is one, but for a few.
bool is_word(std::string_view text);

}  // namespace carpool::cli
