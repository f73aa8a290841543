// The real binary, with its configuration laid out and changed as the kubelet does it.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/connection.h"
#include "harness/postgres.h"
#include "harness/process.h"
#include "harness/wire.h"

namespace carpool::integration {

// A mounted ConfigMap: `..<stamp>/carpool.yaml`, `..data` -> that folder, `carpool.yaml` ->
// `..data/carpool.yaml`. swap() replays the kubelet's AtomicWriter step by step.
class ConfigMount {
 public:
  using Files = std::map<std::string, std::string>;  // key -> content

  ConfigMount(std::filesystem::path dir, const Files& files);
  void swap(const Files& files);
  const std::filesystem::path& dir() const { return dir_; }
  std::filesystem::path file(const std::string& key) const { return dir_ / key; }

 private:
  std::filesystem::path write_generation(const Files& files);

  std::filesystem::path dir_;
  int generation_ = 0;
  Files files_;
};

// The keys of each section of the configuration, as the inside of a YAML flow mapping: where
// there are none, the section holds what the harness needs and the defaults.
struct Settings {
  std::string listen = {};
  std::string admin = {};
  std::string auth = {};
  std::string server = {};  // empty: the cluster's host and port
  std::string pool = {};
  std::string databases = {};  // the inside of a flow sequence
  std::string log = {};
  std::string drain = "timeout: 2s";
};

struct Launch {
  std::map<std::string, std::string> env = {};
  std::optional<unsigned> open_files_max = {};
  bool wait_until_started = true;
  // Further keys of the mount, such as a password file. `{mount}` in the settings and in
  // Launch::yaml stands for the mount's folder.
  ConfigMount::Files files = {};
  std::optional<std::string> yaml = {};             // instead of the rendered settings
  std::optional<std::string> config_path = {};      // instead of the mount's carpool.yaml
  std::optional<std::string> write_config_to = {};  // a file that gets the same text first
};

struct HttpReply {
  int status = 0;  // 0: no answer
  std::string body;
};

using Labels = std::map<std::string, std::string>;

class Carpool {
 public:
  Carpool(const PostgresCluster& postgres, const Settings& settings, const Launch& launch = {});
  // Towards a fake server, or whatever `settings.server` says.
  explicit Carpool(const Settings& settings, const Launch& launch = {});
  // Expects that it has not died by itself; asks it to end, and shows the log of a failed test.
  ~Carpool();
  Carpool(const Carpool&) = delete;
  Carpool& operator=(const Carpool&) = delete;

  int port() const { return port_; }
  int admin_port() const { return admin_port_; }
  int control_port() const { return control_port_; }
  pid_t pid() const { return process_->pid(); }
  // The time from exec until a connection was accepted.
  Millis time_to_listen() const { return time_to_listen_; }

  std::string conninfo(const std::string& user = "app", const std::string& database = "app") const;
  Connection connect(const std::string& user = "app", const std::string& database = "app") const;
  Wire raw() const { return Wire::tcp(port_); }

  // The text of a configuration with these settings, for the ports of this instance.
  std::string render(const Settings& settings) const;
  ConfigMount& mount() { return *mount_; }
  void swap_text(const std::string& yaml);
  void swap(const Settings& settings) { swap_text(render(settings)); }
  // Swaps, and waits until the change is in force.
  void reload(const Settings& settings);

  HttpReply get(const std::string& path) const;
  HttpReply post(const std::string& path) const;  // to the read-only port
  HttpReply post_control(const std::string& path) const;
  nlohmann::json status() const;
  nlohmann::json config() const;
  // The sum of all series of that name with those labels; nullopt where there is none.
  std::optional<double> metric(const std::string& name, const Labels& labels = {}) const;
  int servers(const std::string& state = "") const;  // of all pools; empty: in any state
  int clients(const std::string& state = "") const;

  void signal(int number) const { process_->signal(number); }
  bool running() { return process_->running(); }
  // The exit code; nullopt when it still runs at the deadline. After this its end is expected.
  std::optional<int> wait_exit(Millis deadline = kDeadline);

  std::string log() const { return read_file(dir_.path() / "carpool.log"); }
  std::vector<nlohmann::json> log_lines() const;
  bool logged(const std::string& text) const { return log().find(text) != std::string::npos; }

 private:
  Carpool(const std::string& server, const Settings& settings, const Launch& launch);

  TempDir dir_;
  int port_;
  int admin_port_;
  int control_port_;
  std::string server_;  // the cluster's section
  ConfigMount::Files files_;
  std::unique_ptr<ConfigMount> mount_;
  std::unique_ptr<Process> process_;
  Millis time_to_listen_{};
  bool end_expected_ = false;
};

// The path of the binary under test.
std::string carpool_binary();

// Runs the binary to its end, as for `check` or a start that must fail.
struct RunResult {
  int exit_code = -1;
  std::string output;
};
RunResult run_carpool(const std::vector<std::string>& arguments,
                      const std::map<std::string, std::string>& env = {});

}  // namespace carpool::integration
