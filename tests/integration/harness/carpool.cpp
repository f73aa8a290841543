#include "harness/carpool.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace carpool::integration {
namespace fs = std::filesystem;

namespace {

// Another one than that of this build folder where CARPOOL names it.
const char* const kBinary = std::getenv("CARPOOL") ? std::getenv("CARPOOL") : CARPOOL_BINARY;
constexpr std::size_t kLogLinesShown_max = 60;

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at))
    text.replace(at, from.size(), to), at += to.size();
  return text;
}

std::string cluster_section(const PostgresCluster& postgres) {
  return "host: 127.0.0.1, port: " + std::to_string(postgres.port());
}

HttpReply reply_of(const httplib::Result& result) {
  if (!result) return {};
  return {result->status, result->body};
}

httplib::Client http_client(int port) {
  httplib::Client client("127.0.0.1", port);
  client.set_connection_timeout(5s);
  client.set_read_timeout(10s);
  return client;
}

// The value of a sample line when it is of that metric and has those labels.
std::optional<double> sample_value(const std::string& line, const std::string& name,
                                   const Labels& labels) {
  if (line.rfind(name, 0) != 0) return std::nullopt;
  const char after = line.size() > name.size() ? line[name.size()] : '\0';
  if (after != '{' && after != ' ') return std::nullopt;
  for (const auto& [label, value] : labels) {
    const std::string pair = label + "=\"" + value + "\"";
    const std::size_t at = line.find(pair);
    if (at == std::string::npos || (line[at - 1] != '{' && line[at - 1] != ','))
      return std::nullopt;
  }
  return std::stod(line.substr(line.rfind(' ') + 1));
}

// PG* and DATABASE_URL of the caller must not decide where a test connects.
void forget_libpq_variables() {
  for (const char* name : {"DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE",
                           "PGPASSWORD", "PGSSLMODE"}) {
    unsetenv(name);
  }
}

}  // namespace

ConfigMount::ConfigMount(fs::path dir, const Files& files) : dir_(std::move(dir)), files_(files) {
  fs::create_directories(dir_);
  fs::create_symlink(write_generation(files).filename(), dir_ / "..data");
  for (const auto& [key, content] : files) fs::create_symlink("..data/" + key, dir_ / key);
}

fs::path ConfigMount::write_generation(const Files& files) {
  const fs::path dir = dir_ / ("..2026_11_21_10_00_00." + std::to_string(++generation_));
  fs::create_directory(dir);
  fs::permissions(dir, fs::perms(0755));
  for (const auto& [key, content] : files) {
    write_file(dir / key, content);
    fs::permissions(dir / key, fs::perms(0644));
  }
  return dir;
}

void ConfigMount::swap(const Files& files) {
  const fs::path old = dir_ / fs::read_symlink(dir_ / "..data");
  if (files == files_) return;  // the kubelet compares, and does nothing
  const fs::path fresh = write_generation(files);
  fs::create_symlink(fresh.filename(), dir_ / "..data_tmp");
  fs::rename(dir_ / "..data_tmp", dir_ / "..data");
  for (const auto& [key, content] : files) {
    if (files_.count(key) == 0) fs::create_symlink("..data/" + key, dir_ / key);
  }
  for (const auto& [key, content] : files_) {
    if (files.count(key) == 0) fs::remove(dir_ / key);
  }
  fs::remove_all(old);
  files_ = files;
}

Carpool::Carpool(const PostgresCluster& postgres, const Settings& settings, const Launch& launch)
    : Carpool(cluster_section(postgres), settings, launch) {}

Carpool::Carpool(const Settings& settings, const Launch& launch)
    : Carpool(std::string(), settings, launch) {}

Carpool::Carpool(const std::string& server, const Settings& settings, const Launch& launch)
    : port_(free_port()),
      admin_port_(free_port()),
      control_port_(free_port()),
      server_(server),
      files_(launch.files) {
  const std::string mount = dir_.path() / "config";
  const std::string yaml = launch.yaml.value_or(render(settings));
  files_["carpool.yaml"] = replace_all(yaml, "{mount}", mount);
  mount_ = std::make_unique<ConfigMount>(mount, files_);
  const std::string config = launch.config_path.value_or((mount_->dir() / "carpool.yaml").string());

  if (launch.write_config_to) write_file(*launch.write_config_to, files_["carpool.yaml"]);

  forget_libpq_variables();
  const Clock::time_point start = Clock::now();
  process_ = std::make_unique<Process>(ProcessOptions{.argv = {kBinary, "run", "--config", config},
                                                      .env = launch.env,
                                                      .output_file = dir_.path() / "carpool.log",
                                                      .user = "",
                                                      .open_files_max = launch.open_files_max});
  if (!launch.wait_until_started) return;
  const auto accepting = [&] {
    if (!process_->running() || Wire::tcp(port_).connected()) return true;
    return false;
  };
  // A finer grain than eventually() has, since the time is a figure of its own.
  while (!accepting() && since(start) < kDeadline) std::this_thread::sleep_for(200us);
  time_to_listen_ = since(start);
  const bool started =
      eventually([&] { return !process_->running() || get("/startupz").status == 200; });
  if (!started || !process_->running()) {
    end_expected_ = true;
    throw std::runtime_error("carpool did not start:\n" + log());
  }
}

