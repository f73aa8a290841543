// The settings of PostgreSQL up to 18 that a connection may name, with what their values have to
// be: lists, and nothing that decides (that is postgres_settings.h).
//
// Source: pg_settings of PostgreSQL 15, the release notes of the others, encnames.c.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace carpool::config {

// Fixed: decided for the whole server, so that no connection can set it. Text: also choices.
enum class SettingKind : std::uint8_t { Bool, Int, Real, Text, Fixed };
enum class SettingUnit : std::uint8_t { None, Bytes, Kb, Blocks, Ms, S };

struct IntSetting {
  std::string_view name;
  SettingUnit unit = SettingUnit::None;
  int least = 0;
  int most = 0;
};
struct RealSetting {
  std::string_view name;
  double least = 0;
  double most = 0;
};

struct Setting {
  SettingKind kind = SettingKind::Text;
  const IntSetting* as_int = nullptr;
  const RealSetting* as_real = nullptr;
};

// By its name in lower case; null where no PostgreSQL up to 18 has it.
const Setting* find_setting(std::string_view name);
const std::vector<std::string>& setting_names();

// What a setting may be where it is one of a few words that all versions share; in lower case, with
// a space at its end, and one inside behind a backslash. Empty: not such a setting.
std::string_view setting_choices(std::string_view name);

// Encodings, in lower case, without what is no letter or digit, and a space behind each.
std::string_view encoding_names();

}  // namespace carpool::config
