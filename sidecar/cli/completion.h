// `carpool completion bash|zsh|fish`: a script for the shell, made from the command line itself, so
// that no command or option can be missing from it.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace carpool::cli {

// Empty for a shell that it does not know.
std::string completion_script(const std::string& shell, const CLI::App& app);

}  // namespace carpool::cli
