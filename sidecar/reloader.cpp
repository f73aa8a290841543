#include "reloader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "config/diff.h"
#include "exit_codes.h"
#include "mounts.h"
#include "proxy/log.h"
#include "proxy/secret_watch.h"

namespace carpool {
namespace {

namespace log = proxy::log;
using proxy::Credentials;
using proxy::CredentialsPart;
using proxy::CredentialsPlan;
using proxy::CredentialsReaders;

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void report(const std::vector<config::Problem>& problems, const char* message) {
  for (const config::Problem& problem : problems) {
    log::warn(message, {{"key", problem.path},
                        {"line", problem.line},
                        {"column", problem.column},
                        {"error", problem.message}});
  }
}

config::Problem problem_of(const Error& error) {
  return {"", 0, 0, error.message};
}

}  // namespace

Reloader::Reloader(net::Loop& loop, std::string config_file, config::Environment environment)
    : loop_(loop),
      config_file_(std::move(config_file)),
      environment_(std::move(environment)),
      watch_(loop, [this] { reload("watch"); }),
      aside_(loop) {
  view_.source = config_file_.empty() ? "environment" : config_file_;
  if (!config_file_.empty()) watch_.watch_now(directory_of(config_file_));
}

config::LoadResult Reloader::load() const {
  return config_file_.empty() ? config::load_environment(environment_)
                              : config::load_file(config_file_, environment_);
}

// ---- the start

void Reloader::begin(proxy::Proxy& proxy, const config::LoadResult& loaded, Events events) {
  proxy_ = &proxy;
  events_ = std::move(events);
  seen_hash_ = loaded.sha256;
  report(loaded.warnings, "configuration");
  if (!config_file_.empty() && is_sub_path_mount(config_file_)) {
    mount_warnings_.push_back(
        "the configuration is mounted by subPath: the kubelet never updates it. Mount the whole "
        "ConfigMap as a directory");
    log::warn(mount_warnings_.back(), {{"file", config_file_}});
  }
  note(loaded);
  watch_files();
  look_for_open_secrets();
  const CredentialsPlan plan(*loaded.config);
  current_ = make_reader(plan);
  if (!plan.needs_files()) return start(Credentials::without_files(plan));
  current_->read();
  be_patient();
}

void Reloader::start(Result<Credentials> credentials) {
  if (!credentials) {
    log::error(credentials.error().message);
    return events_.failed(kExitConfig);
  }
  take(*credentials);
  current_->forget();
  if (Status status = proxy_->listen(); !status) {
    log::error(status.error().message);
    return events_.failed(kExitFailed);
  }
  started_ = true;
  events_.started();
}

std::string Reloader::waits_for() const {
  return started_ || current_ == nullptr ? "" : current_->describe();
}

// ---- what changes

void Reloader::reload(const char* why) {
  if (proxy_ == nullptr) return;
  proxy_->look_at_server_files();
  proxy_->look_at_listeners();
  if (!config_file_.empty()) look_at_file(why);
  look_at_credentials();
}

void Reloader::look_at_file(const char* why) {
  config::LoadResult loaded = load();
  // A file that cannot be read has no hash; it is told of once, until it is back.
  if (loaded.sha256 == seen_hash_) {
    view_.reloads_unchanged++;
    if (pending_) settle();  // what stood in its way may be gone
    return;
  }
  seen_hash_ = loaded.sha256;
  log::info("configuration changed", {{"why", why}, {"hash", loaded.sha256}});
  // What has been read for the one before may be what this one needs.
  Pending next;
  if (pending_) next = std::move(*pending_);
  pending_.reset();
  if (!loaded.config) return reject(loaded.problems);
  next.loaded = std::move(loaded);
  next.rest_in_force = false;
  next.said.clear();
  pending_ = std::move(next);
  settle();
}

void Reloader::look_at_credentials() {
  if (current_->plan().needs_files()) current_->read();
  if (pending_ && pending_->reader != nullptr && pending_->reader->plan().needs_files()) {
    pending_->reader->read();
  }
  be_patient();
}

void Reloader::settle() {
  const config::InForce next =
      config::in_force(proxy_->config(), *pending_->loaded.config, environment_.libpq());
  if (!next.config) {
    reject(next.problems);
    return pending_.reset();  // nothing but another file, or a restart, can change that
  }
  const CredentialsPlan plan(*next.config);
  if (!started_) return settle_before_start(*next.config);
  if (plan == current_->plan()) {
    pending_->reader.reset();
    if (apply(*next.config)) pending_.reset();
    return;
  }
  if (pending_->reader == nullptr || pending_->reader->plan() != plan) {
    pending_->reader = make_reader(plan);
    pending_->reader->read();
    watch_files();
  }
  if (const Error* bad = bad_credentials()) return reject({problem_of(*bad)});
  if (awaits_credentials()) return settle_late();
  if (!apply(*next.config)) return;
  // The same turn: nobody has seen the one without the other.
  take_pending();
  pending_.reset();
  watch_files();
}

bool Reloader::is_meant_anew(CredentialsPart part) const {
  const CredentialsPlan meant = pending_->reader->plan().part(part);
  return meant.needs_files() && meant != current_->plan().part(part);
}

bool Reloader::awaits_credentials() const {
  if (!pending_ || pending_->reader == nullptr) return false;
  return std::any_of(proxy::kCredentialsParts.begin(), proxy::kCredentialsParts.end(),
                     [this](CredentialsPart part) {
                       return is_meant_anew(part) && !pending_->reader->last(part);
                     });
}

const Error* Reloader::bad_credentials() const {
  if (!pending_ || pending_->reader == nullptr) return nullptr;
  for (const CredentialsPart part : proxy::kCredentialsParts) {
    const std::optional<Result<Credentials>>& last = pending_->reader->last(part);
    if (!is_meant_anew(part) || !last || *last) continue;
    // That salts are made of something else, since a server's password or place has changed, asks
    // for no better file than the one that was named before.
    const CredentialsPlan meant = pending_->reader->plan().part(part);
    if (meant.but_for_servers() == current_->plan().part(part).but_for_servers()) continue;
    return &last->error();
  }
  return nullptr;
}

// What is meant as before stays where it is bad, or late.
void Reloader::take_pending() {
  current_ = std::move(pending_->reader);
  for (const CredentialsPart part : proxy::kCredentialsParts) {
    const std::optional<Result<Credentials>>& last = current_->last(part);
    if (!current_->plan().part(part).needs_files()) {
      take(part, Credentials::without_files(current_->plan()));
    } else if (last && *last) {
      take(part, **last);
    } else if (last) {
      credentials_errors_[static_cast<std::size_t>(part)] = last->error().message;
    }
  }
  current_->forget();
}

// Nobody is served yet, by whichever credentials: those of the newest file are waited for.
void Reloader::settle_before_start(const config::Config& next) {
  if (!apply(next)) return;
  pending_.reset();
  const CredentialsPlan plan(next);
  if (plan == current_->plan()) return;
  current_ = make_reader(plan);
  if (!plan.needs_files()) return start(Credentials::without_files(plan));
  current_->read();
}

// The credentials are still being read. Where that takes long, all the rest comes before them.
void Reloader::settle_late() {
  if (pending_->reader->reading_us() < kPatience_us) return be_patient();
  if (pending_->rest_in_force) return;
  const config::InForce rest = config::in_force(proxy_->config(), *pending_->loaded.config,
                                                environment_.libpq(), config::Late::Credentials);
  const std::string what = pending_->reader->describe();
  if (rest.config && apply(*rest.config)) {
    pending_->rest_in_force = true;
    view_.last_result = "waiting";
    view_.last_reload_successful = false;  // what the file says is not in force
    log::warn("configuration in force but for its credentials, which are late", {{"late", what}});
  } else if (pending_->said.empty()) {
    pending_->said = rest.config ? "" : config::format(rest.problems.front(), view_.source);
    view_.last_result = "waiting";
    log::warn("configuration waits for its credentials, which are late",
              {{"late", what}, {"why", pending_->said}});
  }
}

void Reloader::told(CredentialsReaders& readers, CredentialsPart part) {
  if (&readers != current_.get()) return settle();
  if (!started_) {
    std::optional<Result<Credentials>> all = readers.all();
    if (all) start(std::move(*all));
    return;
  }
  said_late_ = false;
  const Result<Credentials>& credentials = *readers.last(part);
  if (credentials) {
    take(part, *credentials);
    current_->forget();
    log::info("credentials reloaded");
  } else {
    std::string& error = credentials_errors_[static_cast<std::size_t>(part)];
    error = credentials.error().message;
    log::error("credentials rejected, the old ones stay", {{"error", error}});
  }
}

bool Reloader::reads() const {
  return current_->reading_us() > 0 ||
         (pending_ && pending_->reader != nullptr && pending_->reader->reading_us() > 0);
}

void Reloader::be_patient() {
  Micros left_us = kPatience_us + kMicrosPerMilli;
  bool waits = false;
  const auto add = [&](const CredentialsReaders& reader) {
    const Micros reading_us = reader.reading_us();
    if (reading_us == 0 || reading_us >= kPatience_us) return;
    waits = true;
    left_us = std::min(left_us, kPatience_us + kMicrosPerMilli - reading_us);
  };
  add(*current_);
  if (pending_ && pending_->reader != nullptr) add(*pending_->reader);
  if (!waits) return;
  patience_.start(loop_, left_us, 0, [this] {
    patience_.stop();
    if (pending_ && started_) settle();
    if (current_->reading_us() >= kPatience_us && !std::exchange(said_late_, true)) {
      log::warn(started_ ? "credentials are late, the old ones stay meanwhile"
                         : "not started: credentials are late",
                {{"late", current_->describe()}});
    }
    be_patient();
  });
}

std::unique_ptr<CredentialsReaders> Reloader::make_reader(const CredentialsPlan& plan) {
  return std::make_unique<CredentialsReaders>(
      loop_, aside_, plan, proxy_->gatekeeper().salt_secret(),
      [this](CredentialsReaders& readers, CredentialsPart part) { told(readers, part); });
}

// ---- in force or not

bool Reloader::apply(const config::Config& next) {
  const std::vector<config::KeyChange> changes =
      config::diff(proxy_->config(), *pending_->loaded.config);
  const config::Config before = proxy_->config();
  if (Status status = proxy_->apply(next); !status) {
    reject({problem_of(status.error())});
    return false;
  }
  const std::vector<config::KeyChange> came = config::diff(before, next);
  view_.applied.clear();
  view_.needs_restart.clear();
  for (const config::KeyChange& change : came) {
    view_.applied.push_back(change.key);
    log::info("configuration applied",
              {{"key", change.key}, {"before", change.before}, {"after", change.after}});
  }
  for (const config::KeyChange& change : changes) {
    if (change.live) continue;
    view_.needs_restart.push_back(change.key);
    log::info("configuration waits for a restart",
              {{"key", change.key}, {"before", change.before}, {"after", change.after}});
  }
  log::configure(next.log);
  view_.reloads_applied++;
  note(pending_->loaded);
  watch_files();
  look_for_open_secrets();
  events_.applied();
  return true;
}

void Reloader::note(const config::LoadResult& loaded) {
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

void Reloader::reject(const std::vector<config::Problem>& problems) {
  if (pending_) {
    // It is tried again and again: one that fails as before is nothing new.
    std::string why = config::format(problems.front(), view_.source);
    if (pending_->said == why) return;
    pending_->said = std::move(why);
  }
  view_.reloads_rejected++;
  view_.last_result = "rejected";
  view_.last_reload_successful = false;
  view_.errors.clear();
  for (const config::Problem& problem : problems) {
    view_.errors.push_back(config::format(problem, view_.source));
  }
  report(problems, pending_ && pending_->rest_in_force
                       ? "credentials rejected, the old ones stay; the rest is in force"
                       : "configuration rejected, the old one stays");
}

void Reloader::take(const Credentials& credentials) {
  for (const CredentialsPart part : proxy::kCredentialsParts) take(part, credentials);
}

void Reloader::take(CredentialsPart part, Credentials credentials) {
  credentials_errors_[static_cast<std::size_t>(part)].clear();
  if (part == CredentialsPart::Users) {
    credentials_warnings_ = credentials.warnings;
    for (const std::string& warning : credentials_warnings_) log::warn(warning);
  }
  proxy_->gatekeeper().take(part, std::move(credentials));
}

// ---- files

void Reloader::watch_files() {
  std::vector<std::string> directories;
  if (!config_file_.empty()) directories.push_back(directory_of(config_file_));
  const auto add = [&directories](const config::Config& config) {
    for (const NamedFile& file : files_of(config)) directories.push_back(directory_of(file.path));
    // Also those that only a url names.
    for (const config::Database& database : config.databases) {
      for (const std::string& path : proxy::files_of(database.server)) {
        directories.push_back(directory_of(path));
      }
    }
  };
  add(proxy_->config());
  if (pending_) add(*pending_->loaded.config);
  watch_.watch(directories);
}

// One look at a time: on a mount that hangs it would else take a thread for each change, and leave
// none to read what a mended configuration names.
void Reloader::look_for_open_secrets() {
  looks_again_ = looks_;
  if (looks_) return;
  auto found = std::make_shared<std::vector<std::string>>();
  looks_ = aside_.run(
      [found, files = files_of(proxy_->config())] { *found = warn_of_open_secrets(files); },
      [this, found] {
        for (const std::string& warning : *found) {
          const auto& known = open_secrets_;
          if (std::find(known.begin(), known.end(), warning) != known.end()) continue;
          log::warn(warning);
        }
        open_secrets_ = std::move(*found);
        looks_ = false;
        if (looks_again_) look_for_open_secrets();
      });
}

// ---- what is seen of it

std::vector<std::string> Reloader::late() const {
  std::vector<std::string> late;
  if (started_ && current_->reading_us() >= kPatience_us) {
    late.push_back(current_->describe() + ": the old credentials stay meanwhile");
  }
  if (awaits_credentials() && pending_->reader->reading_us() >= kPatience_us) {
    late.push_back(pending_->reader->describe() +
                   (pending_->rest_in_force ? ": the rest of the change is in force"
                                            : ": the whole change waits, " + pending_->said));
  }
  return late;
}

admin::ConfigView Reloader::view() const {
  admin::ConfigView view = view_;
  view.effective_json = config::masked_json(proxy_->config());
  view.age_us = loop_.now_us() - applied_us_;
  view.watch = watch_.mechanism();
  view.late = late();
  for (const auto* more : {&mount_warnings_, &open_secrets_, &credentials_warnings_}) {
    view.warnings.insert(view.warnings.end(), more->begin(), more->end());
  }
  view.credentials_last_reload_successful = bad_credentials() == nullptr;
  for (const std::string& error : credentials_errors_) {
    if (error.empty()) continue;
    view.warnings.push_back("credentials rejected, the old ones stay: " + error);
    view.credentials_last_reload_successful = false;
  }
  return view;
}

}  // namespace carpool
