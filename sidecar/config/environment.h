// The server that the environment names: DATABASE_URL, else libpq's own variables (PostgreSQL
// manual, "Environment Variables"), so that no file at all is enough.
#pragma once

#include "config/draft.h"
#include "config/expand.h"

namespace carpool::config {

// Sets the keys of `draft.config.server` that the file does not give. Does nothing where neither
// DATABASE_URL nor PGHOST (or PGHOSTADDR) is set.
void server_from_environment(const Environment& env, Draft& draft);

}  // namespace carpool::config
