// Which server's password the salts of a users' file are made from, where auth.saltFile names no
// better source. It is one that all pods share and that no edit of the users' file changes.
#pragma once

#include "config/config.h"

namespace carpool::config {

// The section `server`, else the first of `databases` that has a password: password, passwordFile
// or that of the url. Null where there is none. Points into `config`.
const Server* salt_source(const Config& config);

}  // namespace carpool::config
