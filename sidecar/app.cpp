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
#include <memory>
#include <optional>
#include <thread>

#include "admin/admin_server.h"
#include "config/load.h"
#include "drainer.h"
#include "exit_codes.h"
#include "net/loop.h"
#include "net/signals.h"
#include "net/timer.h"
#include "proxy/log.h"
#include "proxy/proxy.h"
#include "reloader.h"

namespace carpool {
namespace {

namespace log = proxy::log;

// How long the loop may take to answer a question of the HTTP threads.
constexpr std::chrono::milliseconds kAnswerMax{1000};
// After everything, how long others in the container may take to end.
constexpr Micros kOthers_us_max = 2 * kMicrosPerSecond;
constexpr std::chrono::milliseconds kOthersPause{5};

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
        reloader_(loop_, options.config_file, options.environment),
        signals_(loop_, [this](int signal) { on_signal(signal); }) {}

  int run();

 private:
  void start_stats_timer();
  void on_signal(int signal);
  void end(int exit_code);
  admin::Source make_source();
  admin::Readiness readiness();
  Result<std::string> control(admin::Control action, const std::string& database);

  const AppOptions& options_;
  net::Loop loop_;
  Reloader reloader_;  // before the file is read for the first time
  net::Signals signals_;
  net::Timer stats_timer_;
  std::optional<proxy::Proxy> proxy_;
  std::optional<Drainer> drainer_;
  int exit_code_ = kExitClean;
};

int App::run() {
  const config::LoadResult loaded = reloader_.load();
  if (!loaded.config) {
    for (const config::Problem& problem : loaded.problems) {
      fmt::print(stderr, "{}\n", config::format(problem, reloader_.source()));
    }
    return kExitConfig;
  }
  const config::Config& config = *loaded.config;
  log::configure(config.log);
  raise_descriptor_limit();
  proxy_.emplace(loop_, config);
  drainer_.emplace(loop_, *proxy_, [this](int exit_code) { end(exit_code); });
  proxy_->set_console(options_.version, [this] { reloader_.reload("RELOAD at the console"); });
  // The probes come first: what clients wait for may take long, and is told there.
  const config::Admin& admin = config.admin;
  Result<std::unique_ptr<admin::AdminServer>> server = admin::AdminServer::start(
      {admin.address, admin.port, admin.control_address, admin.control_port, options_.version},
      make_source());
  if (!server) {
    log::error(server.error().message);
    return kExitFailed;
  }
  const auto started = [this, &admin_server = **server] {
    log::info("listening", {{"version", options_.version},
                            {"address", proxy_->config().listen.address},
                            {"port", proxy_->port()},
                            {"admin_port", admin_server.port()},
                            {"control_port", admin_server.control_port()},
                            {"config", reloader_.source()},
                            {"hash", reloader_.view().hash}});
  };
  start_stats_timer();
  reloader_.begin(*proxy_, loaded,
                  {[this] { start_stats_timer(); }, started, [this](int code) { end(code); }});
  loop_.run();
  (*server).reset();  // no question comes any more
  let_others_end();
  log::info("ended", {{"exit_code", exit_code_}});
  // Not even a thread that a silent PostgreSQL, or a mount that hangs, holds keeps the process.
  if (proxy_->threads_busy() || reloader_.threads_busy()) std::_Exit(exit_code_);
  proxy_.reset();
  return exit_code_;
}

void App::end(int exit_code) {
  exit_code_ = exit_code;
  drainer_->stop();
  stats_timer_.stop();
  proxy_->close();
  loop_.stop();
}

void App::start_stats_timer() {
  const Micros interval_us = proxy_->config().log.stats_interval_us;
  stats_timer_.stop();
  if (interval_us > 0) {
    stats_timer_.start(loop_, interval_us, interval_us, [this] { proxy_->log_stats(); });
  }
}

void App::on_signal(int signal) {
  if (signal == SIGHUP) return reloader_.reload("SIGHUP");
  if (!drainer_) return;
  if (signal == SIGINT && drainer_->draining()) return drainer_->end_now();
  drainer_->drain(signal == SIGTERM ? "SIGTERM" : "SIGINT", true);
}

// ---- what the HTTP threads ask

admin::Source App::make_source() {
  admin::Source source;
  source.loop_answers = [this] { return loop_.call([] { return true; }, kAnswerMax).has_value(); };
  source.readiness = [this] { return loop_.call([this] { return readiness(); }, kAnswerMax); };
  source.snapshot = [this](bool detailed) {
    return loop_.call([this, detailed] { return proxy_->snapshot(detailed); }, kAnswerMax);
  };
  source.config = [this] { return loop_.call([this] { return reloader_.view(); }, kAnswerMax); };
  source.control = [this](admin::Control action, const std::string& database) {
    auto answer =
        loop_.call([this, action, database] { return control(action, database); }, kAnswerMax);
    return answer ? *answer : Result<std::string>(Error{"the loop did not answer in time"});
  };
  return source;
}

admin::Readiness App::readiness() {
  admin::Readiness readiness;
  readiness.started = reloader_.started();
  readiness.waits_for = reloader_.waits_for();
  readiness.draining = drainer_->draining();
  readiness.detail = proxy_->why_no_database();
  readiness.database_ok = readiness.detail.empty();
  readiness.database_required = proxy_->config().admin.ready_when == config::ReadyWhen::Database;
  return readiness;
}

Result<std::string> App::control(admin::Control action, const std::string& database) {
  const std::string which = database.empty() ? "every database" : "database " + database;
  switch (action) {
    case admin::Control::Drain:
      drainer_->drain("POST /drain", true);
      return std::string("draining");
    case admin::Control::Quit:
      drainer_->drain("POST /quitquitquit", false);
      return std::string("ending as soon as the last client has gone");
    case admin::Control::Pause:
      if (Status status = proxy_->pause(database); !status) return status.error();
      return which + " paused: queries wait";
    case admin::Control::Resume:
      if (Status status = proxy_->resume(database); !status) return status.error();
      return which + " goes on";
    case admin::Control::Reconnect:
      if (Status status = proxy_->reconnect(database); !status) return status.error();
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
