// The settings of PostgreSQL that a connection may bring along, and which of their values every
// PostgreSQL refuses: what is wrong with `-c name=value` before any server was asked. Pure
// functions, made for PostgreSQL up to 18; what is not certain passes.
// Invariant: no message holds a value, and what a PostgreSQL accepts is never an error.
//
// Source: pg_settings of PostgreSQL 15, the release notes of the others; guc.c for how numbers and
// booleans are read. tests/integration/options_test.cpp holds it against the server at hand.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"

namespace carpool::config {

struct SettingVerdict {
  std::string error;    // empty: none
  std::string warning;  // likewise
};
SettingVerdict check_setting(std::string_view name, std::string_view value);

// on, off, true, false, yes, no, 1, 0 and what begins one of them clearly, in any letter case.
std::optional<bool> parse_boolean(std::string_view value);

// What a setting that counts milliseconds is at this value, as PostgreSQL rounds it: 1500, "1.5 s".
// Nullopt where PostgreSQL refuses it.
std::optional<Micros> time_of_setting(std::string_view value);

// Whether PostgreSQL has an encoding of that name; only letters and digits count.
bool is_encoding(std::string_view name);

// In lower case, of ASCII.
std::string lower_case(std::string_view name);

}  // namespace carpool::config
