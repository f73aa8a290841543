// `carpool inject --point`: the application's way to PostgreSQL becomes the sidecar's, and the
// application's leads to the sidecar. It takes DATABASE_URL, else PGHOST and its like, from each
// container, as a value, as a reference to a Secret or ConfigMap, or as part of one (envFrom).
//
// It never reads a cluster: what stands in a Secret is known only where the Secret is in the
// stream, and then for the form of the application's URL; a secret stays in the Secret. Invariant:
// every variable that is moved stands in the sidecar exactly as it stood in the application.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/inject_stream.h"
#include "cli/inject_value.h"

namespace carpool::cli {

// The Secrets and ConfigMaps of a stream: "Secret/name" or "ConfigMap/name" to keys and values.
using References = std::map<std::string, std::map<std::string, std::string>>;
void collect_references(const Value& object, References& references);

struct PointOptions {
  // A URL whose scheme and parameters the application's gets where its own cannot be seen.
  std::string url_like;
  bool classic = false;  // init containers run before the sidecar: they are left alone
};

// `pod` has our sidecar. An error says which container cannot be pointed at it, and why; what is
// returned is to be said.
Result<std::vector<std::string>> point_at_sidecar(Value& pod, const References& references,
                                                  const PointOptions& options);

// Gives the variables that the sidecar has back to the containers that lead to it.
void point_back(Value& pod);

}  // namespace carpool::cli
