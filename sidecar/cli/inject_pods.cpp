#include "cli/inject_pods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace carpool::cli {
namespace {

constexpr int kLists_max = 8;  // List inside List inside List
constexpr std::array<std::string_view, 3> kSidecarPorts = {"6432", "9930", "9931"};
constexpr std::array<std::string_view, 2> kContainerLists = {"initContainers", "containers"};
constexpr int kGraceDefault_s = 30;
// drain.timeout's default, and what the sidecar takes to close after it.
constexpr int kDrainDefault_s = 25;
constexpr int kClose_s = 2;

struct Kind {
  std::string_view kind;
  std::array<std::string_view, 2> groups;
  bool of_jobs = false;  // the pod lies below spec.jobTemplate
  bool is_pod = false;
};
constexpr std::array<Kind, 8> kKinds = {{
    {"Pod", {"", ""}, false, true},
    {"ReplicationController", {"", ""}},
    {"Deployment", {"apps", "extensions"}},
    {"ReplicaSet", {"apps", "extensions"}},
    {"DaemonSet", {"apps", "extensions"}},
    {"StatefulSet", {"apps", "apps"}},
    {"Job", {"batch", "batch"}},
    {"CronJob", {"batch", "batch"}, true},
}};

// The kind, where it is Kubernetes' own: others call theirs Job or Deployment too.
const Kind* find_kind(const std::string& kind, const std::string& api_version) {
  const std::size_t slash = api_version.find('/');
  const std::string group = slash == std::string::npos ? "" : api_version.substr(0, slash);
  for (const Kind& known : kKinds) {
    const bool same_group =
        api_version.empty() ||
        std::find(known.groups.begin(), known.groups.end(), group) != known.groups.end();
    if (known.kind == kind && same_group) return &known;
  }
  return nullptr;
}

// Calls fn(object, kind, apiVersion) for an object, or for each of a List. The items of a
// DeploymentList may leave out what its name says.
template <typename Any, typename Fn>
void for_each_object(Any& object, std::string kind, std::string version, int depth, Fn fn) {
  if (object.map() == nullptr) return;
  if (const std::string own = object.text_at({"kind"}); !own.empty()) kind = own;
  if (const std::string own = object.text_at({"apiVersion"}); !own.empty()) version = own;
  auto* items = object.at({"items"});
  if (!kind.ends_with("List") || items == nullptr || items->list() == nullptr) {
    return fn(object, kind, version);
  }
  if (depth == kLists_max) return;
  kind.resize(kind.size() - std::string_view("List").size());
  for (auto& item : *items->list()) for_each_object(item, kind, version, depth + 1, fn);
}

bool says(const Value& object, std::string_view map, std::string_view key, std::string_view what) {
  return object.text_at({"metadata", map, key}) == what;
}

bool opts_out(const Value& object) {
  return says(object, "labels", kInjectionLabel, "disabled") ||
         says(object, "annotations", kInjectionLabel, "disabled");
}

template <typename Fn>
void for_each_container(const Value& pod, Fn fn) {
  for (const std::string_view list : kContainerLists) {
    for (const Value& container : pod.list_at({"spec", list})) fn(container);
  }
}

// registry:5000/team/carpool:1@sha256:... is "carpool".
std::string image_name(const Value& container) {
  std::string image = container.text_at({"image"});
  image = image.substr(0, image.find('@'));
  image.erase(0, image.rfind('/') + 1);
  return image.substr(0, image.find(':'));
}

// A Carpool that runs as a sidecar, whoever has put it there and whatever it is called.
bool runs_carpool(const Value& container) {
  bool run = false;
  bool mounted = false;
  for (const std::string_view list : {"command", "args"}) {
    for (const Value& word : container.list_at({list})) {
      run = run || (word.scalar() != nullptr && word.scalar()->text == "run");
    }
  }
  for (const Value& mount : container.list_at({"volumeMounts"})) {
    mounted = mounted || mount.text_at({"mountPath"}) == "/etc/carpool";
  }
  const bool named = container.text_at({"name"}) == kSidecarName;
  const bool image = image_name(container) == "carpool";
  return (image && (run || mounted)) || (named && (image || mounted));
}

bool has_sidecar(const Value& pod) {
  bool found = false;
  for_each_container(pod, [&found](const Value& each) { found = found || runs_carpool(each); });
  return found;
}

bool is_windows(const Value& pod) {
  return pod.text_at({"spec", "os", "name"}) == "windows" ||
         pod.text_at({"spec", "nodeSelector", "kubernetes.io/os"}) == "windows";
}

// Each container has limits for CPU and memory, and asks for as much.
bool is_guaranteed(const Value& pod) {
  bool all = true;
  for_each_container(pod, [&all](const Value& container) {
    for (const std::string_view resource : {"cpu", "memory"}) {
      const std::string limit = container.text_at({"resources", "limits", resource});
      const std::string request = container.text_at({"resources", "requests", resource});
      all = all && !limit.empty() && (request.empty() || request == limit);
    }
  });
  return all;
}

}  // namespace

