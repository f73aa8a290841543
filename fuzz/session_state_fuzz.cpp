// A client and two servers under any statements, errors and reports: after each replay the server's
// state is the client's, and nothing is left in the table at the end.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "pg/session_follower.h"
#include "pg/session_pins.h"
#include "pg/sql_scan.h"

using namespace carpool::pg;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto take_line = [&rest] {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
  };
  StateTable table;
  {
    const StartupSettings startup = startup_settings(take_line(), {{"TimeZone", "UTC"}});
    SessionFollower client(table, table.make(startup.parameters));
    SessionFollower servers[] = {SessionFollower(table, nullptr), SessionFollower(table, nullptr)};
    ReportedValues defaults;
    defaults.set("TimeZone", "Etc/UTC");
    defaults.set("application_name", "");
    ReportedValues now = defaults;
    SessionPins pins;
    std::size_t lent = 0;
    while (!rest.empty()) {
      const std::string_view line = take_line();
      SessionFollower& server = servers[lent];
      if (line.starts_with("!")) {
        pins.apply_failed({});
        for (SessionFollower* each : {&client, &server}) each->on_error();
        pins.on_error();
      } else if (line.starts_with("=")) {
        const std::string_view value = line.substr(1);
        now.set("TimeZone", value);
        if (!server.expects("TimeZone", value, defaults)) {
          server.learn("TimeZone", value, defaults);
          client.learn("TimeZone", value, defaults);
          if (!server.lost() && !client.lost())
            CHECK(server.current() != nullptr || value == "Etc/UTC");
        }
      } else if (line.starts_with("@")) {
        const char status = line.size() > 1 ? line[1] : 'I';
        for (SessionFollower* each : {&client, &server}) {
          each->settle(now);
          each->on_ready(status);
        }
        pins.on_ready(status);
        if (status != 'I' || pins.any() || client.lost()) continue;
        CHECK(client.current() == client.committed());
        lent = line.size() % 2;
        SessionFollower& next = servers[lent];
        next.on_ready('I');
        const auto texts = replay(next.current(), client.current());
        CHECK(texts.size() <= 2);
        CHECK(texts.empty() == (next.current() == client.current()));
        next.replayed(client.current());
      } else {
        for (const SessionEffect& effect : scan(line).effects) {
          client.apply(effect);
          server.apply(effect);
          pins.apply(effect, defaults);
        }
      }
      CHECK(within_limits(client.current()) || client.lost());
      if (pins.any()) CHECK(!to_string(pins.cause()).empty());
    }
  }
  CHECK(table.size() == 0);
  return 0;
}
