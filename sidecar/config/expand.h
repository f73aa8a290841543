// ${VAR} in a value of the file, replaced from the environment. It works on scalars after the YAML
// was parsed, so that a variable's content can never become structure, and what it puts in is not
// expanded again.
#pragma once

#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "config/libpq.h"

namespace carpool::config {

// What a configuration is read in: how ${VAR}, DATABASE_URL and PGHOST are looked up, and the libpq
// that will connect. Copyable.
class Environment {
 public:
  // Empty optional: not set.
  using Lookup = std::function<std::optional<std::string>(const std::string& name)>;

  template <std::convertible_to<Lookup> F>
  Environment(F lookup, Libpq libpq = {})  // implicit: a function is an environment
      : lookup_(std::move(lookup)), libpq_(std::move(libpq)) {}

  std::optional<std::string> operator()(const std::string& name) const { return lookup_(name); }
  const Libpq& libpq() const { return libpq_; }

 private:
  Lookup lookup_;
  Libpq libpq_;
};

// The process's own environment (getenv), with any libpq.
Environment process_environment();

// `${VAR}` is the variable; an unset one is an error. `${VAR:-default}` is the default where the
// variable is unset or empty, as in a shell. `$$` is a dollar sign; any other `$` stands for
// itself.
Result<std::string> expand(std::string_view text, const Environment& env);

}  // namespace carpool::config
