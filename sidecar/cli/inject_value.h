// One object of a stream of manifests as a plain tree of values: what `carpool inject` changes.
//
// It knows neither YAML nor Kubernetes. Nothing in it is shared: where a manifest names one node
// twice (an anchor and its aliases, a merge key), the tree has two, so that a change of one place
// cannot be a change of another. Invariant: a map has no key twice.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace carpool::cli {

// A string, or what YAML makes a number, a boolean or something of another kind out of: "8080" and
// 8080 are two values. Where `is_string` is false, the text stands as it was written. `tag` is one
// of YAML's own ("tag:yaml.org,2002:binary"), and empty almost always.
struct Scalar {
  std::string text;
  bool is_string = true;
  std::string tag;

  bool operator==(const Scalar&) const = default;
};

class Value;
struct Entry;
using List = std::vector<Value>;
using Map = std::vector<Entry>;  // in the order of the manifest

class Value {
 public:
  Value();  // null
  Value(Scalar scalar);
  Value(List list);
  Value(Map map);
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();

  // A string.
  static Value text(std::string text) { return Value(Scalar{std::move(text)}); }

  bool is_null() const { return std::holds_alternative<std::monostate>(state_); }
  const Scalar* scalar() const { return std::get_if<Scalar>(&state_); }
  const List* list() const { return std::get_if<List>(&state_); }
  List* list() { return std::get_if<List>(&state_); }
  const Map* map() const { return std::get_if<Map>(&state_); }
  Map* map() { return std::get_if<Map>(&state_); }

  // What lies below these keys; null where there is nothing, or no map on the way. The pointer
  // lives as long as no map or list above it changes.
  const Value* at(std::initializer_list<std::string_view> path) const;
  Value* at(std::initializer_list<std::string_view> path);
  // The text of the scalar there; empty where there is none.
  std::string text_at(std::initializer_list<std::string_view> path) const;
  // The list there; an empty one where there is none.
  const List& list_at(std::initializer_list<std::string_view> path) const;

  // Of a map (another value becomes an empty one first): sets the key where it stands, else before
  // the key `before`, else at the end. Returns what is there now.
  Value& set(std::string_view key, Value value, std::string_view before = {});
  // The value of the key, which is made an empty map unless it is one.
  Value& map_of(std::string_view key);
  // Whether it was there.
  bool erase(std::string_view key);

  // Maps in any order, lists in order.
  bool operator==(const Value& other) const;

 private:
  std::variant<std::monostate, Scalar, List, Map> state_;
};

struct Entry {
  Scalar key;
  Value value;
};

// Not before: only here an Entry is complete, and so what holds some.
inline Value::Value() = default;
inline Value::Value(Scalar scalar) : state_(std::move(scalar)) {}
inline Value::Value(List list) : state_(std::move(list)) {}
inline Value::Value(Map map) : state_(std::move(map)) {}
inline Value::Value(const Value& other) = default;
inline Value::Value(Value&& other) noexcept = default;
inline Value& Value::operator=(const Value& other) = default;
inline Value& Value::operator=(Value&& other) noexcept = default;
inline Value::~Value() = default;

// The first item of a list that has that `name`; null where there is none.
const Value* named(const List& list, std::string_view name);
Value* named(List& list, std::string_view name);

// Whether two values say the same to Kubernetes where a text is expected: 8080 and "8080" do.
bool alike(const Value& a, const Value& b);

}  // namespace carpool::cli
