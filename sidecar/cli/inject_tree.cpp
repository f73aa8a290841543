#include "cli/inject_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <sstream>
#include <string_view>

#include "base/check.h"
#include "cli/inject_forms.h"

namespace carpool::cli {
namespace {

// List inside List inside List.
constexpr int kLists_max = 8;

constexpr std::array<int, 3> kSidecarPorts = {6432, 9930, 9931};
constexpr std::array kVolumeNames = {"carpool-config", "carpool-secrets"};

std::string text_of(const YAML::Node& map, const char* key) {
  const YAML::Node value = map.IsMap() ? map[key] : YAML::Node();
  return value && value.IsScalar() ? value.Scalar() : std::string();
}

YAML::Node find(YAML::Node node, std::initializer_list<const char*> path) {
  for (const char* key : path) {
    if (!node.IsMap()) return YAML::Node(YAML::NodeType::Undefined);
    const YAML::Node& parent = node;
    const YAML::Node child = parent[key];
    if (!child) return YAML::Node(YAML::NodeType::Undefined);
    node.reset(child);
  }
  return node;
}

void replace_once(std::string& text, std::string_view from, const std::string& to) {
  const std::size_t at = text.find(from);
  CHECK(at != std::string::npos);
  text.replace(at, from.size(), to);
  CHECK(text.find(from, at + to.size()) == std::string::npos);
}

// The items below `key:` of kInjectForms, without their indent.
std::vector<ListItem> form(const std::string& forms, const std::string& key) {
  std::vector<ListItem> items;
  std::istringstream in(forms);
  std::string line;
  bool inside = false;
  while (std::getline(in, line)) {
    if (line.empty()) continue;
    if (line[0] != ' ') {
      inside = line == key + ":";
    } else if (inside) {
      CHECK(line.size() > 2);
      if (line[2] == '-') items.emplace_back();
      CHECK(!items.empty());
      items.back().lines.push_back(line.substr(2));
    }
  }
  for (ListItem& item : items) {
    // Helm's "-\n  args:" becomes "- args:", as people write it.
    if (item.lines.size() > 1 && item.lines[0] == "-") {
      item.lines.erase(item.lines.begin());
      item.lines[0][0] = '-';
    }
    std::string text;
    for (const std::string& each : item.lines) text += each + "\n";
    item.value = YAML::Load(text)[0];
    item.name = item.value["name"].Scalar();
  }
  CHECK(!items.empty());
  return items;
}

// Index of the item of that name; the list's size where there is none.
std::size_t index_of(const YAML::Node& list, const std::string& name) {
  std::size_t i = 0;
  for (; i < list.size(); i++) {
    if (text_of(list[i], "name") == name) break;
  }
  return i;
}

bool is_list(const YAML::Node& spec, const std::string& key) {
  return spec.IsMap() && spec[key] && spec[key].IsSequence();
}

// Replaces the item of that name where it stands, or puts it first.
void put(YAML::Node spec, const std::string& key, const ListItem& item) {
  YAML::Node fresh(YAML::NodeType::Sequence);
  if (const YAML::Node& read = spec; is_list(read, key)) {
    const YAML::Node list = read[key];
    const std::size_t at = index_of(list, item.name);
    if (at == list.size()) fresh.push_back(YAML::Clone(item.value));
    for (std::size_t i = 0; i < list.size(); i++) {
      fresh.push_back(i == at ? YAML::Clone(item.value) : list[i]);
    }
  } else {
    fresh.push_back(YAML::Clone(item.value));
  }
  spec[key] = fresh;
}

// Takes the item of that name away, and the list with its last item.
void take(YAML::Node spec, const std::string& key, const std::string& name) {
  const YAML::Node& read = spec;
  if (!is_list(read, key)) return;
  const YAML::Node list = read[key];
  const std::size_t at = index_of(list, name);
  if (at == list.size()) return;
  if (list.size() == 1) {
    spec.remove(key);
    return;
  }
  YAML::Node fresh(YAML::NodeType::Sequence);
  for (std::size_t i = 0; i < list.size(); i++) {
    if (i != at) fresh.push_back(list[i]);
  }
  spec[key] = fresh;
}

// A map of strings below metadata, made where it is missing.
void put_metadata(YAML::Node pod, const char* map, const char* key, const std::string& value,
                  bool replace) {
  if (const YAML::Node& read = pod; !read["metadata"] || !read["metadata"].IsMap()) {
    pod["metadata"] = YAML::Node(YAML::NodeType::Map);
  }
  YAML::Node metadata = pod["metadata"];
  if (const YAML::Node& read = metadata; !read[map] || !read[map].IsMap()) {
    metadata[map] = YAML::Node(YAML::NodeType::Map);
  }
  YAML::Node strings = metadata[map];
  if (const YAML::Node& read = strings; read[key] && (!replace || read[key].Scalar() == value)) {
    return;
  }
  YAML::Node scalar(value);
  scalar.SetTag("!");
  strings[key] = scalar;
}

void take_metadata(YAML::Node pod, const char* map, const char* key) {
  YAML::Node strings = find(pod, {"metadata", map});
  if (!strings.IsDefined() || !strings.IsMap() || !find(strings, {key}).IsDefined()) return;
  strings.remove(key);
  YAML::Node metadata = find(pod, {"metadata"});
  if (strings.size() == 0) metadata.remove(map);
  if (metadata.size() == 0) pod.remove("metadata");
}

void collect(const YAML::Node& document, int depth, std::vector<YAML::Node>& pods) {
  if (!document.IsMap()) return;
  const std::string kind = text_of(document, "kind");
  if (kind.ends_with("List") && depth < kLists_max) {
    const YAML::Node items = document["items"];
    if (items && items.IsSequence()) {
      for (const YAML::Node& item : items) collect(item, depth + 1, pods);
    }
    return;
  }
  static const std::set<std::string> templated = {"Deployment", "StatefulSet", "DaemonSet", "Job"};
  YAML::Node pod(YAML::NodeType::Undefined);
  if (kind == "Pod") {
    pod.reset(document);
  } else if (templated.contains(kind)) {
    pod.reset(find(document, {"spec", "template"}));
  } else if (kind == "CronJob") {
    pod.reset(find(document, {"spec", "jobTemplate", "spec", "template"}));
  }
  if (pod.IsDefined() && is_list(find(pod, {"spec"}), "containers")) pods.push_back(pod);
}

bool within(const YAML::Node& node, int depth, int& nodes) {
  if (depth > kDepth_max || ++nodes > kNodes_max) return false;
  if (node.IsMap()) {
    return std::all_of(node.begin(), node.end(), [depth, &nodes](const auto& entry) {
      return within(entry.first, depth + 1, nodes) && within(entry.second, depth + 1, nodes);
    });
  }
  if (!node.IsSequence()) return true;
  return std::all_of(node.begin(), node.end(), [depth, &nodes](const YAML::Node& item) {
    return within(item, depth + 1, nodes);
  });
}

void emit_node(YAML::Emitter& out, const YAML::Node& node) {
  const std::string& tag = node.Tag();
  if (!tag.empty() && tag != "?" && tag != "!") out << YAML::VerbatimTag(tag);
  if (node.IsMap()) {
    if (node.size() == 0) out << YAML::Flow;
    out << YAML::BeginMap;
    for (const auto& entry : node) {
      out << YAML::Key;
      emit_node(out, entry.first);
      out << YAML::Value;
      emit_node(out, entry.second);
    }
    out << YAML::EndMap;
  } else if (node.IsSequence()) {
    if (node.size() == 0) out << YAML::Flow;
    out << YAML::BeginSeq;
    for (const YAML::Node& item : node) emit_node(out, item);
    out << YAML::EndSeq;
  } else if (node.IsScalar()) {
    if (tag == "!") out << YAML::DoubleQuoted;
    out << node.Scalar();
  } else {
    out << YAML::Null;
  }
}

}  // namespace

Sidecar make_sidecar(const InjectOptions& options) {
  std::string forms = kInjectForms;
  const std::string quoted = "\"" + options.config_map + "\"";
  replace_once(forms, "    name: \"carpool\"", "    name: " + quoted);
  replace_once(forms, "secretName: \"carpool\"", "secretName: " + quoted);
  Sidecar sidecar;
  sidecar.classic = options.classic;
  sidecar.config_map = options.config_map;
  sidecar.list = options.classic ? "containers" : "initContainers";
  sidecar.other = options.classic ? "initContainers" : "containers";
  sidecar.volumes = form(forms, "volumes");
  sidecar.container = form(forms, options.classic ? "classic" : "native").front();
  if (!options.image.empty()) {
    YAML::Node image(options.image);
    image.SetTag("!");
    sidecar.container.value["image"] = image;
    const auto line =
        std::find_if(sidecar.container.lines.begin(), sidecar.container.lines.end(),
                     [](const std::string& each) { return each.substr(2).starts_with("image: "); });
    CHECK(line != sidecar.container.lines.end());
    *line = line->substr(0, 2) + "image: \"" + options.image + "\"";
  }
  return sidecar;
}

Status check_size(const YAML::Node& document) {
  int nodes = 0;
  if (within(document, 0, nodes)) return Ok{};
  return Error{
      fmt::format("deeper than {} levels or, with its aliases expanded, more than {} values",
                  kDepth_max, kNodes_max)};
}

std::vector<YAML::Node> find_pods(const YAML::Node& document) {
  std::vector<YAML::Node> pods;
  collect(document, 0, pods);
  return pods;
}

std::string describe(const YAML::Node& document) {
  const std::string kind = document.IsMap() ? text_of(document, "kind") : std::string();
  if (kind.empty()) return "a document without a kind";
  const YAML::Node metadata = find(document, {"metadata"});
  const std::string name = metadata.IsDefined() ? text_of(metadata, "name") : std::string();
  return name.empty() ? kind : kind + " " + name;
}

Status check_pod(const YAML::Node& pod) {
  for (const char* list : {"initContainers", "containers"}) {
    const YAML::Node containers = find(pod, {"spec", list});
    if (!containers.IsDefined() || !containers.IsSequence()) continue;
    for (const YAML::Node& container : containers) {
      const std::string name = text_of(container, "name");
      const YAML::Node ports = find(container, {"ports"});
      if (name == kSidecarName || !ports.IsDefined() || !ports.IsSequence()) continue;
      for (const YAML::Node& port : ports) {
        const std::string number = text_of(port, "containerPort");
        for (const int taken : kSidecarPorts) {
          if (number == std::to_string(taken)) {
            return Error{
                fmt::format("container {} uses port {}, which is the sidecar's; containers of a "
                            "pod share one network",
                            name, number)};
          }
        }
      }
    }
  }
  return Ok{};
}

void add_sidecar(YAML::Node pod, const Sidecar& sidecar) {
  YAML::Node spec = pod["spec"];
  if (sidecar.classic) {
    const YAML::Node containers = spec["containers"];
    for (const YAML::Node& container : containers) {
      const std::string name = text_of(container, "name");
      if (name == kSidecarName) continue;
      put_metadata(pod, "annotations", kDefaultContainerAnnotation, name, false);
      break;
    }
  }
  take(spec, sidecar.other, kSidecarName);
  put(spec, sidecar.list, sidecar.container);
  for (auto volume = sidecar.volumes.rbegin(); volume != sidecar.volumes.rend(); ++volume) {
    put(spec, "volumes", *volume);
  }
  put_metadata(pod, "labels", kInjectLabel, sidecar.config_map, true);
}

void remove_sidecar(YAML::Node pod) {
  YAML::Node spec = pod["spec"];
  take(spec, "initContainers", kSidecarName);
  take(spec, "containers", kSidecarName);
  for (const char* volume : kVolumeNames) take(spec, "volumes", volume);
  take_metadata(pod, "labels", kInjectLabel);
}

bool same(const YAML::Node& a, const YAML::Node& b) {
  if (a.Type() != b.Type()) return false;
  if (a.IsScalar()) return a.Scalar() == b.Scalar() && a.Tag() == b.Tag();
  if (a.IsSequence()) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); i++) {
      if (!same(a[i], b[i])) return false;
    }
    return true;
  }
  if (!a.IsMap()) return true;
  if (a.size() != b.size()) return false;
  return std::all_of(a.begin(), a.end(), [&b](const auto& entry) {
    if (!entry.first.IsScalar()) return false;
    const YAML::Node other = b[entry.first.Scalar()];
    return other && same(entry.second, other);
  });
}

std::string emit(const YAML::Node& document) {
  YAML::Emitter out;
  emit_node(out, document);
  CHECK(out.good());
  return std::string(out.c_str(), out.size()) + "\n";
}

}  // namespace carpool::cli