Carpool::~Carpool() {
  if (!end_expected_) {
    if (!process_->running()) {
      ADD_FAILURE() << "carpool died by itself with exit code " << *process_->wait(0ms);
    } else {
      process_->signal(SIGTERM);
      const std::optional<int> code = process_->wait(10s);
      EXPECT_TRUE(code == 0 || code == 3) << "exit code " << code.value_or(-1);
    }
  }
  if (!::testing::Test::HasFailure()) return;
  std::istringstream text(log());
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  const std::size_t from =
      lines.size() > kLogLinesShown_max ? lines.size() - kLogLinesShown_max : 0;
  for (std::size_t i = from; i < lines.size(); i++) std::cerr << "carpool: " << lines[i] << "\n";
}

std::string Carpool::conninfo(const std::string& user, const std::string& database) const {
  return "host=127.0.0.1 port=" + std::to_string(port_) + " user=" + user + " dbname=" + database;
}

Connection Carpool::connect(const std::string& user, const std::string& database) const {
  return Connection(conninfo(user, database));
}

std::string Carpool::render(const Settings& settings) const {
  std::string yaml;
  const auto section = [&yaml](const std::string& name, std::string own, const std::string& more) {
    if (!own.empty() && !more.empty()) own += ", ";
    if (!own.empty() || !more.empty()) yaml += name + ": {" + own + more + "}\n";
  };
  section("listen", "address: 127.0.0.1, port: " + std::to_string(port_), settings.listen);
  section("admin",
          "address: 127.0.0.1, port: " + std::to_string(admin_port_) +
              ", controlPort: " + std::to_string(control_port_),
          settings.admin);
  section("auth", "", settings.auth);
  section("server", "", settings.server.empty() ? server_ : settings.server);
  section("pool", "", settings.pool);
  if (!settings.databases.empty()) yaml += "databases: [" + settings.databases + "]\n";
  section("log", "", settings.log);
  section("drain", "", settings.drain);
  return replace_all(yaml, "{mount}", dir_.path() / "config");
}

void Carpool::swap_text(const std::string& yaml) {
  files_["carpool.yaml"] = yaml;
  mount_->swap(files_);
}

void Carpool::reload(const Settings& settings) {
  const double before = metric("carpool_config_reloads_total", {{"result", "applied"}}).value_or(0);
  swap(settings);
  EVENTUALLY(metric("carpool_config_reloads_total", {{"result", "applied"}}).value_or(0) > before);
}

HttpReply Carpool::get(const std::string& path) const {
  return reply_of(http_client(admin_port_).Get(path));
}

HttpReply Carpool::post(const std::string& path) const {
  return reply_of(http_client(admin_port_).Post(path));
}

HttpReply Carpool::post_control(const std::string& path) const {
  return reply_of(http_client(control_port_).Post(path));
}

nlohmann::json Carpool::status() const {
  return nlohmann::json::parse(get("/status").body, nullptr, false);
}

nlohmann::json Carpool::config() const {
  return nlohmann::json::parse(get("/config").body, nullptr, false);
}

std::optional<double> Carpool::metric(const std::string& name, const Labels& labels) const {
  std::istringstream text(get("/metrics").body);
  std::optional<double> sum;
  for (std::string line; std::getline(text, line);) {
    const std::optional<double> value = sample_value(line, name, labels);
    if (value) sum = sum.value_or(0) + *value;
  }
  return sum;
}

int Carpool::servers(const std::string& state) const {
  Labels labels;
  if (!state.empty()) labels["state"] = state;
  return static_cast<int>(metric("carpool_pool_servers", labels).value_or(0));
}

int Carpool::clients(const std::string& state) const {
  Labels labels;
  if (!state.empty()) labels["state"] = state;
  return static_cast<int>(metric("carpool_pool_clients", labels).value_or(0));
}

std::optional<int> Carpool::wait_exit(Millis deadline) {
  end_expected_ = true;
  return process_->wait(deadline);
}

std::vector<nlohmann::json> Carpool::log_lines() const {
  std::istringstream text(log());
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(text, line);) {
    nlohmann::json parsed = nlohmann::json::parse(line, nullptr, false);
    if (parsed.is_object()) lines.push_back(std::move(parsed));
  }
  return lines;
}

std::string carpool_binary() {
  return kBinary;
}

RunResult run_carpool(const std::vector<std::string>& arguments,
                      const std::map<std::string, std::string>& env) {
  TempDir dir;
  std::vector<std::string> argv = {kBinary};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  const std::string output = dir.path() / "output";
  forget_libpq_variables();
  Process process({.argv = argv, .env = env, .output_file = output, .user = ""});
  const std::optional<int> code = process.wait();
  return {code.value_or(-1), read_file(output)};
}

}  // namespace carpool::integration
