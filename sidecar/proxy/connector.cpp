#include "proxy/connector.h"

#include <fmt/format.h>
#include <libpq-fe.h>

#include "config/conninfo.h"
#include "config/load.h"
#include "net/resolver.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

constexpr std::size_t kPasswordMax = 4096;

// The parameters that PostgreSQL reports by itself (manual, "Asynchronous Operations").
constexpr const char* kReported[] = {"server_version",
                                     "server_encoding",
                                     "client_encoding",
                                     "application_name",
                                     "default_transaction_read_only",
                                     "in_hot_standby",
                                     "is_superuser",
                                     "session_authorization",
                                     "DateStyle",
                                     "IntervalStyle",
                                     "TimeZone",
                                     "integer_datetimes",
                                     "standard_conforming_strings",
                                     "scram_iterations",
                                     "search_path"};

// Read anew for each connection, so that a rotated Secret simply works.
Result<std::string> read_password(const std::string& path) {
  Result<std::string> text = config::read_file(path);
  if (!text) return Error{"server.passwordFile " + path + ": " + text.error().message};
  while (!text->empty() && (text->back() == '\n' || text->back() == '\r')) text->pop_back();
  if (text->empty()) return Error{"server.passwordFile " + path + " is empty"};
  if (text->size() > kPasswordMax) return Error{"server.passwordFile " + path + " is too long"};
  return text;
}

// With PQERRORS_VERBOSE libpq says "SEVERITY:  SQLSTATE: text".
std::string find_sqlstate(const std::string& message) {
  for (std::size_t i = message.rfind(":  "); i != std::string::npos && i + 9 <= message.size();
       i = i == 0 ? std::string::npos : message.rfind(":  ", i - 1)) {
    std::string code = message.substr(i + 3, 5);
    if (message[i + 8] == ':' &&
        code.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos) {
      return code;
    }
  }
  return "";
}

ConnectFailure describe_failure(std::string message) {
  ConnectFailure failure;
  failure.sqlstate = find_sqlstate(message);
  if (failure.sqlstate == "53300") {
    failure.kind = pool::ConnectError::TooManyConnections;
  } else if (failure.sqlstate == "57P03") {
    failure.kind = pool::ConnectError::CannotConnectNow;
  } else if (failure.sqlstate.starts_with("28")) {
    failure.kind = pool::ConnectError::Auth;
  } else if (failure.sqlstate.empty()) {
    failure.kind = message.find("password") != std::string::npos ? pool::ConnectError::Auth
                                                                 : pool::ConnectError::Refused;
  }
  // Where it happened inside PostgreSQL helps nobody.
  if (const std::size_t location = message.find("\nLOCATION:"); location != std::string::npos) {
    message.resize(location);
  }
  if (!failure.sqlstate.empty()) {
    const std::size_t at = message.rfind(failure.sqlstate + ": ");
    if (at != std::string::npos) message.erase(at, failure.sqlstate.size() + 2);
  }
  while (!message.empty() && message.back() == '\n') message.pop_back();
  failure.message = std::move(message);
  return failure;
}

}  // namespace

bool ConnectFailure::permanent() const {
  // Wrong password, no such user, no such database, no right to connect.
  return kind == pool::ConnectError::Auth || sqlstate == "3D000" || sqlstate == "42501";
}

void CancelTicket::run() const {
  char why[256];
  if (cancel_ != nullptr) PQcancel(static_cast<PGcancel*>(cancel_.get()), why, sizeof why);
}

struct Connector::Attempt {
  // Where a server may be: as the settings name it, its address, none of a Unix socket, and port.
  struct Place {
    std::string host;
    std::string address;
    std::string port;
  };

  bool abandoned = false;
  // libpq's keywords and values, in order; a later one overrides an earlier.
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<std::string> hosts;  // to resolve, from the front
  std::vector<std::string> ports;  // one a host, or one for all
  std::size_t next = 0;
  std::vector<Place> places;  // what they resolved to; those that kept silent are taken out
  std::string resolve_error;
  std::string silent;     // of those that were taken out: for people
  Micros timeout_us = 0;  // for each place; 0: none

  void set(const std::string& keyword, const std::string& value) {
    for (auto& option : options) {
      if (option.first == keyword) {
        option.second = value;
        return;
      }
    }
    options.emplace_back(keyword, value);
  }
  std::string get(const std::string& keyword) const {
    for (const auto& option : options) {
      if (option.first == keyword) return option.second;
    }
    return "";
  }
  // One of libpq's lists: that field of each place.
  std::string list(std::string Place::*field) const {
    std::string text;
    for (const Place& place : places) {
      if (&place != &places.front()) text += ',';
      text += place.*field;
    }
    return text;
  }
};

