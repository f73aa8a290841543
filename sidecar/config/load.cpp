#include "config/load.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "config/draft.h"
#include "config/interpret.h"
#include "config/tree.h"
#include "config/validate.h"

namespace carpool::config {
namespace {

std::string_view line_at(std::string_view text, int line) {
  for (int i = 1; i < line; i++) {
    std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return "";
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

// Just behind the text: what a parser finds missing there is said of the last line.
Place end_of(std::string_view yaml) {
  if (yaml.ends_with('\n')) yaml.remove_suffix(1);
  auto line = static_cast<int>(std::count(yaml.begin(), yaml.end(), '\n')) + 1;
  return {line, static_cast<int>(line_at(yaml, line).size()) + 1};
}

// Where a mark is, at most `end`.
Place place_of(const YAML::Mark& mark, Place end) {
  if (mark.is_null()) return Place{};
  return mark.line + 1 > end.line ? end : Place{mark.line + 1, mark.column + 1};
}

// Thrown by TreeBuilder through yaml-cpp, and caught in parse_yaml.
struct Refused : std::exception {
  Refused(Place where, std::string why) : place(where), message(std::move(why)) {}
  const char* what() const noexcept override { return message.c_str(); }
  Place place;
  std::string message;
};

// Turns yaml-cpp's events into a Tree.
class TreeBuilder final : public YAML::EventHandler {
 public:
  // No place is behind `end`.
  explicit TreeBuilder(Place end) : end_(end) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) {
      throw Refused(place_of(mark, end_),
                    "there is more behind the end of the document; only one is expected");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(NodeKind::Null, mark, "", anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Refused(place_of(mark, end_), "an alias to no anchor");
    attach(found->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    std::size_t index = add(NodeKind::Scalar, mark, tag, anchor);
    tree_.nodes[index].text = value;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(add(NodeKind::List, mark, tag, anchor), mark);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(add(NodeKind::Mapping, mark, tag, anchor), mark);
  }
  void OnMapEnd() override { open_.pop_back(); }

  Tree take() { return std::move(tree_); }

 private:
  std::size_t add(NodeKind kind, const YAML::Mark& mark, const std::string& tag,
                  YAML::anchor_t anchor) {
    if (tree_.nodes.size() >= kTreeNodes_max) {
      throw Refused(place_of(mark, end_), fmt::format("has more than {} values", kTreeNodes_max));
    }
    // "?" and "!" say that there is none; YAML 1.2, chapter 10, has the others.
    bool known = tag.empty() || tag == "?" || tag == "!" || tag.starts_with("tag:yaml.org,2002:");
    if (!known) throw Refused(place_of(mark, end_), "a tag (`!...`) is not expected");
    tree_.nodes.push_back({kind, place_of(mark, end_), "", {}});
    std::size_t index = tree_.nodes.size() - 1;
    if (anchor != YAML::NullAnchor) anchors_[anchor] = index;
    attach(index);
    return index;
  }
  void attach(std::size_t index) {
    if (!open_.empty()) tree_.nodes[open_.back()].children.push_back(index);
  }
  void open(std::size_t index, const YAML::Mark& mark) {
    if (open_.size() >= kTreeDepth_max) {
      throw Refused(place_of(mark, end_),
                    fmt::format("is nested deeper than {} levels", kTreeDepth_max));
    }
    open_.push_back(index);
  }

  const Place end_;
  Tree tree_;
  std::vector<std::size_t> open_;  // the collections around the next event
  std::map<YAML::anchor_t, std::size_t> anchors_;
  int documents_ = 0;
};

// What people run into most: a tab, and ${VAR} between { and }, whose braces YAML takes for its
// own.
std::string hint_for(std::string_view yaml, Place place) {
  std::string_view line = line_at(yaml, place.line);
  if (line.substr(0, line.find_first_not_of(" \t")).find('\t') != std::string_view::npos) {
    return " (the line is indented with a tab; YAML wants spaces)";
  }
  std::size_t variable = line.find("${");
  bool inside_braces = variable != std::string_view::npos &&
                       line.substr(0, variable).find('{') != std::string_view::npos;
  return inside_braces ? " (inside { }, write \"${VAR}\" between quotes)" : "";
}

// The parser's messages that say little to those who do not know its insides.
std::string in_plain_words(const std::string& message) {
  static const std::map<std::string, std::string> kWords = {
      {"end of map not found", "the indentation does not fit, or a `:` is missing"},
      {"end of sequence not found", "the indentation does not fit, or a `-` is missing"},
      {"end of map flow not found", "a `{` lacks its `}`, or a `,` is missing"},
      {"end of sequence flow not found", "a `[` lacks its `]`, or a `,` is missing"},
      {"illegal EOF in scalar", "a quote lacks its end"},
      {"unknown token", "the text ends or goes on unexpectedly"},
      {"illegal map value", "a `:` is not expected (a value that holds one needs quotes)"},
      {"illegal flow end", "a `}` or `]` without its beginning"},
  };
  auto found = kWords.find(message);
  return found == kWords.end() ? message : found->second;
}

// Empty on failure, with a problem.
std::optional<Tree> parse_yaml(std::string_view yaml, std::vector<Problem>& problems) {
  if (yaml.size() > kFileBytes_max) {
    add_problem(problems, "", {}, fmt::format("is larger than {} bytes", kFileBytes_max));
    return std::nullopt;
  }
  if (std::size_t nul = yaml.find('\0'); nul != std::string_view::npos) {
    auto line = static_cast<int>(std::count(yaml.begin(), yaml.begin() + nul, '\n')) + 1;
    add_problem(problems, "", {line, 1}, "holds a NUL byte: not UTF-8 text, or half written");
    return std::nullopt;
  }
  const Place end = end_of(yaml);
  // yaml-cpp takes a key without its `:`, and a quote without its end, for good where nothing but a
  // line feed follows (its issue 819): a half-written file ends so. A comment follows here.
  std::istringstream in{std::string(yaml) + (yaml.empty() || yaml.ends_with('\n') ? "#" : "\n#")};
  try {
    YAML::Parser parser(in);
    TreeBuilder builder(end);
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take();
  } catch (const Refused& refused) {
    add_problem(problems, "", refused.place, refused.message);
  } catch (const YAML::Exception& error) {
    Place place = place_of(error.mark, end);
    add_problem(problems, "", place,
                "not valid YAML: " + in_plain_words(error.msg) + hint_for(yaml, place));
  } catch (const std::exception& error) {
    add_problem(problems, "", {}, fmt::format("not valid YAML: {}", error.what()));
  }
  return std::nullopt;
}

std::string sha256_hex(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  std::string hex;
  for (unsigned int i = 0; i < length; i++) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

}  // namespace

LoadResult load_text(std::string_view yaml, const Environment& env) {
  LoadResult result;
  result.sha256 = sha256_hex(yaml);
  Draft draft;
  draft.libpq = env.libpq();
  std::optional<Tree> tree = parse_yaml(yaml, draft.problems);
  if (tree) {
    interpret(*tree, env, draft);
    validate(draft);
  }
  sort_problems(draft.problems);
  sort_problems(draft.warnings);
  result.problems = std::move(draft.problems);
  result.warnings = std::move(draft.warnings);
  if (result.problems.empty()) result.config = std::move(draft.config);
  return result;
}

LoadResult load_environment(const Environment& env) {
  LoadResult result = load_text("", env);
  if (result.config) result.sha256 = sha256_hex(masked_json(*result.config));
  return result;
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Error{fmt::format("cannot be read: {}", std::strerror(errno))};
  struct stat info {};
  std::string text;
  std::string error;
  if (fstat(fd, &info) != 0) {
    error = fmt::format("cannot be read: {}", std::strerror(errno));
  } else if (!S_ISREG(info.st_mode)) {
    error = S_ISDIR(info.st_mode) ? "is a directory, not a file" : "is not a regular file";
  } else if (static_cast<std::uint64_t>(info.st_size) > bytes_max) {
    // Before a byte of it takes memory, of which a sidecar has little.
    error = fmt::format("is larger than {} bytes", bytes_max);
  } else {
    text.reserve(static_cast<std::size_t>(info.st_size));
  }
  std::array<char, 65536> chunk;
  while (error.empty()) {
    ssize_t got = read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error = fmt::format("cannot be read: {}", std::strerror(errno));
    if (got <= 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(got));
    if (text.size() > bytes_max) {
      error = fmt::format("is larger than {} bytes", bytes_max);
    }
  }
  close(fd);
  if (!error.empty()) return Error{error};
  return text;
}

LoadResult load_file(const std::string& path, const Environment& env) {
  Result<std::string> text = read_file(path);
  if (text) return load_text(*text, env);
  LoadResult result;
  add_problem(result.problems, "", {}, text.error().message);
  return result;
}

}  // namespace carpool::config
