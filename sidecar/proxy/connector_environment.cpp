#include "proxy/connector_environment.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace carpool::proxy {
namespace {

// Which libpq reads although no parameter stands for them.
constexpr const char* kMoreVariables[] = {"PGSERVICEFILE", "PGSYSCONFDIR", "PGREALM",
                                          config::kRequireSslVariable};

struct AtHand {
  config::Libpq libpq;
  std::vector<std::string> variables;
};

AtHand ask_libpq() {
  AtHand found;
  found.libpq.version = PQlibVersion() / 10'000;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(PQconndefaults(),
                                                                             PQconninfoFree);
  for (const PQconninfoOption* option = options.get();
       option != nullptr && option->keyword != nullptr; ++option) {
    found.libpq.keywords.insert(option->keyword);
    if (option->envvar != nullptr) found.variables.emplace_back(option->envvar);
  }
  return found;
}

const AtHand& at_hand() {
  static const AtHand found = ask_libpq();
  return found;
}

}  // namespace

const config::Libpq& libpq_at_hand() {
  return at_hand().libpq;
}

config::Environment take_environment() {
  std::map<std::string, std::string> kept;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    // Of two equal names getenv() finds the first.
    if (equals != std::string::npos) kept.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  for (const std::string& name : at_hand().variables) unsetenv(name.c_str());
  for (const char* name : kMoreVariables) unsetenv(name);
  for (const config::LibpqSetting& setting : config::libpq_settings()) unsetenv(setting.variable);
  const auto lookup = [kept = std::move(kept)](const std::string& name) {
    const auto found = kept.find(name);
    return found == kept.end() ? std::nullopt : std::optional<std::string>(found->second);
  };
  return {lookup, libpq_at_hand()};
}

}  // namespace carpool::proxy
