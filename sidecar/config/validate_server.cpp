#include "config/validate_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <strings.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "config/address.h"
#include "config/conninfo.h"
#include "config/keys.h"
#include "config/postgres_options.h"
#include "config/text.h"

namespace carpool::config {
namespace {

constexpr std::size_t kHostName_max = 253;  // RFC 1035
constexpr std::size_t kLabel_max = 63;
constexpr int kCancelsByTls = 17;                   // the first libpq that can
constexpr std::size_t kStartupPacket_max = 10'000;  // MAX_STARTUP_PACKET_LENGTH of PostgreSQL

constexpr std::array<const char*, 3> kPlace = {"server.host", "server.url", "server.port"};
constexpr std::array<const char*, 4> kTls = {"server.url", "server.sslMode", "server.sslRootCert",
                                             "server.host"};

template <std::size_t kCount>
std::vector<const char*> keys_of(const std::array<const char*, kCount>& keys) {
  return {keys.begin(), keys.end()};
}

bool is_numeric_host(std::string_view host) {
  // A scope, as of fe80::1%eth0.
  const bool is_v6 = host.find(':') != std::string_view::npos;
  const std::string text(is_v6 ? host.substr(0, host.find('%')) : host);
  // getaddrinfo() still takes 127.1 for an address, and inet_aton() also what has more behind it.
  in_addr old_form;
  const bool is_old_form =
      text.find_first_not_of("0123456789abcdefxABCDEFX.") == std::string::npos &&
      inet_aton(text.c_str(), &old_form) != 0;
  return is_ip(text) || is_old_form;
}

// Why nothing can be reached by that name; empty: perhaps something can.
std::string name_problem(std::string_view host) {
  if (host.find_first_of(" \t/") != std::string_view::npos) return "is not a host name";
  if (host.size() > kHostName_max) return "is too long for a host name";
  if (host.ends_with('.')) host.remove_suffix(1);
  while (true) {
    const std::size_t dot = std::min(host.find('.'), host.size());
    if (dot == 0) return "is not a host name: a part between dots is empty";
    if (dot > kLabel_max) return "is not a host name: a part between dots is too long";
    if (dot == host.size()) return "";
    host.remove_prefix(dot + 1);
  }
}

class Checker {
 public:
  // Both must outlive this object.
  Checker(const Server& server, const Libpq& libpq) : server_(server), libpq_(libpq) {}

  std::vector<ServerFinding> run();

 private:
  void error(std::vector<const char*> keys, std::string message) {
    found_.push_back({std::move(keys), std::move(message), true});
  }
  void warn(std::vector<const char*> keys, std::string message) {
    found_.push_back({std::move(keys), std::move(message), false});
  }
  std::string get(const char* name) const {
    const auto found = parts_.find(name);
    return found == parts_.end() ? "" : found->second;
  }
  bool has(const char* name) const { return parts_.contains(name); }

  void check_key_hosts();
  void check_url(const UrlParts& url);
  void check_meaningless(const UrlParts& url);
  void check_options_key();
  void check_places();
  void check_sockets();
  void check_tls();
  void check_protocol();
  void check_channel_binding();
  void check_startup_packet();

