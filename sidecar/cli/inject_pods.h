// Where the pods of an object are, and what stands against a sidecar in one: pure questions about
// values, which change nothing.
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/inject_value.h"

namespace carpool::cli {

inline constexpr const char* kSidecarName = "carpool";
// On a pod: the ConfigMap that configures its sidecar.
inline constexpr const char* kInjectLabel = "carpool/inject";
// On a pod: that `carpool inject` has put the sidecar there, and what of the metadata with it.
inline constexpr const char* kInjectedAnnotation = "carpool/injected";
// On a pod, a workload or a namespace, as a label or an annotation: "disabled" keeps the sidecar
// out. The injector's chart asks the namespace for the same label.
inline constexpr const char* kInjectionLabel = "carpool/injection";

// One workload of an object, which may be a List of them. The pointers live as long as the object
// stays as it is; `pod` holds the pod's metadata and spec, and may be `object` itself.
struct Workload {
  Value* object;
  Value* pod;
  std::string kind;
};

std::vector<Workload> find_workloads(Value& object);

// "Deployment web", "a document without a kind".
std::string describe(const Value& object);

// Adds the names of the namespaces that an object, or List, declares to be without injection.
void collect_opted_out(const Value& object, std::set<std::string>& namespaces);

// Whether `carpool inject` has put the pod's sidecar there.
bool is_injected(const Value& pod);

// Why the workload is to stay as it is, though it has pods; empty where it may have a sidecar.
std::optional<std::string> left_alone(const Workload& workload,
                                      const std::set<std::string>& opted_out);

// Why the pod cannot take the sidecar: something of its own has the sidecar's name, port or volume,
// of which `volumes` are those that the sidecar brings.
Status check_pod(const Value& pod, const List& volumes);

// What changes for the pod that its owner ought to know.
std::vector<std::string> warnings(const Workload& workload, bool classic);

}  // namespace carpool::cli
