#include "config/validate.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>

#include "base/check.h"
#include "config/address.h"
#include "config/conninfo.h"
#include "config/keys.h"
#include "config/salt_source.h"
#include "config/text.h"
#include "config/validate_server.h"

namespace carpool::config {
namespace {

// What one pool may hold in all; PostgreSQL's own max_connections is rarely beyond.
constexpr std::uint64_t kServersOfAPool_max = 10'000;
constexpr std::size_t kDatabaseName_max = 255;

class Validator {
 public:
  // `draft` must outlive this object.
  explicit Validator(Draft& draft) : draft_(draft) {}

  void run();

 private:
  struct Finding {
    std::string path;
    Place place;
  };

  // Where to report a check on `keys`, the one to blame first; empty where the check has to be
  // left out: a key could not be read, or the database that `prefix` names inherits them all, so
  // that it is the section's problem.
  std::optional<Finding> concerns(const std::string& prefix,
                                  std::span<const char* const> keys) const;
  void error(const std::string& prefix, std::initializer_list<const char*> keys,
             std::string message);
  void warn(const std::string& prefix, std::initializer_list<const char*> keys,
            std::string message);

  void check_listen();
  void check_ports();
  void check_admin();
  void check_auth();
  void check_salts();
  void check_drain();
  void check_pool(const std::string& prefix, const Pool& pool);
  void check_server(const std::string& prefix, const Server& server);
  void check_overrides(const std::string& prefix, const Server& server, const UrlParts& parts);
  void check_not_itself(const std::string& prefix, const Server& server);
  void check_tls_files(const std::string& prefix, const Server& server);
  void check_databases();
  void check_has_server(std::size_t index);
  void check_names_host(const std::string& prefix, const Server& server);

