#include "app.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>

#include "admin/admin_server.h"
#include "config/diff.h"
#include "config/load.h"
#include "net/file_watch.h"
#include "net/loop.h"
#include "net/signals.h"
#include "net/timer.h"
#include "proxy/log.h"
#include "proxy/proxy.h"

namespace carpool {
namespace {

namespace log = proxy::log;

constexpr int kExitClean = 0;
constexpr int kExitFailed = 1;
constexpr int kExitCut = 3;
constexpr int kExitConfig = 78;

// How long the loop may take to answer a question of the HTTP threads.
constexpr std::chrono::milliseconds kAnswerMax{1000};
// After drain.timeout, how long transactions may still take to end. The kubelet's default grace
// period is 30 s, drain.timeout's default 25 s.
constexpr Micros kLastTransactions_us = 2 * kMicrosPerSecond;
constexpr Micros kDrainTick_us = 50 * kMicrosPerMilli;
// After everything, how long others in the container may take to end.
constexpr Micros kOthers_us_max = 2 * kMicrosPerSecond;
constexpr std::chrono::milliseconds kOthersPause{5};

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// A file mounted by subPath is a mount point of its own, and the kubelet never updates it.
bool is_sub_path_mount(const std::string& path) {
  if (access((directory_of(path) + "/..data").c_str(), F_OK) == 0) return false;
  std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
  std::ifstream mounts("/proc/self/mountinfo");
  std::string id, parent, device, root, point, rest;
  while (real != nullptr && mounts >> id >> parent >> device >> root >> point &&
         std::getline(mounts, rest)) {
    if (point == real.get()) return true;
  }
  return false;
}

std::optional<std::string> environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// As many descriptors as the kernel allows: each client needs one, each server another.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// A container's first process takes the others along, and one of them may be the `carpool quit` of
// a `kubectl exec`, which has yet to say that it went well: it would end with 137.
void let_others_end() {
  if (getpid() != 1) return;
  const Micros end_us = net::Loop::clock_us() + kOthers_us_max;
  // Signal 0 to -1 reaches nobody, and ESRCH says that there is nobody else (kill(2)).
  while ((kill(-1, 0) == 0 || errno != ESRCH) && net::Loop::clock_us() < end_us) {
    std::this_thread::sleep_for(kOthersPause);
  }
}

class App {
 public:
  explicit App(const AppOptions& options)
      : options_(options),
        watch_(loop_, [this] { reload("watch"); }),
        signals_(loop_, [this](int signal) { on_signal(signal); }) {}

  int run();

 private:
  config::LoadResult load() const {
    return options_.config_file.empty() ? config::load_environment(environment)
                                        : config::load_file(options_.config_file, environment);
  }
  void watch_files(const config::Config& config);
  void report(const std::vector<config::Problem>& problems, const char* message) const;
  void reload(const char* why);
  // True where the rest comes when the credentials have been read.
  bool reload_config(const char* why);
  void reload_credentials();
  void reload_again();
  void apply(const config::LoadResult& loaded, const config::Config& next);
  void reject(const std::vector<config::Problem>& problems);
  void start_stats_timer();
  void on_signal(int signal);
  void drain(const char* why, bool wait_min_delay);
  void drain_tick();
  void end(int exit_code);
  admin::Source make_source();
  admin::Readiness readiness();
  admin::ConfigView config_view();
  Result<std::string> control(admin::Control action, const std::string& database);

  const AppOptions& options_;
  net::Loop loop_;
  net::FileWatch watch_;
  net::Signals signals_;
  net::Timer stats_timer_;
  net::Timer drain_timer_;
  std::optional<proxy::Proxy> proxy_;

