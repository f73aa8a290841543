#include "config/postgres_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>

#include "base/check.h"
#include "config/postgres_options.h"
#include "config/postgres_setting_list.h"
#include "config/text.h"

namespace carpool::config {
namespace {

struct UnitName {
  SettingUnit base;
  std::string_view name;
  double factor;  // in units of `base`
};
constexpr std::array<UnitName, 27> kUnitNames = {{
    {SettingUnit::Bytes, "B", 1.0},
    {SettingUnit::Bytes, "kB", 1024.0},
    {SettingUnit::Bytes, "MB", 0x1p20},
    {SettingUnit::Bytes, "GB", 0x1p30},
    {SettingUnit::Bytes, "TB", 0x1p40},
    {SettingUnit::Kb, "B", 1.0 / 1024},
    {SettingUnit::Kb, "kB", 1.0},
    {SettingUnit::Kb, "MB", 1024.0},
    {SettingUnit::Kb, "GB", 0x1p20},
    {SettingUnit::Kb, "TB", 0x1p30},
    {SettingUnit::Blocks, "B", 1.0 / 8192},
    {SettingUnit::Blocks, "kB", 1.0 / 8},
    {SettingUnit::Blocks, "MB", 128.0},
    {SettingUnit::Blocks, "GB", 128.0 * 1024},
    {SettingUnit::Blocks, "TB", 128.0 * 0x1p20},
    {SettingUnit::Ms, "us", 0.001},
    {SettingUnit::Ms, "ms", 1.0},
    {SettingUnit::Ms, "s", 1000.0},
    {SettingUnit::Ms, "min", 60e3},
    {SettingUnit::Ms, "h", 3600e3},
    {SettingUnit::Ms, "d", 86400e3},
    {SettingUnit::S, "us", 1e-6},
    {SettingUnit::S, "ms", 0.001},
    {SettingUnit::S, "s", 1.0},
    {SettingUnit::S, "min", 60.0},
    {SettingUnit::S, "h", 3600.0},
    {SettingUnit::S, "d", 86400.0},
}};

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// What one `unit` is in units of `base`; empty where there is no such unit.
std::optional<double> factor_of(std::string_view unit, SettingUnit base) {
  for (const UnitName& known : kUnitNames) {
    if (known.base == base && known.name == unit) return known.factor;
  }
  return std::nullopt;
}

// A number and a unit behind it, as guc.c reads one; empty where it is neither.
std::optional<double> number_of(std::string_view text, SettingUnit base) {
  const std::string copy(text);
  char* end = nullptr;
  errno = 0;
  double number = static_cast<double>(std::strtol(copy.c_str(), &end, 0));
  if (*end == '.' || *end == 'e' || *end == 'E' || errno == ERANGE) {
    errno = 0;
    number = std::strtod(copy.c_str(), &end);
  }
  if (end == copy.c_str() || errno == ERANGE || std::isnan(number)) return std::nullopt;
  std::string_view unit(end);
  while (!unit.empty() && is_blank(unit.front())) unit.remove_prefix(1);
  if (unit.empty()) return number;
  while (is_blank(unit.back())) unit.remove_suffix(1);
  const std::optional<double> factor = factor_of(unit, base);
  return factor ? std::optional<double>(number * *factor) : std::nullopt;
}

std::string int_problem(std::string_view value, const IntSetting& limits) {
  const std::optional<double> number = number_of(value, limits.unit);
  if (!number) return "is not a whole number, with a unit of PostgreSQL's where it has one";
  const double rounded = std::rint(*number);
  if (rounded >= limits.least && rounded <= limits.most) return "";
  static constexpr std::array<const char*, 6> kNames = {"", " B", " kB", " blocks", " ms", " s"};
  const char* unit = kNames[static_cast<std::size_t>(limits.unit)];
  return fmt::format("is not between {}{} and {}{}", limits.least, unit, limits.most, unit);
}

std::string real_problem(std::string_view value, const RealSetting& limits) {
  const std::string copy(value);
  char* end = nullptr;
  errno = 0;
  const double number = std::strtod(copy.c_str(), &end);
  if (end == copy.c_str() || errno == ERANGE || std::isnan(number)) return "is not a number";
  std::string_view unit(end);
  while (!unit.empty() && is_blank(unit.front())) unit.remove_prefix(1);
  while (!unit.empty() && is_blank(unit.back())) unit.remove_suffix(1);
  double factor = 1;
  if (!unit.empty()) {
    // vacuum_cost_delay is the only one with a unit.
    if (limits.name != "vacuum_cost_delay") return "is not a number";
    const std::optional<double> known = factor_of(unit, SettingUnit::Ms);
    if (!known) return "is not a number, with a unit of PostgreSQL's";
    factor = *known;
  }
  if (number * factor >= limits.least && number * factor <= limits.most) return "";
  return fmt::format("is not between {:g} and {:g}", limits.least, limits.most);
}

// A setting of an extension: names of letters, digits, `_` and `$`, joined by dots.
bool is_custom_name(std::string_view name) {
  bool at_start = true;
  for (const char c : name) {
    const bool letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
    const bool inside = (c >= '0' && c <= '9') || c == '$';
    if (c == '.' ? at_start : !letter && (at_start || !inside)) return false;
    at_start = c == '.';
  }
  return !at_start;
}

bool is_among(std::string_view list, const std::string& name) {
  return (" " + std::string(list)).find(" " + name + " ") != std::string::npos;
}

// Names between commas, each as it is or in double quotes (SplitIdentifierString of varlena.c).
bool is_list_of_names(std::string_view text) {
  const auto skip_blanks = [&] {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  };
  skip_blanks();
  if (text.empty()) return true;
  while (true) {
    if (text.starts_with('"')) {
      do {  // two of them are one inside
        const std::size_t close = text.find('"', 1);
        if (close == std::string_view::npos) return false;
        text.remove_prefix(close + 1);
      } while (text.starts_with('"'));
    } else {
      std::size_t end = 0;
      while (end < text.size() && text[end] != ',' && !is_blank(text[end])) end++;
      if (end == 0) return false;
      text.remove_prefix(end);
    }
    skip_blanks();
    if (text.empty()) return true;
    if (text.front() != ',') return false;
    text.remove_prefix(1);
    skip_blanks();
  }
}

// A style, an order of day, month and year, or both (check_datestyle of variable.c).
bool is_date_style(std::string_view text) {
  constexpr std::string_view kStyles = "iso sql german ";
  constexpr std::string_view kOrders = "ymd dmy mdy us ";
  std::set<std::string> styles;
  std::set<std::string> orders;
  std::string word;
  for (const char c : lower_case(text) + ",") {
    if (c == ' ') continue;
    if (c != ',') {
      word += c;
      continue;
    }
    if (is_among(kStyles, word) || word.starts_with("postgres")) {
      styles.insert(word.substr(0, 8));
    } else if (is_among(kOrders, word) || word.starts_with("euro") || word.starts_with("noneuro")) {
      orders.insert(word.starts_with("euro") ? "dmy" : word.size() == 3 ? word : "mdy");
    } else if (word != "default" && !word.empty()) {
      return false;
    }
    word.clear();
  }
  return styles.size() <= 1 && orders.size() <= 1;
}

constexpr std::string_view kNeverEmpty =
    "default_table_access_method default_text_search_config lc_messages timezone "
    "timezone_abbreviations ";

// Of a setting that is a text or a choice.
std::string text_problem(const std::string& name, std::string_view value) {
  if (const std::string_view choices = setting_choices(name); !choices.empty()) {
    std::string text;
    for (const char c : lower_case(value)) text += c == ' ' ? "\\ " : std::string(1, c);
    if (!text.empty() && is_among(choices, text)) return "";
    return fmt::format("is none of {}", fmt::join(split_options(choices), ", "));
  }
  if (value.empty() && is_among(kNeverEmpty, name)) return "is empty";
  if ((name == "search_path" || name == "temp_tablespaces") && !is_list_of_names(value)) {
    return "is no list of names with commas between them";
  }
  if (name == "datestyle" && !is_date_style(value)) return "is no style of dates";
  if (name == "client_encoding" && !is_encoding(value)) {
    return "is no encoding that PostgreSQL knows";
  }
  return "";
}

}  // namespace

std::string lower_case(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::optional<bool> parse_boolean(std::string_view value) {
  const std::string text = lower_case(value);
  if (text.empty()) return std::nullopt;
  const auto begins = [&](std::string_view word, std::size_t least) {
    return text.size() >= least && word.starts_with(text);
  };
  if (begins("true", 1) || begins("yes", 1) || text == "on" || text == "1") return true;
  if (begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0") return false;
  return std::nullopt;
}

std::optional<Micros> time_of_setting(std::string_view value) {
  const std::optional<double> number = number_of(value, SettingUnit::Ms);
  if (!number || *number < 0) return std::nullopt;
  const double rounded_ms = std::rint(*number);
  if (rounded_ms > std::numeric_limits<int>::max()) return std::nullopt;
  return static_cast<Micros>(rounded_ms) * kMicrosPerMilli;
}

bool is_encoding(std::string_view name) {
  std::string cleaned;
  for (const char c : lower_case(name)) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) cleaned += c;
  }
  return !cleaned.empty() && is_among(encoding_names(), cleaned);
}

SettingVerdict check_setting(std::string_view name, std::string_view value) {
  const std::string key = lower_case(name);
  if (key.empty()) return {"there is no name before a `=`", ""};
  const Setting* setting = find_setting(key);
  if (setting == nullptr && key.find('.') != std::string::npos) {
    return {is_custom_name(key) ? "" : fmt::format("{} cannot be a setting's name", quote(key)),
            ""};
  }
  if (setting == nullptr) {
    const std::string meant = misspelt_name(key, setting_names());
    if (!meant.empty()) {
      return {fmt::format("PostgreSQL has no setting {}; did you mean `{}`?", quote(key), meant),
              ""};
    }
    return {"", fmt::format("no PostgreSQL up to 18 has a setting {}, and one without it refuses "
                            "every connection",
                            quote(key))};
  }
  const auto problem = [&](std::string_view what) -> SettingVerdict {
    return {what.empty() ? "" : fmt::format("the value of `{}` {}", key, what), ""};
  };
  switch (setting->kind) {
    case SettingKind::Fixed:
      return {fmt::format("`{}` is the whole server's, and no connection can set it", key), ""};
    case SettingKind::Bool:
      return problem(parse_boolean(value) ? "" : "is neither on nor off");
    case SettingKind::Int:
      return problem(int_problem(value, *setting->as_int));
    case SettingKind::Real:
      return problem(real_problem(value, *setting->as_real));
    case SettingKind::Text:
      return problem(text_problem(key, value));
  }
  CHECK(false);
}

}  // namespace carpool::config
