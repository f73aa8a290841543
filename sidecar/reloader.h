// Reloader: brings the configuration file, and the files that it names, into force while clients
// are served: it watches them, reads what has changed, has it judged, and applies it or says why
// not. It never decides what a configuration means; config/ and the proxy do.
//
//   a change is seen -> load -> credentials, if others are meant -> proxy.apply()
//                         \__________________\__ rejected: the old one stays, /config says why
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "admin/admin_server.h"
#include "config/config.h"
#include "config/load.h"
#include "net/file_watch.h"
#include "net/loop.h"
#include "proxy/proxy.h"

namespace carpool {

class Reloader {
 public:
  // `config_file` empty: the environment is the configuration. `loop` must outlive it. From here on
  // the file's directory is watched, so that no change falls between that and the first load().
  Reloader(net::Loop& loop, std::string config_file, config::Environment environment);

  config::LoadResult load() const;
  // For messages: the file, or "environment".
  const std::string& source() const { return view_.source; }

  // Goes on from `loaded`, which is valid and in force. `proxy` must outlive it; `applied` is
  // called after each change.
  void begin(proxy::Proxy& proxy, const config::LoadResult& loaded, std::function<void()> applied);
  void reload(const char* why);
  admin::ConfigView view() const;

 private:
  void watch_files(const config::Config& config);
  void report(const std::vector<config::Problem>& problems, const char* message) const;
  // True where the rest comes when the credentials have been read.
  bool reload_config(const char* why);
  void reload_credentials();
  void reload_again();
  void reject(const std::vector<config::Problem>& problems);
  void apply(const config::LoadResult& loaded, const config::Config& next);
  void applied(const config::LoadResult& loaded);

  net::Loop& loop_;
  const std::string config_file_;
  const config::Environment environment_;
  net::FileWatch watch_;
  proxy::Proxy* proxy_ = nullptr;  // null until begin()
  std::function<void()> on_applied_;

  std::string seen_hash_;  // of the last file that was looked at
  // Of the credentials for want of which that file was turned down: others may let it in.
  std::optional<std::string> blocked_by_;
  std::string credentials_error_;  // of the running configuration's; empty: they are good
  bool asked_again_ = false;       // a reload was asked for while credentials were being read
  admin::ConfigView view_;         // what does not change by itself
  std::vector<std::string> standing_warnings_;  // those of no file's content
  Micros applied_us_ = 0;
};

}  // namespace carpool
