// This process's own figures, from /proc/self (proc(5)). A figure that cannot be read is 0.
#pragma once

namespace carpool::admin {

struct ProcessStats {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double virtual_bytes = 0;
  double open_fds = 0;
  double max_fds = 0;
  double start_unix_seconds = 0;
};

ProcessStats read_process_stats();

}  // namespace carpool::admin
