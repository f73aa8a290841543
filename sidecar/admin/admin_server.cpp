#include "admin/admin_server.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "admin/clock.h"
#include "admin/door.h"
#include "admin/history.h"
#include "admin/http_answer.h"
#include "admin/metrics.h"
#include "admin/status_json.h"
#include "admin/status_page.h"
#include "config/address.h"

namespace carpool::admin {
namespace {

using httplib::Request;
using httplib::Response;

constexpr const char* kNoAnswer = "the proxy's loop did not answer in time";
constexpr const char* kPrometheusText = "text/plain; version=0.0.4; charset=utf-8";

// The port that only the pod can reach comes second in the Door's list.
enum class Port : std::uint8_t { ReadOnly = 0, Control = 1 };

struct ControlRoute {
  std::string_view path;
  Control control;
};
constexpr std::array<ControlRoute, 5> kControls = {{{"/drain", Control::Drain},
                                                    {"/quitquitquit", Control::Quit},
                                                    {"/pause", Control::Pause},
                                                    {"/resume", Control::Resume},
                                                    {"/reconnect", Control::Reconnect}}};

// "localhost:9931" -> "localhost", "[::1]:80" -> "[::1]".
std::string_view without_port(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  const std::size_t bracket = host.rfind(']');
  if (colon == std::string_view::npos) return host;
  if (bracket != std::string_view::npos && colon < bracket) return host;
  return host.substr(0, colon);
}

bool is_local(std::string_view host) {
  std::string_view name = without_port(host);
  if (name == "localhost") return true;
  const bool bracketed = name.starts_with('[') && name.ends_with(']');
  if (bracketed) name = name.substr(1, name.size() - 2);
  return (name.find(':') != std::string_view::npos) == bracketed &&
         config::is_loopback(std::string(name));
}

// A page of another site can make a browser inside the pod's network speak to the control port;
// it cannot choose the Host or Origin that the browser then sends (DNS rebinding).
bool is_foreign(const Request& request) {
  if (request.get_header_value_count("Host") != 1) return true;
  if (!is_local(request.get_header_value("Host"))) return true;
  if (!request.has_header("Origin")) return false;
  const std::string origin = request.get_header_value("Origin");
  const std::size_t scheme = origin.find("://");
  return scheme == std::string::npos || !is_local(std::string_view(origin).substr(scheme + 3));
}

bool is_ready(const Readiness& readiness) {
  return readiness.started && !readiness.draining &&
         (!readiness.database_required || readiness.database_ok);
}

std::string why_not_ready(const Readiness& readiness) {
  if (!readiness.started) {
    return readiness.waits_for.empty() ? "not started" : "not started: " + readiness.waits_for;
  }
  if (readiness.draining) return "draining";
  return readiness.detail.empty() ? "the database cannot be reached"
                                  : "the database cannot be reached: " + readiness.detail;
}

void serve(Response& out, std::string_view text, const char* type) {
  out.status = 200;
  out.set_content(text.data(), text.size(), type);
}

}  // namespace

struct AdminServer::Impl {
  Impl(Options given_options, Source given_source)
      : options(std::move(given_options)),
        source(std::move(given_source)),
        read_only([this](const auto& in, auto& out) { route(Port::ReadOnly, in, out); }),
        control([this](const auto& in, auto& out) { route(Port::Control, in, out); }) {}

  Options options;
  Source source;
  History history;
  HttpAnswer read_only;
  HttpAnswer control;
  std::uint16_t port = 0;
  std::uint16_t control_port = 0;
  std::unique_ptr<Door> door;  // last: its threads use all of the above

  void route(Port came_through, const Request& in, Response& out);
  void get(const Request& in, Response& out);
  void steer(Control what, const Request& in, Response& out);

  void sample();  // for the history, each History::kInterval_us

