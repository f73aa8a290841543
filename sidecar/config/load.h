// The loader: the text of a configuration file, and the environment, to a valid Config or to every
// problem there is with it, each with its place. load.cpp is the only file that knows yaml-cpp.
//
// It never opens a socket or a file other than the one it is asked for, never reads the process's
// environment by itself, never throws, and never returns a Config together with a problem:
//   result.config.has_value() == result.problems.empty()
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "config/expand.h"
#include "config/problem.h"

namespace carpool::config {

// The longest file that is read: a ConfigMap holds at most 1 MiB as well.
inline constexpr std::size_t kFileBytes_max = 1024 * 1024;
// Of the files that a configuration names: users' files of a hundred thousand, lists of
// revocations.
inline constexpr std::size_t kNamedFileBytes_max = 16 * kFileBytes_max;

struct LoadResult {
  std::optional<Config> config;
  std::vector<Problem> problems;  // in the order of the file
  std::vector<Problem> warnings;  // likewise; they prevent nothing
  std::string sha256;             // of the text, in hex; what carpool_config_info carries
};

// `yaml` is the content of a configuration file; an empty one means defaults and environment.
LoadResult load_text(std::string_view yaml, const Environment& env);

// No file at all: the servers come from DATABASE_URL, else from PGHOST, PGPORT, PGUSER, ... The
// hash is that of the effective configuration, secrets masked.
LoadResult load_environment(const Environment& env);

// The content of a file of at most so many bytes.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max = kFileBytes_max);

// read_file and load_text; an unreadable file is one problem without a line, and no sha256.
LoadResult load_file(const std::string& path, const Environment& env);

// The effective configuration as JSON, camelCase as in the file, every secret masked. `null` is
// what server.url decides.
std::string masked_json(const Config& config);

}  // namespace carpool::config
