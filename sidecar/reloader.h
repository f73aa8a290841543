// Reloader: brings the configuration, and the files that it names, into force, at the start and
// while clients are served: it watches them, has what changed read and judged, and applies it or
// says why not. What a configuration means is decided by config/ and the proxy.
//
//   the file changes -> load -> what would be in force? -> other credentials? -> proxy.apply()
//                         \__________\____________________\____________\__ rejected: all stays
//
// Credentials are read aside, since their files may take long or hang. A change waits for those
// that it needs, so that it comes whole, or is rejected whole; but not longer than kPatience_us:
// then the rest of it comes first, where that is a configuration in its own right, and the
// credentials come late and alone. A later change is not held up by an older one that waits. Where
// no change is meant but files have other contents, each part of them (CredentialsPart) comes, or
// is rejected, by itself.
//
// Invariant: what is in force would have been accepted at a start.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/admin_server.h"
#include "config/config.h"
#include "config/load.h"
#include "net/aside.h"
#include "net/file_watch.h"
#include "net/loop.h"
#include "net/timer.h"
#include "proxy/credentials_readers.h"
#include "proxy/proxy.h"

namespace carpool {

class Reloader {
 public:
  static constexpr Micros kPatience_us = 2 * kMicrosPerSecond;

  struct Events {
    std::function<void()> applied;              // after each change
    std::function<void()> started;              // once: clients can connect
    std::function<void(int exit_code)> failed;  // instead of it, logged
  };

  // `config_file` empty: the environment is the configuration. `loop` must outlive it. From here on
  // the file's directory is watched, so that no change falls between that and the first load().
  Reloader(net::Loop& loop, std::string config_file, config::Environment environment);

  config::LoadResult load() const;
  // For messages: the file, or "environment".
  const std::string& source() const { return view_.source; }

  // Begins with `loaded`, which is valid, and with which `proxy` was made: it listens as soon as
  // the credentials have been read. `proxy` must outlive it.
  void begin(proxy::Proxy& proxy, const config::LoadResult& loaded, Events events);
  // Something may have changed. `why` is for the log.
  void reload(const char* why);

  bool started() const { return started_; }
  // Until then: for what, in words.
  std::string waits_for() const;
  admin::ConfigView view() const;
  // Whether what the files say is not known yet: else all that can be in force is.
  bool reads() const;
  // Whether a thread still reads, which may be for ever.
  bool threads_busy() const { return aside_.running() > 0; }

 private:
  // A valid file that is not, or not wholly, in force.
  struct Pending {
    config::LoadResult loaded;
    // Of other credentials than those in force. Null: none are meant.
    std::unique_ptr<proxy::CredentialsReaders> reader;
    bool rest_in_force = false;  // all but the credentials
    std::string said;            // why it is not in force, as it was told last
  };

  void look_at_file(const char* why);
  void look_at_credentials();
  // Brings what is pending into force, as far as it can be now.
  void settle();
  void settle_before_start(const config::Config& next);
  void settle_late();
  // Of the parts that are meant to be others than those in force: whether one is still to be read,
  // and what is wrong with one; null: nothing.
  bool awaits_credentials() const;
  const Error* bad_credentials() const;
  bool is_meant_anew(proxy::CredentialsPart part) const;
  void told(proxy::CredentialsReaders& readers, proxy::CredentialsPart part);
  void start(Result<proxy::Credentials> credentials);
  bool apply(const config::Config& next);
  void take(const proxy::Credentials& credentials);
  void take(proxy::CredentialsPart part, proxy::Credentials credentials);
  void take_pending();
  void reject(const std::vector<config::Problem>& problems);
  std::unique_ptr<proxy::CredentialsReaders> make_reader(const proxy::CredentialsPlan& plan);
  void be_patient();
  void watch_files();
  void look_for_open_secrets();
  void note(const config::LoadResult& loaded);
  std::vector<std::string> late() const;

  net::Loop& loop_;
  const std::string config_file_;
  const config::Environment environment_;
  net::FileWatch watch_;
  net::Aside aside_;
  net::Timer patience_;
  proxy::Proxy* proxy_ = nullptr;  // null until begin()
  Events events_;
  bool started_ = false;

  std::string seen_hash_;  // of the last file that was looked at
  std::optional<Pending> pending_;
  std::unique_ptr<proxy::CredentialsReaders> current_;  // of the credentials in force
  // Of their last reading, by part; empty: they are as the files say.
  std::array<std::string, proxy::kCredentialsParts.size()> credentials_errors_;
  bool said_late_ = false;    // that this reading is late
  bool looks_ = false;        // for open secrets, on a thread
  bool looks_again_ = false;  // there may be others since

  admin::ConfigView view_;                         // what does not change by itself
  std::vector<std::string> mount_warnings_;        // about how the file is mounted
  std::vector<std::string> open_secrets_;          // as warn_of_open_secrets() says
  std::vector<std::string> credentials_warnings_;  // of those in force
  Micros applied_us_ = 0;
};

}  // namespace carpool
