// What injection means for the values of a document: where its pods are and how they change. This
// is the truth that the edited text of inject_text.h is held to.
//
// It never looks at text. A node that is handed in is changed in place (YAML::Node is a reference).
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/inject.h"

namespace carpool::cli {

inline constexpr const char* kSidecarName = "carpool";
inline constexpr const char* kInjectLabel = "carpool/inject";
inline constexpr const char* kDefaultContainerAnnotation =
    "kubectl.kubernetes.io/default-container";
// The most nodes that a document may have when its aliases are expanded, and how deep they may lie.
inline constexpr int kNodes_max = 1'000'000;
inline constexpr int kDepth_max = 200;

// One item of a list, as text (block style, first line "- ...", no indent) and as values.
struct ListItem {
  std::string name;
  std::vector<std::string> lines;
  YAML::Node value;
};

// What is put into a pod.
struct Sidecar {
  std::string list;   // initContainers | containers
  std::string other;  // the list of the other form, which it is taken from
  ListItem container;
  std::vector<ListItem> volumes;
  std::string config_map;
  bool classic = false;
};

Sidecar make_sidecar(const InjectOptions& options);

// Whether a document stays within kNodes_max and kDepth_max. The functions below need that: an
// alias may multiply, or lead back to itself.
Status check_size(const YAML::Node& document);

// The nodes of a document that hold a pod's `metadata` and `spec`; empty for what is no workload.
std::vector<YAML::Node> find_pods(const YAML::Node& document);

// "Deployment web", "a document without a kind".
std::string describe(const YAML::Node& document);

// Why the pod cannot take the sidecar: a port that is in use. Success otherwise.
Status check_pod(const YAML::Node& pod);

void add_sidecar(YAML::Node pod, const Sidecar& sidecar);
void remove_sidecar(YAML::Node pod);

// Same values: maps in any order, lists in order, and a quoted scalar is not a plain one.
bool same(const YAML::Node& a, const YAML::Node& b);

// The document as block-style YAML. yaml-cpp's own emitter forgets which scalars were quoted.
std::string emit(const YAML::Node& document);

}  // namespace carpool::cli
