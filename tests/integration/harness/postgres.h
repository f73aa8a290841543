// A throwaway PostgreSQL of this test binary: a copy of a template (made once a build folder)
// under /tmp, on a free port and a Unix socket, without fsync. It never touches another cluster.
//
// Who may sign in how: `app` and `other` by trust; `scram_user`, `md5_user` and `plain_user` over
// TCP by the password kPassword; `tls_user` likewise, and only under TLS. Databases `app` and
// `other` belong to `app`. Superuser: `postgres`, by trust.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/process.h"

namespace carpool::integration {

inline constexpr const char* kPassword = "correct horse";

struct PostgresOptions {
  int connections_max = 200;  // 3 of them are kept for the superuser
  bool tls = false;
  bool start = true;
};

class PostgresCluster {
 public:
  explicit PostgresCluster(PostgresOptions options = {});
  // A hot standby: both come from one template, so it follows `primary` by its WAL from there on.
  // What was set by `set()` before stays the primary's own.
  static std::unique_ptr<PostgresCluster> standby_of(const PostgresCluster& primary);
  ~PostgresCluster();
  PostgresCluster(const PostgresCluster&) = delete;
  PostgresCluster& operator=(const PostgresCluster&) = delete;

  void start();             // returns when it accepts connections
  void stop_fast();         // sessions are told and ended
  void stop_immediately();  // as a crash: sessions are cut
  void freeze();            // SIGSTOP to every process: it accepts, and says nothing
  void thaw();

  int port() const { return port_; }
  std::string socket_dir() const { return dir_.path() / "socket"; }
  std::string root_cert() const { return dir_.path() / "tls" / "root.crt"; }
  // Adds lines in front of pg_hba.conf, and waits until they hold.
  void prepend_hba(const std::string& lines);
  // Changes a setting that needs no restart. Files are copied where PostgreSQL can read them.
  void set(const std::string& setting, const std::string& value);
  void set_file(const std::string& setting, const std::string& path);
  void show_certificate(const std::string& certificate, const std::string& key);
  std::string log() const { return read_file(dir_.path() / "postgres.log"); }

  // Past the proxy, over the Unix socket.
  std::string direct(const std::string& user = "app", const std::string& database = "app") const;
  Connection connect(const std::string& user = "app", const std::string& database = "app") const;
  // The observer: as superuser, into the database `postgres`.
  Reply admin(const std::string& sql);
  // Sessions of a user in pg_stat_activity.
  int backends(const std::string& user = "app");
  // Those sessions that match a condition on pg_stat_activity.
  int backends_where(const std::string& condition, const std::string& user = "app");
  // Ends every session of the user, and waits until they are gone.
  void terminate_backends(const std::string& user = "app");

 private:
  std::vector<int> process_ids() const;
  void reload();

  PostgresOptions options_;
  TempDir dir_;
  int port_;
  int copies_ = 0;
  std::unique_ptr<Process> postmaster_;
  std::unique_ptr<Connection> admin_;
};

// The cluster that the tests of one binary share.
PostgresCluster& shared_postgres();

}  // namespace carpool::integration
