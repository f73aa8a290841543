// What a SET of a parameter that is a time says: for timeouts that Carpool keeps itself where no
// server does. Pure.
//
// Source: PostgreSQL manual, "Parameter Names and Values": a number and, in quotes, its unit.
#pragma once

#include <optional>
#include <string_view>

#include "base/units.h"

namespace carpool::pg {

// `sql` is the statement that sets it, as in SessionState; a number without a unit counts
// milliseconds. Nullopt where it is not said so plainly.
std::optional<Micros> time_set_by(std::string_view sql);

}  // namespace carpool::pg
