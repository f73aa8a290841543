#include "proxy/database_check.h"

#include "proxy/secret_watch.h"

namespace carpool::proxy {

void DatabaseCheck::start(const config::Database& settings, const std::string& database,
                          const std::string& user) {
  const bool same = settings_.server == settings.server && database_ == database && user_ == user;
  settings_ = settings;
  database_ = database;
  user_ = user;
  if (!running() || !same) begin();
}

void DatabaseCheck::file_changed(const std::string& path) {
  if (running() && files_of(settings_.server).contains(path)) begin();
}

void DatabaseCheck::begin() {
  stop();
  timer_.start(loop_, 0, kInterval_us, [this] { check(); });
}

void DatabaseCheck::stop() {
  timer_.stop();
  connector_.reset();
  busy_ = false;
}

void DatabaseCheck::check() {
  if (busy_) return;
  // The one before is gone by now: its callback may not destroy it, the next check does.
  busy_ = true;
  connector_.emplace(loop_, files_, [this](const ConnectFailure* failure) { done(failure); });
  connector_->start(settings_.server, database_, user_, "", 0);
}

void DatabaseCheck::done(const ConnectFailure* failure) {
  busy_ = false;
  // 28xxx, 3D000: PostgreSQL is there, and says what it thinks of this user or database.
  ok_ = failure == nullptr || failure->permanent();
  why_ = ok_ ? "" : failure->message;
  connector_->finish();
}

}  // namespace carpool::proxy
