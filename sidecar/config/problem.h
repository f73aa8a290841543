// What is wrong with a configuration file, and where. Plain values.
// Invariant: no message holds a secret, and a list never grows beyond kProblems_max + 1.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace carpool::config {

// The most problems that are listed; one more says that there are others.
inline constexpr std::size_t kProblems_max = 100;

// A place in the file.
struct Place {
  int line = 0;    // 1-based; 0: unknown, as for what came from the environment
  int column = 0;  // 1-based, in bytes
  bool operator==(const Place&) const = default;
};

struct Problem {
  std::string path;  // "databases[1].pool.size" or "DATABASE_URL"; empty: the file as a whole
  int line = 0;      // as in Place
  int column = 0;
  std::string message;  // without a full stop at its end
  bool operator==(const Problem&) const = default;
};

// Appends, and drops what exceeds kProblems_max.
void add_problem(std::vector<Problem>& list, std::string path, Place place, std::string message);

// In the order of the file; what has no line comes last.
void sort_problems(std::vector<Problem>& list);

// "file:line:column: path: message", without the parts that are unknown.
std::string format(const Problem& problem, const std::string& file);

}  // namespace carpool::config
