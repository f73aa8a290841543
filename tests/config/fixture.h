// What the tests of the loader share: an environment of their own, and problems as lines.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "config/load.h"

namespace carpool::config {

inline Environment fixed(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

// An environment that names a server, so that a file need not.
inline Environment with_server() {
  return fixed({{"PGHOST", "db"}});
}

// "line:column: path: message" each.
inline std::vector<std::string> lines_of(const std::vector<Problem>& problems) {
  std::vector<std::string> lines;
  for (const Problem& problem : problems) lines.push_back(format(problem, "f").substr(2));
  return lines;
}

inline std::vector<std::string> problems_of(const std::string& yaml,
                                            const Environment& env = with_server()) {
  return lines_of(load_text(yaml, env).problems);
}

inline std::vector<std::string> warnings_of(const std::string& yaml,
                                            const Environment& env = with_server()) {
  return lines_of(load_text(yaml, env).warnings);
}

// A file beside the tests.
inline std::string test_file(const std::string& name) {
  return (std::filesystem::path(__FILE__).parent_path() / name).string();
}

inline std::string content_of(const std::string& path) {
  std::ifstream in(path);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace carpool::config
