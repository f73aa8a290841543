#include "proxy/log.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>

namespace carpool::proxy::log {
namespace {

std::atomic<bool> as_json{true};

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("carpool",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::Debug:
      return spdlog::level::debug;
    case config::LogLevel::Info:
      return spdlog::level::info;
    case config::LogLevel::Warn:
      return spdlog::level::warn;
    case config::LogLevel::Error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

constexpr const char* kNames[] = {"debug", "info", "warn", "error"};

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(now)), millis);
}

}  // namespace

void configure(const config::Log& settings) {
  as_json = settings.format == config::LogFormat::Json;
  logger().set_level(to_spdlog(settings.level));
}

bool enabled(config::LogLevel level) {
  return logger().should_log(to_spdlog(level));
}

void write(config::LogLevel level, std::string_view message, std::initializer_list<Field> fields) {
  if (!enabled(level)) return;
  const char* name = kNames[static_cast<int>(level)];
  // Bytes that are no UTF-8 (they may come from a client) are replaced, not thrown about.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  std::string line;
  if (as_json) {
    nlohmann::ordered_json object = {{"ts", timestamp()}, {"level", name}, {"msg", message}};
    for (const Field& field : fields) {
      std::visit([&](const auto& value) { object[std::string(field.name)] = value; }, field.value);
    }
    line = object.dump(-1, ' ', false, kReplace);
  } else {
    line = fmt::format("{} {:5} {}", timestamp(), name, message);
    for (const Field& field : fields) {
      std::visit(
          [&](const auto& value) {
            const nlohmann::ordered_json json = value;
            line += fmt::format(" {}={}", field.name, json.dump(-1, ' ', false, kReplace));
          },
          field.value);
    }
  }
  logger().log(to_spdlog(level), spdlog::string_view_t(line));
}

}  // namespace carpool::proxy::log
