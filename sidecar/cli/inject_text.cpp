#include "cli/inject_text.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

namespace carpool::cli {
namespace {

using Lines = std::vector<std::string>;

struct CannotEdit {};  // thrown and caught in this file only

// What happens before line `at`: `erase` lines go, `text` comes. Kept by line, applied at the end,
// so that the places that yaml-cpp reported stay true.
struct Edit {
  std::size_t erase = 0;
  Lines before;  // comes first of all
};

class Editor {
 public:
  explicit Editor(const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
      lines_.push_back(text.substr(at, end - at));
      at = end;
    }
    if (!lines_.empty() && !lines_.back().ends_with('\n')) lines_.back() += '\n';
  }

  void add(const YAML::Node& pod, const Sidecar& sidecar) {
    const YAML::Node spec = block_map(child(pod, "spec"));
    if (sidecar.classic) {
      const YAML::Node containers = child(spec, "containers");
      for (const YAML::Node& container : containers) {
        const std::string name = container["name"].Scalar();
        if (name == kSidecarName) continue;
        put_metadata(pod, "annotations", kDefaultContainerAnnotation, name, false);
        break;
      }
    }
    take(spec, sidecar.other, kSidecarName);
    put(spec, sidecar.list, {&sidecar.container});
    std::vector<const ListItem*> volumes;
    for (const ListItem& volume : sidecar.volumes) volumes.push_back(&volume);
    put(spec, "volumes", volumes);
    put_metadata(pod, "labels", kInjectLabel, sidecar.config_map, true);
  }

  void remove(const YAML::Node& pod, const std::vector<std::string>& volumes) {
    const YAML::Node spec = block_map(child(pod, "spec"));
    take(spec, "initContainers", kSidecarName);
    take(spec, "containers", kSidecarName);
    take_all(spec, "volumes", volumes);
    take_metadata(pod, "labels", kInjectLabel);
  }

  std::string text() const {
    std::string out;
    for (std::size_t i = 0; i <= lines_.size();) {
      const auto edit = edits_.find(i);
      std::size_t skip = 0;
      if (edit != edits_.end()) {
        for (const std::string& line : edit->second.before) out += line + "\n";
        skip = edit->second.erase;
      }
      if (skip == 0) {
        if (i < lines_.size()) out += lines_[i];
        i++;
        continue;
      }
      // Erased lines may have edits of their own that come before them.
      for (std::size_t k = 1; k < skip; k++) {
        if (edits_.contains(i + k)) throw CannotEdit();
      }
      i += skip;
      // What follows was not erased: print it even where it has an edit, in the next round.
    }
    return out;
  }

 private:
  static YAML::Node child(const YAML::Node& map, const std::string& key) {
    if (!map.IsMap() || !map[key]) throw CannotEdit();
    return map[key];
  }

  static bool has(const YAML::Node& map, const std::string& key) {
    return map.IsMap() && map[key] && !map[key].IsNull();
  }

  static YAML::Node block_map(const YAML::Node& node) {
    if (!node.IsMap() || node.Style() == YAML::EmitterStyle::Flow || node.size() == 0) {
      throw CannotEdit();
    }
    return node;
  }

  static YAML::Node block_list(const YAML::Node& node) {
    if (!node.IsSequence() || node.Style() == YAML::EmitterStyle::Flow || node.size() == 0) {
      throw CannotEdit();
    }
    return node;
  }

  static std::size_t indent(const std::string& line) {
    return std::min(line.find_first_not_of(' '), line.size());
  }

  // Blank, or a comment and nothing else.
  static bool idle(const std::string& line) {
    const std::size_t at = line.find_first_not_of(" \t\r\n");
    return at == std::string::npos || line[at] == '#';
  }

