// YAML by yaml-cpp, which reads it; written by hand, since yaml-cpp's emitter forgets which texts
// were quoted, and writes line breaks of YAML 1.1 as they are.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

constexpr std::string_view kYamlTags = "tag:yaml.org,2002:";

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Whether a text without quotes is a string to every reader of YAML, 1.1 or 1.2: what begins like a
// word is one, but for a few.
bool is_word(std::string_view text) {
  static constexpr std::array<std::string_view, 9> kOthers = {"true", "false", "yes", "no",  "on",
                                                              "off",  "y",     "n",   "null"};
  if (text.empty() || (!is_letter(text[0]) && text[0] != '/' && text[0] != '_')) {
    return text.find('\n') != std::string_view::npos;
  }
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return std::find(kOthers.begin(), kOthers.end(), lower) == kOthers.end();
}

// Whether a string may be written without quotes.
bool may_be_plain(std::string_view text) {
  if (!is_word(text) || text.back() == ' ' || text.back() == ':') return false;
  for (std::size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (c == ':' && next == ' ') return false;
    if (!is_letter(c) && (c < '0' || c > '9') &&
        std::string_view("_./@=,+-$()%; :").find(c) == std::string_view::npos) {
      return false;
    }
  }
  return true;
}

// Nodes to values, each alias as a value of its own.
class Reader {
 public:
  std::string unsure;
  bool too_large = false;

  Value read(const YAML::Node& node, int depth) {
    if (depth > kDepth_max || ++nodes_ > kNodes_max) too_large = true;
    if (too_large) return {};
    if (node.IsMap()) return read_map(node, depth);
    if (node.IsSequence()) {
      doubt_tag(node);
      List list;
      for (const YAML::Node& item : node) list.push_back(read(item, depth + 1));
      return list;
    }
    return node.IsScalar() ? Value(read_scalar(node)) : Value();
  }

 private:
  void doubt(const YAML::Node& node, std::string why) {
    if (unsure.empty()) unsure = fmt::format("line {}: {}", node.Mark().line + 1, std::move(why));
  }

  void doubt_tag(const YAML::Node& node) {
    const std::string& tag = node.Tag();
    if (!tag.empty() && tag != "?" && tag != "!") {
      doubt(node, fmt::format("{} is no tag of Kubernetes'", tag));
    }
  }

  Scalar read_scalar(const YAML::Node& node) {
    const std::string& tag = node.Tag();
    Scalar scalar{node.Scalar(), tag == "!" || is_word(node.Scalar()), {}};
    if (tag.starts_with(kYamlTags)) {
      scalar.tag = tag;
      scalar.is_string = false;
    } else {
      doubt_tag(node);
    }
    return scalar;
  }

  // Explicit keys win over merged ones, and earlier merged maps over later ones (the type `merge`
  // of YAML 1.1).
  Value read_map(const YAML::Node& node, int depth) {
    doubt_tag(node);
    Map map;
    std::vector<std::pair<YAML::Node, std::size_t>> merges;  // and how many keys stood before
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        doubt(node, "a key that is no text");
        continue;
      }
      Scalar key = read_scalar(entry.first);
      if (key.text == "<<" && !key.is_string) {
        merges.emplace_back(entry.second, map.size());
        continue;
      }
      Value value = read(entry.second, depth + 1);
      if (Entry* twice = find(map, key.text)) {
        doubt(entry.first, fmt::format("the key {} stands twice in one map", key.text));
        twice->value = std::move(value);  // as kubectl does
      } else {
        map.push_back({std::move(key), std::move(value)});
      }
      if (map.size() > static_cast<std::size_t>(kKeys_max)) too_large = true;
      if (too_large) return {};
    }
    for (const auto& [merged, before] : merges) {
      if (merged.IsMap()) {
        merge(merged, before, map, depth);
      } else if (merged.IsSequence()) {
        for (const YAML::Node& one : merged) merge(one, before, map, depth);
      } else {
        doubt(node, "a merge key (<<) that is no map");
      }
    }
    return map;
  }

  void merge(const YAML::Node& from, std::size_t before, Map& map, int depth) {
    Value value = read(from, depth + 1);
    if (value.map() == nullptr) return doubt(from, "a merge key (<<) that is no map");
    for (Entry& entry : *value.map()) {
      const Entry* there = find(map, entry.key.text);
      if (there == nullptr) {
        map.push_back(std::move(entry));
      } else if (static_cast<std::size_t>(there - map.data()) < before) {
        // go-yaml 2, which kubectl has, lets the later of the two win; YAML and go-yaml 3, which
        // kustomize has, the map's own.
        doubt(from, fmt::format("the key {} stands before a merge key (<<) that brings it too, "
                                "which kubectl and others read in two ways; move << up",
                                entry.key.text));
      }
    }
  }

  static Entry* find(Map& map, std::string_view key) {
    const auto found = std::find_if(map.begin(), map.end(),
                                    [key](const Entry& entry) { return entry.key.text == key; });
    return found == map.end() ? nullptr : &*found;
  }

  int nodes_ = 0;
};

