// The configuration as plain values. No parsing, no I/O, no defaults from elsewhere: a
// default-constructed Config is what an empty file means. Every room may include this header.
//
// Names follow the YAML keys (listen.clientsMax is listen.clients_max); durations are
// microseconds. What each key means, its unit, limits and whether it applies live stands in one
// table, config/keys.cpp, from which the loader, the reference page and the schema are made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/units.h"

namespace carpool::config {

enum class TlsMode : std::uint8_t { Disable, Allow, Require };
enum class ReadyWhen : std::uint8_t { Started, Database };
enum class AuthMode : std::uint8_t { Trust, Passthrough, ScramSha256 };
enum class PoolMode : std::uint8_t { Session, Transaction, Statement };
enum class SessionState : std::uint8_t { Follow, Pin, Refuse };
enum class LogLevel : std::uint8_t { Debug, Info, Warn, Error };
enum class LogFormat : std::uint8_t { Json, Text };
enum class QueryText : std::uint8_t { Off, Masked, Full };

// Client-side TLS.
struct Tls {
  TlsMode mode = TlsMode::Disable;
  std::string cert_file;
  std::string key_file;
  std::string ca_file;
  bool operator==(const Tls&) const = default;
};

struct Listen {
  std::string address = "127.0.0.1";
  std::uint16_t port = 6432;
  std::string unix_socket_dir;  // empty: no Unix socket
  std::uint32_t clients_max = 1000;
  Tls tls;
  bool operator==(const Listen&) const = default;
};

struct Admin {
  std::string address = "0.0.0.0";
  std::uint16_t port = 9930;
  std::string control_address = "127.0.0.1";
  std::uint16_t control_port = 9931;
  ReadyWhen ready_when = ReadyWhen::Started;
  std::vector<std::string> users;
  bool operator==(const Admin&) const = default;
};

struct Auth {
  AuthMode mode = AuthMode::Trust;
  std::string users_file;
  std::uint32_t scram_iterations = 4096;
  std::string salt_file;
  Micros recheck_us = 30 * kMicrosPerSecond;  // 0: each time
  bool operator==(const Auth&) const = default;
};

// How servers are reached. `url` has been taken apart by the loader only as far as validation
// goes: libpq reads it at connect time, and the other keys override it where they are set.
struct Server {
  std::string url;
  std::string host;  // comma-separated, or a directory for a Unix socket; empty: from url
  std::uint16_t port = 5432;
  bool port_set = false;  // whether `port` was given, and so overrides the url's
  std::string database;   // empty: the url's, else the client-facing name
  std::string user;       // empty: the url's, else the client's own
  std::string password;   // from ${VAR}; never shown
  std::string password_file;
  std::string ssl_mode;  // empty: the url's, else prefer
  std::string ssl_root_cert;
  std::string ssl_cert;
  std::string ssl_key;
  std::string target_session_attrs;  // empty: the url's, else any
  Micros connect_timeout_us = 10 * kMicrosPerSecond;
  std::string options;
  bool operator==(const Server&) const = default;
};

struct Pool {
  PoolMode mode = PoolMode::Transaction;
  std::uint32_t size = 20;
  std::uint32_t min_idle = 0;
  std::uint32_t overflow = 0;
  Micros overflow_after_us = kMicrosPerSecond;
  Micros acquire_timeout_us = 30 * kMicrosPerSecond;
  std::uint32_t waiters_max = 10'000;
  Micros idle_timeout_us = 300 * kMicrosPerSecond;   // 0: never
  Micros max_lifetime_us = 3600 * kMicrosPerSecond;  // 0: never
  Micros prune_interval_us = 10 * kMicrosPerSecond;
  std::uint32_t connect_concurrency = 4;
  Micros query_timeout_us = 0;             // 0: none
  Micros idle_transaction_timeout_us = 0;  // 0: none
  Micros statement_timeout_us = 0;         // 0: leave PostgreSQL's
  std::uint32_t prepared_statements_max = 500;
  SessionState session_state = SessionState::Follow;
  std::string reset_query = "DISCARD ALL";
  bool operator==(const Pool&) const = default;
};

// One entry of `databases`, with `server` and `pool` already merged over the sections above.
struct Database {
  std::string name;  // the client-facing name, or "*"
  Server server;
  Pool pool;
  bool operator==(const Database&) const = default;
};

struct Log {
  LogLevel level = LogLevel::Info;
  LogFormat format = LogFormat::Json;
  Micros slow_query_us = kMicrosPerSecond;  // 0: none
  QueryText query_text = QueryText::Masked;
  Micros stats_interval_us = 60 * kMicrosPerSecond;  // 0: none
  bool operator==(const Log&) const = default;
};

struct Drain {
  Micros min_delay_us = 0;
  Micros timeout_us = 25 * kMicrosPerSecond;
  bool operator==(const Drain&) const = default;
};

struct Config {
  Listen listen;
  Admin admin;
  Auth auth;
  Server server;
  Pool pool;
  // First match wins, never empty after loading: where the file names none, one "*".
  std::vector<Database> databases;
  Log log;
  Drain drain;
  bool operator==(const Config&) const = default;

  // The entry for a client-facing database name; null where none matches.
  const Database* find_database(const std::string& name) const {
    for (const Database& database : databases) {
      if (database.name == name || database.name == "*") return &database;
    }
    return nullptr;
  }
};

}  // namespace carpool::config