  // The line of a place that has only spaces before it.
  std::size_t line_of(const YAML::Mark& mark) const {
    const auto line = static_cast<std::size_t>(mark.line);
    if (mark.line < 0 || line >= lines_.size() ||
        indent(lines_[line]) != static_cast<std::size_t>(mark.column)) {
      throw CannotEdit();
    }
    return line;
  }

  static YAML::Mark key_mark(const YAML::Node& map, const std::string& key) {
    for (const auto& entry : map) {
      if (entry.first.IsScalar() && entry.first.Scalar() == key) return entry.first.Mark();
    }
    throw CannotEdit();
  }

  // The line after a key and its value. A list may stand at the indent of its key.
  std::size_t end_of_key(std::size_t line, std::size_t column) const {
    std::size_t end = line + 1;
    for (std::size_t i = end; i < lines_.size(); i++) {
      if (idle(lines_[i])) continue;
      const std::size_t in = indent(lines_[i]);
      const bool item = in == column && lines_[i].compare(in, 1, "-") == 0;
      if (in <= column && !item) break;
      end = i + 1;
    }
    return end;
  }

  // From the dash of an item to the line after it, without the comments of what follows.
  std::pair<std::size_t, std::size_t> item_range(const YAML::Node& list,
                                                 const YAML::Node& item) const {
    const auto column = static_cast<std::size_t>(list.Mark().column);
    auto line = static_cast<std::size_t>(item.Mark().line);
    while (indent(lines_.at(line)) != column || lines_[line].compare(column, 1, "-") != 0) {
      if (line == 0) throw CannotEdit();
      line--;
    }
    std::size_t end = line + 1;
    for (std::size_t i = end; i < lines_.size(); i++) {
      if (idle(lines_[i])) continue;
      if (indent(lines_[i]) <= column) break;
      end = i + 1;
    }
    return {line, end};
  }

  void insert(std::size_t line, std::size_t column, const Lines& text) {
    Lines& before = edits_[line].before;
    for (const std::string& each : text) before.push_back(std::string(column, ' ') + each);
  }

  void erase(std::size_t from, std::size_t to) {
    Edit& edit = edits_[from];
    if (edit.erase != 0) throw CannotEdit();
    edit.erase = to - from;
  }

  static std::optional<YAML::Node> item_named(const YAML::Node& list, const std::string& name) {
    for (const YAML::Node& item : list) {
      if (item.IsMap() && item["name"] && item["name"].IsScalar() &&
          item["name"].Scalar() == name) {
        return item;
      }
    }
    return std::nullopt;
  }

  // Each item replaces the one of its name, or comes first.
  void put(const YAML::Node& spec, const std::string& key,
           const std::vector<const ListItem*>& items) {
    if (!has(spec, key)) {
      if (spec[key]) throw CannotEdit();  // `volumes:` with nothing after it
      const YAML::Mark mark = key_mark(spec, "containers");
      const auto column = static_cast<std::size_t>(mark.column);
      std::size_t line = line_of(mark);
      if (key == "volumes") line = end_of_key(line, column);
      insert(line, column, {key + ":"});
      for (const ListItem* item : items) insert(line, column + 2, item->lines);
      return;
    }
    const YAML::Node list = block_list(spec[key]);
    const auto column = static_cast<std::size_t>(list.Mark().column);
    for (const ListItem* item : items) {
      if (const auto old = item_named(list, item->name)) {
        if (same(*old, item->value)) continue;  // with its comments
        const auto [from, to] = item_range(list, *old);
        erase(from, to);
        insert(from, column, item->lines);
      } else {
        insert(item_range(list, list[0]).first, column, item->lines);
      }
    }
  }

  void take(const YAML::Node& spec, const std::string& key, const std::string& name) {
    take_all(spec, key, {name});
  }

