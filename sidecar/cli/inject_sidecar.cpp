#include "cli/inject_sidecar.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "cli/inject_forms.h"
#include "cli/inject_pods.h"
#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

constexpr const char* kDefaultContainerAnnotation = "kubectl.kubernetes.io/default-container";
// Those of kInjectForms.
constexpr std::array<std::string_view, 2> kVolumes = {"carpool-config", "carpool-secrets"};
// Words of kInjectedAnnotation: what of the metadata came with the sidecar.
constexpr std::string_view kWordSidecar = "sidecar";
constexpr std::string_view kWordLabel = "label";
constexpr std::string_view kWordDefault = "default-container";

List& list_of(Value& spec, std::string_view key) {
  Value* there = spec.at({key});
  if (there == nullptr || there->list() == nullptr) {
    there = &spec.set(key, Value(List()), key == "initContainers" ? "containers" : "");
  }
  return *there->list();
}

// Replaces the item of that name where it stands, or puts it first.
void put(List& list, const Value& item) {
  if (Value* there = named(list, item.text_at({"name"}))) {
    *there = item;
  } else {
    list.insert(list.begin(), item);
  }
}

// Takes the item of that name away, and the list with its last item.
void take(Value& spec, std::string_view key, std::string_view name) {
  Value* there = spec.at({key});
  if (there == nullptr || there->list() == nullptr) return;
  const std::size_t taken = std::erase_if(
      *there->list(), [name](const Value& item) { return item.text_at({"name"}) == name; });
  if (taken > 0 && there->list()->empty()) spec.erase(key);
}

// Takes a key of metadata.labels or metadata.annotations away, and what is left empty.
void take_metadata(Value& pod, std::string_view map, std::string_view key) {
  Value* metadata = pod.at({"metadata"});
  Value* strings = pod.at({"metadata", map});
  if (strings == nullptr || !strings->erase(key)) return;
  if (strings->map()->empty()) metadata->erase(map);
  if (metadata->map()->empty()) pod.erase("metadata");
}

// What the old container has beyond what is put in its place.
void keep_additions(const Value& old, Value& fresh) {
  if (const Value* env = old.at({"env"}); env != nullptr && fresh.at({"env"}) == nullptr) {
    fresh.set("env", *env, "image");
  }
  List& mounts = list_of(fresh, "volumeMounts");
  for (const Value& mount : old.list_at({"volumeMounts"})) {
    const std::string path = mount.text_at({"mountPath"});
    const bool there = std::any_of(mounts.begin(), mounts.end(), [&path](const Value& each) {
      return each.text_at({"mountPath"}) == path;
    });
    if (!there) mounts.push_back(mount);
  }
}

// What stands in the forms without quotes is a string, unless it is a number or a boolean: in JSON
// it has to be one or the other.
void settle_scalars(Value& value) {
  if (Map* map = value.map()) {
    for (Entry& entry : *map) settle_scalars(entry.value);
  } else if (List* list = value.list()) {
    for (Value& item : *list) settle_scalars(item);
  } else if (const Scalar* scalar = value.scalar()) {
    const std::string& text = scalar->text;
    const bool other = text == "true" || text == "false" ||
                       text.find_first_not_of("0123456789") == std::string::npos;
    value = Value(Scalar{text, scalar->is_string || !other, {}});
  }
}

bool has_word(const std::string& words, std::string_view word) {
  return (" " + words + " ").find(" " + std::string(word) + " ") != std::string::npos;
}

}  // namespace

Sidecar make_sidecar(const std::string& config_map, const std::string& image, bool classic) {
  const Result<std::vector<Object>> read = read_stream(kInjectForms);
  CHECK(read);
  Value forms;
  for (const Object& object : *read) {
    if (!object.value.is_null()) forms = object.value;
  }
  settle_scalars(forms);
  Sidecar sidecar;
  sidecar.classic = classic;
  sidecar.container = forms.list_at({classic ? "classic" : "native"}).at(0);
  sidecar.volumes = forms.list_at({"volumes"});
  for (Value& volume : sidecar.volumes) {
    if (Value* source = volume.at({"configMap"})) source->set("name", Value::text(config_map));
    if (Value* source = volume.at({"secret"})) source->set("secretName", Value::text(config_map));
  }
  if (!image.empty()) sidecar.container.set("image", Value::text(image));
  return sidecar;
}

Value* find_sidecar(Value& pod) {
  if (!is_injected(pod)) return nullptr;
  for (const std::string_view key : {"initContainers", "containers"}) {
    Value* list = pod.at({"spec", key});
    if (list == nullptr || list->list() == nullptr) continue;
    if (Value* found = named(*list->list(), kSidecarName)) return found;
  }
  return nullptr;
}

void add_sidecar(Value& pod, const Sidecar& sidecar, const std::string& config_map) {
  Value fresh = sidecar.container;
  if (const Value* old = find_sidecar(pod)) keep_additions(*old, fresh);
  std::string words = pod.text_at({"metadata", "annotations", kInjectedAnnotation});
  if (words.empty()) words = kWordSidecar;
  const auto note = [&words](std::string_view word) {
    if (!has_word(words, word)) words += " " + std::string(word);
  };

  Value& spec = *pod.at({"spec"});
  take(spec, sidecar.classic ? "initContainers" : "containers", kSidecarName);
  put(list_of(spec, sidecar.classic ? "containers" : "initContainers"), fresh);
  List& volumes = list_of(spec, "volumes");
  for (auto volume = sidecar.volumes.rbegin(); volume != sidecar.volumes.rend(); ++volume) {
    const Value* there = named(volumes, volume->text_at({"name"}));
    if (there == nullptr || !alike(*there, *volume)) put(volumes, *volume);
  }

  if (pod.at({"metadata"}) == nullptr) pod.set("metadata", Value(Map()), "spec");
  Value& metadata = pod.map_of("metadata");
  if (pod.at({"metadata", "labels", kInjectLabel}) == nullptr) note(kWordLabel);
  if (pod.text_at({"metadata", "labels", kInjectLabel}) != config_map) {
    metadata.map_of("labels").set(kInjectLabel, Value::text(config_map));
  }
  // The first of the containers is what kubectl logs shows, unless it is told another.
  if (sidecar.classic &&
      pod.at({"metadata", "annotations", kDefaultContainerAnnotation}) == nullptr) {
    for (const Value& container : pod.list_at({"spec", "containers"})) {
      const std::string name = container.text_at({"name"});
      if (name == kSidecarName) continue;
      metadata.map_of("annotations").set(kDefaultContainerAnnotation, Value::text(name));
      note(kWordDefault);
      break;
    }
  }
  if (pod.text_at({"metadata", "annotations", kInjectedAnnotation}) != words) {
    metadata.map_of("annotations").set(kInjectedAnnotation, Value::text(words));
  }
}

void remove_sidecar(Value& pod) {
  if (!is_injected(pod)) return;
  Value& spec = *pod.at({"spec"});
  take(spec, "initContainers", kSidecarName);
  take(spec, "containers", kSidecarName);
  for (const std::string_view volume : kVolumes) take(spec, "volumes", volume);
  const std::string words = pod.text_at({"metadata", "annotations", kInjectedAnnotation});
  if (has_word(words, kWordLabel)) take_metadata(pod, "labels", kInjectLabel);
  if (has_word(words, kWordDefault)) take_metadata(pod, "annotations", kDefaultContainerAnnotation);
  take_metadata(pod, "annotations", kInjectedAnnotation);
}

}  // namespace carpool::cli
