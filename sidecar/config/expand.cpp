#include "config/expand.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "config/keys.h"
#include "config/text.h"

namespace carpool::config {
namespace {

bool is_name(std::string_view text) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return !text.empty() && letter(text.front()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || digit(c); });
}

// The content of one ${...}.
Result<std::string> value_of(std::string_view inside, const Environment& env) {
  std::size_t operation = inside.find(":-");
  std::string name(inside.substr(0, operation));
  if (!is_name(name)) {
    return Error{
        fmt::format("{} is not a variable; write ${{NAME}} or ${{NAME:-default}}, and $$ "
                    "for a dollar sign",
                    quote("${" + std::string(inside) + "}"))};
  }
  std::optional<std::string> value = env(name);
  if (operation == std::string_view::npos) {
    if (value) return *value;
    return Error{
        fmt::format("the variable {} is not set, and has no default (${{{}:-...}})", name, name)};
  }
  std::string_view otherwise = inside.substr(operation + 2);
  if (otherwise.find("${") != std::string_view::npos) {
    return Error{fmt::format("the default of the variable {} cannot be a variable itself", name)};
  }
  return value && !value->empty() ? *value : std::string(otherwise);
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  };
}

Result<std::string> expand(std::string_view text, const Environment& env) {
  std::string out;
  while (!text.empty()) {
    std::size_t dollar = std::min(text.find('$'), text.size());
    out += text.substr(0, dollar);
    text.remove_prefix(dollar);
    if (text.starts_with("${")) {
      std::size_t close = text.find('}');
      if (close == std::string_view::npos) return Error{"a `${` lacks its `}`"};
      Result<std::string> value = value_of(text.substr(2, close - 2), env);
      if (!value) return value.error();
      out += *value;
      text.remove_prefix(close + 1);
    } else if (!text.empty()) {
      out += '$';
      text.remove_prefix(text.starts_with("$$") ? 2 : 1);
    }
    if (out.size() > kStringBytes_max) {
      return Error{fmt::format("is longer than {} bytes", kStringBytes_max)};
    }
  }
  return out;
}

}  // namespace carpool::config
