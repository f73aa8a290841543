// The table of every key of the configuration file: its type, limits, unit, meaning, whether a
// change applies live, and how it is read from and written to the plain structs of config.h. The
// loader, the diff, the masked JSON, the reference page and the JSON schema are all made from it,
// so that a key cannot be known to one of them and unknown to another.
//
// It never parses YAML and never checks one key against another (that is validate.h).
// Invariant: for every key, set(c, get(c)) leaves c as it was, and get(Config{}) is the default.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "config/config.h"

namespace carpool::config {

enum class KeyType : std::uint8_t { String, Int, Duration, Enum, Bool, StringList };

// Which part of a value is never shown: nothing, all of it, or the password inside a URL.
enum class Secrecy : std::uint8_t { None, Whole, Url };

// What a key holds: a Duration is int64 microseconds, an Enum is one of `Key::values`.
using Value = std::variant<std::string, std::int64_t, bool, std::vector<std::string>>;

// The longest string the file may give for one key, after ${VAR} was replaced.
inline constexpr std::size_t kStringBytes_max = 8192;
// The most entries of a list of strings.
inline constexpr std::size_t kListEntries_max = 1000;
// The most entries of `databases`.
inline constexpr std::size_t kDatabases_max = 1000;
// What a secret is shown as.
inline constexpr std::string_view kMasked = "***";

struct Key {
  std::string path;  // as in the file: "listen.tls.certFile"
  KeyType type = KeyType::String;
  bool live = true;                 // false: a change waits for a restart
  std::string meaning;              // a sentence
  std::string unit;                 // what a number counts; empty for the other types
  std::int64_t min = 0;             // Int and Duration (in microseconds) only, inclusive
  std::int64_t max = 0;             //
  std::string zero;                 // what 0 means where it is allowed below `min`; empty: nothing
  std::string unset;                // what an empty string means; empty: nothing special
  std::vector<std::string> values;  // Enum: the names, in the order of the enum
  Secrecy secrecy = Secrecy::None;  //
  bool multiline = false;           // String: line feeds and tabs are allowed
  std::function<Value(const Config&)> get;
  std::function<void(Config&, const Value&)> set;  // the Value must be of this key's type; CHECKed

  // Whether an entry of `databases` may carry it: everything below `server` and `pool`.
  bool in_databases() const { return path.starts_with("server.") || path.starts_with("pool."); }
};

// All keys but `databases`, in the order of the reference page.
const std::vector<Key>& keys();

// The key of that path ("pool.size"); null where there is none.
const Key* find_key(std::string_view path);

// The `server` and `pool` of a database as a Config, so that the keys can be read from and written
// to it; the other sections are defaults and mean nothing.
Config view_of(const Database& database);

// A scalar of the file as the key's value. Not for StringList. The error completes the sentence
// "<path>: ...". An empty string is a value for String keys and for Enum keys with `unset`.
Result<Value> parse_value(const Key& key, std::string_view text);

// A value as it would stand in the file ("5m", "[a, b]"), secrets in clear.
std::string to_text(const Key& key, const Value& value);

// The same with secrets replaced by kMasked.
std::string to_masked_text(const Key& key, const Value& value);

// "500ms", "10s", "5m", "1h", "2d", or several parts from large to small ("1h30m").
Result<Micros> parse_duration(std::string_view text);
std::string format_duration(Micros us);  // the shortest exact form; us >= 0

// The name among `candidates` that was probably meant by `name`; empty where none is near.
// Letter case, `_` and `-` do not count.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace carpool::config
