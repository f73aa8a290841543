#include "config/libpq.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <vector>

#include "config/postgres_options.h"
#include "config/text.h"

namespace carpool::config {
namespace {

std::string one_of(std::string_view value, const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return "";
  const std::string meant = nearest_name(value, allowed);
  return fmt::format("is none of {}{}", enumerate(allowed, "or"),
                     meant.empty() ? "" : fmt::format("; did you mean `{}`?", meant));
}

std::string number_within(std::string_view value, int least, int most) {
  const std::optional<int> number = libpq_number(value);
  if (number && *number >= least && *number <= most) return "";
  return fmt::format("is not a whole number from {} to {}", least, most);
}

std::string any_number(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return libpq_number(value) ? "" : "is not a whole number";
}

// What Linux takes (tcp(7)): libpq hands the number on, and gives up where the kernel does.
std::string keepalive_seconds(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return number_within(value, 1, 32767);
}

std::string keepalive_count(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return number_within(value, 1, 127);
}

std::string ssl_mode(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"});
}

std::string channel_binding(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"disable", "prefer", "require"});
}

std::string gss_encryption(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  if (value == "require") {
    return "cannot be require: GSS encryption would stand between Carpool and the socket; use "
           "`sslmode`";
  }
  return one_of(value, {"disable", "prefer"});
}

std::string session_attrs(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"});
}

std::string load_balance(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"disable", "random"});
}

std::string ssl_negotiation(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"postgres", "direct"});
}

std::string cert_mode(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"disable", "allow", "require"});
}

std::string tls_version(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  // Letter case does not count.
  std::string folded(value);
  std::transform(folded.begin(), folded.end(), folded.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const char* known : {"tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"}) {
    if (folded == known) return "";
  }
  return "is none of TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3";
}

std::string protocol_version(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return one_of(value, {"3.0", "3.2", "latest"});
}

std::string authentication(std::string_view value, const Libpq& libpq) {
  const bool oauth = libpq.version >= 18 || value.find("oauth") == std::string_view::npos;
  if (oauth && !methods_left(value).empty()) return "";
  return "is not a list of password, md5, gss, sspi, scram-sha-256, oauth and none, each once, or "
         "each with a `!` before it";
}

// A server that a pool lends has to be an ordinary one.
std::string replication(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  if (parse_boolean(value) == std::optional<bool>(false)) return "";
  return "is for a client to ask for, which then gets a server of its own";
}

std::string scram_key(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  // 32 bytes in base64: 43 characters and one `=`.
  const bool fits = value.size() == 44 && value.back() == '=' &&
                    std::all_of(value.begin(), value.end() - 1, [](unsigned char c) {
                      return std::isalnum(c) != 0 || c == '+' || c == '/';
                    });
  return fits ? "" : "is not a key of 32 bytes in base64";
}

std::string service(std::string_view value, const Libpq& libpq) {
  (void)value;
  (void)libpq;
  return "names an entry of libpq's service file, which Carpool does not read; write here what the "
         "entry says";
}

std::string options(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  const OptionsVerdict verdict = check_options(value);
  return verdict.error;
}

std::string encoding(std::string_view value, const Libpq& libpq) {
  (void)libpq;
  return value == "auto" || is_encoding(value) ? "" : "is no encoding that PostgreSQL knows";
}

