// What a pool's settings do not allow of a text, going by its scan. Pure.
#pragma once

#include <string>
#include <string_view>

#include "config/config.h"
#include "pg/sql_scan.h"

namespace carpool::proxy {

// Why the settings refuse the text; empty: they do not.
std::string why_refused(const pg::Scan& scan, std::string_view text, config::PoolMode mode,
                        config::SessionState session_state);

// Whether it sets a parameter of the session, which `sessionState: pin` pins.
bool sets_parameter(const pg::Scan& scan);

}  // namespace carpool::proxy
