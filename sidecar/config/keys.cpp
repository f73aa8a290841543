#include "config/keys.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace carpool::config {
namespace {

constexpr Micros kMilli = kMicrosPerMilli;
constexpr Micros kSecond = kMicrosPerSecond;
constexpr Micros kDuration_max = 365LL * 24 * 3600 * kSecond;
// PostgreSQL's settings of milliseconds are ints.
constexpr Micros kPostgresMillis_max = std::numeric_limits<std::int32_t>::max() * kMilli;

// An IP address, and a loopback one, as far as a pattern can tell.
constexpr const char* kAddress = "^[0-9A-Fa-f.:]+$";
constexpr const char* kLoopback =
    "^127\\.[0-9.]+$|^[0:]*:0*1$|^[0:]*:[Ff]{4}:127\\.[0-9.]+$|^[0:]*:[Ff]{4}:7[Ff]";

// A member of Config as an accessor that serves both reading and writing.
#define AT(member)            \
  [](auto& config) -> auto& { \
    return config.member;     \
  }

template <typename Member>
Key text(std::string path, Member member, std::string meaning) {
  Key key;
  key.path = std::move(path);
  key.type = KeyType::String;
  key.meaning = std::move(meaning);
  key.get = [member](const Config& config) -> Value { return member(config); };
  key.set = [member](Config& config, const Value& value) {
    CHECK(std::holds_alternative<std::string>(value));
    member(config) = std::get<std::string>(value);
  };
  return key;
}

template <typename Member>
Key integral(std::string path, KeyType type, Member member, std::int64_t min, std::int64_t max,
             std::string meaning) {
  Key key;
  key.path = std::move(path);
  key.type = type;
  key.meaning = std::move(meaning);
  key.min = min;
  key.max = max;
  key.get = [member](const Config& config) -> Value {
    return static_cast<std::int64_t>(member(config));
  };
  key.set = [member](Config& config, const Value& value) {
    CHECK(std::holds_alternative<std::int64_t>(value));
    using Field = std::remove_reference_t<decltype(member(config))>;
    CHECK(std::in_range<Field>(std::get<std::int64_t>(value)));
    member(config) = static_cast<Field>(std::get<std::int64_t>(value));
  };
  return key;
}

template <typename Member>
Key number(std::string path, Member member, std::int64_t min, std::int64_t max, std::string unit,
           std::string meaning) {
  Key key = integral(std::move(path), KeyType::Int, member, min, max, std::move(meaning));
  key.unit = std::move(unit);
  return key;
}

template <typename Member>
Key port(std::string path, Member member, std::string meaning) {
  Key key = number(std::move(path), member, 1, 65535, "", std::move(meaning));
  key.zero = "any free port, which the log names";
  return key;
}

template <typename Member>
Key duration(std::string path, Member member, Micros min, std::string zero, std::string meaning) {
  Key key =
      integral(std::move(path), KeyType::Duration, member, min, kDuration_max, std::move(meaning));
  key.zero = std::move(zero);
  return key;
}

// `values` are the names of the enum, in its order.
template <typename Member>
Key choice(std::string path, Member member, std::vector<std::string> values, std::string meaning) {
  Key key;
  key.path = std::move(path);
  key.type = KeyType::Enum;
  key.meaning = std::move(meaning);
  key.values = std::move(values);
  key.get = [member, names = key.values](const Config& config) -> Value {
    auto index = static_cast<std::size_t>(member(config));
    CHECK(index < names.size());
    return names[index];
  };
  key.set = [member, names = key.values](Config& config, const Value& value) {
    CHECK(std::holds_alternative<std::string>(value));
    auto found = std::find(names.begin(), names.end(), std::get<std::string>(value));
    CHECK(found != names.end());
    using Field = std::remove_reference_t<decltype(member(config))>;
    member(config) = static_cast<Field>(found - names.begin());
  };
  return key;
}

// A choice that libpq reads, kept as text; empty leaves it to the URL.
template <typename Member>
Key libpq_choice(std::string path, Member member, std::vector<std::string> values,
                 std::string meaning) {
  Key key = text(std::move(path), member, std::move(meaning));
  key.type = KeyType::Enum;
  key.unset = values.front();
  key.values = std::move(values);
  return key;
}

Key matching(Key key, std::string pattern) {
  key.pattern = std::move(pattern);
  return key;
}

Key restart(Key key) {
  key.live = false;
  return key;
}

Key secret(Key key, Secrecy secrecy) {
  key.secrecy = secrecy;
  return key;
}

// `server.port` knows a third state, "not given", which leaves the port to the URL: value 0.
Key server_port() {
  Key key = number("server.port", AT(server.port), 1, 65535, "",
                   "The port of the server; with several hosts, of each of them.");
  key.zero = "the port of `server.url`, else 5432";
  key.unset = "5432";
  key.get = [](const Config& config) -> Value {
    return config.server.port_set ? std::int64_t{config.server.port} : std::int64_t{0};
  };
  key.set = [](Config& config, const Value& value) {
    CHECK(std::holds_alternative<std::int64_t>(value));
    std::int64_t given = std::get<std::int64_t>(value);
    CHECK(std::in_range<std::uint16_t>(given));
    config.server.port_set = given != 0;
    config.server.port = given != 0 ? static_cast<std::uint16_t>(given) : Server{}.port;
  };
  return key;
}

Key admin_users() {
  Key key;
  key.path = "admin.users";
  key.type = KeyType::StringList;
  key.meaning =
      "The users who may connect to the virtual database `pgbouncer` and give commands there. "
      "Empty: nobody.";
  key.get = [](const Config& config) -> Value { return config.admin.users; };
  key.set = [](Config& config, const Value& value) {
    CHECK(std::holds_alternative<std::vector<std::string>>(value));
    config.admin.users = std::get<std::vector<std::string>>(value);
  };
  return key;
}

void add_listen(std::vector<Key>& table) {
  table.push_back(matching(
      text("listen.address", AT(listen.address),
           "The IP address on which clients connect. `auth.mode: trust` demands a loopback "
           "address. Who is connected stays where the address changes."),
      kAddress));
  table.push_back(port("listen.port", AT(listen.port), "The TCP port on which clients connect."));
  table.push_back(matching(
      text("listen.unixSocketDir", AT(listen.unix_socket_dir),
           "A directory for a Unix socket `.s.PGSQL.<port>` beside the TCP port; in a pod, "
           "an emptyDir shared with the application. Empty: no socket."),
      "^$|^/"));
  table.push_back(number("listen.clientsMax", AT(listen.clients_max), 1, 1'000'000, "clients",
                         "The clients that may be connected at once; the next is refused with "
                         "SQLSTATE 53300."));
  table.push_back(choice("listen.tls.mode", AT(listen.tls.mode), {"disable", "allow", "require"},
                         "TLS for clients: `allow` leaves the choice to the client, `require` "
                         "refuses a client without it. Both need `certFile` and `keyFile`."));
  table.push_back(text("listen.tls.certFile", AT(listen.tls.cert_file),
                       "The certificate chain shown to clients (PEM). The file is watched."));
  table.push_back(text("listen.tls.keyFile", AT(listen.tls.key_file),
                       "The private key of the certificate (PEM). The file is watched."));
  table.push_back(text("listen.tls.caFile", AT(listen.tls.ca_file),
                       "The authorities (PEM) that must have signed a client's certificate. Empty: "
                       "no client certificate is asked for. With `listen.tls.mode` allow, who "
                       "brings no TLS brings none."));
}

void add_admin(std::vector<Key>& table) {
  table.push_back(
      restart(matching(text("admin.address", AT(admin.address),
                            "The IP address of the probes, metrics, status and status page."),
                       kAddress)));
  table.push_back(restart(port("admin.port", AT(admin.port),
                               "The HTTP port of the probes, metrics, status and status page.")));
  table.push_back(
      restart(matching(text("admin.controlAddress", AT(admin.control_address),
                            "The loopback address of the control endpoints (drain, pause, "
                            "resume, reconnect); any of 127.0.0.0/8 or ::1."),
                       kLoopback)));
  table.push_back(restart(port("admin.controlPort", AT(admin.control_port),
                               "The HTTP port of the control endpoints.")));
  table.push_back(choice("admin.readyWhen", AT(admin.ready_when), {"started", "database"},
                         "What `/readyz` asks: that Carpool has `started` and is not draining, or "
                         "also that a connection to the `database` could be had."));
  table.push_back(admin_users());
}

void add_auth(std::vector<Key>& table) {
  table.push_back(choice("auth.mode", AT(auth.mode), {"trust", "passthrough", "scram-sha-256"},
                         "How clients sign in: `trust` lets everybody in (the pod is the "
                         "boundary), `passthrough` tries the client's password on PostgreSQL, "
                         "`scram-sha-256` checks it against `auth.usersFile`."));
  table.push_back(text("auth.usersFile", AT(auth.users_file),
                       "The file of users and their passwords or SCRAM verifiers, for "
                       "`scram-sha-256`. The file is watched."));
  // RFC 7677, section 4: at least 4096 iterations.
  table.push_back(number("auth.scramIterations", AT(auth.scram_iterations), 4096, 1'000'000,
                         "iterations",
                         "The iterations of the SCRAM verifiers that are made from plain "
                         "passwords of `auth.usersFile`; a verifier keeps its own."));
  table.push_back(text("auth.saltFile", AT(auth.salt_file),
                       "A mounted file of at least 16 random bytes, the same in each pod, from "
                       "which the salts of users without a verifier are made, so that nobody can "
                       "tell who exists. Empty: from the password of `server`, at which a "
                       "stranger may then guess, at the price of 100,000 rounds of SHA-256 a "
                       "guess: where it is not a long random one, name a file. Where there is "
                       "none, from its address, which is a warning. The file is watched."));
  table.push_back(duration("auth.recheck", AT(auth.recheck_us), kMilli, "each time",
                           "In `passthrough`, how long PostgreSQL's word on a password lets "
                           "clients in at once; each has it tried again behind it. After that a "
                           "client waits for PostgreSQL's word anew; where that cannot be had, "
                           "the last one stands until ten times as long."));
}

void add_server(std::vector<Key>& table) {
  table.push_back(secret(text("server.url", AT(server.url),
                              "Where PostgreSQL is, as libpq reads it: "
                              "`postgres://user:password@host:5432/database?sslmode=require` or "
                              "`host=... dbname=...`. The other keys of `server` override it."),
                         Secrecy::Url));
  table.push_back(text("server.host", AT(server.host),
                       "The host name or address of PostgreSQL, several separated by commas, or "
                       "the directory of a Unix socket."));
  table.push_back(server_port());
  table.push_back(text("server.database", AT(server.database),
                       "The database on the server. Empty: the one of `server.url`, else the name "
                       "that the client asked for."));
  table.push_back(text("server.user", AT(server.user),
                       "The user on the server. Empty: the one of `server.url`, else the client's "
                       "own."));
  table.push_back(secret(text("server.password", AT(server.password),
                              "The password on the server, best as `${VAR}`; it is never shown."),
                         Secrecy::Whole));
  table.push_back(text("server.passwordFile", AT(server.password_file),
                       "A mounted file with the password, read anew for each connection, so that "
                       "a rotated Secret takes effect by itself."));
  Key ssl_mode = libpq_choice(
      "server.sslMode", AT(server.ssl_mode),
      {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
      "TLS towards PostgreSQL, as libpq's `sslmode`; `verify-full` also checks the host name.");
  ssl_mode.unset = "prefer";
  table.push_back(std::move(ssl_mode));
  table.push_back(text("server.sslRootCert", AT(server.ssl_root_cert),
                       "The authorities (PEM) that may have signed the server's certificate."));
  table.push_back(text("server.sslCert", AT(server.ssl_cert),
                       "The certificate (PEM) with which Carpool signs in."));
  table.push_back(
      text("server.sslKey", AT(server.ssl_key), "The private key (PEM) of `server.sslCert`."));
  table.push_back(
      libpq_choice("server.targetSessionAttrs", AT(server.target_session_attrs),
                   {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
                   "Which of several hosts will do, as libpq's `target_session_attrs`."));
  table.push_back(duration("server.connectTimeout", AT(server.connect_timeout_us), 100 * kMilli, "",
                           "How long a host may keep silent while a connection is opened; then the "
                           "next is tried."));
  table.push_back(text("server.options", AT(server.options),
                       "Command-line options for the backend, such as `-c geqo=off`; a space "
                       "inside a value needs a backslash before it."));
}

void add_pool(std::vector<Key>& table) {
  table.push_back(choice("pool.mode", AT(pool.mode), {"session", "transaction", "statement"},
                         "How long a client keeps its server: until it leaves, until its "
                         "transaction ends, or likewise and without multi-statement "
                         "transactions."));
  table.push_back(number("pool.size", AT(pool.size), 1, 10'000, "servers",
                         "The servers that a pool, one (database, user), may hold."));
  table.push_back(number("pool.minIdle", AT(pool.min_idle), 0, 10'000, "servers",
                         "The servers that are kept open and warm. At most `size`."));
  table.push_back(number("pool.overflow", AT(pool.overflow), 0, 10'000, "servers",
                         "The servers beyond `size`, lent only to a client that has waited "
                         "`overflowAfter` and closed when they come back idle."));
  table.push_back(duration("pool.overflowAfter", AT(pool.overflow_after_us), 0, "",
                           "How long a client waits before it may have an overflow server."));
  table.push_back(duration("pool.acquireTimeout", AT(pool.acquire_timeout_us), kMilli, "",
                           "How long a query waits for a server; then it fails with SQLSTATE "
                           "53300, and the client stays connected."));
  table.push_back(number("pool.waitersMax", AT(pool.waiters_max), 1, 1'000'000, "clients",
                         "The clients that may wait for a server of one pool; the next is refused "
                         "at once."));
  table.push_back(duration("pool.idleTimeout", AT(pool.idle_timeout_us), 100 * kMilli, "never",
                           "When an idle server beyond `minIdle` is closed."));
  table.push_back(duration("pool.maxLifetime", AT(pool.max_lifetime_us), kSecond, "never",
                           "The age, with up to 10% jitter, at which a server is replaced once it "
                           "is idle."));
  table.push_back(duration("pool.pruneInterval", AT(pool.prune_interval_us), 10 * kMilli, "",
                           "How often `idleTimeout` is checked."));
  table.push_back(number("pool.connectConcurrency", AT(pool.connect_concurrency), 1, 1000,
                         "servers", "The servers that are being opened at once by one pool."));
  table.push_back(duration("pool.queryTimeout", AT(pool.query_timeout_us), kMilli, "none",
                           "How long a query may run before Carpool cancels it with SQLSTATE "
                           "57014."));
  table.push_back(
      duration("pool.idleTransactionTimeout", AT(pool.idle_transaction_timeout_us), kMilli, "none",
               "How long a client may stay idle inside a transaction before it is closed with "
               "SQLSTATE 25P03."));
  Key statement_timeout =
      duration("pool.statementTimeout", AT(pool.statement_timeout_us), kMilli,
               "as PostgreSQL has it", "The `statement_timeout` that servers are opened with.");
  statement_timeout.max = kPostgresMillis_max;
  table.push_back(std::move(statement_timeout));
  table.push_back(number("pool.preparedStatementsMax", AT(pool.prepared_statements_max), 1, 100'000,
                         "statements",
                         "The prepared statements that one server keeps; the least recently used "
                         "goes first."));
  table.push_back(choice("pool.sessionState", AT(pool.session_state), {"follow", "pin", "refuse"},
                         "What becomes of session state (`SET`, `LISTEN`, ...) in transaction "
                         "mode: it is followed or pinned as needed, always pinned, or refused."));
  Key reset = text("pool.resetQuery", AT(pool.reset_query),
                   "What runs on a server before another client gets it in session mode. Empty: "
                   "nothing.");
  reset.multiline = true;
  table.push_back(std::move(reset));
}

void add_log_and_drain(std::vector<Key>& table) {
  table.push_back(choice("log.level", AT(log.level), {"debug", "info", "warn", "error"},
                         "The least severe lines that are written."));
  table.push_back(restart(choice("log.format", AT(log.format), {"json", "text"},
                                 "One JSON object a line, or plain text.")));
  table.push_back(duration("log.slowQuery", AT(log.slow_query_us), kMilli, "none",
                           "The time from which a query is logged, its waiting, running and "
                           "sending apart."));
  table.push_back(choice("log.queryText", AT(log.query_text), {"off", "masked", "full"},
                         "Whether logs and status show the text of queries: not at all, with its "
                         "literals masked, or in full."));
  table.push_back(duration("log.statsInterval", AT(log.stats_interval_us), kSecond, "none",
                           "How often a line with each pool's figures is logged."));
  table.push_back(duration("drain.minDelay", AT(drain.min_delay_us), 0, "",
                           "How long Carpool goes on after SIGTERM even when no client is left. "
                           "At most `timeout`."));
  table.push_back(duration("drain.timeout", AT(drain.timeout_us), 0, "",
                           "When the remaining clients are closed after SIGTERM, each at the end "
                           "of its transaction. Keep it below terminationGracePeriodSeconds."));
}
#undef AT

}  // namespace

const std::vector<Section>& sections() {
  static const std::vector<Section> table = {
      {"listen", "Where clients connect."},
      {"admin", "The HTTP endpoints: probes, metrics, status, and the control port."},
      {"auth", "How clients sign in."},
      {"server",
       "Where PostgreSQL is and how Carpool signs in there. An entry of `databases` may override "
       "each key."},
      {"pool", "How servers are shared. An entry of `databases` may override each key."},
      {"log", "What is logged."},
      {"drain", "How Carpool ends after SIGTERM."},
  };
  return table;
}

const std::vector<Key>& keys() {
  static const std::vector<Key> table = [] {
    std::vector<Key> made;
    add_listen(made);
    add_admin(made);
    add_auth(made);
    add_server(made);
    add_pool(made);
    add_log_and_drain(made);
    return made;
  }();
  return table;
}

const Key* find_key(std::string_view path) {
  for (const Key& key : keys()) {
    if (key.path == path) return &key;
  }
  return nullptr;
}

Config view_of(const Server& server, const Pool& pool) {
  Config view;
  view.server = server;
  view.pool = pool;
  return view;
}

}  // namespace carpool::config