std::vector<Workload> find_workloads(Value& object) {
  std::vector<Workload> found;
  for_each_object(object, "", "", 0,
                  [&found](Value& each, const std::string& kind, const std::string& version) {
                    const Kind* known = find_kind(kind, version);
                    if (known == nullptr) return;
                    Value* pod = known->is_pod ? &each
                                 : known->of_jobs
                                     ? each.at({"spec", "jobTemplate", "spec", "template"})
                                     : each.at({"spec", "template"});
                    if (pod == nullptr || pod->list_at({"spec", "containers"}).empty()) return;
                    found.push_back({&each, pod, kind});
                  });
  return found;
}

std::string describe(const Value& object) {
  const std::string kind = object.text_at({"kind"});
  if (kind.empty()) return "a document without a kind";
  const std::string name = object.text_at({"metadata", "name"});
  return name.empty() ? kind : kind + " " + name;
}

void collect_opted_out(const Value& object, std::set<std::string>& namespaces) {
  for_each_object(object, "", "", 0,
                  [&namespaces](const Value& each, const std::string& kind, const std::string&) {
                    if (kind == "Namespace" && opts_out(each)) {
                      namespaces.insert(each.text_at({"metadata", "name"}));
                    }
                  });
}

bool is_injected(const Value& pod) {
  return pod.at({"metadata", "annotations", kInjectedAnnotation}) != nullptr;
}

std::optional<std::string> left_alone(const Workload& workload,
                                      const std::set<std::string>& opted_out) {
  const Value& object = *workload.object;
  const Value& pod = *workload.pod;
  if (opts_out(object) || opts_out(pod)) return fmt::format("{} is disabled", kInjectionLabel);
  if (opted_out.contains(object.text_at({"metadata", "namespace"}))) {
    return fmt::format("{} is disabled in its namespace", kInjectionLabel);
  }
  if (!object.list_at({"metadata", "ownerReferences"}).empty()) {
    return "what owns it makes it anew";
  }
  // A hook may run before the ConfigMap is there, and the pods of `helm test` are no part of the
  // application.
  if (object.at({"metadata", "annotations", "helm.sh/hook"}) != nullptr &&
      pod.at({"metadata", "labels", kInjectLabel}) == nullptr) {
    return fmt::format("a hook of Helm's; the label {} on its pod asks for a sidecar",
                       kInjectLabel);
  }
  if (!is_injected(pod) && has_sidecar(pod)) {
    return "it has a sidecar that `carpool inject` has not put there";
  }
  if (pod.text_at({"spec", "hostNetwork"}) == "true") {
    return "warning: hostNetwork: a sidecar would listen on the node, for every pod there";
  }
  if (is_windows(pod)) return "warning: its pods are for Windows, the sidecar is for Linux";
  return std::nullopt;
}

Status check_pod(const Value& pod, const List& volumes) {
  std::string wrong;
  const bool ours = is_injected(pod);
  for_each_container(pod, [&wrong, ours](const Value& container) {
    const std::string name = container.text_at({"name"});
    if (name == kSidecarName) {
      if (!ours) {
        wrong = fmt::format(
            "a container of its own is called {}, as the sidecar is: rename it, or "
            "set the label {}: disabled",
            kSidecarName, kInjectionLabel);
      }
      return;
    }
    for (const Value& port : container.list_at({"ports"})) {
      const std::string number = port.text_at({"containerPort"});
      const std::string protocol = port.text_at({"protocol"});
      if (!protocol.empty() && protocol != "TCP") continue;
      if (std::find(kSidecarPorts.begin(), kSidecarPorts.end(), number) != kSidecarPorts.end()) {
        wrong = fmt::format(
            "container {} uses port {}, which is the sidecar's; containers of a pod "
            "share one network",
            name, number);
      }
    }
  });
  for (const Value& volume : volumes) {
    const std::string name = volume.text_at({"name"});
    const Value* there = named(pod.list_at({"spec", "volumes"}), name);
    if (!ours && there != nullptr && !alike(*there, volume)) {
      wrong = fmt::format(
          "a volume of its own is called {}, as one of the sidecar's is: rename it, "
          "or set the label {}: disabled",
          name, kInjectionLabel);
    }
  }
  if (!wrong.empty()) return Error{wrong};
  return Ok{};
}

std::vector<std::string> warnings(const Workload& workload, bool classic) {
  std::vector<std::string> said;
  const Value& pod = *workload.pod;
  const std::string grace = pod.text_at({"spec", "terminationGracePeriodSeconds"});
  const long seconds = grace.empty() ? kGraceDefault_s : std::strtol(grace.c_str(), nullptr, 10);
  if (seconds < kDrainDefault_s + kClose_s) {
    said.push_back(
        fmt::format("warning: terminationGracePeriodSeconds is {}, but the sidecar may take "
                    "drain.timeout ({} s "
                    "unless its configuration says otherwise) and {} s more: it may be killed with "
                    "transactions "
                    "under way. Raise the one or lower the other",
                    seconds, kDrainDefault_s, kClose_s));
  }
  if (!is_injected(pod) && is_guaranteed(pod)) {
    said.push_back(
        "warning: its quality of service was Guaranteed and becomes Burstable, since the "
        "sidecar has no CPU limit");
  }
  if (classic && (workload.kind == "Job" || workload.kind == "CronJob")) {
    said.push_back(
        "warning: a classic sidecar keeps a Job from completing until something posts to "
        "127.0.0.1:9931/quitquitquit");
  }
  return said;
}

}  // namespace carpool::cli
