#include "proxy/pauses.h"

#include <fmt/format.h>

namespace carpool::proxy {

Status Pauses::set(const std::string& database, bool paused) {
  if (database.empty()) {
    all_ = paused;
    exceptions_.clear();
    return Ok{};
  }
  if (paused == all_) {
    exceptions_.erase(database);
    return Ok{};
  }
  if (exceptions_.size() >= kNamesMax && !exceptions_.contains(database)) {
    return Error{fmt::format("{} databases are {} by name already: {} all of them first", kNamesMax,
                             all_ ? "resumed" : "paused", all_ ? "resume" : "pause")};
  }
  exceptions_.insert(database);
  return Ok{};
}

}  // namespace carpool::proxy
