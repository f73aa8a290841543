#include "cli/convert_names.h"

#include <algorithm>
#include <iterator>

namespace carpool::cli {
namespace {

constexpr Same kSame[] = {
    {"listen_port", "listen.port"},
    {"max_client_conn", "listen.clientsMax"},
    {"client_tls_cert_file", "listen.tls.certFile", As::File},
    {"client_tls_key_file", "listen.tls.keyFile", As::File},
    {"client_tls_ca_file", "listen.tls.caFile", As::File},
    {"scram_iterations", "auth.scramIterations"},
    {"server_tls_sslmode", "server.sslMode"},
    {"server_tls_ca_file", "server.sslRootCert", As::File},
    {"server_tls_cert_file", "server.sslCert", As::File},
    {"server_tls_key_file", "server.sslKey", As::File},
    {"server_connect_timeout", "server.connectTimeout", As::Seconds},
    {"pool_mode", "pool.mode"},
    {"default_pool_size", "pool.size"},
    {"min_pool_size", "pool.minIdle"},
    {"reserve_pool_size", "pool.overflow"},
    {"reserve_pool_timeout", "pool.overflowAfter", As::Seconds},
    {"server_idle_timeout", "pool.idleTimeout", As::Seconds},
    {"server_reset_query", "pool.resetQuery"},
    {"query_timeout", "pool.queryTimeout", As::Seconds},
    {"idle_transaction_timeout", "pool.idleTransactionTimeout", As::Seconds},
    {"stats_period", "log.statsInterval", As::Seconds},
};

constexpr Same kSameOfDatabase[] = {
    {"host", "server.host"},
    {"port", "server.port"},
    {"dbname", "server.database"},
    {"user", "server.user"},
    {"pool_mode", "pool.mode"},
    {"pool_size", "pool.size"},
    {"min_pool_size", "pool.minIdle"},
    {"reserve_pool", "pool.overflow"},
    {"reserve_pool_size", "pool.overflow"},
    {"target_session_attrs", "server.targetSessionAttrs"},
};

constexpr std::string_view kApart[] = {
    "unix_socket_dir", "server_lifetime",    "listen_addr",
    "auth_type",       "auth_file",          "auth_query",
    "admin_users",     "stats_users",        "query_wait_timeout",
    "log_stats",       "client_tls_sslmode", "max_prepared_statements",
    "verbose",
};

struct Why {
  std::string_view theirs;
  const char* why;
};

constexpr const char* kNotNeeded = "not needed";
constexpr const char* kKernel = "left to the kernel and to Carpool's own buffers";
constexpr const char* kLibpq = "TLS to the server is libpq's, with OpenSSL's own settings";

constexpr Why kWhy[] = {
    {"max_db_connections",
     "pool.size and overflow stay below it, but they hold for each (database, user): there is no "
     "limit over the pools of several users"},
    {"max_db_client_connections", "listen.clientsMax holds for all databases together"},
    {"max_user_connections",
     "pool.size and overflow stay below it, but they hold for each (database, user): there is no "
     "limit over the pools of several databases"},
    {"max_user_client_connections", "listen.clientsMax holds for all users together"},
    {"server_round_robin",
     "idle servers are used last in, first out, so that a surplus can be closed"},
    {"server_reset_query_always",
     "resetQuery runs in session mode. In transaction mode Carpool follows what a session sets, "
     "and "
     "gives each client its own"},
    {"server_check_query", "a lost server is noticed by itself, and none is tried before its use"},
    {"server_check_delay", "a lost server is noticed by itself, and none is tried before its use"},
    {"server_fast_close", "POST /reconnect replaces servers at the end of their transactions"},
    {"server_login_retry", "failed attempts are repeated with a growing pause, from 100 ms"},
    {"client_idle_timeout", "an idle client costs no server, and is left alone"},
    {"client_login_timeout", "it is always 15 s"},
    {"cancel_wait_timeout", "a cancel is passed on at once"},
    {"suspend_timeout", "there is no SUSPEND: a new version starts beside the old one"},
    {"autodb_idle_timeout", "a pool that nobody uses is dropped by itself"},
    {"transaction_timeout", "set transaction_timeout on the role in PostgreSQL 17 and later"},
    {"ignore_startup_parameters", "not needed: a client's parameters are followed or passed on"},
    {"track_extra_parameters", "not needed: what a client sets is followed, whatever it is"},
    {"disable_pqexec", "queries of several statements are always taken, but in statement mode"},
    {"application_name_add_host", "the address of a client stands in `carpool status --detailed`"},
    {"auth_dbname", kNotNeeded},
    {"auth_user", "not needed: nobody is looked up. passthrough tries the password on PostgreSQL"},
    {"auth_hba_file", "there are no rules by address: a sidecar serves its own pod"},
    {"auth_ident_file", "there are no rules by address: a sidecar serves its own pod"},
    {"auth_ldap_options", "PostgreSQL can ask LDAP: use passthrough"},
    {"server_tls_protocols", kLibpq},
    {"server_tls_ciphers", kLibpq},
    {"server_tls13_ciphers", kLibpq},
    {"client_tls_protocols", "TLS 1.2 and newer, with OpenSSL's own settings"},
    {"client_tls_ciphers", "TLS 1.2 and newer, with OpenSSL's own settings"},
    {"client_tls13_ciphers", "TLS 1.2 and newer, with OpenSSL's own settings"},
    {"client_tls_ecdhcurve", "TLS 1.2 and newer, with OpenSSL's own settings"},
    {"client_tls_dheparams", "TLS 1.2 and newer, with OpenSSL's own settings"},
    {"logfile", "logs go to standard error, one JSON object a line"},
    {"syslog", "logs go to standard error, one JSON object a line"},
    {"syslog_ident", "logs go to standard error, one JSON object a line"},
    {"syslog_facility", "logs go to standard error, one JSON object a line"},
    {"log_connections", "connections are counted in /metrics, and not logged"},
    {"log_disconnections", "connections are counted in /metrics, and not logged"},
    {"log_pooler_errors", "errors are counted by class in /metrics; refused clients are logged"},
    {"pidfile", "the container's runtime knows the process"},
    {"user", "the container's runtime sets the user"},
    {"conffile", kNotNeeded},
    {"job_name", kNotNeeded},
    {"service_name", kNotNeeded},
    {"peer_id", "a cancel reaches the sidecar that has the client: no peers are needed"},
    {"unix_socket_mode", "the folder's own permissions decide"},
    {"unix_socket_group", "the folder's own permissions decide"},
    {"dns_max_ttl", "names are resolved anew for each connection, by the system's resolver"},
    {"dns_nxdomain_ttl", "names are resolved anew for each connection, by the system's resolver"},
    {"dns_zone_check_period", "names are resolved anew for each connection"},
    {"resolv_conf", "the pod's resolv.conf is used"},
    {"pkt_buf", kKernel},
    {"max_packet_size", "a message may have 1 GiB, as in PostgreSQL"},
    {"listen_backlog", kKernel},
    {"sbuf_loopcnt", kKernel},
    {"so_reuseport", "one process serves the pod"},
    {"tcp_defer_accept", kKernel},
    {"tcp_socket_buffer", kKernel},
    {"tcp_keepalive", "servers have libpq's keepalives; clients are on loopback"},
    {"tcp_keepcnt", "servers have libpq's keepalives; clients are on loopback"},
    {"tcp_keepidle", "servers have libpq's keepalives; clients are on loopback"},
    {"tcp_keepintvl", "servers have libpq's keepalives; clients are on loopback"},
    {"tcp_user_timeout", "servers have libpq's keepalives; clients are on loopback"},
};

constexpr Why kWhyOfDatabase[] = {
    {"auth_user", "not needed: nobody is looked up. passthrough tries the password on PostgreSQL"},
    {"auth_query", "not needed: nobody is looked up. passthrough tries the password on PostgreSQL"},
    {"auth_dbname", kNotNeeded},
    {"connect_query", "use ALTER ROLE ... SET or server.options, which a new session begins with"},
    {"max_db_connections",
     "pool.size and overflow stay below it, but they hold for each (database, user): there is no "
     "limit over the pools of several users"},
    {"max_db_client_connections", "listen.clientsMax holds for all databases together"},
};

template <typename Table>
auto find(const Table& table, std::string_view theirs) -> decltype(std::begin(table)) {
  const auto found = std::find_if(std::begin(table), std::end(table),
                                  [&](const auto& row) { return row.theirs == theirs; });
  return found == std::end(table) ? nullptr : found;
}

}  // namespace

const Same* find_same(std::string_view theirs) {
  return find(kSame, theirs);
}
const Same* find_same_of_database(std::string_view theirs) {
  return find(kSameOfDatabase, theirs);
}

bool is_converted_apart(std::string_view theirs) {
  return std::find(std::begin(kApart), std::end(kApart), theirs) != std::end(kApart);
}

const char* why_not(std::string_view theirs) {
  const Why* why = find(kWhy, theirs);
  return why == nullptr ? nullptr : why->why;
}
const char* why_not_of_database(std::string_view theirs) {
  const Why* why = find(kWhyOfDatabase, theirs);
  return why == nullptr ? nullptr : why->why;
}

}  // namespace carpool::cli