// The code point at `at`, which moves behind it; a byte that is not of UTF-8 as U+FFFD.
char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = static_cast<unsigned char>(text[at++]);
  const int more = byte < 0x80 ? 0 : byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : -1;
  if (more < 0) return 0xfffd;
  char32_t code = more == 0 ? byte : byte & (0x3f >> more);
  for (int i = 0; i < more; i++) {
    if (at == text.size() || (static_cast<unsigned char>(text[at]) & 0xc0) != 0x80) return 0xfffd;
    code = (code << 6) | (static_cast<unsigned char>(text[at++]) & 0x3f);
  }
  return code;
}

// What every reader of YAML, 1.1 or 1.2, takes as it stands and as no line break.
bool shows_itself(char32_t code) {
  return (code >= 0x20 && code < 0x7f) ||
         (code >= 0xa0 && code < 0xd800 && code != 0x2028 && code != 0x2029) ||
         (code >= 0xe000 && code < 0xfffd && code != 0xfeff) ||
         (code >= 0x10000 && code < 0x110000);
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t code = next_code_point(text, at);
    if (code == '"' || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\t') {
      out += "\\t";
    } else if (shows_itself(code)) {
      out += text.substr(begin, at - begin);
    } else {
      const auto number = static_cast<std::uint32_t>(code);
      out += number < 0x100     ? fmt::format("\\x{:02x}", number)
             : number < 0x10000 ? fmt::format("\\u{:04x}", number)
                                : fmt::format("\\U{:08x}", number);
    }
  }
  return out + '"';
}

// Lines that can stand as a literal block (`|`), as scripts are written.
bool is_block(std::string_view text) {
  if (text.find('\n') == std::string_view::npos || text[0] == ' ' || text[0] == '\n') return false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t code = next_code_point(text, at);
    if (code != '\n' && !shows_itself(code)) return false;
    if (code == ' ' && (at == text.size() || text[at] == '\n')) return false;  // easily lost
  }
  return true;
}

class Writer {
 public:
  std::string out;

  // Behind `key:` or `-`, whose line is still open.
  void write(const Value& value, std::size_t indent, bool in_list) {
    if (const Map* map = value.map(); map != nullptr && !map->empty()) {
      write_map(*map, indent, in_list);
    } else if (const List* list = value.list(); list != nullptr && !list->empty()) {
      write_list(*list, indent, in_list);
    } else if (const Scalar* scalar = value.scalar()) {
      out += ' ';
      write_scalar(*scalar, indent);
      out += '\n';
    } else {
      out += value.map() != nullptr ? " {}\n" : value.list() != nullptr ? " []\n" : " null\n";
    }
  }

  void write_map(const Map& map, std::size_t indent, bool in_list) {
    bool first = true;
    for (const Entry& entry : map) {
      begin_line(indent, std::exchange(first, false), in_list);
      write_line(entry.key);
      out += ':';
      write(entry.value, indent + 2, false);
    }
  }

  void write_list(const List& list, std::size_t indent, bool in_list) {
    bool first = true;
    for (const Value& item : list) {
      begin_line(indent, std::exchange(first, false), in_list);
      out += '-';
      write(item, indent + 2, true);
    }
  }

 private:
  // The first entry of what stands in a list begins on the line of its dash.
  void begin_line(std::size_t indent, bool first, bool in_list) {
    if (first && in_list) {
      out += ' ';
      return;
    }
    if (first && !out.empty()) out += '\n';
    out.append(indent, ' ');
  }

  void write_line(const Scalar& scalar) {
    if (!scalar.tag.empty()) out += fmt::format("!<{}> ", scalar.tag);
    const bool quotes = scalar.is_string ? !may_be_plain(scalar.text) : !scalar.tag.empty();
    out += quotes ? quoted(scalar.text) : scalar.text;
  }

  void write_scalar(const Scalar& scalar, std::size_t indent) {
    if (!scalar.is_string || !is_block(scalar.text)) {
      write_line(scalar);
    } else {
      const std::size_t body = scalar.text.find_last_not_of('\n') + 1;
      const std::size_t ends = scalar.text.size() - body;
      out += ends == 1 ? "|" : ends == 0 ? "|-" : "|+";
      for (std::size_t at = 0; at < scalar.text.size();) {
        const std::size_t end = std::min(scalar.text.find('\n', at), scalar.text.size());
        out += '\n';
        if (end > at) out.append(indent, ' ').append(scalar.text, at, end - at);
        at = end + 1;
      }
    }
  }
};

}  // namespace

Status read_yaml(Object& object) {
  try {
    const std::vector<YAML::Node> nodes = YAML::LoadAll(object.text);
    if (nodes.size() > 1) {
      return Error{
          fmt::format("line {}: more than one value, without a `---` between them", object.line)};
    }
    if (nodes.empty()) return Ok{};
    Reader reader;
    object.value = reader.read(nodes.front(), 0);
    if (reader.too_large) {
      return Error{
          fmt::format("line {}: deeper than {} levels or, with its aliases expanded, more "
                      "than {} values, or than {} keys in one map",
                      object.line, kDepth_max, kNodes_max, kKeys_max)};
    }
    object.unsure = reader.unsure;
    return Ok{};
  } catch (const YAML::Exception& error) {
    return Error{fmt::format("line {}: not YAML: {}", object.line + std::max(error.mark.line, 0),
                             error.msg)};
  }
}

std::string write_yaml(const Value& value) {
  Writer writer;
  if (value.map() != nullptr && !value.map()->empty()) {
    writer.write_map(*value.map(), 0, false);
  } else {
    writer.write(value, 0, false);
  }
  return writer.out;
}

}  // namespace carpool::cli
