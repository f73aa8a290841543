// The sidecar itself, and how a pod gets and loses it.
//
// Invariant: adding it twice is adding it once, and removing what was added gives back the pod as
// it was. What was put into the pod's metadata is written down in an annotation
// (kInjectedAnnotation), so that only that is taken away again.
#pragma once

#include <string>

#include "cli/inject_value.h"

namespace carpool::cli {

// What is put into a pod.
struct Sidecar {
  bool classic = false;
  Value container;
  List volumes;
};

// `image` is empty for the one of this version.
Sidecar make_sidecar(const std::string& config_map, const std::string& image, bool classic);

// A sidecar of ours that is there is replaced where it stands, but keeps its environment and what
// it mounts beyond the configuration (see inject_point.h).
void add_sidecar(Value& pod, const Sidecar& sidecar, const std::string& config_map);

// Takes away what add_sidecar() has put there; nothing, where that was not asked.
void remove_sidecar(Value& pod);

// Our sidecar in a pod that has it; else null.
Value* find_sidecar(Value& pod);

}  // namespace carpool::cli