constexpr std::array<LibpqParameter, 51> kParameters = {{
    {"host", 0, "PGHOST"},
    {"hostaddr", 0, "PGHOSTADDR"},
    {"port", 0, "PGPORT"},
    {"dbname", 0, "PGDATABASE"},
    {"user", 0, "PGUSER"},
    {"password", 0, "PGPASSWORD", true},
    {"passfile", 0, "PGPASSFILE"},
    {"require_auth", 16, "PGREQUIREAUTH", false, authentication},
    {"channel_binding", 0, "PGCHANNELBINDING", false, channel_binding},
    {"connect_timeout", 0, "PGCONNECT_TIMEOUT", false, any_number},
    {"client_encoding", 0, "PGCLIENTENCODING", false, encoding},
    {"options", 0, "PGOPTIONS", false, options},
    {"application_name", 0, "PGAPPNAME"},
    {"fallback_application_name"},
    {"keepalives", 0, "", false, any_number},
    {"keepalives_idle", 0, "", false, keepalive_seconds},
    {"keepalives_interval", 0, "", false, keepalive_seconds},
    {"keepalives_count", 0, "", false, keepalive_count},
    {"tcp_user_timeout", 0, "", false, any_number},
    {"replication", 0, "", false, replication},
    {"gssencmode", 0, "PGGSSENCMODE", false, gss_encryption},
    {"sslmode", 0, "PGSSLMODE", false, ssl_mode},
    {"sslnegotiation", 17, "PGSSLNEGOTIATION", false, ssl_negotiation},
    {"sslcompression", 0, "PGSSLCOMPRESSION"},
    {"sslcert", 0, "PGSSLCERT"},
    {"sslkey", 0, "PGSSLKEY"},
    {"sslkeylogfile", 18},
    {"sslpassword", 0, "", true},
    {"sslcertmode", 16, "PGSSLCERTMODE", false, cert_mode},
    {"sslrootcert", 0, "PGSSLROOTCERT"},
    {"sslcrl", 0, "PGSSLCRL"},
    {"sslcrldir", 0, "PGSSLCRLDIR"},
    {"sslsni", 0, "PGSSLSNI"},
    {"requirepeer", 0, "PGREQUIREPEER"},
    {"ssl_min_protocol_version", 0, "PGSSLMINPROTOCOLVERSION", false, tls_version},
    {"ssl_max_protocol_version", 0, "PGSSLMAXPROTOCOLVERSION", false, tls_version},
    {"min_protocol_version", 18, "PGMINPROTOCOLVERSION", false, protocol_version},
    {"max_protocol_version", 18, "PGMAXPROTOCOLVERSION", false, protocol_version},
    {"krbsrvname", 0, "PGKRBSRVNAME"},
    {"gsslib", 0, "PGGSSLIB"},
    {"gssdelegation", 17, "PGGSSDELEGATION"},
    {"scram_client_key", 18, "", true, scram_key},
    {"scram_server_key", 18, "", true, scram_key},
    {"service", 0, "PGSERVICE", false, service},
    {"servicefile", 19, "", false, service},
    {"target_session_attrs", 0, "PGTARGETSESSIONATTRS", false, session_attrs},
    {"load_balance_hosts", 16, "PGLOADBALANCEHOSTS", false, load_balance},
    {"oauth_issuer", 18},
    {"oauth_client_id", 18},
    {"oauth_client_secret", 18, "", true},
    {"oauth_scope", 18},
}};

constexpr std::array<LibpqSetting, 3> kSettings = {
    {{"PGDATESTYLE", "datestyle"}, {"PGTZ", "timezone"}, {"PGGEQO", "geqo"}}};

constexpr std::array<std::string_view, 7> kMethods = {"password",      "md5",   "gss", "sspi",
                                                      "scram-sha-256", "oauth", "none"};

}  // namespace

bool Libpq::knows(std::string_view keyword) const {
  if (!keywords.empty()) return keywords.contains(keyword);
  const LibpqParameter* parameter = find_parameter(keyword);
  return parameter != nullptr && parameter->since <= version;
}

std::span<const LibpqParameter> libpq_parameters() {
  return kParameters;
}

const LibpqParameter* find_parameter(std::string_view name) {
  for (const LibpqParameter& parameter : kParameters) {
    if (parameter.name == name) return &parameter;
  }
  return nullptr;
}

std::span<const LibpqSetting> libpq_settings() {
  return kSettings;
}

std::optional<int> libpq_number(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  errno = 0;
  const long number = std::strtol(copy.c_str(), &end, 10);
  if (end == copy.c_str() || errno != 0 || number < INT_MIN || number > INT_MAX) {
    return std::nullopt;
  }
  while (std::isspace(static_cast<unsigned char>(*end)) != 0) end++;
  if (*end != '\0') return std::nullopt;
  return static_cast<int>(number);
}

std::set<std::string_view> methods_left(std::string_view require_auth) {
  const bool negated = require_auth.starts_with('!');
  std::set<std::string_view> named;
  while (true) {
    const std::size_t comma = std::min(require_auth.find(','), require_auth.size());
    std::string_view method = require_auth.substr(0, comma);
    if (method.starts_with('!') != negated) return {};
    if (negated) method.remove_prefix(1);
    const auto* known = std::find(kMethods.begin(), kMethods.end(), method);
    if (known == kMethods.end() || !named.insert(*known).second) return {};
    if (comma == require_auth.size()) break;
    require_auth.remove_prefix(comma + 1);
  }
  if (!negated) return named;
  std::set<std::string_view> left(kMethods.begin(), kMethods.end());
  for (const std::string_view method : named) left.erase(method);
  return left;
}

}  // namespace carpool::config