Connector::Connector(net::Loop& loop, Done on_done) : loop_(loop), on_done_(std::move(on_done)) {}

Connector::~Connector() {
  finish();
}

void Connector::finish() {
  if (attempt_ != nullptr) attempt_->abandoned = true;
  poll_.close();
  deadline_.stop();
  if (conn_ != nullptr) PQfinish(conn_);
  conn_ = nullptr;
}

void Connector::start(const config::Server& settings, const std::string& database,
                      const std::string& user, const std::string& password,
                      Micros statement_timeout_us, const ServerStartup& startup) {
  attempt_ = std::make_shared<Attempt>();
  std::shared_ptr<Attempt> attempt = attempt_;
  attempt->timeout_us = settings.connect_timeout_us;
  ConnectFailure failure;

  Result<config::UrlParts> parts = config::conninfo_of(settings, libpq_at_hand());
  if (parts) {
    for (const auto& [keyword, value] : *parts) attempt->set(keyword, value);
  } else {
    failure.message = "server.url " + parts.error().message;
  }
  const auto override_with = [&](const char* keyword, const std::string& value) {
    if (!value.empty()) attempt->set(keyword, value);
  };
  if (attempt->get("dbname").empty()) attempt->set("dbname", database);
  if (attempt->get("user").empty()) attempt->set("user", user);
  if (!settings.password_file.empty()) {
    Result<std::string> mounted = read_password(settings.password_file);
    if (mounted) {
      attempt->set("password", *mounted);
    } else {
      failure.kind = pool::ConnectError::Auth;
      failure.message = mounted.error().message;
    }
  } else if (attempt->get("password").empty() && attempt->get("user") == user) {
    override_with("password", password);
  }
  if (statement_timeout_us > 0) {
    attempt->set("options", fmt::format("{} -c statement_timeout={}", attempt->get("options"),
                                        statement_timeout_us / kMicrosPerMilli));
  }
  if (!startup.options.empty()) {
    attempt->set("options", attempt->get("options") + " " + startup.options);
  }
  override_with("replication", startup.replication);

  if (attempt->get("hostaddr").empty()) {
    attempt->hosts = config::split_list(attempt->get("host"));
    attempt->ports = config::split_list(attempt->get("port"));
  }
  start_deadline();
  // Never from inside start(): the caller is not ready for an answer yet.
  loop_.run_blocking([] {},
                     [this, attempt, failure] {
                       if (attempt->abandoned) return;
                       if (!failure.message.empty()) return fail(failure);
                       resolve_next(attempt);
                     });
}

void Connector::resolve_next(const std::shared_ptr<Attempt>& attempt) {
  while (attempt->next < attempt->hosts.size()) {
    const std::size_t i = attempt->next++;
    const std::string host = attempt->hosts[i];
    const std::string port = attempt->ports.size() == 1  ? attempt->ports[0]
                             : i < attempt->ports.size() ? attempt->ports[i]
                                                         : "";
    if (host.empty() || host[0] == '/' || host[0] == '@') {
      attempt->places.push_back({host, "", port});  // a Unix socket's directory
      continue;
    }
    if (net::is_address(host)) {
      attempt->places.push_back({host, host, port});
      continue;
    }
    net::resolve(loop_, host,
                 [this, attempt, host, port](Result<std::vector<std::string>> addresses) {
                   if (attempt->abandoned) return;
                   if (addresses) {
                     for (const std::string& address : *addresses) {
                       attempt->places.push_back({host, address, port});
                     }
                   } else {
                     attempt->resolve_error = addresses.error().message;
                   }
                   resolve_next(attempt);
                 });
    return;
  }
  if (!attempt->hosts.empty() && attempt->places.empty()) {
    return fail({pool::ConnectError::Resolve, "", attempt->resolve_error});
  }
  connect();
}

void Connector::connect() {
  const Attempt& attempt = *attempt_;
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  const auto add = [&](const char* keyword, const char* value) {
    keywords.push_back(keyword);
    values.push_back(value);
  };
  for (const auto& [keyword, value] : attempt.options) {
    const bool replaced = !attempt.hosts.empty() && (keyword == "host" || keyword == "port");
    if (!replaced) add(keyword.c_str(), value.c_str());
  }
  const std::string hosts = attempt.list(&Attempt::Place::host);
  const std::string addresses = attempt.list(&Attempt::Place::address);
  const std::string ports = attempt.list(&Attempt::Place::port);
  if (!attempt.hosts.empty()) {
    if (!hosts.empty()) add("host", hosts.c_str());
    if (addresses.find_first_not_of(',') != std::string::npos) add("hostaddr", addresses.c_str());
    add("port", ports.c_str());
  }
  add(nullptr, nullptr);

  conn_ = PQconnectStartParams(keywords.data(), values.data(), 0);
  if (conn_ == nullptr) return fail({pool::ConnectError::Other, "", "out of memory"});
  if (PQstatus(conn_) == CONNECTION_BAD) return fail(describe_failure(PQerrorMessage(conn_)));
  PQsetErrorVerbosity(conn_, PQERRORS_VERBOSE);
  PQsetNoticeProcessor(
      conn_, [](void*, const char*) {}, nullptr);
  place_ = current_place();
  start_deadline();
  watch(net::Poll::kWritable);
}

