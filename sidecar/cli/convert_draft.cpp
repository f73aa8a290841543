#include "cli/convert_draft.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "config/text.h"

namespace carpool::cli {
namespace {

constexpr std::size_t kLineBytes_max = 100;

void append_section(std::string& out, const Lines& lines, const std::string& section,
                    const std::string& indent) {
  bool opened = false;
  std::string inner;
  for (const config::Key& key : config::keys()) {  // in the order of the reference page
    const auto line = lines.find(key.path);
    if (line == lines.end() || !key.path.starts_with(section + ".")) continue;
    if (!opened) out += fmt::format("{}{}:\n", indent, section);
    opened = true;
    std::string name = key.path.substr(section.size() + 1);
    std::string margin = indent + "  ";
    if (const std::size_t dot = name.find('.'); dot != std::string::npos) {
      if (inner != name.substr(0, dot)) out += fmt::format("{}{}:\n", margin, name.substr(0, dot));
      inner = name.substr(0, dot);
      name = name.substr(dot + 1);
      margin += "  ";
    }
    out += fmt::format("{}{}: {}  # {}\n", margin, name, line->second.text,
                       one_line(line->second.from));
  }
}

void append_comment(std::string& out, const std::string& text) {
  std::string line = "# -";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (line.size() + 1 + (end - at) > kLineBytes_max && line.size() > 3) {
      out += line + '\n';
      line = "#  ";
    }
    line += ' ' + text.substr(at, end - at);
    at = end + 1;
  }
  out += line + '\n';
}

}  // namespace

// `$$` is how the loader spells a dollar sign.
std::string yaml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '$') out += '$';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

bool is_variable(std::string_view text) {
  if (!text.starts_with("${") || !text.ends_with('}')) return false;
  const std::string_view inner = text.substr(2, text.size() - 3);
  const std::string_view name = inner.substr(0, inner.find(":-"));
  return !name.empty() && inner.find_first_of("${}") == std::string_view::npos &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return line;
}

void Draft::note(std::string text) {
  if (std::find(notes_.begin(), notes_.end(), text) == notes_.end()) {
    notes_.push_back(std::move(text));
  }
}

void Draft::carry(Lines& to, const std::string& path, As as, const std::string& text,
                  const std::string& from) {
  const config::Key* key = config::find_key(path);
  CHECK(key != nullptr);
  if (as == As::File) return carry_file(to, path, text, from);
  if (is_variable(text)) return carry_variable(to, *key, as, text, from);
  std::string ours = text;
  if (as == As::Seconds) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value >= 0 && value < 1e9)) {
      return note(fmt::format("{} = {}: not a number of seconds", from, one_line(text)));
    }
    ours = config::format_duration(std::llround(value * kMicrosPerSecond));
  }
  const bool is_text = key->type == config::KeyType::String;
  if (Result<config::Value> value = config::parse_value(*key, ours, ours); !value) {
    return note(fmt::format("{} = {}: {} {}", from, one_line(text), path, value.error().message));
  }
  to[path] = {is_text ? yaml_text(ours) : ours, from};
  carried++;
}

// A size or a time may come from the environment in Carpool too, and so may a text.
void Draft::carry_variable(Lines& to, const config::Key& key, As as, const std::string& text,
                           const std::string& from) {
  const std::string inner = text.substr(2, text.size() - 3);
  const std::size_t split = inner.find(":-");
  const std::string name = inner.substr(0, split);
  std::string otherwise = split == std::string::npos ? "" : inner.substr(split + 2);
  if (otherwise.empty() && key.type == config::KeyType::String) {
    variables_.insert(name);
    to[key.path] = {fmt::format("\"${{{}}}\"", name), from};
    carried++;
    return;
  }
  if (otherwise.empty()) {
    const config::Value value = key.get(config::Config{});
    const auto* number = std::get_if<std::int64_t>(&value);
    otherwise = number == nullptr   ? std::get<std::string>(value)
                : as == As::Seconds ? std::to_string(*number / kMicrosPerSecond)
                                    : std::to_string(*number);
  }
  Lines checked;
  const int before = carried;
  carry(checked, key.path, as, otherwise, from);
  if (carried == before) return;  // and noted
  to[key.path] = {fmt::format("\"${{{}:-{}}}{}\"", name, otherwise, as == As::Seconds ? "s" : ""),
                  from};
}

void Draft::carry_file(Lines& to, const std::string& path, const std::string& file,
                       const std::string& from) {
  if (file.empty()) return;
  std::string name = file.substr(file.rfind('/') + 1);
  if (const auto taken = files_.find(name); taken != files_.end() && taken->second != file) {
    const std::string folder = file.substr(0, file.rfind('/'));
    name = folder.substr(folder.rfind('/') + 1) + "-" + name;
  }
  files_[name] = file;
  carry(to, path, As::Text, fmt::format("{}/{}", kSecretDirectory, name),
        fmt::format("{} = {}: put it into the Secret", from, one_line(file)));
}

void Draft::replace(Lines& lines, const std::string& path, const std::string& text,
                    const std::string& from) {
  const auto old = lines.find(path);
  const std::string before =
      old == lines.end() ? ""
                         : fmt::format(", in place of {} = {}", old->second.from, old->second.text);
  lines[path] = {text, from + before};
}

bool Draft::drop_refused(const config::Problem& problem) {
  std::string path = problem.path;
  Lines* from = &lines;
  if (path.starts_with("databases[")) {
    const std::size_t index = std::strtoul(path.c_str() + 10, nullptr, 10);
    const std::size_t dot = path.find('.');
    if (index >= databases.size() || dot == std::string::npos) return false;
    from = &databases[index].lines;
    path.erase(0, dot + 1);
  }
  const auto line = from->find(path);
  if (line == from->end()) return false;
  note(fmt::format("{}: {}", line->second.from, problem.message));
  from->erase(line);
  carried--;
  return true;
}

std::string Draft::yaml() const {
  std::string out = "# Made by `carpool convert` from PgBouncer's configuration.\n";
  if (!notes_.empty()) out += "#\n# Not carried over, or not quite:\n";
  for (const std::string& text : notes_) append_comment(out, text);
  out += '\n';
  for (const config::Section& section : config::sections()) {
    append_section(out, lines, section.name, "");
    if (section.name != "pool") continue;
    out += "databases:\n";
    for (const Database& database : databases) {
      out += fmt::format("  - name: {}\n", yaml_text(database.name));
      append_section(out, database.lines, "server", "    ");
      append_section(out, database.lines, "pool", "    ");
    }
  }
  return out;
}

}  // namespace carpool::cli
