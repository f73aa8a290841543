// What /status answered, as text for people and for monitoring. Pure functions; a value of another
// type than ours throws nlohmann::json::exception. `columns` is the terminal's width, which tables
// and sentences then keep; 0: as wide as they like.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

namespace carpool::cli {

// A table of the pools, why their clients wait, and a line about the whole. With `detailed`, every
// client and server too.
std::string status_text(const nlohmann::json& status, bool detailed, std::size_t columns);

// One line, performance data after the bar, as Nagios' plugin guidelines lay it down.
std::string check_text(const nlohmann::json& status);

// 0 ok, 1 warning, 2 critical: the worst pool of the answer, and whether it drains.
int check_code(const nlohmann::json& status);

// What clients do, longest first: who holds which backend, who waits, and the last statement. At
// most `rows_max` rows; clients without a server are left out unless `all`.
std::string top_text(const nlohmann::json& status, bool all, std::size_t rows_max,
                     std::size_t columns);

}  // namespace carpool::cli
