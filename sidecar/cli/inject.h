// `carpool inject` and `carpool uninject`: YAML on standard input, any number of documents, and the
// same with the sidecar added to (or taken from) every workload on standard output. Serves as a
// filter before `kubectl apply` and as a Helm post-renderer.
//
// It never talks to a cluster and never changes what is not the sidecar's: a document is edited as
// text, so that comments and order stay; one that cannot be (JSON, flow style, aliases) is written
// anew from its values. Invariant: inject(inject(x)) == inject(x), and what is written parses to
// exactly the values that were meant, or the process says so and writes nothing.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>

namespace carpool::cli {

// The longest input that is read.
inline constexpr std::size_t kInjectBytes_max = 64 * 1024 * 1024;

inline constexpr int kExitInjectUsage = 2;  // a name that Kubernetes would not take
inline constexpr int kExitDataError = 65;   // sysexits: the input is wrong; nothing was written

struct InjectOptions {
  std::string config_map = "carpool";  // where the sidecar's carpool.yaml is
  std::string image;                   // empty: the one of this version
  bool classic = false;                // an ordinary container, for Kubernetes before 1.29
  bool remove = false;                 // uninject
};

// Results go to `out`, and what was done to each document to `err`. Returns the exit code; where
// it is not 0, nothing was written to `out`.
int run_inject(const InjectOptions& options, std::istream& in, std::ostream& out,
               std::ostream& err);

}  // namespace carpool::cli
