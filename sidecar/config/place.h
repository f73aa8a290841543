// Where PostgreSQL is, as far as the configuration says it: hosts, addresses and ports. Nothing of
// the database, of who signs in there, or how. It resolves no name and reads no service file.
#pragma once

#include "config/config.h"
#include "config/libpq.h"

namespace carpool::config {

bool same_place(const Server& one, const Server& other, const Libpq& libpq);

}  // namespace carpool::config
