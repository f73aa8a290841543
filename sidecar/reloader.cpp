#include "reloader.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "config/diff.h"
#include "proxy/log.h"

namespace carpool {
namespace {

namespace log = proxy::log;

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

}  // namespace

Reloader::Reloader(net::Loop& loop, std::string config_file, config::Environment environment)
    : loop_(loop),
      config_file_(std::move(config_file)),
      environment_(std::move(environment)),
      watch_(loop, [this] { reload("watch"); }) {
  view_.source = config_file_.empty() ? "environment" : config_file_;
  if (!config_file_.empty()) watch_.watch({directory_of(config_file_)});
}

config::LoadResult Reloader::load() const {
  return config_file_.empty() ? config::load_environment(environment_)
                              : config::load_file(config_file_, environment_);
}

void Reloader::begin(proxy::Proxy& proxy, const config::LoadResult& loaded,
                     std::function<void()> applied) {
  proxy_ = &proxy;
  on_applied_ = std::move(applied);
  seen_hash_ = loaded.sha256;
  report(loaded.warnings, "configuration");
  if (!config_file_.empty() && is_sub_path_mount(config_file_)) {
    standing_warnings_.push_back(
        "the configuration is mounted by subPath: the kubelet never updates it. Mount the whole "
        "ConfigMap as a directory");
    log::warn(standing_warnings_.back(), {{"file", config_file_}});
  }
  watch_files(*loaded.config);
  this->applied(loaded);
}

admin::ConfigView Reloader::view() const {
  admin::ConfigView view = view_;
  view.effective_json = config::masked_json(proxy_->config());
  view.age_us = loop_.now_us() - applied_us_;
  view.watch = watch_.mechanism();
  if (!credentials_error_.empty()) {
    view.warnings.push_back("credentials rejected, the old ones stay: " + credentials_error_);
  }
  return view;
}

void Reloader::watch_files(const config::Config& config) {
  std::vector<std::string> directories;
  const auto add = [&](const std::string& file) {
    if (!file.empty()) directories.push_back(directory_of(file));
  };
  add(config_file_);
  add(config.auth.users_file);
  add(config.auth.salt_file);
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

void Reloader::report(const std::vector<config::Problem>& problems, const char* message) const {
  for (const config::Problem& problem : problems) {
    log::warn(message, {{"key", problem.path},
                        {"line", problem.line},
                        {"column", problem.column},
                        {"error", problem.message}});
  }
}

void Reloader::reload(const char* why) {
  if (!proxy_) return;
  if (proxy_->gatekeeper().loading()) {
    asked_again_ = true;
    return;
  }
  if (!config_file_.empty() && reload_config(why)) return;
  reload_credentials();
}

bool Reloader::reload_config(const char* why) {
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

void Reloader::reload_credentials() {
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

void Reloader::reload_again() {
  if (!asked_again_) return;
  asked_again_ = false;
  reload("asked for meanwhile");
}

void Reloader::reject(const std::vector<config::Problem>& problems) {
  view_.reloads_rejected++;
  view_.last_result = "rejected";
  view_.last_reload_successful = false;
  view_.errors.clear();
  for (const config::Problem& problem : problems) {
    view_.errors.push_back(config::format(problem, view_.source));
  }
  report(problems, "configuration rejected, the old one stays");
}

void Reloader::apply(const config::LoadResult& loaded, const config::Config& next) {
  view_.applied.clear();
  view_.needs_restart.clear();
  for (const config::KeyChange& change : config::diff(proxy_->config(), *loaded.config)) {
    (change.live ? view_.applied : view_.needs_restart).push_back(change.key);
    log::info(change.live ? "configuration applied" : "configuration waits for a restart",
              {{"key", change.key}, {"before", change.before}, {"after", change.after}});
  }
  log::configure(next.log);
  proxy_->apply(next);
  watch_files(next);
  view_.reloads_applied++;
  applied(loaded);
  on_applied_();
}

void Reloader::applied(const config::LoadResult& loaded) {
  view_.last_result = "applied";
  view_.last_reload_successful = true;
  view_.last_success_unix_seconds = unix_seconds();
  view_.hash = loaded.sha256;
  view_.errors.clear();
  view_.warnings = standing_warnings_;
  for (const config::Problem& warning : loaded.warnings) {
    view_.warnings.push_back(config::format(warning, view_.source));
  }
  applied_us_ = loop_.now_us();
}

}  // namespace carpool
