// A command of PgBouncer's console, taken apart: "SHOW POOLS;", "pause app", `KILL "my db"`. Text
// in, a value out; it knows the commands' names and nothing of what they do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace carpool::proxy {

struct ConsoleCommand {
  enum class Verb : std::uint8_t {
    Empty,        // nothing but space, comments and semicolons
    Show,         // `argument` is what, in lower case
    Pause,        // `argument` is a database, or empty: all
    Resume,       // likewise
    Reconnect,    // likewise
    Kill,         // likewise; PgBouncer demands a database
    Reload,       //
    Unsupported,  // PgBouncer has it, Carpool does not; `argument` is its name in upper case
    Unknown,
  };
  Verb verb = Verb::Unknown;
  std::string argument;
  std::string name;  // the first word in upper case
};

ConsoleCommand parse_console_command(std::string_view text);

}  // namespace carpool::proxy
