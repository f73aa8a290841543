// SessionState: the parameters that a session has set, as an immutable value that equal sessions
// share. It speaks of what differs from the session's own start only: a session that has set
// nothing is a null pointer and costs no memory.
//
//   client's state  ----+
//                       +--> replay(server_has, client_wants) --> [] | [text] | [text, text]
//   server's state  ----+
//
// What it guarantees. Let a server and a client have states of one StateTable. When the server has
// run the texts of replay(server_has, client_wants) without an error, each parameter that the
// client's state names has the value that the client gave it, each other parameter has the value
// that it had when the server's session began, and the server's state is the client's. Equal
// states are equal pointers, so that nothing is compared or sent when nothing differs.
//
// What it does not:
//   - a placeholder ("my.setting") that was set and reset reads '' and not NULL, as in PostgreSQL;
//   - settings are replayed as the user that the server signed in as, before SET SESSION
//     AUTHORIZATION and SET ROLE: a setting that only a role of the client's may make fails there,
//     loudly, and the server's settings stay as they were (one text is one transaction);
//   - what scan() cannot see (sql_scan.h) is followed for reported parameters alone.
//
// PostgreSQL manual: SET, RESET, "Setting Parameters", protocol chapter "Asynchronous Operations".
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pg/text_encoding.h"

namespace carpool::pg {

struct Parameter {
  std::string name;  // in lower case
  std::string sql;   // the statement that sets it

  bool operator==(const Parameter&) const = default;
};

// What one session may keep; past it the session is not followed any more (session_follower.h).
inline constexpr std::size_t kSessionParametersMax = 256;
inline constexpr std::size_t kSessionBytesMax = 64 * 1024;

// Whether this parameter decides what the text of a statement means when it is parsed: what names
// mean, and what constants are read as. `name` is in lower case.
bool decides_reading(std::string_view name);

// Sorted by name, no name twice, never empty. Made by a StateTable only.
class SessionState {
 public:
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::string* find(std::string_view name) const;  // its statement, or null
  // Those of the parameters that decide_reading(), as one text; empty where there are none.
  const std::string& reading() const { return reading_; }
  // Of client_encoding; nullopt where the state does not set it.
  std::optional<TextEncoding> encoding() const { return encoding_; }

 private:
  friend class StateTable;
  explicit SessionState(std::vector<Parameter> parameters);
  std::vector<Parameter> parameters_;
  std::string reading_;
  std::optional<TextEncoding> encoding_;
};

// Null: the session has set nothing.
using StatePtr = std::shared_ptr<const SessionState>;

// Owns no state, but knows each that is alive, so that an equal one is found and not made again.
// Must outlive every StatePtr that it gave.
class StateTable {
 public:
  StateTable() = default;
  StateTable(const StateTable&) = delete;
  StateTable& operator=(const StateTable&) = delete;
  ~StateTable();

  // The parameters in any order; of a name that comes twice the last counts.
  StatePtr make(std::vector<Parameter> parameters);
  StatePtr with(const StatePtr& state, std::string_view name, std::string_view sql);
  StatePtr without(const StatePtr& state, std::string_view name);

  std::size_t size() const { return states_.size(); }

 private:
  StatePtr intern(std::vector<Parameter> sorted);
  std::unordered_multimap<std::size_t, std::weak_ptr<const SessionState>> states_;
};

// The value that the state gives the parameter, where one literal says it; else empty.
std::string value_of(const StatePtr& state, std::string_view name);

// Whether a session may keep so much.
bool within_limits(const StatePtr& state);

// What takes a server from one state to the other: none, one or (where client_encoding changes and
// a value is not ASCII) two texts. Each is a simple Query of its own; all can be sent at once, and
// each is answered by a ReadyForQuery.
std::vector<std::string> replay(const StatePtr& server_has, const StatePtr& client_wants);

// What a startup packet sets.
struct StartupSettings {
  std::vector<Parameter> parameters;
  // The same as they were given: names in lower case, and values.
  std::vector<std::pair<std::string, std::string>> values;
  // `options` holds a switch that is no setting and cannot be replayed: such a client needs a
  // server that was opened with the same options.
  bool replayable = true;
  // No value is beyond ASCII in an encoding that is not AsciiSafe, nor, where none is named, is one
  // not UTF-8. PostgreSQL takes such values as
  // bytes, which no text could say: such a client needs a server that was opened with all of them.
  bool quotable = true;
};

// From a startup packet's options, which are taken apart as PostgreSQL does (-c name=value,
// --name=value), and its other parameters, which override them. The names that are no settings
// (user, database, replication, options, _pq_.*) are passed over.
StartupSettings startup_settings(
    std::string_view options, const std::vector<std::pair<std::string, std::string>>& parameters);

// The options, and the same parameters as options behind them.
std::string all_options(std::string_view options,
                        const std::vector<std::pair<std::string, std::string>>& parameters);

// The reported parameters of a server and their values when its session began.
class ReportedValues {
 public:
  void set(std::string_view name, std::string_view value);
  const std::string* find(std::string_view name) const;  // in any case; null: not reported
  const std::vector<std::pair<std::string, std::string>>& values() const { return values_; }
  // Those by which a client reads and writes: in which form and encoding values come.
  ReportedValues of_reading() const;

  bool operator==(const ReportedValues&) const = default;

 private:
  std::vector<std::pair<std::string, std::string>> values_;  // names in lower case
};

}  // namespace carpool::pg
