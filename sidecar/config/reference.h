// The configuration described for people and for machines, from the table of keys: the page
// docs/configuration.md, the JSON schema behind the charts' values.schema.json, and the answer to
// `carpool config explain KEY`. Pure text, no I/O.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace carpool::config {

// docs/configuration.md, complete.
std::string reference_markdown();

// JSON Schema (draft 7) of the whole file, strict: an unknown key is an error.
std::string json_schema();

// A key ("pool.size", "databases[].pool.size"), a bare name ("size"; all keys of that name), or a
// section ("pool"): meaning, type, limits, default, live or restart, as lines of text. Empty:
// there is no such key.
std::optional<std::string> explain(std::string_view key);

}  // namespace carpool::config
