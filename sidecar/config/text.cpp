#include "config/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "config/url.h"

namespace carpool::config {
namespace {

constexpr std::size_t kQuoted_max = 60;
constexpr std::size_t kNameCompared_max = 64;
constexpr std::string_view kUnits = "us, ms, s, m, h or d";

struct Unit {
  std::string_view name;
  Micros us;
};
// From large to small, which is also the order of the parts of "1h30m".
constexpr std::array<Unit, 6> kUnitTable = {{
    {"d", 24 * 3600 * kMicrosPerSecond},
    {"h", 3600 * kMicrosPerSecond},
    {"m", 60 * kMicrosPerSecond},
    {"s", kMicrosPerSecond},
    {"ms", kMicrosPerMilli},
    {"us", 1},
}};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

const Unit* find_unit(std::string_view name) {
  for (const Unit& unit : kUnitTable) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

std::string text_of_number(const Key& key, std::int64_t number) {
  return key.type == KeyType::Duration ? format_duration(number) : fmt::format("{}", number);
}

Status check_range(const Key& key, std::int64_t number, std::string_view written) {
  if (number == 0 && !key.zero.empty()) return Ok{};
  if (number < key.min) {
    std::string besides =
        key.zero.empty() ? "" : fmt::format(", or {} ({})", text_of_number(key, 0), key.zero);
    return Error{fmt::format("must be at least {}{}, not {}", text_of_number(key, key.min), besides,
                             quote(written))};
  }
  if (number > key.max) {
    return Error{
        fmt::format("must be at most {}, not {}", text_of_number(key, key.max), quote(written))};
  }
  return Ok{};
}

// An Int or a Duration, parsed, as a value within the key's limits.
Result<Value> limited(const Key& key, const Result<std::int64_t>& number,
                      std::string_view written) {
  if (!number) return number.error();
  if (Status in_range = check_range(key, *number, written); !in_range) return in_range.error();
  Value value;
  value = *number;
  return value;
}

Result<Value> parse_string(const Key& key, std::string_view text) {
  if (text.size() > kStringBytes_max) {
    return Error{fmt::format("is longer than {} bytes", kStringBytes_max)};
  }
  for (std::size_t i = 0; i < text.size(); i++) {
    auto byte = static_cast<unsigned char>(text[i]);
    bool layout = byte == '\n' || byte == '\r' || byte == '\t';
    if ((byte >= 0x20 && byte != 0x7f) || (layout && key.multiline)) continue;
    if (byte == '\n' && i + 1 == text.size()) return Error{"ends with a line feed"};
    return Error{fmt::format("holds a control character (0x{:02x}) at byte {}", byte, i + 1)};
  }
  return Value{std::string(text)};
}

Result<Value> parse_choice(const Key& key, std::string_view text, std::string_view written) {
  if (text.empty() && !key.unset.empty()) return Value{std::string()};
  // YAML 1.1 reads a plain `off` as a boolean, and so Helm writes it back as `false`.
  if (text == "false") text = "off";
  auto found = std::find(key.values.begin(), key.values.end(), text);
  if (found != key.values.end()) return Value{*found};
  std::string meant = nearest_name(text, key.values);
  return Error{fmt::format("{} is none of {}{}", quote(written), enumerate(key.values, "or"),
                           meant.empty() ? "" : fmt::format("; did you mean `{}`?", meant))};
}

// Lower case, without `_` and `-`.
std::string folded(std::string_view name) {
  std::string out;
  for (char c : name) {
    if (c == '_' || c == '-') continue;
    out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  return out;
}

// Insertions, deletions, replacements and swaps of neighbours between a and b.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> rows(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); i++) rows[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); j++) rows[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); i++) {
    for (std::size_t j = 1; j <= b.size(); j++) {
      std::size_t replaced = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      rows[i][j] = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        rows[i][j] = std::min(rows[i][j], rows[i - 2][j - 2] + 1);
      }
    }
  }
  return rows[a.size()][b.size()];
}

}  // namespace

std::string quote(std::string_view text) {
  std::string out = "`";
  bool cut = text.size() > kQuoted_max;
  if (cut) text = text.substr(0, kQuoted_max);
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    out.push_back(byte < 0x20 || byte == 0x7f ? '?' : c);
  }
  return out + (cut ? "...`" : "`");
}

std::string enumerate(const std::vector<std::string>& names, std::string_view last_word) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); i++) {
    if (i > 0) out += i + 1 == names.size() ? fmt::format(" {} ", last_word) : ", ";
    out += names[i];
  }
  return out;
}

