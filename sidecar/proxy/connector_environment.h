// The libpq at hand, and what it would take from the environment behind our back. Carpool reads
// libpq's variables itself (config/environment.h), so that they count where they should and are
// shown; libpq finds none of them.
#pragma once

#include "config/expand.h"

namespace carpool::proxy {

// The version and the parameters of the libpq that Carpool runs with.
const config::Libpq& libpq_at_hand();

// The process's environment as it is now, kept; libpq's own variables are then taken out of it. To
// be called once, at the start of main(), before there is another thread.
config::Environment take_environment();

}  // namespace carpool::proxy
