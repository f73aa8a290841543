#include "proxy/console.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "pg/error_response.h"
#include "pg/messages.h"
#include "pg/result_table.h"
#include "proxy/console_tables.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool::proxy {
namespace {

using Verb = ConsoleCommand::Verb;

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Console::Console(Proxy& proxy, std::string user) : proxy_(proxy), user_(std::move(user)) {}

bool Console::allowed() const {
  const auto& users = proxy_.config().admin.users;
  return std::find(users.begin(), users.end(), user_) != users.end();
}

void Console::greet(std::uint32_t pid, ByteSpan secret, Bytes& out) const {
  pg::append_authentication_ok(out);
  // The version is PgBouncer's spelling: psql and drivers then expect little of the server.
  constexpr std::pair<const char*, const char*> kParameters[] = {
      {"server_version", "1.18.0/bouncer"},
      {"client_encoding", "UTF8"},
      {"server_encoding", "UTF8"},
      {"DateStyle", "ISO"},
      {"TimeZone", "GMT"},
      {"standard_conforming_strings", "on"},
      {"integer_datetimes", "on"},
      {"is_superuser", "on"}};
  for (const auto& [name, value] : kParameters) pg::append_parameter_status(out, name, value);
  pg::append_backend_key_data(out, pid, secret);
  pg::append_ready_for_query(out, 'I');
}

bool Console::on_message(const pg::Frame& frame, Bytes& out) {
  switch (frame.type) {
    case 'Q': {
      failed_batch_ = false;
      Reader reader(frame.body());
      const std::string_view text = reader.cstring();
      if (!reader.ok()) return false;
      run(text, out);
      return true;
    }
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
    case 'F':
      if (!failed_batch_) {
        pg::append_error(out, pg::Severity::Error, "0A000",
                         "the console speaks the simple query protocol only", {},
                         "psql does, and psycopg2 with autocommit");
      }
      failed_batch_ = true;
      if (frame.type == 'F') pg::append_ready_for_query(out, 'I');
      return true;
    case 'S':
      failed_batch_ = false;
      pg::append_ready_for_query(out, 'I');
      return true;
    case 'H':
    case 'd':
    case 'c':
    case 'f':
      return true;
    default:
      return false;
  }
}

void Console::run(std::string_view text, Bytes& out) {
  if (!allowed()) return fail("42501", fmt::format("admin.users does not name {}", user_), out);
  const ConsoleCommand command = parse_console_command(text);
  switch (command.verb) {
    case Verb::Empty:
      pg::append_empty(out, 'I');
      return pg::append_ready_for_query(out, 'I');
    case Verb::Show:
      return show(command.argument, out);
    case Verb::Unsupported:
      return fail("0A000",
                  fmt::format("{} is PgBouncer's and not Carpool's: settings change by the mounted "
                              "file, and POST /drain on the control port ends it",
                              command.argument),
                  out);
    case Verb::Unknown:
      return fail("42601", "invalid command, use SHOW HELP;", out);
    default:
      return control(command, out);
  }
}

void Console::show(const std::string& what, Bytes& out) {
  if (what == "help") {
    pg::append_error(out, pg::Severity::Notice, "00000", "Console usage", console_help());
    return done("SHOW", out);
  }
  const bool lists = what == "clients" || what == "servers";
  const pool::Snapshot snapshot = proxy_.snapshot(lists);
  const ConsoleView view{snapshot,       proxy_.config(), proxy_.averages(), proxy_.loop().now_us(),
                         unix_seconds(), proxy_.version()};
  const std::optional<pg::ResultTable> table = console_table(what, view);
  if (!table) return fail("42601", "invalid command, use SHOW HELP;", out);
  table->append_to(out);
  done("SHOW", out);
}

void Console::control(const ConsoleCommand& command, Bytes& out) {
  const std::string& database = command.argument;
  log::info("console", {{"user", user_}, {"command", command.name}, {"database", database}});
  switch (command.verb) {
    case Verb::Pause:
      if (Status status = proxy_.pause(database); !status) return refuse(status, out);
      // As PgBouncer does, it lets the servers go, so that PostgreSQL can be restarted.
      if (Status status = proxy_.reconnect(database); !status) return refuse(status, out);
      pausing_ = true;
      pausing_database_ = database;
      return;
    case Verb::Resume:
      if (Status status = proxy_.resume(database); !status) return refuse(status, out);
      return done("RESUME", out);
    case Verb::Reconnect:
      if (Status status = proxy_.reconnect(database); !status) return refuse(status, out);
      return done("RECONNECT", out);
    case Verb::Kill:
      if (database.empty()) return fail("42601", "a database is required: KILL <db>", out);
      if (Status status = proxy_.kill(database); !status) return refuse(status, out);
      return done("KILL", out);
    case Verb::Reload:
      proxy_.ask_reload();
      return done("RELOAD", out);
    default:
      return fail("42601", "invalid command, use SHOW HELP;", out);
  }
}

bool Console::look_again(Bytes& out) {
  if (!pausing_) return false;
  const Pauses& pauses = proxy_.pauses();
  const bool paused = pausing_database_.empty() ? pauses.all() : pauses.paused(pausing_database_);
  if (!paused) {
    pausing_ = false;
    fail("57014", "resumed before every server was free", out);
    return true;
  }
  if (proxy_.paused_with_servers(pausing_database_)) return false;
  pausing_ = false;
  done("PAUSE", out);
  return true;
}

void Console::done(std::string_view tag, Bytes& out) {
  pg::append_command_complete(out, tag);
  pg::append_ready_for_query(out, 'I');
}

void Console::refuse(const Status& why, Bytes& out) {
  fail("3D000", why.error().message, out);
}

void Console::fail(std::string_view sqlstate, const std::string& message, Bytes& out) {
  pg::append_error(out, pg::Severity::Error, sqlstate, message);
  pg::append_ready_for_query(out, 'I');
}

}  // namespace carpool::proxy