// Which of attempt_->places libpq tries now.
std::size_t Connector::current_place() const {
  const char* address = PQhostaddr(conn_);
  const char* host = PQhost(conn_);
  const char* port = PQport(conn_);
  std::size_t i = 0;
  for (; i < attempt_->places.size(); ++i) {
    const Attempt::Place& place = attempt_->places[i];
    const bool same = place.address.empty() ? host != nullptr && place.host == host
                                            : address != nullptr && place.address == address;
    if (same && (place.port.empty() || (port != nullptr && place.port == port))) break;
  }
  return i;
}

void Connector::start_deadline() {
  const Micros limit_us = attempt_->timeout_us;
  if (limit_us > 0) deadline_.start(loop_, limit_us, 0, [this] { on_deadline(); });
}

// PQconnectPoll itself waits for ever, and at the first of several hosts that keeps silent. So that
// one is taken out, and the others are tried anew.
void Connector::on_deadline() {
  const std::string why =
      fmt::format("no answer within server.connectTimeout ({} s)", seconds(attempt_->timeout_us));
  std::vector<Attempt::Place>& places = attempt_->places;
  if (conn_ == nullptr || places.size() < 2 || place_ >= places.size()) {
    attempt_->abandoned = true;
    return fail({pool::ConnectError::Timeout, "", why});
  }
  const Attempt::Place& place = places[place_];
  attempt_->silent += fmt::format("\n{}:{}: {}", place.host, place.port, why);
  places.erase(places.begin() + static_cast<std::ptrdiff_t>(place_));
  poll_.close();
  PQfinish(conn_);
  conn_ = nullptr;
  connect();
}

void Connector::watch(int events) {
  // The socket may be another one than before, and may have the same number: poll_ is always
  // closed while libpq runs.
  const int rc = poll_.open(loop_, PQsocket(conn_), events, [this](int) { advance(); });
  if (rc != 0) fail({pool::ConnectError::Other, "", uv_strerror(rc)});
}

void Connector::advance() {
  poll_.close();
  const PostgresPollingStatusType status = PQconnectPoll(conn_);
  if (const std::size_t place = current_place(); place != place_) {
    place_ = place;  // the next one has as long again
    start_deadline();
  }
  switch (status) {
    case PGRES_POLLING_READING:
      return watch(net::Poll::kReadable);
    case PGRES_POLLING_WRITING:
      return watch(net::Poll::kWritable);
    case PGRES_POLLING_OK:
      deadline_.stop();
      // So that PQfinish never waits for a peer that does not read.
      PQsetnonblocking(conn_, 1);
      return on_done_(nullptr);
    default:
      return fail(describe_failure(PQerrorMessage(conn_)));
  }
}

void Connector::fail(ConnectFailure failure) {
  poll_.close();
  deadline_.stop();
  failure.message += attempt_->silent;
  on_done_(&failure);
}

int Connector::fd() const {
  return PQsocket(conn_);
}
SSL* Connector::tls() const {
  return static_cast<SSL*>(PQsslStruct(conn_, "OpenSSL"));
}
std::int32_t Connector::backend_pid() const {
  return PQbackendPID(conn_);
}

bool Connector::used_password() const {
  return PQconnectionUsedPassword(conn_) == 1;
}

std::string Connector::peer() const {
  const char* address = PQhostaddr(conn_);
  const bool has_address = address != nullptr && *address != '\0';
  return fmt::format("{}:{}", has_address ? address : PQhost(conn_), PQport(conn_));
}

CancelTicket Connector::cancel_ticket() const {
  CancelTicket ticket;
  ticket.cancel_ = std::shared_ptr<void>(
      PQgetCancel(conn_), [](void* cancel) { PQfreeCancel(static_cast<PGcancel*>(cancel)); });
  return ticket;
}

std::vector<std::pair<std::string, std::string>> Connector::parameters() const {
  std::vector<std::pair<std::string, std::string>> found;
  for (const char* name : kReported) {
    const char* value = PQparameterStatus(conn_, name);
    if (value != nullptr) found.emplace_back(name, value);
  }
  return found;
}

}  // namespace carpool::proxy
