// The last stage of loading: do the values fit together? Impossible pairs become problems,
// suspicious ones warnings. It looks at values only, never at files, names or the network.
#pragma once

#include "config/draft.h"

namespace carpool::config {

// Keys that could not be read (draft.bad) take part in no check, so that one mistake is one
// problem.
void validate(Draft& draft);

}  // namespace carpool::config