  void startupz(const Request& in, Response& out);
  void livez(const Request& in, Response& out);
  void readyz(const Request& in, Response& out);
  void metrics(const Request& in, Response& out);
  void status(const Request& in, Response& out);
  void past(const Request& in, Response& out);
  void config(const Request& in, Response& out);
  void page_html(const Request& in, Response& out);
  void page_css(const Request& in, Response& out);
  void page_js(const Request& in, Response& out);
};

void AdminServer::Impl::route(Port came_through, const Request& in, Response& out) {
  out.set_header("Cache-Control", "no-store");
  out.set_header("Content-Security-Policy", kContentSecurityPolicy);
  out.set_header("X-Content-Type-Options", "nosniff");
  out.set_header("Referrer-Policy", "no-referrer");

  if (came_through == Port::Control && is_foreign(in)) {
    return set_error(out, 403, "the control port answers only to localhost");
  }
  const auto* control_route = std::find_if(kControls.begin(), kControls.end(),
                                           [&](const auto& c) { return c.path == in.path; });
  if (control_route == kControls.end()) return get(in, out);
  if (came_through != Port::Control) {
    return set_error(out, 403, in.path + " is served on the control port only");
  }
  if (in.method != "POST") {
    out.set_header("Allow", "POST");
    return set_error(out, 405, in.path + " takes POST");
  }
  steer(control_route->control, in, out);
}

void AdminServer::Impl::get(const Request& in, Response& out) {
  struct Route {
    std::string_view path;
    void (Impl::*handler)(const Request&, Response&);
  };
  static constexpr std::array<Route, 10> kRoutes = {{{"/startupz", &Impl::startupz},
                                                     {"/livez", &Impl::livez},
                                                     {"/readyz", &Impl::readyz},
                                                     {"/metrics", &Impl::metrics},
                                                     {"/status", &Impl::status},
                                                     {"/history", &Impl::past},
                                                     {"/config", &Impl::config},
                                                     {"/", &Impl::page_html},
                                                     {"/page.css", &Impl::page_css},
                                                     {"/page.js", &Impl::page_js}}};
  const auto* found = std::find_if(kRoutes.begin(), kRoutes.end(),
                                   [&](const Route& r) { return r.path == in.path; });
  if (found == kRoutes.end()) return set_error(out, 404, "nothing is served at " + in.path);
  if (in.method != "GET" && in.method != "HEAD") {
    out.set_header("Allow", "GET, HEAD");
    return set_error(out, 405, in.path + " takes GET");
  }
  (this->*found->handler)(in, out);
}

void AdminServer::Impl::startupz(const Request&, Response& out) {
  const std::optional<Readiness> readiness = source.readiness();
  if (!readiness) return set_error(out, 503, kNoAnswer);
  if (!readiness->started) return set_error(out, 503, why_not_ready(*readiness));
  set_json(out, 200, R"({"status":"started"})");
}

void AdminServer::Impl::livez(const Request&, Response& out) {
  if (!source.loop_answers()) return set_error(out, 503, kNoAnswer);
  set_json(out, 200, R"({"status":"alive"})");
}

void AdminServer::Impl::readyz(const Request&, Response& out) {
  const std::optional<Readiness> readiness = source.readiness();
  if (!readiness) return set_error(out, 503, kNoAnswer);
  if (!is_ready(*readiness)) return set_error(out, 503, why_not_ready(*readiness));
  set_json(out, 200, R"({"status":"ready"})");
}

void AdminServer::Impl::metrics(const Request&, Response& out) {
  const std::optional<pool::Snapshot> snapshot = source.snapshot(false);
  const std::optional<ConfigView> view = source.config();
  if (!snapshot || !view) return set_error(out, 503, kNoAnswer);
  serve(out, metrics_text(*snapshot, *view, options.version), kPrometheusText);
}

void AdminServer::Impl::status(const Request& in, Response& out) {
  const bool detailed = in.get_param_value("detailed") == "1";
  std::optional<pool::Snapshot> snapshot = source.snapshot(detailed);
  if (!snapshot) return set_error(out, 503, kNoAnswer);
  if (in.has_param("database")) {
    const std::string database = in.get_param_value("database");
    const auto is_other = [&](const auto& entry) { return entry.database != database; };
    std::erase_if(snapshot->pools, is_other);
    std::erase_if(snapshot->client_list, is_other);
    std::erase_if(snapshot->server_list, is_other);
    const bool paused = snapshot->is_paused(database);
    if (snapshot->pools.empty() && !paused) {
      return set_error(out, 404, "there is no pool of " + database);
    }
    snapshot->paused = false;
    snapshot->resumed_databases.clear();
    snapshot->paused_databases.assign(paused ? 1 : 0, database);
  }
  const StatusExtras extras{&history, monotonic_us(), detailed};
  set_json(out, 200, status_json(*snapshot, options.version, extras));
}

void AdminServer::Impl::past(const Request& in, Response& out) {
  const std::string since = in.get_param_value("since");
  set_json(out, 200, history.json(std::strtoull(since.c_str(), nullptr, 10)));
}

void AdminServer::Impl::sample() {
  const std::optional<pool::Snapshot> snapshot = source.snapshot(false);
  if (snapshot) history.add(*snapshot, monotonic_us());
}

void AdminServer::Impl::config(const Request&, Response& out) {
  const std::optional<ConfigView> view = source.config();
  if (!view) return set_error(out, 503, kNoAnswer);
  set_json(out, 200, config_json(*view));
}

void AdminServer::Impl::steer(Control what, const Request& in, Response& out) {
  const Result<std::string> done = source.control(what, in.get_param_value("database"));
  if (done) return set_done(out, *done);
  // The loop refused, or is not there to refuse.
  const bool answers = source.loop_answers();
  set_error(out, answers ? 409 : 503, done.error().message);
}

void AdminServer::Impl::page_html(const Request&, Response& out) {
  serve(out, status_page_html(), "text/html; charset=utf-8");
}
void AdminServer::Impl::page_css(const Request&, Response& out) {
  serve(out, status_page_css(), "text/css; charset=utf-8");
}
void AdminServer::Impl::page_js(const Request&, Response& out) {
  serve(out, status_page_js(), "text/javascript; charset=utf-8");
}

Result<std::unique_ptr<AdminServer>> AdminServer::start(Options options, Source source) {
  Result<ListeningSocket> read_only = ListeningSocket::open(options.address, options.port, false);
  if (!read_only) return read_only.error();
  Result<ListeningSocket> control =
      ListeningSocket::open(options.control_address, options.control_port, true);
  if (!control) return control.error();

  auto impl = std::make_unique<Impl>(std::move(options), std::move(source));
  impl->port = read_only->port();
  impl->control_port = control->port();
  std::vector<ListeningSocket> sockets;  // in the order of Port
  sockets.push_back(std::move(*read_only));
  sockets.push_back(std::move(*control));
  Door::Options door_options;
  door_options.tick = [impl = impl.get()] { impl->sample(); };
  door_options.tick_us = History::kInterval_us;
  Result<std::unique_ptr<Door>> door = Door::open(
      std::move(sockets),
      [impl = impl.get()](std::size_t listener, const std::string& request) {
        const bool is_control = static_cast<Port>(listener) == Port::Control;
        return (is_control ? impl->control : impl->read_only).answer(request);
      },
      std::move(door_options));
  if (!door) return door.error();
  impl->door = std::move(*door);
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdminServer::~AdminServer() = default;

std::uint16_t AdminServer::port() const {
  return impl_->port;
}
std::uint16_t AdminServer::control_port() const {
  return impl_->control_port;
}

}  // namespace carpool::admin
