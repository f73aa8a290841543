// The loader: the text of a configuration file, and the environment, to a valid Config or to every
// problem there is with it, each with its place. load.cpp is the only file that knows yaml-cpp.
//
// It never opens a socket or a file other than the one it is asked for, never reads the process's
// environment by itself, never throws, and never returns a Config together with a problem:
//   result.config.has_value() == result.problems.empty()
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/config.h"

namespace carpool::config {

// The longest file that is read: a ConfigMap holds at most 1 MiB as well.
inline constexpr std::size_t kFileBytes_max = 1024 * 1024;
// The most problems that are listed; one more line says that there were others.
inline constexpr std::size_t kProblems_max = 100;

struct Problem {
  std::string path;     // "databases[1].pool.size"; empty: the file as a whole
  int line = 0;         // 1-based; 0: unknown, as for what came from the environment
  int column = 0;       // 1-based, in bytes
  std::string message;  // without a trailing full stop; never holds a secret
  bool operator==(const Problem&) const = default;
};

// How ${VAR}, DATABASE_URL and PGHOST are looked up; empty optional: not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// The process's own environment (getenv).
Environment process_environment();

struct LoadResult {
  std::optional<Config> config;
  std::vector<Problem> problems;  // in the order of the file
  std::vector<Problem> warnings;  // likewise; they prevent nothing
  std::string sha256;             // of the text, in hex; what carpool_config_info carries
};

// `yaml` is the content of a configuration file; an empty one means defaults and environment.
LoadResult load_text(std::string_view yaml, const Environment& env);

// No file at all: the servers come from DATABASE_URL, else from PGHOST, PGPORT, PGUSER, ...
LoadResult load_environment(const Environment& env);

// The content of a file of at most kFileBytes_max bytes.
Result<std::string> read_file(const std::string& path);

// read_file and load_text; an unreadable file is a problem without a line.
LoadResult load_file(const std::string& path, const Environment& env);

// The effective configuration as JSON, camelCase as in the file, every secret masked.
std::string masked_json(const Config& config);

// "file:line:column: path: message", without the parts that are unknown.
std::string format(const Problem& problem, const std::string& file);

}  // namespace carpool::config
