// ${VAR} in a value of the file, replaced from the environment. It works on scalars after the YAML
// was parsed, so that a variable's content can never become structure, and what it puts in is not
// expanded again.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace carpool::config {

// How ${VAR}, DATABASE_URL and PGHOST are looked up; empty optional: not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// The process's own environment (getenv).
Environment process_environment();

// `${VAR}` is the variable; an unset one is an error. `${VAR:-default}` is the default where the
// variable is unset or empty, as in a shell. `$$` is a dollar sign; any other `$` stands for
// itself.
Result<std::string> expand(std::string_view text, const Environment& env);

}  // namespace carpool::config
