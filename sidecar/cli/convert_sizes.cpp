// Sizes that PgBouncer weighs against each other and the loader would refuse: of a minimum above
// the size PgBouncer keeps as many as fit, and its limits over several pools bound each of them.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/convert_parts.h"

namespace carpool::cli {
namespace {

constexpr std::uint64_t kSizeDefault = 20;  // of both

// Nothing: not a number, but a variable that is known when the sidecar starts.
std::optional<std::uint64_t> number_of(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A database's own line, else that of the section above.
std::optional<std::uint64_t> size_of(const Draft& draft, const Lines& own, const char* path,
                                     std::uint64_t otherwise) {
  for (const Lines* lines : {&own, &draft.lines}) {
    const auto line = lines->find(path);
    if (line != lines->end()) return number_of(line->second.text);
  }
  return otherwise;
}

struct Limit {
  std::uint64_t most = 0;  // 0: none
  std::string from;
};

// A size that is a variable may turn out to be any: what would have to be weighed against it is
// left out, since a configuration that does not load serves nobody.
void settle_unknown(Draft& draft, Lines& own, const std::string& where, const Limit& limit) {
  if (limit.most > 0) {
    draft.note(fmt::format("{}{}: pool.size comes from a variable: keep it, with overflow, below",
                           where, limit.from));
  }
  if (size_of(draft, own, "pool.minIdle", 0) == 0) return;
  Draft::replace(own, "pool.minIdle", "0", "min_pool_size");
  draft.note(
      fmt::format("{}min_pool_size: where a size comes from a variable, it might be more than "
                  "the pool has: set pool.minIdle yourself",
                  where));
}

void settle(Draft& draft, Lines& own, const std::string& where, const Limit& limit) {
  auto size = size_of(draft, own, "pool.size", kSizeDefault);
  const auto least = size_of(draft, own, "pool.minIdle", 0);
  if (!size || !least) settle_unknown(draft, own, where, limit);
  if (!size) return;
  if (limit.most > 0 && *size > limit.most) {
    Draft::replace(own, "pool.size", std::to_string(limit.most), limit.from);
    size = limit.most;
  }
  const auto overflow = size_of(draft, own, "pool.overflow", 0);
  if (limit.most > 0 && overflow && *size + *overflow > limit.most) {
    Draft::replace(own, "pool.overflow", std::to_string(limit.most - *size), limit.from);
  }
  if (least && *least > *size) {
    Draft::replace(own, "pool.minIdle", std::to_string(*size),
                   fmt::format("min_pool_size = {}, of which so many fit", *least));
  }
}

std::uint64_t limit_of(const std::string& text) {
  return number_of(text).value_or(0);
}

}  // namespace

void settle_sizes(const std::vector<IniEntry>& ini, Draft& draft) {
  const auto global = [&ini](const char* name) {
    const std::uint64_t most = limit_of(setting_or(ini, name, "0"));
    return Limit{most, fmt::format("{} = {}", name, most)};
  };
  const Limit of_user = global("max_user_connections");
  const auto smaller = [](const Limit& a, const Limit& b) {
    return a.most == 0 || (b.most > 0 && b.most < a.most) ? b : a;
  };
  const Limit of_all = smaller(global("max_db_connections"), of_user);
  // The sections above bind no pool by themselves, but have to be right.
  settle(draft, draft.lines, "", {});
  for (Draft::Database& database : draft.databases) {
    Limit limit = of_all;
    if (database.connections_max) {
      limit = smaller({*database.connections_max,
                       fmt::format("max_db_connections = {}", *database.connections_max)},
                      of_user);
    }
    settle(draft, database.lines, fmt::format("[databases] {}: ", one_line(database.name)), limit);
  }
}

}  // namespace carpool::cli
