#include "cli/inject_environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace carpool::cli {
namespace {

struct Source {
  std::string_view of_list;   // in an item of envFrom
  std::string_view of_entry;  // in valueFrom
  std::string_view kind;
};
constexpr std::array<Source, 2> kSources = {{
    {"secretRef", "secretKeyRef", "Secret"},
    {"configMapRef", "configMapKeyRef", "ConfigMap"},
}};

const std::map<std::string, std::string>* find_source(const References& references,
                                                      const Source& source,
                                                      const std::string& name) {
  const auto found = references.find(fmt::format("{}/{}", source.kind, name));
  return found == references.end() ? nullptr : &found->second;
}

// What is no base64 gives what could be read of it: it is looked at, and written nowhere.
std::string from_base64(std::string_view text) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) continue;
    bits = (bits << 6 | static_cast<std::uint32_t>(value)) & 0xffffff;
    count += 6;
    if (count >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xff);
  }
  return out;
}

void collect_one(const Value& object, const std::string& kind, References& references) {
  std::map<std::string, std::string>& values =
      references[fmt::format("{}/{}", kind, object.text_at({"metadata", "name"}))];
  for (const std::string_view key : {"data", "stringData"}) {
    const Value* data = object.at({key});
    if (data == nullptr || data->map() == nullptr) continue;
    for (const Entry& entry : *data->map()) {
      if (entry.value.scalar() == nullptr) continue;
      const std::string& text = entry.value.scalar()->text;
      values[entry.key.text] = kind == "Secret" && key == "data" ? from_base64(text) : text;
    }
  }
}

}  // namespace

void collect_references(const Value& object, References& references) {
  const std::string kind = object.text_at({"kind"});
  if (kind == "Secret" || kind == "ConfigMap") collect_one(object, kind, references);
  if (!kind.ends_with("List")) return;
  for (const Value& item : object.list_at({"items"})) {
    const std::string own = item.text_at({"kind"});
    if (own == "Secret" || own == "ConfigMap") collect_one(item, own, references);
  }
}

std::optional<Value> Environment::find(std::string_view name) const {
  if (const Value* entry = named(container_.list_at({"env"}), name)) return *entry;
  return from_source(name);
}

std::optional<Value> Environment::from_source(std::string_view name) const {
  std::optional<Value> found;  // of several sources the last wins
  for (const Value& item : container_.list_at({"envFrom"})) {
    const std::string prefix = item.text_at({"prefix"});
    if (!name.starts_with(prefix)) continue;
    const std::string key(name.substr(prefix.size()));
    for (const Source& source : kSources) {
      const std::string from = item.text_at({source.of_list, "name"});
      const auto* values = from.empty() ? nullptr : find_source(references_, source, from);
      if (values == nullptr || !values->contains(key)) continue;
      Value reference;
      reference.set("name", Value::text(from));
      reference.set("key", Value::text(key));
      Value entry;
      entry.set("name", Value::text(std::string(name)));
      entry.map_of("valueFrom").set(source.of_entry, std::move(reference));
      found = std::move(entry);
    }
  }
  return found;
}

std::optional<std::string> Environment::literal(std::string_view name) const {
  const Value* entry = named(container_.list_at({"env"}), name);
  if (entry == nullptr || entry->at({"valueFrom"}) != nullptr) return std::nullopt;
  return entry->text_at({"value"});
}

std::optional<std::string> Environment::behind(std::string_view name) const {
  const std::optional<Value> entry = find(name);
  if (!entry) return std::nullopt;
  for (const Source& source : kSources) {
    const std::string from = entry->text_at({"valueFrom", source.of_entry, "name"});
    const auto* values = from.empty() ? nullptr : find_source(references_, source, from);
    if (values == nullptr) continue;
    const auto value = values->find(entry->text_at({"valueFrom", source.of_entry, "key"}));
    if (value != values->end()) return value->second;
  }
  return std::nullopt;
}

std::string Environment::unknown_source() const {
  for (const Value& item : container_.list_at({"envFrom"})) {
    for (const Source& source : kSources) {
      const std::string from = item.text_at({source.of_list, "name"});
      if (!from.empty() && find_source(references_, source, from) == nullptr) {
        return fmt::format("{} {}", source.kind, from);
      }
    }
  }
  return "";
}

List& Environment::entries() {
  Value* env = container_.at({"env"});
  if (env == nullptr || env->list() == nullptr) env = &container_.set("env", Value(List()));
  return *env->list();
}

void Environment::put(const Value& entry) {
  const std::string name = entry.text_at({"name"});
  if (Value* there = named(entries(), name)) {
    *there = entry;
  } else {
    entries().push_back(entry);
  }
}

void Environment::set(std::string_view name, Value value) {
  Value entry;
  entry.set("name", Value::text(std::string(name)));
  entry.set("value", std::move(value));
  put(entry);
}

void Environment::erase(std::string_view name) {
  if (named(container_.list_at({"env"}), name) == nullptr) return;
  std::erase_if(entries(), [name](const Value& entry) { return entry.text_at({"name"}) == name; });
}

bool Environment::is_used(std::string_view name) const {
  const std::string use = fmt::format("$({})", name);
  const auto uses = [&use](const Value& text) {
    return text.scalar() != nullptr && text.scalar()->text.find(use) != std::string::npos;
  };
  for (const Value& entry : container_.list_at({"env"})) {
    if (const Value* value = entry.at({"value"}); value != nullptr && uses(*value)) return true;
  }
  for (const std::string_view list : {"command", "args"}) {
    const List& words = container_.list_at({list});
    if (std::any_of(words.begin(), words.end(), uses)) return true;
  }
  return false;
}

void Environment::take(std::string_view name) {
  if (is_used(name)) return;
  erase(name);
  if (from_source(name)) set(name, Value::text(""));
}

bool points_somewhere(const Value& container) {
  const List& env = container.list_at({"env"});
  return named(env, "DATABASE_URL") != nullptr || named(env, "PGHOST") != nullptr;
}

}  // namespace carpool::cli
