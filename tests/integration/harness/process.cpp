#include "harness/process.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace carpool::integration {
namespace fs = std::filesystem;

namespace {

constexpr const char* kPrefix = "carpool-it-";

// What a test writes is gone with it, so it is kept in memory where there is plenty: a disk that
// others use as well took twenty seconds for a copy of a cluster.
const fs::path& scratch() {
  static const fs::path folder = [] {
    constexpr std::uintmax_t kPlenty_bytes = std::uintmax_t{4} << 30;
    const fs::path memory = "/dev/shm";
    std::error_code error;
    const fs::space_info space = fs::space(memory, error);
    const bool is_plenty = !error && space.available >= kPlenty_bytes;
    return is_plenty && access(memory.c_str(), W_OK) == 0 ? memory : fs::path("/tmp");
  }();
  return folder;
}

// Folders of tests that died before they could tidy up: the name holds the owner's pid.
void sweep_leftovers() {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(scratch(), ignored)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) != 0) continue;
    const int owner = std::atoi(name.c_str() + std::strlen(kPrefix));
    if (owner > 0 && kill(owner, 0) < 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace

Process::Process(const ProcessOptions& options) {
  // Everything that allocates is done before fork(): other threads may hold the heap's lock.
  std::vector<char*> argv;
  for (const std::string& argument : options.argv)
    argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  std::vector<std::string> env_texts;
  for (char** entry = environ; *entry != nullptr; entry++) {
    const std::string text = *entry;
    if (options.env.count(text.substr(0, text.find('='))) == 0) env_texts.push_back(text);
  }
  for (const auto& [name, value] : options.env) env_texts.push_back(name + "=" + value);
  std::vector<char*> env;
  for (std::string& text : env_texts) env.push_back(text.data());
  env.push_back(nullptr);

  const passwd* account = nullptr;
  if (!options.user.empty()) {
    account = getpwnam(options.user.c_str());
    if (account == nullptr) throw std::runtime_error("no such user: " + options.user);
  }
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (pid_ > 0) return;

  // The child. A change of user clears the death signal, so the user comes first.
  if (account != nullptr && geteuid() == 0) {
    if (setgroups(0, nullptr) != 0 || setgid(account->pw_gid) != 0 || setuid(account->pw_uid) != 0)
      _exit(126);
  }
  prctl(PR_SET_PDEATHSIG, options.death_signal);
  if (getppid() != parent) _exit(126);
  if (options.open_files_max) {
    const rlimit limit{*options.open_files_max, *options.open_files_max};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (!options.output_file.empty()) {
    const int out = open(options.output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (out < 0) _exit(126);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
  }
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  close_range(3, ~0U, 0);
  execvpe(argv[0], argv.data(), env.data());
  _exit(127);
}

Process::~Process() {
  if (!running()) return;
  kill(pid_, SIGCONT);
  kill(pid_, SIGKILL);
  wait();
}

void Process::signal(int number) const {
  if (!exit_code_) kill(pid_, number);
}

bool Process::running() {
  return !wait(0ms).has_value();
}

std::optional<int> Process::wait(Millis deadline) {
  eventually(
      [&] {
        if (exit_code_) return true;
        int status = 0;
        if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
        exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        return true;
      },
      deadline);
  return exit_code_;
}

std::string run_command(std::vector<std::string> argv, const std::string& user) {
  TempDir scratch;
  // Made here, since the command's user may not write into our folder.
  const std::string output = scratch.path() / "output";
  write_file(output, "");
  chmod(output.c_str(), 0666);
  Process process({.argv = argv, .env = {}, .output_file = output, .user = user});
  const std::optional<int> code = process.wait(60s);
  std::string text = read_file(output);
  if (code != 0) {
    std::string line;
    for (const std::string& argument : argv) line += argument + " ";
    throw std::runtime_error(line + "failed:\n" + text);
  }
  return text;
}

TempDir::TempDir() {
  static const bool swept = (sweep_leftovers(), true);
  (void)swept;
  std::string name = (scratch() / (kPrefix + std::to_string(getpid()) + "-XXXXXX")).string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp: " + name);
  chmod(name.c_str(), 0755);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

namespace {

// Whether `port` is free and no other process of ours has it from free_port() (here or in
// tools/throwaway.py): they tell each other by an abstract Unix socket, which lasts as long as its
// process does.
bool reserve(int port) {
  const int mark = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const std::string name = "carpool-test-port-" + std::to_string(port);
  sockaddr_un abstract{};
  abstract.sun_family = AF_UNIX;
  name.copy(abstract.sun_path + 1, sizeof abstract.sun_path - 1);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  const bool ours = bind(mark, reinterpret_cast<sockaddr*>(&abstract), length) == 0 &&
                    bind(probe, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(probe);
  if (!ours) close(mark);  // else kept, on purpose, to our end
  return ours;
}

}  // namespace

int free_port() {
  constexpr int kFirst = 20000;
  constexpr int kCount = 12000;  // up to 31999; Linux hands out 32768 and above by itself
  static int next = (getpid() * 37) % kCount;
  for (int tries = 0; tries < kCount; tries++) {
    const int port = kFirst + next;
    next = (next + 1) % kCount;
    if (reserve(port)) return port;
  }
  throw std::runtime_error("no free port");
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

std::size_t resident_bytes(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  in >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::size_t open_files(pid_t pid) {
  std::error_code ignored;
  std::size_t count = 0;
  for (const fs::directory_entry& entry :
       fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", ignored)) {
    (void)entry;
    count++;
  }
  return count;
}

}  // namespace carpool::integration
