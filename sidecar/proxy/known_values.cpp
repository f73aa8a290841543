#include "proxy/known_values.h"

#include <algorithm>

namespace carpool::proxy {
namespace {

// PostgreSQL takes any text for it, and no two processes may have the same.
bool takes_all(const pg::Parameter& parameter) {
  return parameter.name == "application_name";
}

}  // namespace

bool KnownValues::knows(const pg::StatePtr& state) const {
  return state == nullptr || std::all_of(state->parameters().begin(), state->parameters().end(),
                                         [this](const pg::Parameter& parameter) {
                                           return takes_all(parameter) ||
                                                  statements_.contains(parameter.sql);
                                         });
}

void KnownValues::taken(const pg::StatePtr& state) {
  if (state == nullptr) return;
  for (const pg::Parameter& parameter : state->parameters()) {
    const std::size_t bytes = parameter.sql.size();
    if (takes_all(parameter) || bytes > kOneMax) continue;
    if (bytes_ + bytes > kBytesMax) clear();
    if (statements_.insert(parameter.sql).second) bytes_ += bytes;
  }
}

void KnownValues::clear() {
  statements_.clear();
  bytes_ = 0;
}

}  // namespace carpool::proxy
