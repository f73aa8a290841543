#include "admin/process_stats.h"

#include <dirent.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace carpool::admin {
namespace {

double count_open_fds() {
  DIR* dir = opendir("/proc/self/fd");
  if (dir == nullptr) return 0;
  int entries = 0;
  while (readdir(dir) != nullptr) entries++;
  closedir(dir);
  return entries - 3;  // ".", ".." and the directory itself
}

double clock_seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

ProcessStats read_process_stats() {
  ProcessStats out;
  // proc(5): the second field is the name in brackets and may hold anything, so count from the
  // last bracket: the next is field 3, the state.
  std::ifstream file("/proc/self/stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = stat.rfind(')');
  if (name_end != std::string::npos) {
    std::istringstream rest(stat.substr(name_end + 1));
    const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    std::string field;
    for (int number = 3; number <= 24 && (rest >> field); number++) {
      if (number == 14 || number == 15) out.cpu_seconds += std::stod(field) / ticks;
      if (number == 22) {
        const double boot = clock_seconds(CLOCK_REALTIME) - clock_seconds(CLOCK_BOOTTIME);
        out.start_unix_seconds = boot + std::stod(field) / ticks;
      }
      if (number == 23) out.virtual_bytes = std::stod(field);
      if (number == 24) {
        out.resident_bytes = std::stod(field) * static_cast<double>(sysconf(_SC_PAGESIZE));
      }
    }
  }
  out.open_fds = count_open_fds();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) out.max_fds = static_cast<double>(limit.rlim_cur);
  return out;
}

}  // namespace carpool::admin
