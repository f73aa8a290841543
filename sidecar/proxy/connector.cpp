#include "proxy/connector.h"

#include <fmt/format.h>
#include <libpq-fe.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "config/conninfo.h"
#include "net/resolver.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

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

}  // namespace

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
  bool shows_given_password = false;
  std::vector<std::string> hosts;  // to resolve, from the front
  std::vector<std::string> ports;  // one a host, or one for all
  std::size_t next = 0;
  std::vector<Place> places;  // what they resolved to; those that kept silent are taken out
  // What libpq opens, and the cancels of what it has opened.
  std::shared_ptr<const FileCopies> files = std::make_shared<FileCopies>();
  std::string reading;  // the files, while they are being read
  std::string resolve_error;
  std::string silent;     // of those that were taken out: for people
  Micros timeout_us = 0;  // for each place; 0: none
  // Of a password, by what libpq has tried before what it tries now.
  std::optional<ConnectFailure> refusal;

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

Connector::Connector(net::Loop& loop, ServerFiles& files, Done on_done)
    : loop_(loop), files_(files), on_done_(std::move(on_done)) {}

Connector::~Connector() {
  finish();
}

void Connector::finish() {
  if (attempt_ != nullptr) attempt_->abandoned = true;
  files_read_.reset();
  poll_.close();
  soon_.stop();
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
    attempt->set("password", "");  // it is read from there
  } else if (attempt->get("password").empty() && attempt->get("user") == user) {
    override_with("password", password);
    attempt->shows_given_password = !password.empty();
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
  if (!failure.message.empty()) {
    soon_.start(loop_, 0, 0, [this, failure] { fail(failure); });
    return;
  }
  const bool only_sockets =
      std::all_of(attempt->hosts.begin(), attempt->hosts.end(), config::is_socket);
  const std::vector<LibpqFile> files =
      files_needed(settings, {[&](const std::string& keyword) { return attempt->get(keyword); },
                              only_sockets && !attempt->hosts.empty(), PQlibVersion()});
  if (files.empty()) {
    soon_.start(loop_, 0, 0, [this, attempt] { resolve_next(attempt); });
    return;
  }
  for (const LibpqFile& file : files) {
    if (file.may_lack) continue;
    attempt->reading += (attempt->reading.empty() ? "" : ", ") + file.name;
  }
  if (attempt->reading.empty()) attempt->reading = "libpq's own files in the home folder";
  files_read_ = std::make_shared<ServerFiles::Done>(
      [this, attempt](const ServerFiles::Answer& answer) { files_read(attempt, answer); });
  files_.read(files, files_read_);
}

void Connector::files_read(const std::shared_ptr<Attempt>& attempt,
                           const ServerFiles::Answer& answer) {
  attempt->reading.clear();
  if (!answer.problem.empty()) {
    ConnectFailure failure;
    if (answer.of_password) failure.kind = pool::ConnectError::Auth;
    failure.message = answer.problem;
    failure.unfit = true;
    return fail(failure);
  }
  for (const auto& [keyword, value] : answer.copies.options) attempt->set(keyword, value);
  attempt->files = std::make_shared<FileCopies>(answer.copies);
  resolve_next(attempt);
}

void Connector::resolve_next(const std::shared_ptr<Attempt>& attempt) {
  while (attempt->next < attempt->hosts.size()) {
    const std::size_t i = attempt->next++;
    const std::string host = attempt->hosts[i];
    const std::string port = attempt->ports.size() == 1  ? attempt->ports[0]
                             : i < attempt->ports.size() ? attempt->ports[i]
                                                         : "";
    if (config::is_socket(host)) {
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

  // With a hook, be it libpq's own, a key under a passphrase that no sslpassword tells is an error.
  // Without one OpenSSL asks at the terminal or reads standard input, and the loop waits.
  PQsetSSLKeyPassHook_OpenSSL(PQdefaultSSLKeyPassHook_OpenSSL);
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
    // Where a place has no name, libpq says that of its own folder.
    const bool same_socket = host != nullptr && (place.host.empty() || place.host == host);
    const bool same = place.address.empty() ? same_socket && config::is_socket(host)
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
  const std::string within =
      fmt::format("within server.connectTimeout ({} s)", seconds(attempt_->timeout_us));
  const std::string why = attempt_->reading.empty()
                              ? "no answer " + within
                              : fmt::format("{} not read {}", attempt_->reading, within);
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
  const bool asked = used_password();
  const std::string said = asked ? PQerrorMessage(conn_) : "";
  const PostgresPollingStatusType status = PQconnectPoll(conn_);
  if (asked && !used_password()) note_refusal(said);
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

// With sslmode=prefer libpq tries in clear what PostgreSQL has refused under TLS. What comes of
// that, such as that pg_hba.conf has no line for it, takes nothing of the first word back.
// `before`: what libpq had to say of attempts before this one.
void Connector::note_refusal(const std::string& before) {
  std::string message = PQerrorMessage(conn_);
  if (message.starts_with(before)) message.erase(0, before.size());
  // The line of the attempt that begins is begun.
  if (message.ends_with(": ")) message.resize(std::min(message.rfind('\n'), message.size()));
  ConnectFailure failure = describe_failure(std::move(message));
  failure.password_asked = true;
  if (failure.of_password()) attempt_->refusal = std::move(failure);
}

void Connector::fail(ConnectFailure failure) {
  poll_.close();
  deadline_.stop();
  soon_.stop();
  files_read_.reset();
  failure.password_asked = conn_ != nullptr && used_password();
  if (attempt_->refusal && !failure.of_password()) {
    // libpq's message has both.
    std::swap(failure, *attempt_->refusal);
    failure.message = attempt_->refusal->message;
  }
  failure.message = attempt_->files->in_words(failure.message) + attempt_->silent;
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

bool Connector::shows_given_password() const {
  return attempt_ != nullptr && attempt_->shows_given_password;
}

std::string Connector::database() const {
  return attempt_ == nullptr ? "" : attempt_->get("dbname");
}

std::string Connector::peer() const {
  const char* address = PQhostaddr(conn_);
  const bool has_address = address != nullptr && *address != '\0';
  return fmt::format("{}:{}", has_address ? address : PQhost(conn_), PQport(conn_));
}

CancelTicket Connector::cancel_ticket() const {
  CancelTicket ticket;
  ticket.files_ = attempt_->files;
  ticket.cancel_ = std::shared_ptr<void>(
      PQgetCancel(conn_), [](void* cancel) { PQfreeCancel(static_cast<PGcancel*>(cancel)); });
  return ticket;
}

std::unique_ptr<CancelRequest> Connector::cancel_request(CancelRequest::Done on_done) const {
  return std::make_unique<CancelRequest>(loop_, conn_, attempt_->files, std::move(on_done));
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