  void take_all(const YAML::Node& spec, const std::string& key,
                const std::vector<std::string>& names) {
    if (!has(spec, key)) return;
    std::vector<YAML::Node> found;
    for (const std::string& name : names) {
      if (const auto item = item_named(spec[key], name)) found.push_back(*item);
    }
    if (found.empty()) return;
    const YAML::Node list = block_list(spec[key]);
    if (found.size() == list.size()) {
      const YAML::Mark mark = key_mark(spec, key);
      const std::size_t line = line_of(mark);
      erase(line, end_of_key(line, static_cast<std::size_t>(mark.column)));
      return;
    }
    for (const YAML::Node& item : found) {
      const auto [from, to] = item_range(list, item);
      erase(from, to);
    }
  }

  void put_metadata(const YAML::Node& pod, const char* map, const char* key,
                    const std::string& value, bool replace) {
    const std::string entry = std::string(key) + ": \"" + value + "\"";
    if (!has(pod, "metadata")) {
      if (pod["metadata"]) throw CannotEdit();
      const YAML::Mark mark = key_mark(pod, "spec");
      // Several maps may be asked for; only the first brings the word `metadata`.
      Lines text = {"metadata:"};
      if (metadata_added_) text.clear();
      metadata_added_ = true;
      text.push_back("  " + std::string(map) + ":");
      text.push_back("    " + entry);
      insert(line_of(mark), static_cast<std::size_t>(mark.column), text);
      return;
    }
    const YAML::Node metadata = block_map(pod["metadata"]);
    if (!has(metadata, map)) {
      if (metadata[map]) throw CannotEdit();
      insert(line_of(metadata.Mark()), static_cast<std::size_t>(metadata.Mark().column),
             {std::string(map) + ":", "  " + entry});
      return;
    }
    const YAML::Node strings = block_map(metadata[map]);
    const auto column = static_cast<std::size_t>(strings.Mark().column);
    if (!strings[key]) {
      insert(line_of(strings.Mark()), column, {entry});
    } else if (replace && strings[key].Scalar() != value) {
      const std::size_t line = line_of(key_mark(strings, key));
      erase(line, end_of_key(line, column));
      insert(line, column, {entry});
    }
  }

  void take_metadata(const YAML::Node& pod, const char* map, const char* key) {
    if (!has(pod, "metadata") || !has(pod["metadata"], map) || !has(pod["metadata"][map], key)) {
      return;
    }
    const YAML::Node metadata = block_map(pod["metadata"]);
    const YAML::Node strings = block_map(metadata[map]);
    // What would be left empty goes too.
    const bool last = strings.size() == 1;
    const bool only = last && metadata.size() == 1;
    const YAML::Mark mark = only   ? key_mark(pod, "metadata")
                            : last ? key_mark(metadata, map)
                                   : key_mark(strings, key);
    const std::size_t line = line_of(mark);
    erase(line, end_of_key(line, static_cast<std::size_t>(mark.column)));
  }

  Lines lines_;  // each with its line feed
  std::map<std::size_t, Edit> edits_;
  bool metadata_added_ = false;
};

template <typename Change>
std::optional<std::string> edit(const std::string& text, const YAML::Node& document,
                                Change change) {
  try {
    Editor editor(text);
    for (const YAML::Node& pod : find_pods(document)) change(editor, pod);
    return editor.text();
  } catch (const CannotEdit&) {
    return std::nullopt;
  } catch (const YAML::Exception&) {
    return std::nullopt;  // a node without a place, such as the target of an alias
  }
}

}  // namespace

std::optional<std::string> add_sidecar_text(const std::string& text, const YAML::Node& document,
                                            const Sidecar& sidecar) {
  return edit(text, document,
              [&sidecar](Editor& editor, const YAML::Node& pod) { editor.add(pod, sidecar); });
}

std::optional<std::string> remove_sidecar_text(const std::string& text,
                                               const YAML::Node& document) {
  return edit(text, document, [](Editor& editor, const YAML::Node& pod) {
    editor.remove(pod, {"carpool-config", "carpool-secrets"});
  });
}

}  // namespace carpool::cli
