// YAML by libyaml, of which kubectl's reader is a port: the same texts mean the same. (yaml-cpp,
// which reads our configuration, knows no merge keys, and loses empty lines at the end of quoted
// texts.)
#include <fmt/format.h>
#include <yaml.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "base/check.h"
#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

constexpr std::string_view kYamlTags = "tag:yaml.org,2002:";
constexpr std::array<std::string_view, 5> kNulls = {"", "~", "null", "Null", "NULL"};

// libyaml's parser, event by event.
class Events {
 public:
  explicit Events(std::string_view text) {
    CHECK(yaml_parser_initialize(&parser_) == 1);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~Events() {
    yaml_event_delete(&event_);
    yaml_parser_delete(&parser_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  // False: the text is no YAML.
  bool next() {
    yaml_event_delete(&event_);
    event_ = {};
    return yaml_parser_parse(&parser_, &event_) == 1;
  }
  const yaml_event_t& event() const { return event_; }
  yaml_event_type_t type() const { return event_.type; }
  int line() const { return static_cast<int>(event_.start_mark.line); }

  int error_line() const { return static_cast<int>(parser_.problem_mark.line); }
  std::string error() const { return parser_.problem != nullptr ? parser_.problem : "no memory"; }

 private:
  yaml_parser_t parser_{};
  yaml_event_t event_{};
};

std::string text_of(const yaml_char_t* text) {
  return text == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(text));
}

int count(const Value& value) {
  int nodes = 1;
  if (const Map* map = value.map()) {
    for (const Entry& entry : *map) nodes += count(entry.value);
  } else if (const List* list = value.list()) {
    for (const Value& item : *list) nodes += count(item);
  }
  return nodes;
}

// Events to values, each alias as a value of its own.
class YamlReader {
 public:
  explicit YamlReader(std::string_view text) : events_(text) {}

  // An error names its line within the text, from 0.
  struct Failure {
    int line = 0;
    std::string what;
  };
  std::optional<Failure> failure;
  std::string unsure;

  // The one value of the text; null where there is none.
  Value read() {
    if (!next() || !next()) return {};  // the stream's begin
    if (events_.type() == YAML_STREAM_END_EVENT) return {};
    if (!next()) return {};  // the document's begin
    Value value = read_node(0);
    if (failure || !next()) return {};  // its end
    if (!next()) return {};
    if (events_.type() != YAML_STREAM_END_EVENT) {
      fail("more than one value, without a `---` between them");
    }
    return value;
  }

 private:
  bool next() {
    if (failure) return false;
    if (events_.next()) return true;
    failure = {events_.error_line(), "not YAML: " + events_.error()};
    return false;
  }

  void fail(std::string what) {
    if (!failure) failure = {events_.line(), std::move(what)};
  }

  void doubt(int line, std::string why) {
    if (unsure.empty()) unsure = fmt::format("line {}: {}", line + 1, std::move(why));
  }

  bool grow(int nodes, int depth) {
    nodes_ += nodes;
    if (depth <= kDepth_max && nodes_ <= kNodes_max) return true;
    fail(fmt::format("deeper than {} levels or, with its aliases expanded, more than {} values",
                     kDepth_max, kNodes_max));
    return false;
  }

  // The event at hand, and those that belong to it.
  Value read_node(int depth) {
    if (failure || !grow(1, depth)) return {};
    const yaml_event_t& event = events_.event();
    switch (event.type) {
      case YAML_ALIAS_EVENT:
        return read_alias(text_of(event.data.alias.anchor));
      case YAML_SCALAR_EVENT: {
        const std::string anchor = text_of(event.data.scalar.anchor);
        return keep(anchor, read_scalar());
      }
      case YAML_SEQUENCE_START_EVENT: {
        const std::string anchor = text_of(event.data.sequence_start.anchor);
        doubt_tag(text_of(event.data.sequence_start.tag));
        List list;
        while (next() && events_.type() != YAML_SEQUENCE_END_EVENT) {
          list.push_back(read_node(depth + 1));
        }
        return keep(anchor, std::move(list));
      }
      default: {
        const std::string anchor = text_of(event.data.mapping_start.anchor);
        doubt_tag(text_of(event.data.mapping_start.tag));
        return keep(anchor, read_map(depth));
      }
    }
  }

  Value keep(const std::string& anchor, Value value) {
    if (!anchor.empty()) anchors_[anchor] = value;
    return value;
  }

  // It may multiply what it names; what names itself is not known yet.
  Value read_alias(const std::string& anchor) {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      fail(fmt::format("not YAML: nothing before *{} has that anchor", anchor));
      return {};
    }
    return grow(count(found->second), 0) ? found->second : Value();
  }

  void doubt_tag(const std::string& tag) {
    if (!tag.empty() && tag != "!" && !tag.starts_with(kYamlTags)) {
      doubt(events_.line(), fmt::format("{} is no tag of Kubernetes'", tag));
    }
  }

  Value read_scalar() {
    const auto& event = events_.event().data.scalar;
    const std::string tag = text_of(event.tag);
    doubt_tag(tag);
    Scalar scalar{std::string(reinterpret_cast<const char*>(event.value), event.length), true, {}};
    if (tag.starts_with(kYamlTags)) {
      scalar.tag = tag;
      scalar.is_string = false;
    } else if (event.style == YAML_PLAIN_SCALAR_STYLE && tag.empty()) {
      const std::string& text = scalar.text;
      if (std::find(kNulls.begin(), kNulls.end(), text) != kNulls.end()) return {};
      scalar.is_string = is_word(text);
    }
    return scalar;
  }

  // Explicit keys win over merged ones, and earlier merged maps over later ones (the type `merge`
  // of YAML 1.1).
  Value read_map(int depth) {
    Map map;
    std::vector<std::pair<Value, std::size_t>> merges;  // and how many keys stood before
    while (next() && events_.type() != YAML_MAPPING_END_EVENT) {
      const int line = events_.line();
      const Value key = read_node(depth + 1);
      if (!next()) return {};
      Value value = read_node(depth + 1);
      if (key.scalar() == nullptr) {
        doubt(line, "a key that is no text");
      } else if (key.scalar()->text == "<<" && !key.scalar()->is_string) {
        merges.emplace_back(std::move(value), map.size());
      } else if (Entry* twice = find(map, key.scalar()->text)) {
        doubt(line, fmt::format("the key {} stands twice in one map", key.scalar()->text));
        twice->value = std::move(value);  // as kubectl does
      } else if (map.size() < static_cast<std::size_t>(kKeys_max)) {
        map.push_back({*key.scalar(), std::move(value)});
      } else {
        fail(fmt::format("more than {} keys in one map", kKeys_max));
      }
    }
    for (auto& [merged, before] : merges) {
      if (List* several = merged.list()) {
        for (Value& one : *several) merge(one, before, map);
      } else {
        merge(merged, before, map);
      }
    }
    return map;
  }

  void merge(Value& from, std::size_t before, Map& map) {
    if (from.map() == nullptr) return doubt(events_.line(), "a merge key (<<) that is no map");
    for (Entry& entry : *from.map()) {
      const Entry* there = find(map, entry.key.text);
      if (there == nullptr) {
        map.push_back(std::move(entry));
      } else if (static_cast<std::size_t>(there - map.data()) < before) {
        // go-yaml 2, which kubectl has, lets the later of the two win; YAML and go-yaml 3, which
        // kustomize has, the map's own.
        doubt(events_.line(),
              fmt::format("the key {} stands before a merge key (<<) that brings it too, which "
                          "kubectl and others read in two ways; move << up",
                          entry.key.text));
      }
    }
  }

  static Entry* find(Map& map, std::string_view key) {
    const auto found = std::find_if(map.begin(), map.end(),
                                    [key](const Entry& entry) { return entry.key.text == key; });
    return found == map.end() ? nullptr : &*found;
  }

  Events events_;
  std::map<std::string, Value> anchors_;
  int nodes_ = 0;
};

}  // namespace

Status read_yaml(Object& object) {
  YamlReader reader(object.text);
  object.value = reader.read();
  if (reader.failure) {
    return Error{
        fmt::format("line {}: {}", object.line + reader.failure->line, reader.failure->what)};
  }
  object.unsure = reader.unsure;
  return Ok{};
}

}  // namespace carpool::cli
