// `carpool inject` and `carpool uninject`: manifests on standard input, and the same with the
// sidecar added to (or taken from) every workload on standard output. Serves as a filter before
// `kubectl apply` and as a Helm post-renderer.
//
// It never talks to a cluster, and never changes what is not the sidecar's: an object without a
// workload comes out byte for byte, one with a workload is read into values, changed there and
// written anew (inject_stream.h). What it leaves alone though it has pods, it says. Invariant:
// inject(inject(x)) == inject(x), and what is written was read again and is exactly what was meant,
// as many objects as came in, or the process says so and writes nothing.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>

namespace carpool::cli {

// The longest input that is read.
inline constexpr std::size_t kInjectBytes_max = 64 * 1024 * 1024;

inline constexpr int kExitInjectUsage = 2;  // a name that Kubernetes would not take
inline constexpr int kExitDataError = 65;   // sysexits: the input is wrong; nothing was written
inline constexpr int kExitInputUnreadable = 66;  // sysexits: there is no input

struct InjectOptions {
  // Where the sidecar's carpool.yaml is. Empty: what the pod's label names, else "carpool".
  std::string config_map;
  std::string image;     // empty: the one of this version
  bool classic = false;  // an ordinary container, for Kubernetes before 1.29
  bool point = false;    // the application's DATABASE_URL or PGHOST leads to the sidecar
  std::string url_like;  // with `point`: the form of a URL that cannot be seen
  bool remove = false;   // uninject
};

// Results go to `out`, and what was done to each document to `err`. Returns the exit code; where
// it is not 0, nothing was written to `out`.
int run_inject(const InjectOptions& options, std::istream& in, std::ostream& out,
               std::ostream& err);

}  // namespace carpool::cli