  Draft& draft_;
  bool section_names_no_host_ = false;  // said already
};

std::optional<Validator::Finding> Validator::concerns(const std::string& prefix,
                                                      std::span<const char* const> keys) const {
  std::optional<Finding> found;
  for (const char* key : keys) {
    std::string own = prefix + key;
    bool own_given = draft_.is_given(own);
    if (draft_.bad.contains(own_given ? own : key)) return std::nullopt;
    if (own_given && !found) found = Finding{own, draft_.place_of(own)};
  }
  if (!found && prefix.empty()) found = Finding{keys.front(), Place{}};
  return found;
}

void Validator::error(const std::string& prefix, std::initializer_list<const char*> keys,
                      std::string message) {
  if (std::optional<Finding> found = concerns(prefix, {keys.begin(), keys.size()})) {
    add_problem(draft_.problems, found->path, found->place, std::move(message));
  }
}

void Validator::warn(const std::string& prefix, std::initializer_list<const char*> keys,
                     std::string message) {
  if (std::optional<Finding> found = concerns(prefix, {keys.begin(), keys.size()})) {
    add_problem(draft_.warnings, found->path, found->place, std::move(message));
  }
}

void Validator::check_listen() {
  const Listen& listen = draft_.config.listen;
  if (!is_ip(listen.address)) {
    error("", {"listen.address"},
          fmt::format("{} is not an IP address, such as 127.0.0.1", quote(listen.address)));
  }
  if (!listen.unix_socket_dir.empty()) {
    std::string socket = fmt::format("{}/.s.PGSQL.{}", listen.unix_socket_dir, listen.port);
    if (listen.unix_socket_dir.front() != '/') {
      error("", {"listen.unixSocketDir"}, "has to be an absolute path");
    } else if (socket.size() >= sizeof(sockaddr_un{}.sun_path)) {
      error("", {"listen.unixSocketDir"},
            fmt::format("is too long: the socket's path may have {} bytes",
                        sizeof(sockaddr_un{}.sun_path) - 1));
    }
  }
  const Tls& tls = listen.tls;
  if (tls.mode != TlsMode::Disable && tls.cert_file.empty()) {
    error("", {"listen.tls.mode", "listen.tls.certFile"}, "needs `listen.tls.certFile`");
  }
  if (tls.mode != TlsMode::Disable && tls.key_file.empty()) {
    error("", {"listen.tls.mode", "listen.tls.keyFile"}, "needs `listen.tls.keyFile`");
  }
  if (tls.mode == TlsMode::Disable && !tls.cert_file.empty()) {
    warn("", {"listen.tls.certFile", "listen.tls.mode"},
         "has no effect while `listen.tls.mode` is disable");
  }
  if (tls.mode == TlsMode::Allow && !tls.ca_file.empty()) {
    warn("", {"listen.tls.caFile", "listen.tls.mode"},
         "holds for those who bring TLS only: with `listen.tls.mode` allow, who brings none brings "
         "no certificate");
  }
  if (tls.mode == TlsMode::Disable && !tls.ca_file.empty()) {
    warn("", {"listen.tls.caFile", "listen.tls.mode"},
         "has no effect while `listen.tls.mode` is disable");
  }
}

void Validator::check_ports() {
  const Listen& listen = draft_.config.listen;
  const Admin& admin = draft_.config.admin;
  auto clash = [](std::uint16_t a, std::uint16_t b) { return a == b && a != 0; };
  if (clash(admin.port, listen.port) && overlap(admin.address, listen.address)) {
    error("", {"admin.port", "listen.port", "admin.address", "listen.address"},
          fmt::format("is {}, which `listen.port` takes already", admin.port));
  }
  if (clash(admin.control_port, listen.port) && overlap(admin.control_address, listen.address)) {
    error("", {"admin.controlPort", "listen.port", "admin.controlAddress", "listen.address"},
          fmt::format("is {}, which `listen.port` takes already", admin.control_port));
  }
  if (clash(admin.control_port, admin.port) && overlap(admin.control_address, admin.address)) {
    error("", {"admin.controlPort", "admin.port", "admin.controlAddress", "admin.address"},
          fmt::format("is {}, which `admin.port` takes already", admin.control_port));
  }
  for (const char* key : {"listen.port", "admin.port", "admin.controlPort"}) {
    if (std::get<std::int64_t>(find_key(key)->get(draft_.config)) == 0) {
      warn("", {key}, "is 0: any free port is taken, another one at each start");
    }
  }
}

void Validator::check_admin() {
  const Admin& admin = draft_.config.admin;
  if (!is_ip(admin.address)) {
    error("", {"admin.address"},
          fmt::format("{} is not an IP address, such as 0.0.0.0", quote(admin.address)));
  }
  if (!is_loopback(admin.control_address)) {
    error("", {"admin.controlAddress"},
          fmt::format("{} is not a loopback address, such as 127.0.0.1; who can reach the control "
                      "port can stop Carpool",
                      quote(admin.control_address)));
  }
}

void Validator::check_auth() {
  const Auth& auth = draft_.config.auth;
  const Listen& listen = draft_.config.listen;
  bool reachable = is_ip(listen.address) && !is_loopback(listen.address);
  if (auth.mode == AuthMode::Trust && reachable) {
    error("", {"listen.address", "auth.mode"},
          fmt::format("{} is not a loopback address, and `auth.mode: trust` would let everybody "
                      "in; use 127.0.0.1, or passthrough or scram-sha-256",
                      quote(listen.address)));
  }
  if (auth.mode == AuthMode::ScramSha256 && auth.users_file.empty()) {
    error("", {"auth.mode", "auth.usersFile"}, "scram-sha-256 needs `auth.usersFile`");
  }
  if (auth.mode != AuthMode::ScramSha256 && !auth.users_file.empty()) {
    warn("", {"auth.usersFile", "auth.mode"}, "has no effect unless `auth.mode` is scram-sha-256");
  }
  check_salts();
  if (auth.mode == AuthMode::Passthrough && reachable && listen.tls.mode != TlsMode::Require) {
    warn("", {"auth.mode", "listen.address", "listen.tls.mode"},
         "passthrough on an address that is not loopback sends passwords in clear unless "
         "`listen.tls.mode` is require");
  }
}

void Validator::check_salts() {
  const Auth& auth = draft_.config.auth;
  if (auth.mode != AuthMode::ScramSha256) {
    if (auth.salt_file.empty()) return;
    return warn("", {"auth.saltFile", "auth.mode"},
                "has no effect unless `auth.mode` is scram-sha-256");
  }
  if (salt_source(draft_.config, draft_.libpq).secret()) return;
  warn("", {"auth.mode", "auth.saltFile"},
       "who guesses where the server is can tell which users exist: name `auth.saltFile`, since "
       "`server` has no password to make salts from");
}

void Validator::check_drain() {
  const Drain& drain = draft_.config.drain;
  if (drain.min_delay_us > drain.timeout_us) {
    error("", {"drain.minDelay", "drain.timeout"},
          fmt::format("`drain.minDelay` ({}) is longer than `drain.timeout` ({})",
                      format_duration(drain.min_delay_us), format_duration(drain.timeout_us)));
  }
}

void Validator::check_pool(const std::string& prefix, const Pool& pool) {
  if (pool.min_idle > pool.size) {
    error(
        prefix, {"pool.minIdle", "pool.size"},
        fmt::format("`pool.minIdle` ({}) is more than `pool.size` ({})", pool.min_idle, pool.size));
  }
  if (std::uint64_t{pool.size} + pool.overflow > kServersOfAPool_max) {
    error(prefix, {"pool.overflow", "pool.size"},
          fmt::format("`pool.size` and `pool.overflow` are {} together; at most {}",
                      std::uint64_t{pool.size} + pool.overflow, kServersOfAPool_max));
  }
  if (pool.overflow > 0 && pool.overflow_after_us >= pool.acquire_timeout_us) {
    warn(prefix, {"pool.overflowAfter", "pool.acquireTimeout", "pool.overflow"},
         fmt::format("`pool.overflowAfter` ({}) is not before `pool.acquireTimeout` ({}): no "
                     "client ever gets an overflow server",
                     format_duration(pool.overflow_after_us),
                     format_duration(pool.acquire_timeout_us)));
  }
  if (pool.max_lifetime_us > 0 && pool.idle_timeout_us > pool.max_lifetime_us) {
    warn(prefix, {"pool.idleTimeout", "pool.maxLifetime"},
         fmt::format(
             "`pool.idleTimeout` ({}) is longer than `pool.maxLifetime` ({}), and never reached",
             format_duration(pool.idle_timeout_us), format_duration(pool.max_lifetime_us)));
  }
  if (pool.mode == PoolMode::Session && pool.session_state != SessionState::Follow) {
    warn(prefix, {"pool.sessionState", "pool.mode"},
         "has no effect in session mode, where a client keeps its server");
  }
  if (pool.mode == PoolMode::Session && pool.reset_query.empty()) {
    warn(prefix, {"pool.resetQuery", "pool.mode"},
         "is empty: the next client inherits what the last one left behind");
  }
  if (pool.size > draft_.config.listen.clients_max) {
    warn(prefix, {"pool.size", "listen.clientsMax"},
         fmt::format("`pool.size` ({}) is more than `listen.clientsMax` ({}) can ever use",
                     pool.size, draft_.config.listen.clients_max));
  }
}

// A key beside a url wins over it, which is seldom meant where the two differ: a default written
// out, such as `sslMode: prefer`, would undo the url's `sslmode=verify-full`.
void Validator::check_overrides(const std::string& prefix, const Server& server,
                                const UrlParts& parts) {
  if (!prefix.empty() && !draft_.is_given(prefix + "server.url")) return;
  Config view = view_of(server, Pool{});
  for (const UrlDecides& decides : kUrlDecides) {
    auto part = parts.find(decides.parameter);
    if (part == parts.end() || !draft_.is_given(prefix + decides.path)) continue;
    const Key* key = find_key(decides.path);
    CHECK(key != nullptr);
    Value value = key->get(view);
    bool set = value != key->get(Config{});
    if (!set || to_text(*key, value) == part->second) continue;
    warn(prefix, {decides.path, "server.url"},
         fmt::format("overrides the `{}` of the server's url", decides.parameter));
  }
  auto timeout = parts.find("connect_timeout");
  if (timeout == parts.end() || !draft_.is_given(prefix + "server.connectTimeout")) return;
  std::optional<Micros> theirs = connect_timeout_of(timeout->second);
  if (theirs && *theirs != server.connect_timeout_us) {
    warn(prefix, {"server.connectTimeout", "server.url"},
         "overrides the `connect_timeout` of the server's url");
  }
}

void Validator::check_not_itself(const std::string& prefix, const Server& server) {
  const Listen& listen = draft_.config.listen;
  if (listen.port == 0) return;
  Result<UrlParts> parts = conninfo_of(server, draft_.libpq);
  if (!parts) return;
  std::vector<std::string> hosts =
      split_list((*parts)[parts->contains("hostaddr") ? "hostaddr" : "host"]);
  std::vector<std::string> ports = split_list((*parts)["port"]);
  for (std::size_t i = 0; i < hosts.size(); i++) {
    std::string port = ports.size() == 1 ? ports[0] : i < ports.size() ? ports[i] : "";
    if (port.empty()) port = "5432";
    if (port != fmt::format("{}", listen.port)) continue;
    std::string host = hosts[i];
    while (host.size() > 1 && host.back() == '/') host.pop_back();
    bool same = host == listen.address || leads_to(host, listen.address);
    std::string socket_dir = listen.unix_socket_dir;
    while (socket_dir.size() > 1 && socket_dir.back() == '/') socket_dir.pop_back();
    bool same_socket = !host.empty() && host == socket_dir;
    if (!same && !same_socket) continue;
    error(
        prefix, {"server.port", "server.host", "server.url", "listen.port", "listen.address"},
        fmt::format("the server at {} port {} is where Carpool itself listens", quote(host), port));
    return;
  }
}

void Validator::check_server(const std::string& prefix, const Server& server) {
  if (Result<UrlParts> parts = parse_url(server.url, draft_.libpq)) {
    check_overrides(prefix, server, *parts);
  }
  for (ServerFinding& finding : config::check_server(server, draft_.libpq)) {
    std::optional<Finding> where = concerns(prefix, finding.keys);
    if (!where) continue;
    add_problem(finding.is_error ? draft_.problems : draft_.warnings, where->path, where->place,
                std::move(finding.message));
  }
  check_not_itself(prefix, server);
  if (!server.password.empty() && !server.password_file.empty()) {
    error(prefix, {"server.password", "server.passwordFile"},
          "`server.passwordFile` is given too; only one of them can hold");
  }
  check_tls_files(prefix, server);
}

// By key or by url.
void Validator::check_tls_files(const std::string& prefix, const Server& server) {
  Result<UrlParts> parts = conninfo_of(server, draft_.libpq);
  if (!parts) return;
  const std::string mode = (*parts)["sslmode"];
  const bool verifies = mode == "verify-ca" || mode == "verify-full";
  if (verifies && !parts->contains("sslrootcert")) {
    warn(prefix, {"server.sslMode", "server.url", "server.sslRootCert"},
         fmt::format("{} without `server.sslRootCert` looks for authorities in the home folder "
                     "only",
                     mode));
  }
  const bool cert = parts->contains("sslcert");
  const bool key = parts->contains("sslkey");
  if (cert && !key) {
    warn(prefix, {"server.sslCert", "server.url"},
         "needs `server.sslKey`: where there is no key in the home folder either, no server can be "
         "opened over TLS");
  }
  if (key && !cert) {
    warn(prefix, {"server.sslKey", "server.url"}, "has no effect without `server.sslCert`");
  }
}

// In a container there is seldom a socket where libpq looks for one by itself.
void Validator::check_names_host(const std::string& prefix, const Server& server) {
  Result<UrlParts> parts = parse_url(server.url, draft_.libpq);
  if (!parts || parts->contains("host") || parts->contains("hostaddr")) return;
  const bool own = draft_.is_given(prefix + "server.url");
  const bool again = !own && std::exchange(section_names_no_host_, true);
  if (again) return;
  warn(own ? prefix : "", {"server.url", "server.host"},
       "names no host, so that libpq goes to a Unix socket in the folder that it was built with");
}

// A database that can be asked for needs a place to go.
void Validator::check_has_server(std::size_t index) {
  const Server& server = draft_.config.databases[index].server;
  const std::string& entry = draft_.database_paths[index];
  std::string prefix = entry + ".";
  if (!server.host.empty()) return;
  if (!server.url.empty()) return check_names_host(prefix, server);
  for (const char* key : {"server.url", "server.host"}) {
    if (draft_.bad.contains(key) || draft_.bad.contains(prefix + key)) return;
  }
  const char* message =
      "no server is named: set `server.url` or `server.host`, or DATABASE_URL or PGHOST in the "
      "environment";
  if (draft_.is_given(entry)) {
    add_problem(draft_.problems, entry, draft_.place_of(entry), message);
  } else {
    add_problem(draft_.problems, "server", draft_.place_of("server"), message);
  }
}

void Validator::check_databases() {
  std::map<std::string, std::size_t> seen;
  std::optional<std::size_t> any;
  for (std::size_t i = 0; i < draft_.config.databases.size(); i++) {
    const Database& database = draft_.config.databases[i];
    std::string prefix = draft_.database_paths[i] + ".";
    check_has_server(i);
    check_pool(prefix, database.pool);
    check_server(prefix, database.server);
    std::string name_path = prefix + "name";
    if (database.name.empty()) continue;
    Place place = draft_.place_of(name_path);
    if (database.name.size() > kDatabaseName_max) {
      add_problem(draft_.problems, name_path, place,
                  fmt::format("is longer than {} bytes", kDatabaseName_max));
      continue;
    }
    auto [first, is_new] = seen.emplace(database.name, i);
    if (!is_new) {
      std::string before = draft_.database_paths[first->second] + ".name";
      add_problem(draft_.problems, name_path, place,
                  fmt::format("{} is named twice; the first is in line {}", quote(database.name),
                              draft_.place_of(before).line));
    } else if (any) {
      add_problem(draft_.warnings, name_path, place,
                  fmt::format("{} is never reached: {}, \"*\", matches first", quote(database.name),
                              draft_.database_paths[*any]));
    } else if (database.name == "pgbouncer") {
      add_problem(draft_.warnings, name_path, place,
                  "is never reached: `pgbouncer` is the name of the console");
    }
    if (database.name == "*" && !any) any = i;
  }
}

void Validator::run() {
  check_listen();
  check_ports();
  check_admin();
  check_auth();
  check_server("", draft_.config.server);
  check_pool("", draft_.config.pool);
  check_databases();
  check_drain();
}

}  // namespace

void validate(Draft& draft) {
  Validator(draft).run();
}

}  // namespace carpool::config
