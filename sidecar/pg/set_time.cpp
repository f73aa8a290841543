#include "pg/set_time.h"

#include <array>
#include <charconv>
#include <utility>

namespace carpool::pg {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\f\v";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// What follows the name: behind TO, or =.
std::string_view value_in(std::string_view sql) {
  if (const std::size_t equals = sql.find('='); equals != std::string_view::npos) {
    return trimmed(sql.substr(equals + 1));
  }
  // The word before the value: a name or a time has none of these letters between spaces.
  for (std::size_t i = 0; i + 3 < sql.size(); ++i) {
    const bool is_to =
        (sql[i + 1] == 't' || sql[i + 1] == 'T') && (sql[i + 2] == 'o' || sql[i + 2] == 'O');
    const bool apart = kBlanks.find(sql[i]) != std::string_view::npos &&
                       (kBlanks.find(sql[i + 3]) != std::string_view::npos || sql[i + 3] == '\'');
    if (is_to && apart) return trimmed(sql.substr(i + 3));
  }
  return "";
}

}  // namespace

std::optional<Micros> time_set_by(std::string_view sql) {
  constexpr std::array<std::pair<std::string_view, double>, 7> kUnits = {{
      {"", 1e3},
      {"us", 1},
      {"ms", 1e3},
      {"s", 1e6},
      {"min", 60e6},
      {"h", 3600e6},
      {"d", 86'400e6},
  }};
  constexpr double kMost_us = 2'147'483'647e3;  // an int of milliseconds
  std::string_view value = value_in(sql);
  while (value.ends_with(';')) value = trimmed(value.substr(0, value.size() - 1));
  if (value.size() >= 2 && value.front() == '\'' && value.back() == '\'') {
    value = trimmed(value.substr(1, value.size() - 2));
  }
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  const std::string_view unit = trimmed(value.substr(static_cast<std::size_t>(end - value.data())));
  for (const auto& [name, unit_us] : kUnits) {
    if (unit != name) continue;
    const double time_us = number * unit_us;
    if (time_us > kMost_us) return std::nullopt;
    return static_cast<Micros>(time_us);
  }
  return std::nullopt;
}

}  // namespace carpool::pg