  config::Config desired_;  // the last valid file; running is proxy_->config()
  std::string seen_hash_;   // of the last file that was looked at
  // Of the credentials for want of which that file was turned down: others may let it in.
  std::optional<std::string> blocked_by_;
  std::string credentials_error_;  // of the running configuration's; empty: they are good
  bool asked_again_ = false;       // a reload was asked for while credentials were being read
  admin::ConfigView view_;         // what does not change by itself
  Micros applied_us_ = 0;
  std::optional<Micros> drain_us_;
  Micros drain_min_us_ = 0;
  int exit_code_ = kExitClean;
};

int App::run() {
  const std::string source = options_.config_file.empty() ? "environment" : options_.config_file;
  // First the watch, then the read: no change falls between them.
  if (!options_.config_file.empty()) watch_.watch({directory_of(options_.config_file)});
  const config::LoadResult loaded = load();
  if (!loaded.config) {
    for (const config::Problem& problem : loaded.problems) {
      fmt::print(stderr, "{}\n", config::format(problem, source));
    }
    return kExitConfig;
  }
  log::configure(loaded.config->log);
  raise_descriptor_limit();
  desired_ = *loaded.config;
  seen_hash_ = loaded.sha256;
  view_.source = source;
  view_.hash = loaded.sha256;
  view_.last_result = "applied";
  view_.last_reload_successful = true;
  view_.last_success_unix_seconds = unix_seconds();
  applied_us_ = loop_.now_us();
  report(loaded.warnings, "configuration");
  for (const config::Problem& warning : loaded.warnings) {
    view_.warnings.push_back(config::format(warning, source));
  }
  if (!options_.config_file.empty() && is_sub_path_mount(options_.config_file)) {
    const std::string warning =
        "the configuration is mounted by subPath: the kubelet never updates it. Mount the whole "
        "ConfigMap as a directory";
    view_.warnings.push_back(warning);
    log::warn(warning, {{"file", options_.config_file}});
  }
  watch_files(desired_);

  proxy_.emplace(loop_, desired_);
  proxy_->set_console(options_.version, [this] { reload("RELOAD at the console"); });
  if (Status status = proxy_->gatekeeper().load(desired_); !status) {
    log::error(status.error().message);
    return kExitConfig;
  }
  if (Status status = proxy_->listen(); !status) {
    log::error(status.error().message);
    return kExitFailed;
  }
  const config::Admin& admin = desired_.admin;
  Result<std::unique_ptr<admin::AdminServer>> server = admin::AdminServer::start(
      {admin.address, admin.port, admin.control_address, admin.control_port, options_.version},
      make_source());
  if (!server) {
    log::error(server.error().message);
    return kExitFailed;
  }
  start_stats_timer();
  log::info("listening", {{"version", options_.version},
                          {"address", desired_.listen.address},
                          {"port", proxy_->port()},
                          {"admin_port", (*server)->port()},
                          {"control_port", (*server)->control_port()},
                          {"config", source},
                          {"hash", loaded.sha256}});
  loop_.run();
  (*server).reset();  // no question comes any more
  let_others_end();
  log::info("ended", {{"exit_code", exit_code_}});
  // Not even a thread that a silent PostgreSQL holds keeps the process.
  if (proxy_->threads_busy()) std::_Exit(exit_code_);
  proxy_.reset();
  return exit_code_;
}

void App::end(int exit_code) {
  exit_code_ = exit_code;
  drain_timer_.stop();
  stats_timer_.stop();
  proxy_->close();
  loop_.stop();
}

// ---- configuration

void App::watch_files(const config::Config& config) {
  std::vector<std::string> directories;
  const auto add = [&](const std::string& file) {
    if (!file.empty()) directories.push_back(directory_of(file));
  };
  add(options_.config_file);
  add(config.auth.users_file);
  add(config.listen.tls.cert_file);
  add(config.listen.tls.key_file);
  add(config.listen.tls.ca_file);
  for (const config::Database& database : config.databases) {
    add(database.server.password_file);
    add(database.server.ssl_root_cert);
    add(database.server.ssl_cert);
    add(database.server.ssl_key);
  }
  watch_.watch(directories);
}

void App::report(const std::vector<config::Problem>& problems, const char* message) const {
  for (const config::Problem& problem : problems) {
    log::warn(message, {{"key", problem.path},
                        {"line", problem.line},
                        {"column", problem.column},
                        {"error", problem.message}});
  }
}

void App::reload(const char* why) {
  if (!proxy_) return;
  if (proxy_->gatekeeper().loading()) {
    asked_again_ = true;
    return;
  }
  if (!options_.config_file.empty() && reload_config(why)) return;
  reload_credentials();
}

bool App::reload_config(const char* why) {
  using proxy::Gatekeeper;
  const config::LoadResult loaded = load();
  config::Config next;
  if (loaded.config) next = config::apply_live(proxy_->config(), *loaded.config);
  const bool unblocked =
      blocked_by_ && loaded.config && Gatekeeper::fingerprint(next) != *blocked_by_;
  // A file that cannot be read has no hash; it is told of once, until it is back.
  if (loaded.sha256 == seen_hash_ && !unblocked) {
    view_.reloads_unchanged++;
    return false;
  }
  seen_hash_ = loaded.sha256;
  blocked_by_.reset();
  log::info("configuration changed", {{"why", why}, {"hash", loaded.sha256}});
  if (!loaded.config) {
    reject(loaded.problems);
    return false;
  }
  Gatekeeper& gatekeeper = proxy_->gatekeeper();
  if (Gatekeeper::fingerprint(next) == gatekeeper.fingerprint()) {
    apply(loaded, next);
    return false;
  }
  gatekeeper.load_later(next, [this, loaded, next](const Status& status) {
    if (status) {
      credentials_error_.clear();
      apply(loaded, next);
    } else {
      blocked_by_ = proxy_->gatekeeper().fingerprint();
      reject({config::Problem{"", 0, 0, status.error().message}});
    }
    reload_again();
  });
  return true;
}

void App::reload_credentials() {
  proxy::Gatekeeper& gatekeeper = proxy_->gatekeeper();
  if (proxy::Gatekeeper::fingerprint(proxy_->config()) == gatekeeper.fingerprint()) return;
  gatekeeper.load_later(proxy_->config(), [this](const Status& status) {
    if (status) {
      credentials_error_.clear();
      log::info("credentials reloaded");
    } else {
      credentials_error_ = status.error().message;
      log::error("credentials rejected, the old ones stay", {{"error", credentials_error_}});
    }
    reload_again();
  });
}

void App::reload_again() {
  if (!asked_again_) return;
  asked_again_ = false;
  reload("asked for meanwhile");
}

void App::reject(const std::vector<config::Problem>& problems) {
  view_.reloads_rejected++;
  view_.last_result = "rejected";
  view_.last_reload_successful = false;
  view_.errors.clear();
  for (const config::Problem& problem : problems) {
    view_.errors.push_back(config::format(problem, view_.source));
  }
  report(problems, "configuration rejected, the old one stays");
}

void App::apply(const config::LoadResult& loaded, const config::Config& next) {
  const config::Config running = proxy_->config();
  desired_ = *loaded.config;
  view_.applied.clear();
  view_.needs_restart.clear();
  for (const config::KeyChange& change : config::diff(running, desired_)) {
    (change.live ? view_.applied : view_.needs_restart).push_back(change.key);
    log::info(change.live ? "configuration applied" : "configuration waits for a restart",
              {{"key", change.key}, {"before", change.before}, {"after", change.after}});
  }
  log::configure(next.log);
  proxy_->apply(next);
  watch_files(next);
  start_stats_timer();
  view_.reloads_applied++;
  view_.last_result = "applied";
  view_.last_reload_successful = true;
  view_.last_success_unix_seconds = unix_seconds();
  view_.hash = loaded.sha256;
  view_.errors.clear();
  view_.warnings.clear();
  for (const config::Problem& warning : loaded.warnings) {
    view_.warnings.push_back(config::format(warning, view_.source));
  }
  applied_us_ = loop_.now_us();
}

void App::start_stats_timer() {
  const Micros interval_us = proxy_->config().log.stats_interval_us;
  stats_timer_.stop();
  if (interval_us > 0) {
    stats_timer_.start(loop_, interval_us, interval_us, [this] { proxy_->log_stats(); });
  }
}

// ---- the end

void App::on_signal(int signal) {
  if (signal == SIGHUP) return reload("SIGHUP");
  if (signal == SIGINT && drain_us_) return end(proxy_->busy_clients() > 0 ? kExitCut : kExitClean);
  drain(signal == SIGTERM ? "SIGTERM" : "SIGINT", true);
}

void App::drain(const char* why, bool wait_min_delay) {
  if (!proxy_) return;
  const Micros min_us = wait_min_delay ? proxy_->config().drain.min_delay_us : 0;
  if (drain_us_) {
    drain_min_us_ = std::min(drain_min_us_, min_us);
    return;
  }
  drain_us_ = loop_.now_us();
  drain_min_us_ = min_us;
  log::info("draining", {{"why", why}, {"clients", proxy_->client_count()}});
  proxy_->begin_drain();
  drain_timer_.start(loop_, 0, kDrainTick_us, [this] { drain_tick(); });
}

void App::drain_tick() {
  const Micros drained_us = loop_.now_us() - *drain_us_;
  const Micros timeout_us = proxy_->config().drain.timeout_us;
  if (proxy_->client_count() == 0 && drained_us >= drain_min_us_) return end(kExitClean);
  if (drained_us < timeout_us) return;
  if (!proxy_->ending_clients()) {
    log::warn("drain.timeout is over: closing clients at the end of their transactions",
              {{"clients", proxy_->client_count()}, {"busy", proxy_->busy_clients()}});
    proxy_->end_clients();
  }
  if (drained_us < timeout_us + kLastTransactions_us) return;
  log::error("clients cut inside a transaction", {{"clients", proxy_->busy_clients()}});
  end(kExitCut);
}

// ---- what the HTTP threads ask

admin::Source App::make_source() {
  admin::Source source;
  source.loop_answers = [this] { return loop_.call([] { return true; }, kAnswerMax).has_value(); };
  source.readiness = [this] { return loop_.call([this] { return readiness(); }, kAnswerMax); };
  source.snapshot = [this](bool detailed) {
    return loop_.call([this, detailed] { return proxy_->snapshot(detailed); }, kAnswerMax);
  };
  source.config = [this] { return loop_.call([this] { return config_view(); }, kAnswerMax); };
  source.control = [this](admin::Control action, const std::string& database) {
    auto answer =
        loop_.call([this, action, database] { return control(action, database); }, kAnswerMax);
    return answer ? *answer : Result<std::string>(Error{"the loop did not answer in time"});
  };
  return source;
}

admin::Readiness App::readiness() {
  admin::Readiness readiness;
  readiness.started = true;
  readiness.draining = drain_us_.has_value();
  readiness.detail = proxy_->why_no_database();
  readiness.database_ok = readiness.detail.empty();
  readiness.database_required = proxy_->config().admin.ready_when == config::ReadyWhen::Database;
  return readiness;
}

admin::ConfigView App::config_view() {
  admin::ConfigView view = view_;
  view.effective_json = config::masked_json(proxy_->config());
  view.age_us = loop_.now_us() - applied_us_;
  view.watch = watch_.mechanism();
  if (!credentials_error_.empty()) {
    view.warnings.push_back("credentials rejected, the old ones stay: " + credentials_error_);
  }
  return view;
}

Result<std::string> App::control(admin::Control action, const std::string& database) {
  const Error unknown{fmt::format("no pool of database \"{}\"", database)};
  const std::string which = database.empty() ? "every pool" : "database " + database;
  switch (action) {
    case admin::Control::Drain:
      drain("POST /drain", true);
      return std::string("draining");
    case admin::Control::Quit:
      drain("POST /quitquitquit", false);
      return std::string("ending as soon as the last client has gone");
    case admin::Control::Pause:
      if (!proxy_->pause(database)) return unknown;
      return which + " paused: queries wait";
    case admin::Control::Resume:
      if (!proxy_->resume(database)) return unknown;
      return which + " goes on";
    case admin::Control::Reconnect:
      if (!proxy_->reconnect(database)) return unknown;
      return which + " replaces its servers as they come back";
  }
  return Error{"no such action"};
}

}  // namespace

int run_app(const AppOptions& options) {
  std::signal(SIGPIPE, SIG_IGN);
  // The HTTP threads allocate little and seldom: arenas of their own would only cost memory.
  mallopt(M_ARENA_MAX, 1);
  App app(options);
  return app.run();
}

}  // namespace carpool
