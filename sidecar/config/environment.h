// The server that the environment names: DATABASE_URL, else libpq's own variables (PostgreSQL
// manual, "Environment Variables"), so that no file at all is enough. What has no key of ours
// becomes a part of `server.url`, so that the effective configuration shows all that counts.
// libpq itself never sees its variables (proxy/connector_environment.h).
#pragma once

#include "config/draft.h"
#include "config/expand.h"

namespace carpool::config {

// Sets the keys of `draft.config.server` that the file does not give. Does nothing where none of
// DATABASE_URL, PGHOST and PGHOSTADDR is set.
void server_from_environment(const Environment& env, Draft& draft);

// Where the file names the server: which of libpq's variables say something that the file does
// not, and that counts no more.
void warn_of_environment(const Environment& env, Draft& draft);

}  // namespace carpool::config
