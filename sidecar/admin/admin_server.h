// The admin server: probes, metrics, status and the page on a read-only port, and the same plus
// the control calls on a second port that only the pod itself can reach.
//
//   both ports, GET (and HEAD)
//     /            the status page             /page.css, /page.js   its parts, from the binary
//     /startupz    configured and listening    /metrics   Prometheus text format
//     /livez       the loop answered           /status    JSON; ?database=NAME, ?detailed=1
//     /readyz      clients may come            /config    JSON; secrets masked by who supplies it
//     /history     the last ten minutes, JSON; ?since=N: only what is new
//   control port, POST (403 on the read-only port)
//     /drain  /quitquitquit  /pause  /resume  /reconnect    each takes ?database=NAME where it
//     makes sense; without it, all
//
// Every error is JSON, {"error": "..."}: 404 an unknown path, or a database that /status has no
// pool of, 405 a wrong method, 403 a control call on the wrong port or a foreign Host or Origin on
// the control port (DNS rebinding), 409 a control call that the proxy refuses, such as for a
// database without a pool, 503 when the loop did not answer in time.
//
// It never touches a pool, a client or a configuration: it asks the loop through `Source`, on
// threads of its own, and the number of those threads bounds the questions in flight. Nothing
// that a peer of these ports does (a slow request, huge headers, garbage) reaches the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "pool/counters.h"

namespace carpool::admin {

// What the probes answer from.
struct Readiness {
  bool started = false;   // configured and listening
  bool draining = false;  // told to leave: not ready, still alive
  bool database_ok = false;
  bool database_required = false;  // admin.readyWhen: database
  std::string detail;     // why the database is not ok; empty where there is nothing to say
  std::string waits_for;  // what it starts after, while it has not started; may be empty
};

// The configuration as observed. All strings already masked.
struct ConfigView {
  std::string effective_json;  // a JSON object
  std::string hash;
  std::string source;       // a path, or "environment"
  Micros age_us = 0;        // since it was applied
  std::string last_result;  // applied | waiting | rejected
  std::vector<std::string> errors;
  std::vector<std::string> applied;        // keys that the last change applied
  std::vector<std::string> needs_restart;  // keys that wait for one
  std::vector<std::string> late;           // files that are still being read, and what waits
  bool last_reload_successful = false;
  bool credentials_last_reload_successful = true;
  double last_success_unix_seconds = 0;
  std::uint64_t reloads_applied = 0;
  std::uint64_t reloads_rejected = 0;
  std::uint64_t reloads_unchanged = 0;
  std::string watch;  // inotify | poll
  std::vector<std::string> warnings;
};

enum class Control : std::uint8_t { Drain, Quit, Pause, Resume, Reconnect };

// What the server asks of the loop. Called on an HTTP thread, by several at once; each blocks for
// at most its own deadline (1 s) and returns nullopt, false or an Error when the loop did not
// answer. Whatever they capture must outlive the AdminServer.
struct Source {
  std::function<bool()> loop_answers;
  std::function<std::optional<Readiness>()> readiness;
  std::function<std::optional<pool::Snapshot>(bool detailed)> snapshot;
  std::function<std::optional<ConfigView>()> config;
  // `database` empty: all. The value is a sentence that says what was done.
  std::function<Result<std::string>(Control, const std::string& database)> control;
};

struct Options {
  std::string address = "0.0.0.0";
  std::uint16_t port = 9930;  // 0: any free port
  std::string control_address = "127.0.0.1";
  std::uint16_t control_port = 9931;  // 0: any free port
  std::string version;
};

class AdminServer {
 public:
  // Both ports accept when this returns a value; the error names the address that could not be
  // had.
  static Result<std::unique_ptr<AdminServer>> start(Options options, Source source);

  // Stops both servers and joins their threads: at most the deadline of one question.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  std::uint16_t port() const;
  std::uint16_t control_port() const;

 private:
  struct Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace carpool::admin
