// Log: one line an event, a JSON object or text, on standard error. Never blocks on anything but
// that, never throws, and is used from any thread.
//
//   log::warn("cannot open a server", {{"database", name}, {"error", why}});
//   {"ts":"2026-11-21T10:00:00.000Z","level":"warn","msg":"cannot open a server","database":...}
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "config/config.h"

namespace carpool::proxy::log {

// A named value beside the message.
struct Field {
  std::string_view name;
  std::variant<std::string, std::int64_t, double, bool> value;

  Field(std::string_view n, std::string v) : name(n), value(std::move(v)) {}
  Field(std::string_view n, std::string_view v) : name(n), value(std::string(v)) {}
  Field(std::string_view n, const char* v) : name(n), value(std::string(v)) {}
  Field(std::string_view n, bool v) : name(n), value(v) {}
  Field(std::string_view n, double v) : name(n), value(v) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Field(std::string_view n, T v)
      : name(n), value(static_cast<std::int64_t>(v)) {}
};

void configure(const config::Log& settings);
bool enabled(config::LogLevel level);

void write(config::LogLevel level, std::string_view message, std::initializer_list<Field> fields);

inline void debug(std::string_view message, std::initializer_list<Field> fields = {}) {
  if (enabled(config::LogLevel::Debug)) write(config::LogLevel::Debug, message, fields);
}
inline void info(std::string_view message, std::initializer_list<Field> fields = {}) {
  write(config::LogLevel::Info, message, fields);
}
inline void warn(std::string_view message, std::initializer_list<Field> fields = {}) {
  write(config::LogLevel::Warn, message, fields);
}
inline void error(std::string_view message, std::initializer_list<Field> fields = {}) {
  write(config::LogLevel::Error, message, fields);
}

}  // namespace carpool::proxy::log
