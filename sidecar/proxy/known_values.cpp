#include "proxy/known_values.h"

#include <algorithm>
#include <utility>

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
                                                  values_.contains(parameter.sql);
                                         });
}

void KnownValues::taken(const pg::StatePtr& state, const pg::ReportedValues& now) {
  if (state == nullptr) return;
  for (const pg::Parameter& parameter : state->parameters()) {
    const std::string* reported = now.find(parameter.name);
    std::string spelling = reported == nullptr ? "" : *reported;
    const std::size_t bytes = parameter.sql.size() + spelling.size();
    if (takes_all(parameter) || bytes > kOneMax) continue;
    if (bytes_ + bytes > kBytesMax) clear();
    if (values_.emplace(parameter.sql, std::move(spelling)).second) bytes_ += bytes;
  }
}

const std::string* KnownValues::spelling(const pg::Parameter& parameter) const {
  const auto found = values_.find(parameter.sql);
  return found == values_.end() || found->second.empty() ? nullptr : &found->second;
}

void KnownValues::clear() {
  values_.clear();
  bytes_ = 0;
}

}  // namespace carpool::proxy
