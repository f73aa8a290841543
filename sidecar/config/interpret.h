// The middle of loading: a tree of YAML and the environment to values, key by key of the table. It
// reads each value on its own; whether they fit together is validate.h's question.
#pragma once

#include "config/draft.h"
#include "config/expand.h"
#include "config/tree.h"

namespace carpool::config {

// Fills `draft`, which is a fresh one: sections, then the servers of the environment where the file
// names none, then the databases, merged over both.
void interpret(const Tree& tree, const Environment& env, Draft& draft);

}  // namespace carpool::config
