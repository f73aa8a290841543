#include "cli/inject.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <istream>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "cli/inject_text.h"
#include "cli/inject_tree.h"

namespace carpool::cli {
namespace {

constexpr std::size_t kNameBytes_max = 253;   // RFC 1123, as Kubernetes asks of a ConfigMap
constexpr std::size_t kLabelBytes_max = 63;   // the name is a label's value too
constexpr std::size_t kImageBytes_max = 512;  // longer than any registry takes

// One document of the stream: what stands before it (its `---`, comments) and its own text.
struct Document {
  std::string marker;
  std::string text;
  int line = 1;  // where `text` starts
};

// A document starts at a line that begins with `---`: nothing inside one can begin so (YAML 1.2,
// section 9.1.2).
std::vector<Document> split(const std::string& input) {
  std::vector<Document> documents(1);
  int line = 0;
  for (std::size_t at = 0; at < input.size();) {
    const std::size_t end = std::min(input.find('\n', at), input.size() - 1) + 1;
    const std::string_view text = std::string_view(input).substr(at, end - at);
    line++;
    const bool dashes =
        text.starts_with("---") &&
        (text.size() == 3 || std::string_view(" \t\r\n").find(text[3]) != std::string_view::npos);
    const std::size_t content = dashes ? text.find_first_not_of(" \t\r\n", 3) : std::string::npos;
    if (text.starts_with("...") && (text.size() == 3 || text[3] == '\n' || text[3] == '\r')) {
      documents.push_back({std::string(text), {}, line + 1});  // the end of a document
    } else if (dashes) {
      const bool bare = content == std::string_view::npos || text[content] == '#';
      documents.push_back({bare ? std::string(text) : std::string(), {}, bare ? line + 1 : line});
      if (!bare) documents.back().text = text;
    } else if (text.starts_with("%") && documents.back().text.empty()) {
      documents.back().marker += text;  // a directive
      documents.back().line = line + 1;
    } else {
      documents.back().text += text;
    }
    at = end;
  }
  return documents;
}

bool is_config_map_name(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= std::min(kNameBytes_max, kLabelBytes_max) &&
         letter(name.front()) && letter(name.back()) &&
         std::all_of(name.begin(), name.end(),
                     [&letter](char c) { return letter(c) || c == '-' || c == '.'; });
}

bool is_image(const std::string& image) {
  return image.size() <= kImageBytes_max &&
         std::all_of(image.begin(), image.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 ||
                  std::string_view("._-/:@").find(static_cast<char>(c)) != std::string_view::npos;
         });
}

std::optional<std::string> read_all(std::istream& in) {
  std::string text;
  std::vector<char> piece(64 * 1024);
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kInjectBytes_max) return std::nullopt;
  }
  return text;
}

class Filter {
 public:
  Filter(const InjectOptions& options, std::ostream& err)
      : options_(options), sidecar_(make_sidecar(options)), err_(err) {}

  // The document as it is to be written; empty where the input is wrong, which has been said.
  std::optional<std::string> change(const Document& document) {
    YAML::Node before;
    try {
      before = YAML::Load(document.text);
      return change(document, before);
    } catch (const YAML::Exception& error) {  // of parsing, or of a value that is of another kind
      say(document.line + std::max(error.mark.line, 0),
          (before.IsNull() ? "not YAML: " : "not a manifest: ") + error.msg);
      return std::nullopt;
    }
  }

 private:
  std::optional<std::string> change(const Document& document, const YAML::Node& before) {
    if (before.IsNull()) return document.text;  // comments, or nothing
    if (const Status size = check_size(before); !size) {
      say(document.line, size.error().message);
      return std::nullopt;
    }
    const std::string name = describe(before);
    if (find_pods(before).empty()) {
      say(document.line, name + ": no workload, passed through");
      return document.text;
    }
    const YAML::Node after = YAML::Clone(before);
    for (const YAML::Node& pod : find_pods(after)) {
      if (options_.remove) {
        remove_sidecar(pod);
        continue;
      }
      if (const Status fits = check_pod(pod); !fits) {
        say(document.line, name + ": " + fits.error().message);
        return std::nullopt;
      }
      add_sidecar(pod, sidecar_);
    }
    if (same(before, after)) {
      say(document.line, name + ": unchanged");
      return document.text;
    }
    say(document.line, name + (options_.remove ? ": sidecar removed" : ": sidecar added"));
    if (options_.classic &&
        (before["kind"].Scalar() == "Job" || before["kind"].Scalar() == "CronJob")) {
      say(document.line, name +
                             ": a classic sidecar keeps a Job from completing until something "
                             "posts to 127.0.0.1:9931/quitquitquit");
    }
    std::optional<std::string> text = options_.remove
                                          ? remove_sidecar_text(document.text, before)
                                          : add_sidecar_text(document.text, before, sidecar_);
    if (text && parses_to(*text, after)) return text;
    // A `---` that shares its line with content is part of the text.
    const std::string emitted = (document.text.starts_with("---") ? "---\n" : "") + emit(after);
    if (parses_to(emitted, after)) {
      say(document.line, name + ": written anew, since it is not in block style");
      return emitted;
    }
    say(document.line, name + ": its values cannot be written back as YAML");
    return std::nullopt;
  }

  static bool parses_to(const std::string& text, const YAML::Node& meant) {
    try {
      return same(YAML::Load(text), meant);
    } catch (const YAML::Exception&) {
      return false;
    }
  }

  void say(int line, const std::string& what) {
    err_ << "carpool " << (options_.remove ? "uninject" : "inject") << ": line " << line << ": "
         << what << '\n';
  }

  const InjectOptions& options_;
  const Sidecar sidecar_;
  std::ostream& err_;
};

}  // namespace

int run_inject(const InjectOptions& options, std::istream& in, std::ostream& out,
               std::ostream& err) {
  if (!is_config_map_name(options.config_map)) {
    err << "carpool inject: --config-map: \"" << options.config_map
        << "\" is no name of a ConfigMap (lower-case letters, digits, - and ., at most "
        << kLabelBytes_max << ")\n";
    return kExitInjectUsage;
  }
  if (!is_image(options.image)) {
    err << "carpool inject: --image: \"" << options.image << "\" is no name of an image\n";
    return kExitInjectUsage;
  }
  const std::optional<std::string> input = read_all(in);
  if (!input) {
    err << "carpool inject: more than " << kInjectBytes_max / (1024 * 1024) << " MiB of input\n";
    return kExitDataError;
  }
  Filter filter(options, err);
  std::string result;
  for (const Document& document : split(*input)) {
    const std::optional<std::string> changed = filter.change(document);
    if (!changed) return kExitDataError;
    result += document.marker;
    result += *changed;
  }
  out << result;
  return 0;
}

}  // namespace carpool::cli
