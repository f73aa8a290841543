#include "harness/postgres.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace carpool::integration {
namespace fs = std::filesystem;

namespace {

// One build is tried against any version: POSTGRES_BIN_DIR is where it is looked for at run time,
// and by default where CMake found one. What stands in the PATH may be a link, without the other
// tools beside it.
fs::path bin_dir() {
  const char* chosen = getenv("POSTGRES_BIN_DIR");
  return fs::canonical(fs::path(chosen != nullptr ? chosen : POSTGRES_BIN_DIR) / "postgres")
      .parent_path();
}

const fs::path kBin = bin_dir();
const fs::path kCache = INTEGRATION_CACHE_DIR;

// PostgreSQL refuses to run as root: then `postgres` or, without that account, `nobody` runs it.
std::string postgres_user() {
  if (geteuid() != 0) return "";
  return getpwnam("postgres") != nullptr ? "postgres" : "nobody";
}

void give_to_postgres(const fs::path& path) {
  if (!postgres_user().empty()) run_command({"chown", "-R", postgres_user(), path});
}

std::unique_ptr<Process> run_postgres(const fs::path& dir, const PostgresOptions& options,
                                      int port) {
  std::vector<std::string> argv = {kBin / "postgres", "-D", dir / "data"};
  const auto set = [&argv](const std::string& setting) {
    argv.emplace_back("-c");
    argv.push_back(setting);
  };
  set("port=" + std::to_string(port));
  set("listen_addresses=127.0.0.1");
  set("unix_socket_directories=" + (dir / "socket").string());
  set("max_connections=" + std::to_string(options.connections_max));
  set("shared_buffers=32MB");
  set("fsync=off");
  set("synchronous_commit=off");
  set("full_page_writes=off");
  set("wal_keep_size=1GB");  // a standby may follow from the template's end on, whenever it comes
  set("log_line_prefix=%m [%p] %u@%d ");
  if (options.tls) {
    set("ssl=on");
    set("ssl_cert_file=" + (dir / "tls" / "server.crt").string());
    set("ssl_key_file=" + (dir / "tls" / "server.key").string());
  }
  // SIGQUIT makes the postmaster take its children along.
  return std::make_unique<Process>(ProcessOptions{.argv = argv,
                                                  .env = {},
                                                  .output_file = dir / "postgres.log",
                                                  .user = postgres_user(),
                                                  .open_files_max = {},
                                                  .death_signal = SIGQUIT});
}

std::string direct_to(const fs::path& dir, int port, const std::string& user,
                      const std::string& database) {
  return "host=" + (dir / "socket").string() + " port=" + std::to_string(port) + " user=" + user +
         " dbname=" + database + " application_name=direct";
}

void wait_until_ready(const fs::path& dir, int port, Process& postmaster) {
  const std::string conninfo = direct_to(dir, port, "postgres", "postgres");
  const bool ready = eventually(
      [&] { return !postmaster.running() || PQping(conninfo.c_str()) == PQPING_OK; }, 60s);
  if (!ready || !postmaster.running())
    throw std::runtime_error("PostgreSQL did not start:\n" + read_file(dir / "postgres.log"));
}

// A certificate authority of our own and a server certificate for localhost.
void make_certificates(const fs::path& dir) {
  fs::create_directories(dir);
  const std::string curve = "ec_paramgen_curve:prime256v1";
  write_file(dir / "san.cnf", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  run_command({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days",
               "3650", "-subj", "/CN=carpool test root", "-keyout", dir / "root.key", "-out",
               dir / "root.crt"});
  run_command({"openssl", "req", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-subj",
               "/CN=localhost", "-keyout", dir / "server.key", "-out", dir / "server.csr"});
  run_command({"openssl", "x509", "-req", "-days", "3650", "-in", dir / "server.csr", "-CA",
               dir / "root.crt", "-CAkey", dir / "root.key", "-CAcreateserial", "-extfile",
               dir / "san.cnf", "-out", dir / "server.crt"});
}

constexpr const char* kHba = R"(
local all all trust
hostssl all tls_user 127.0.0.1/32 scram-sha-256
host all tls_user 127.0.0.1/32 reject
host all scram_user 127.0.0.1/32 scram-sha-256
host all md5_user 127.0.0.1/32 md5
host all plain_user 127.0.0.1/32 password
host replication all 127.0.0.1/32 trust
host all all 127.0.0.1/32 trust
)";

void make_template(const fs::path& target) {
  TempDir dir;
  fs::create_directories(dir.path() / "socket");
  give_to_postgres(dir.path());
  run_command({kBin / "initdb", "-D", dir.path() / "data", "-U", "postgres", "-A", "trust",
               "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"},
              postgres_user());
  write_file(dir.path() / "data" / "pg_hba.conf", kHba);
  const int port = free_port();
  std::unique_ptr<Process> postmaster = run_postgres(dir.path(), {}, port);
  wait_until_ready(dir.path(), port, *postmaster);
  {
    Connection admin(direct_to(dir.path(), port, "postgres", "postgres"));
    const std::string password = std::string(" login password '") + kPassword + "'";
    for (const std::string& sql :
         {std::string("create role app login replication"), std::string("create role other login"),
          "create role scram_user" + password, "create role tls_user" + password,
          "create role plain_user" + password, std::string("set password_encryption to 'md5'"),
          "create role md5_user" + password, std::string("create database app owner app"),
          std::string("create database other owner app")}) {
      const Reply reply = admin.query(sql);
      if (!reply.ok()) throw std::runtime_error(reply.message);
    }
  }
  postmaster->signal(SIGINT);
  if (postmaster->wait() != 0) throw std::runtime_error("the template did not stop");
  make_certificates(dir.path() / "tls");
  fs::create_directories(target);
  run_command({"cp", "-a", dir.path() / "data", dir.path() / "tls", target});
}

// Made by the first binary that needs it; a lock keeps the others waiting meanwhile. A cluster
// serves only programs of its own version and make.
fs::path template_dir() {
  fs::create_directories(kCache);
  std::string name = "postgres-template" + kBin.string();
  std::replace(name.begin(), name.end(), '/', '-');
  const fs::path ready = kCache / name;
  const int lock = open((kCache / (name + ".lock")).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  flock(lock, LOCK_EX);
  if (!fs::exists(ready)) {
    const fs::path partial = kCache / (name + ".partial");
    fs::remove_all(partial);
    make_template(partial);
    fs::rename(partial, ready);
  }
  close(lock);
  return ready;
}

}  // namespace

PostgresCluster::PostgresCluster(PostgresOptions options) : options_(options), port_(free_port()) {
  fs::create_directories(dir_.path() / "socket");
  const fs::path source = template_dir();
  run_command({"cp", "-a", source / "data", source / "tls", dir_.path()});
  give_to_postgres(dir_.path());
  chmod((dir_.path() / "data").c_str(), 0700);
  chmod((dir_.path() / "tls" / "server.key").c_str(), 0600);
  if (options_.start) start();
}

std::unique_ptr<PostgresCluster> PostgresCluster::standby_of(const PostgresCluster& primary) {
  PostgresOptions options = primary.options_;
  options.start = false;
  auto standby = std::make_unique<PostgresCluster>(options);
  const fs::path data = standby->dir_.path() / "data";
  write_file(data / "standby.signal", "");
  give_to_postgres(data / "standby.signal");
  write_file(data / "postgresql.auto.conf", "primary_conninfo = 'host=127.0.0.1 user=app port=" +
                                                std::to_string(primary.port_) + "'\n");
  standby->start();
  return standby;
}

void PostgresCluster::prepend_hba(const std::string& lines) {
  const fs::path file = dir_.path() / "data" / "pg_hba.conf";
  write_file(file, lines + "\n" + read_file(file));
  reload();
}

void PostgresCluster::set(const std::string& setting, const std::string& value) {
  admin("alter system set " + setting + " to '" + value + "'");
  reload();
}

void PostgresCluster::set_file(const std::string& setting, const std::string& path) {
  const fs::path copy = dir_.path() / (setting + "-" + std::to_string(++copies_));
  fs::copy_file(path, copy);
  chmod(copy.c_str(), 0600);
  give_to_postgres(copy);
  set(setting, copy);
}

void PostgresCluster::show_certificate(const std::string& certificate, const std::string& key) {
  write_file(dir_.path() / "tls" / "server.crt", read_file(certificate));
  write_file(dir_.path() / "tls" / "server.key", read_file(key));
  reload();
}

// New sessions are forked from the postmaster: those that come after it has read its files anew
// have what it read. It says so in its log, by a line that only it writes.
void PostgresCluster::reload() {
  const auto reloads = [this] {
    const std::string text = log();
    std::size_t count = 0;
    const std::string line = "received SIGHUP, reloading configuration files";
    for (std::size_t at = text.find(line); at != std::string::npos; at = text.find(line, at + 1)) {
      count++;
    }
    return count;
  };
  const std::size_t before = reloads();
  postmaster_->signal(SIGHUP);
  if (!eventually([&] { return reloads() > before; }))
    throw std::runtime_error("PostgreSQL did not reload:\n" + log());
  // The line is written first. A session that begins now is forked after the reload.
  Connection(direct("postgres", "postgres")).query("select 1");
}

PostgresCluster::~PostgresCluster() {
  if (postmaster_ == nullptr) return;
  thaw();
  stop_immediately();
}

void PostgresCluster::start() {
  postmaster_ = run_postgres(dir_.path(), options_, port_);
  wait_until_ready(dir_.path(), port_, *postmaster_);
}

void PostgresCluster::stop_fast() {
  admin_.reset();
  postmaster_->signal(SIGINT);
  postmaster_->wait();
  postmaster_.reset();
}

void PostgresCluster::stop_immediately() {
  admin_.reset();
  postmaster_->signal(SIGQUIT);
  postmaster_->wait();
  postmaster_.reset();
}

std::vector<int> PostgresCluster::process_ids() const {
  const std::string pid = std::to_string(postmaster_->pid());
  std::vector<int> pids = {postmaster_->pid()};
  std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
  for (int child = 0; children >> child;) pids.push_back(child);
  return pids;
}

void PostgresCluster::freeze() {
  for (const int pid : process_ids()) kill(pid, SIGSTOP);
}

void PostgresCluster::thaw() {
  for (const int pid : process_ids()) kill(pid, SIGCONT);
}

std::string PostgresCluster::direct(const std::string& user, const std::string& database) const {
  return direct_to(dir_.path(), port_, user, database);
}

Connection PostgresCluster::connect(const std::string& user, const std::string& database) const {
  return Connection(direct(user, database));
}

Reply PostgresCluster::admin(const std::string& sql) {
  if (admin_ == nullptr || !admin_->connected())
    admin_ = std::make_unique<Connection>(direct("postgres", "postgres"));
  return admin_->query(sql);
}

int PostgresCluster::backends(const std::string& user) {
  return backends_where("true", user);
}

int PostgresCluster::backends_where(const std::string& condition, const std::string& user) {
  const Reply reply = admin(
      "select count(*) from pg_stat_activity where backend_type = 'client backend'"
      " and application_name <> 'direct' and usename = '" +
      user + "' and (" + condition + ")");
  return reply.ok() ? std::stoi(reply.value()) : -1;
}

void PostgresCluster::terminate_backends(const std::string& user) {
  admin(
      "select pg_terminate_backend(pid, 20000) from pg_stat_activity where backend_type ="
      " 'client backend' and application_name <> 'direct' and usename = '" +
      user + "'");
}

PostgresCluster& shared_postgres() {
  static PostgresCluster cluster;
  return cluster;
}

}  // namespace carpool::integration
