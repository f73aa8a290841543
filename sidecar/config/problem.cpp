#include "config/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace carpool::config {

void add_problem(std::vector<Problem>& list, std::string path, Place place, std::string message) {
  if (list.size() > kProblems_max) return;
  if (list.size() == kProblems_max) {
    list.push_back({"", 0, 0, "there are more problems; only the first are listed"});
    return;
  }
  list.push_back({std::move(path), place.line, place.column, std::move(message)});
}

void sort_problems(std::vector<Problem>& list) {
  auto order = [](const Problem& problem) {
    int line = problem.line == 0 ? std::numeric_limits<int>::max() : problem.line;
    return std::tuple(line, problem.column);
  };
  std::stable_sort(list.begin(), list.end(),
                   [&](const Problem& a, const Problem& b) { return order(a) < order(b); });
}

std::string format(const Problem& problem, const std::string& file) {
  std::string out = file + ":";
  if (problem.line > 0) out += fmt::format("{}:{}:", problem.line, problem.column);
  if (!problem.path.empty()) out += fmt::format(" {}:", problem.path);
  return out + " " + problem.message;
}

}  // namespace carpool::config