  const Server& server_;
  const Libpq& libpq_;
  UrlParts parts_;  // as libpq gets them
  // Whether all hosts are Unix sockets, where TLS is never used; false where none is named.
  bool local_ = false;
  std::vector<ServerFinding> found_;
};

void Checker::check_key_hosts() {
  for (const std::string& host : split_list(server_.host)) {
    if (host.empty() || is_socket(host) || is_numeric_host(host)) continue;
    if (host.find("://") != std::string::npos || host.find('=') != std::string::npos) {
      error({"server.host"}, "is a whole connection string; that belongs in `server.url`");
    } else if (host.find('@') != std::string::npos) {
      // Not quoted: what stands before the `@` may be a password.
      error({"server.host"}, "holds an `@`; the user belongs in `server.user`");
    } else if (host.find(':') != std::string::npos) {
      error({"server.host"},
            fmt::format("{} holds a `:`; the port belongs in `server.port`", quote(host)));
    } else if (const std::string problem = name_problem(host); !problem.empty()) {
      error({"server.host"}, fmt::format("{} {}", quote(host), problem));
    }
  }
}

void Checker::check_url(const UrlParts& url) {
  for (const auto& [name, value] : url) {
    // What a key overrides is never looked at by libpq.
    if (has(name.c_str()) && get(name.c_str()) != value && name != "gssencmode") continue;
    if (std::string problem = parameter_problem({{name, value}}, libpq_); !problem.empty()) {
      error({"server.url"}, std::move(problem));
    }
  }
  if (server_.host.empty()) {
    for (const std::string& host : split_list(get("host"))) {
      if (host.empty() || is_socket(host) || is_numeric_host(host)) continue;
      if (const std::string problem = name_problem(host); !problem.empty()) {
        error({"server.url"}, fmt::format("the host {}", problem));
      }
    }
    if (!has("hostaddr")) return;
    for (const std::string& address : split_list(get("hostaddr"))) {
      if (address.empty() || is_numeric_host(address)) continue;
      error({"server.url"}, "`hostaddr` is not an IP address; a name belongs in `host`");
    }
  }
}

// What libpq reads without a word, and without an effect.
void Checker::check_meaningless(const UrlParts& url) {
  const auto value = [&](const char* name) -> std::string {
    const auto found = url.find(name);
    return found == url.end() ? "" : found->second;
  };
  const auto nothing = [&](const char* name, const char* why) {
    warn({"server.url"}, fmt::format("`{}` has no effect: {}", name, why));
  };
  if (value("gssencmode") == "prefer") {
    nothing("gssencmode", "Carpool reaches servers without GSS encryption");
  }
  if (!value("gsslib").empty()) nothing("gsslib", "it is for libpq on Windows");
  const std::string compression = value("sslcompression");
  if (!compression.empty() && compression != "0") {
    nothing("sslcompression", "OpenSSL compresses no more");
  }
  const std::string sni = value("sslsni");
  if (!sni.empty() && sni != "0" && sni != "1") {
    warn({"server.url"}, "`sslsni` is neither 0 nor 1, and counts as 0");
  }
  const std::string timeout = value("connect_timeout");
  if (libpq_number(timeout) && !connect_timeout_of(timeout)) {
    warn({"server.url"},
         fmt::format("`connect_timeout` would wait for ever, which Carpool never does: "
                     "`server.connectTimeout` ({}) holds",
                     format_duration(server_.connect_timeout_us)));
  }
  if (!value("passfile").empty() && (has("password") || !server_.password_file.empty())) {
    nothing("passfile", "there is a password");
  }
  if (!value("fallback_application_name").empty() && has("application_name")) {
    nothing("fallback_application_name", "there is an `application_name`");
  }
}

void Checker::check_options_key() {
  const OptionsVerdict verdict = check_options(get("options"));
  const bool of_key = !server_.options.empty();
  if (of_key && !verdict.error.empty()) error({"server.options"}, verdict.error);
  for (const std::string& warning : verdict.warnings) {
    warn({of_key ? "server.options" : "server.url"}, warning);
  }
}

// Lists of libpq's that have to be as long as one another.
void Checker::check_places() {
  const std::size_t hosts = has("host") ? split_list(get("host")).size() : 0;
  const std::size_t addresses = has("hostaddr") ? split_list(get("hostaddr")).size() : 0;
  const std::size_t ports = split_list(get("port")).size();
  if (hosts > 0 && addresses > 0 && hosts != addresses) {
    error({"server.url"},
          fmt::format("`hostaddr` has {} entries, and `host` has {}", addresses, hosts));
    return;
  }
  const std::size_t places = std::max<std::size_t>(1, addresses > 0 ? addresses : hosts);
  if (ports != 1 && ports != places) {
    error(keys_of(kPlace), fmt::format("there are {} ports for {} {}", ports, places,
                                       places == 1 ? "host" : "hosts"));
  }
}

void Checker::check_sockets() {
  const std::vector<std::string> hosts = split_list(get("host"));
  const std::vector<std::string> ports = split_list(get("port"));
  bool any = false;
  for (std::size_t i = 0; i < hosts.size(); i++) {
    if (!has("host") || has("hostaddr") || !is_socket(hosts[i])) continue;
    any = true;
    const std::string& port = ports[ports.size() == hosts.size() ? i : 0];
    // The first byte of an abstract name is not written as `@` but as 0.
    const std::size_t size = fmt::format("{}/.s.PGSQL.{}", hosts[i], port).size();
    if (size >= sizeof(sockaddr_un{}.sun_path)) {
      error(keys_of(kPlace),
            fmt::format("the directory of a Unix socket is too long: with the socket's name it may "
                        "have {} bytes",
                        sizeof(sockaddr_un{}.sun_path) - 1));
    }
  }
  local_ = any && std::all_of(hosts.begin(), hosts.end(),
                              [](const std::string& host) { return is_socket(host); });
  if (!any && has("requirepeer")) {
    warn({"server.url"}, "`requirepeer` has no effect: it is for Unix sockets");
  }
  const std::string mode = get("sslmode");
  if (local_ && (mode == "require" || mode.starts_with("verify"))) {
    warn({"server.sslMode", "server.url", "server.host"},
         fmt::format("`sslmode` {} has no effect: TLS is never used on a Unix socket", mode));
  }
}

void Checker::check_tls() {
  const bool system = libpq_.version >= 16 && get("sslrootcert") == "system";
  const std::string mode = has("sslmode") ? get("sslmode") : system ? "verify-full" : "prefer";
  if (system && mode != "verify-full") {
    error(keys_of(kTls), "`sslrootcert` system needs `sslmode` verify-full");
  }
  const bool strong = mode == "require" || mode.starts_with("verify");
  if (strong && !local_ && libpq_.version < kCancelsByTls) {
    warn(keys_of(kTls),
         fmt::format("queries are canceled in clear: libpq {} cannot do that by TLS ({} and newer "
                     "can), and where nothing but TLS reaches PostgreSQL a cancel and "
                     "`queryTimeout` have no effect",
                     libpq_.version, kCancelsByTls));
  }
  if (get("sslnegotiation") == "direct" && !strong) {
    error(keys_of(kTls),
          "`sslnegotiation` direct needs `sslmode` require, verify-ca or verify-full");
  }
  if (get("sslcertmode") == "require" && (mode == "disable" || local_)) {
    error(keys_of(kTls), "`sslcertmode` require needs TLS, and there is none");
  }
  // Without a name there is nothing to look for in the certificate.
  const bool named = has("host") && get("host").find_first_not_of(',') != std::string::npos;
  if (mode == "verify-full" && has("hostaddr") && !named) {
    error(keys_of(kTls), "`sslmode` verify-full needs a `host` beside `hostaddr`");
  }
  const std::string least =
      has("ssl_min_protocol_version") ? get("ssl_min_protocol_version") : "TLSv1.2";
  const std::string most = get("ssl_max_protocol_version");
  // The names are in the order of the versions.
  if (!most.empty() && strcasecmp(least.c_str(), most.c_str()) > 0) {
    error({"server.url"},
          "`ssl_max_protocol_version` is below `ssl_min_protocol_version` (TLSv1.2 where it is not "
          "given)");
  }
}

void Checker::check_protocol() {
  if (get("min_protocol_version").empty() || get("max_protocol_version") != "3.0") return;
  if (get("min_protocol_version") != "3.0") {
    error({"server.url"}, "`max_protocol_version` is below `min_protocol_version`");
  }
}

void Checker::check_channel_binding() {
  if (get("channel_binding") != "require") return;
  if (get("sslmode") == "disable" || local_) {
    error(keys_of(kTls), "`channel_binding` require needs TLS, and there is none");
  }
  if (has("require_auth") && !methods_left(get("require_auth")).contains("scram-sha-256")) {
    error({"server.url"},
          "`channel_binding` require needs scram-sha-256, which `require_auth` "
          "leaves out");
  }
}

void Checker::check_startup_packet() {
  // The version, names and values with a zero behind each, and one at the end.
  std::size_t size = 5;
  for (const auto& [ours, theirs] : {std::pair{"user", "user"},
                                     {"dbname", "database"},
                                     {"options", "options"},
                                     {"client_encoding", "client_encoding"},
                                     {"application_name", "application_name"}}) {
    if (has(ours)) size += std::string_view(theirs).size() + get(ours).size() + 2;
  }
  if (size > kStartupPacket_max) {
    error({"server.options", "server.url", "server.database", "server.user"},
          fmt::format("options, database and user are {} bytes in a startup packet; PostgreSQL "
                      "takes {}",
                      size, kStartupPacket_max));
  }
}

std::vector<ServerFinding> Checker::run() {
  check_key_hosts();
  UrlParts url;
  if (!server_.url.empty()) {
    Result<UrlParts> parsed = parse_url(server_.url, libpq_);
    if (!parsed) {
      error({"server.url"}, parsed.error().message);
      return std::move(found_);
    }
    url = std::move(*parsed);
  }
  parts_ = *conninfo_of(server_, libpq_);
  check_url(url);
  check_meaningless(url);
  check_options_key();
  check_places();
  check_sockets();
  check_tls();
  check_protocol();
  check_channel_binding();
  check_startup_packet();
  return std::move(found_);
}

}  // namespace

std::string parameter_problem(const UrlParts& parts, const Libpq& libpq) {
  for (const auto& [name, value] : parts) {
    const LibpqParameter* parameter = find_parameter(name);
    if (parameter == nullptr || parameter->problem == nullptr) continue;
    const std::string problem = parameter->problem(value, libpq);
    if (!problem.empty()) {
      return fmt::format("`{}`{} {}", name, name == "options" ? ":" : "", problem);
    }
  }
  return "";
}

std::optional<Micros> connect_timeout_of(std::string_view seconds) {
  const std::optional<int> number = libpq_number(seconds);
  if (!number || *number <= 0) return std::nullopt;
  return std::min(*number * kMicrosPerSecond, find_key("server.connectTimeout")->max);
}

std::vector<ServerFinding> check_server(const Server& server, const Libpq& libpq) {
  return Checker(server, libpq).run();
}

}  // namespace carpool::config
