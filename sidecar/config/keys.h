// The table of every key of the configuration file: its type, limits, unit, meaning, whether a
// change applies live, and how it is read from and written to the plain structs of config.h. The
// loader, the diff, the masked JSON, the reference page and the JSON schema are all made from it,
// so that a key cannot be known to one of them and unknown to another.
//
// It never parses text (that is text.h) and never checks one key against another (validate.h).
// Invariant: for every key, set(c, get(c)) leaves c as it was, and get(Config{}) is the default.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"

namespace carpool::config {

enum class KeyType : std::uint8_t { String, Int, Duration, Enum, StringList };

// Which part of a value is never shown: nothing, all of it, or the password inside a URL.
enum class Secrecy : std::uint8_t { None, Whole, Url };

// What a key holds: a Duration is int64 microseconds, an Enum is one of `Key::values`.
using Value = std::variant<std::string, std::int64_t, std::vector<std::string>>;

// The longest string the file may give for one key, after ${VAR} was replaced.
inline constexpr std::size_t kStringBytes_max = 8192;
// The most entries of a list of strings.
inline constexpr std::size_t kListEntries_max = 1000;
// The most entries of `databases`.
inline constexpr std::size_t kDatabases_max = 1000;

struct Key {
  std::string path;  // as in the file: "listen.tls.certFile"
  KeyType type = KeyType::String;
  std::string meaning;              // sentences
  bool live = true;                 // false: a change waits for a restart
  std::string unit;                 // what an Int counts
  std::int64_t min = 0;             // Int and Duration (in microseconds), inclusive
  std::int64_t max = 0;             // likewise
  std::string zero;                 // what 0 means, where it is special; 0 is then below `min`
  std::string unset;                // what it is where the file does not give it, nor the URL
  std::vector<std::string> values;  // Enum: the names, in the order of the enum
  Secrecy secrecy = Secrecy::None;
  std::string pattern;     // String: what the schema asks for, in RE2; never less than the loader
  bool multiline = false;  // String: line feeds and tabs are allowed
  std::function<Value(const Config&)> get;
  std::function<void(Config&, const Value&)> set;  // the Value is of this key's type; CHECKed

  // Whether an entry of `databases` may carry it: everything below `server` and `pool`.
  bool in_databases() const { return path.starts_with("server.") || path.starts_with("pool."); }
};

// A section of the file, and what it is about; `databases` is none.
struct Section {
  std::string name;
  std::string about;
};

// In the order of the reference page.
const std::vector<Section>& sections();

// All keys but `databases`, in the order of the reference page.
const std::vector<Key>& keys();

// The key of that path ("pool.size"); null where there is none.
const Key* find_key(std::string_view path);

// The `server` and `pool` of a database as a Config, so that the keys can be read from and written
// to it; the other sections are defaults and mean nothing.
Config view_of(const Server& server, const Pool& pool);

}  // namespace carpool::config