Result<Micros> parse_duration(std::string_view text, std::string_view written) {
  std::string_view rest = trimmed(text);
  if (rest.empty()) return Error{fmt::format("a duration is expected, such as 5s ({})", kUnits)};
  if (rest.front() == '-') return Error{fmt::format("{} is negative", quote(written))};
  const Unit* previous = nullptr;
  Micros total = 0;
  while (!rest.empty()) {
    std::size_t digits = 0;
    while (digits < rest.size() && is_digit(rest[digits])) digits++;
    std::size_t letters = digits;
    while (letters < rest.size() && !is_digit(rest[letters])) letters++;
    std::string_view name = rest.substr(digits, letters - digits);
    if (digits == 0) {
      return Error{fmt::format("{} is not a duration; write a number and a unit ({}), such as 5s",
                               quote(written), kUnits)};
    }
    std::string_view number_text = rest.substr(0, digits);
    if (name.empty()) {
      return Error{fmt::format("{} has no unit; did you mean `{}s`? ({})", quote(written),
                               trimmed(text), kUnits)};
    }
    if (name.front() == '.' || name.front() == ',') {
      return Error{fmt::format("{} has a fraction; write it in a smaller unit, such as 1500ms",
                               quote(written))};
    }
    const Unit* unit = find_unit(name);
    if (unit == nullptr) {
      if (find_unit(trimmed(name)) != nullptr) {
        return Error{fmt::format("{} has a space before its unit; write `{}{}`", quote(written),
                                 number_text, trimmed(name))};
      }
      return Error{fmt::format("{}: {} is not a unit of time ({})", quote(written),
                               quote(trimmed(name)), kUnits)};
    }
    if (previous != nullptr && unit->us >= previous->us) {
      return Error{fmt::format("{} does not go from large units to small ones", quote(written))};
    }
    previous = unit;
    Micros number = 0;
    auto [end, error] =
        std::from_chars(number_text.data(), number_text.data() + number_text.size(), number);
    Micros part = 0;
    if (error != std::errc() || __builtin_mul_overflow(number, unit->us, &part) ||
        __builtin_add_overflow(total, part, &total)) {
      return Error{fmt::format("{} is too long a time", quote(written))};
    }
    rest.remove_prefix(letters);
  }
  return total;
}

std::string format_duration(Micros us) {
  CHECK(us >= 0);
  if (us == 0) return "0s";
  for (const Unit& unit : kUnitTable) {
    if (us % unit.us == 0) return fmt::format("{}{}", us / unit.us, unit.name);
  }
  return fmt::format("{}us", us);
}

Result<std::int64_t> parse_whole_number(std::string_view text, std::string_view written) {
  std::int64_t number = 0;
  const char* last = text.data() + text.size();
  auto [end, error] = std::from_chars(text.data(), last, number);
  if (error == std::errc() && end == last) return number;
  if (error == std::errc::result_out_of_range && end == last) {
    return Error{fmt::format("{} is far too large", quote(written))};
  }
  double real = 0;
  auto [real_end, real_error] = std::from_chars(text.data(), last, real);
  bool exact = std::abs(real) <= 9'007'199'254'740'992.0 && std::trunc(real) == real;
  bool exponent = text.find_first_of("eE") != std::string_view::npos;
  if (real_error == std::errc() && real_end == last && exact && exponent) {
    return static_cast<std::int64_t>(real);
  }
  return Error{fmt::format("a whole number is expected, not {}", quote(written))};
}

Result<Value> parse_value(const Key& key, std::string_view text, std::string_view written) {
  switch (key.type) {
    case KeyType::String:
    case KeyType::StringList:
      return parse_string(key, text);
    case KeyType::Enum:
      return parse_choice(key, text, written);
    case KeyType::Int:
      return limited(key, parse_whole_number(text, written), written);
    case KeyType::Duration:
      return limited(key, parse_duration(text, written), written);
  }
  CHECK(false);
}

std::string to_text(const Key& key, const Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return text_of_number(key, *number);
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    std::string out = "[";
    for (const std::string& entry : *list) {
      if (out.size() > 1) out += ", ";
      out += entry;
    }
    return out + "]";
  }
  return std::get<std::string>(value);
}

std::string to_masked_text(const Key& key, const Value& value) {
  std::string text = to_text(key, value);
  switch (key.secrecy) {
    case Secrecy::None:
      return text;
    case Secrecy::Whole:
      return text.empty() ? text : std::string(kMasked);
    case Secrecy::Url:
      return mask_url(text);
  }
  CHECK(false);
}

std::string default_text(const Key& key) {
  return key.unset.empty() ? to_text(key, key.get(Config{})) : key.unset;
}

std::string limits_text(const Key& key) {
  if (key.type != KeyType::Int && key.type != KeyType::Duration) return "";
  std::string least = to_text(key, Value{key.min});
  std::string most = to_text(key, Value{key.max});
  std::string limits = fmt::format("{} to {}", least, most);
  if (!key.zero.empty()) {
    limits += fmt::format(", or {}: {}", to_text(key, Value{std::int64_t{0}}), key.zero);
  }
  return limits;
}

std::string applies_text(const Key& key) {
  return key.live ? "live" : "after a restart";
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  if (name.empty() || name.size() > kNameCompared_max) return "";
  std::string wanted = folded(name);
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, wanted.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    std::size_t distance = edit_distance(wanted, folded(candidate));
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty()) return best;
  // "maxPoolSize" for "size": the longest candidate that the name ends with.
  for (const std::string& candidate : candidates) {
    std::string tail = folded(candidate);
    if (tail.size() >= 4 && tail.size() > best.size() && wanted.ends_with(tail)) best = candidate;
  }
  return best;
}

std::string misspelt_name(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(name, candidates);
  if (nearest.empty()) return "";
  const std::size_t wrong_max = name.size() > 5 ? 2 : 1;
  return edit_distance(folded(name), folded(nearest)) <= wrong_max ? nearest : "";
}

}  // namespace carpool::config
