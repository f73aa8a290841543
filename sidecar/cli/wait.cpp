#include "cli/wait.h"

#include <algorithm>
#include <chrono>
#include <ostream>
#include <thread>

namespace carpool::cli {

int run_wait(const WaitOptions& options, std::ostream& err) {
  using Clock = std::chrono::steady_clock;
  Result<Endpoint> endpoint = parse_endpoint(options.admin);
  if (!endpoint) {
    err << "carpool wait: " << endpoint.error().message << "\n";
    return kExitFailed;
  }
  const Clock::time_point deadline = Clock::now() + std::chrono::microseconds(options.timeout_us);
  const char* path = options.ready ? "/readyz" : "/startupz";
  while (true) {
    Result<Reply> reply = get(*endpoint, path);
    if (reply && reply->status == 200) return kExitOk;
    const Clock::duration left = deadline - Clock::now();
    if (left <= Clock::duration::zero()) {
      err << "carpool wait: gave up: " << (reply ? error_of(*reply) : reply.error().message)
          << "\n";
      return kExitFailed;
    }
    std::this_thread::sleep_for(
        std::min<Clock::duration>(left, std::chrono::microseconds(options.pause_us)));
  }
}

}  // namespace carpool::cli
