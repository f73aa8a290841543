// The text form of values: what stands in the file, and what is shown to people. Pure functions;
// an error completes the sentence "<path>: ..." and never holds the value of a secret.
// Invariant: parse_value(k, to_text(k, v)) == v for every scalar value that the key allows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "config/keys.h"

namespace carpool::config {

// What a secret is shown as.
inline constexpr std::string_view kMasked = "***";

// A scalar of the file, after ${VAR} was replaced, as the key's value; for a StringList, one entry
// of it, as a string. `written` is the text before that replacement, which is what errors quote.
Result<Value> parse_value(const Key& key, std::string_view text, std::string_view written);

// A value as it would stand in the file ("5m", "[a, b]"), secrets in clear.
std::string to_text(const Key& key, const Value& value);

// The same with secrets replaced by kMasked.
std::string to_masked_text(const Key& key, const Value& value);

// "500ms", "10s", "5m", "1h", "2d", "250us", or several parts from large to small ("1h30m").
Result<Micros> parse_duration(std::string_view text, std::string_view written);

// The shortest exact form in one unit; us >= 0, CHECKed.
std::string format_duration(Micros us);

// A whole number; also the "1e+06" that Helm makes of 1000000.
Result<std::int64_t> parse_whole_number(std::string_view text, std::string_view written);

// `text` between backticks, shortened, control characters replaced.
std::string quote(std::string_view text);

// The name among `candidates` that was probably meant by `name`; empty where none is near.
// Letter case, `_` and `-` do not count.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

// Likewise where `name` is surely a slip of the pen: at most two letters are wrong, one in short
// names.
std::string misspelt_name(std::string_view name, const std::vector<std::string>& candidates);

// What a key is where the file does not give it, and its limits, "1 to 10000, or 0: never".
std::string default_text(const Key& key);
std::string limits_text(const Key& key);
// "live" or "after a restart".
std::string applies_text(const Key& key);

// "a, b and c".
std::string enumerate(const std::vector<std::string>& names, std::string_view last_word = "and");

}  // namespace carpool::config
