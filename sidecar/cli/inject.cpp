#include "cli/inject.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <istream>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cli/inject_pods.h"
#include "cli/inject_point.h"
#include "cli/inject_sidecar.h"
#include "cli/inject_stream.h"
#include "cli/inject_url.h"

namespace carpool::cli {
namespace {

constexpr const char* kConfigMapDefault = "carpool";
constexpr std::size_t kNameBytes_max = 63;    // the ConfigMap's name is a label's value too
constexpr std::size_t kImageBytes_max = 512;  // longer than any registry takes

// RFC 1123, as Kubernetes asks of a ConfigMap.
bool is_config_map_name(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= kNameBytes_max && letter(name.front()) &&
         letter(name.back()) && std::all_of(name.begin(), name.end(), [&letter](char c) {
           return letter(c) || c == '-' || c == '.';
         });
}

bool is_image(const std::string& image) {
  return image.size() <= kImageBytes_max &&
         std::all_of(image.begin(), image.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 ||
                  std::string_view("._-/:@").find(static_cast<char>(c)) != std::string_view::npos;
         });
}

// What the options alone say to be wrong.
Status check(const InjectOptions& options) {
  if (!options.config_map.empty() && !is_config_map_name(options.config_map)) {
    return Error{
        fmt::format("--config-map: \"{}\" is no name of a ConfigMap (lower-case letters, "
                    "digits, - and ., at most {})",
                    options.config_map, kNameBytes_max)};
  }
  if (!is_image(options.image)) {
    return Error{fmt::format("--image: \"{}\" is no name of an image", options.image)};
  }
  if (!options.url_like.empty()) {
    const Result<std::string> url =
        url_at_sidecar(with_user_and_database(options.url_like, "app", "app"));
    if (!url) return Error{"--url-like: " + url.error().message};
  }
  return Ok{};
}

// All of it; an error where it cannot be read to its end, or has no end.
Result<std::string> read_all(std::istream& in) {
  std::string text;
  std::vector<char> piece(64 * 1024);
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kInjectBytes_max) {
      return Error{fmt::format("more than {} MiB of input", kInjectBytes_max / (1024 * 1024))};
    }
  }
  if (in.bad()) return Error{"standard input could not be read to its end"};
  return text;
}

class Filter {
 public:
  Filter(const InjectOptions& options, std::ostream& err) : options_(options), err_(err) {}

  // The stream as it is to be written; empty where that cannot be, which has been said.
  std::optional<std::string> change(const std::string& input) {
    Result<std::vector<Object>> objects = read_stream(input);
    if (!objects) {
      err_ << prefix() << objects.error().message << '\n';
      return std::nullopt;
    }
    for (const Object& object : *objects) {
      collect_opted_out(object.value, opted_out_);
      if (options_.point) collect_references(object.value, references_);
    }
    std::string output;
    for (Object& object : *objects) {
      if (!change(object)) return std::nullopt;
      output += object.before + object.text;
    }
    if (!comes_out(output, *objects)) return std::nullopt;
    return output;
  }

 private:
  // Its value and its text. False: it cannot be, which has been said.
  bool change(Object& object) {
    if (object.value.is_null()) return true;  // comments, or nothing
    const Value before = object.value;
    const std::vector<Workload> workloads = find_workloads(object.value);
    if (workloads.empty()) {
      say(object, describe(object.value), "no workload, passed through");
      return true;
    }
    for (const Workload& workload : workloads) {
      if (!change(object, workload)) return false;
    }
    if (object.value == before) return true;
    if (!object.unsure.empty()) {
      say(object, describe(object.value), object.unsure);
      return false;
    }
    object.text = write_value(object.value, object.syntax, object.text);
    return true;
  }

  bool change(const Object& object, const Workload& workload) {
    const std::string name = describe(*workload.object);
    Value& pod = *workload.pod;
    const Value before = pod;
    if (options_.remove) {
      point_back(pod);
      remove_sidecar(pod);
      say(object, name, pod == before ? "unchanged" : "sidecar removed");
      return true;
    }
    if (const std::optional<std::string> why = left_alone(workload, opted_out_)) {
      say(object, name, "left alone: " + *why);
      return true;
    }
    if (const Status added = add(object, workload); !added) {
      say(object, name, added.error().message);
      return false;
    }
    say(object, name, pod == before ? "unchanged" : "sidecar added");
    return true;
  }

  Status add(const Object& object, const Workload& workload) {
    Value& pod = *workload.pod;
    const Value* label = pod.at({"metadata", "labels", kInjectLabel});
    std::string config_map = options_.config_map;
    if (config_map.empty() && label != nullptr) {
      config_map = pod.text_at({"metadata", "labels", kInjectLabel});
      if (!is_config_map_name(config_map)) {
        return Error{fmt::format("the label {} must name the ConfigMap that holds carpool.yaml",
                                 kInjectLabel)};
      }
    }
    if (config_map.empty()) config_map = kConfigMapDefault;
    const auto [known, is_new] = sidecars_.try_emplace(config_map);
    if (is_new) known->second = make_sidecar(config_map, options_.image, options_.classic);
    const Sidecar& sidecar = known->second;
    if (Status fits = check_pod(pod, sidecar.volumes); !fits) return fits;
    for (const std::string& warning : warnings(workload, options_.classic)) {
      say(object, describe(*workload.object), warning);
    }
    add_sidecar(pod, sidecar, config_map);
    if (!options_.point) return Ok{};
    const Result<std::vector<std::string>> pointed =
        point_at_sidecar(pod, references_, {options_.url_like, options_.classic});
    if (!pointed) return pointed.error();
    for (const std::string& note : *pointed) say(object, describe(*workload.object), note);
    return Ok{};
  }

  // What is to be written, read again: as many objects, each with the values that were meant.
  bool comes_out(const std::string& output, const std::vector<Object>& meant) {
    const Result<std::vector<Object>> read = read_stream(output);
    const auto next = [](const std::vector<Object>& objects, std::size_t& at) {
      while (at < objects.size() && objects[at].value.is_null()) at++;
      return at < objects.size() ? &objects[at++] : nullptr;
    };
    std::size_t i = 0;
    std::size_t k = 0;
    while (read) {
      const Object* ours = next(meant, i);
      const Object* theirs = next(*read, k);
      if (ours == nullptr && theirs == nullptr) return true;
      if (ours == nullptr || theirs == nullptr || !(ours->value == theirs->value)) {
        const Object& at = ours != nullptr ? *ours : meant.back();
        say(at, describe(at.value), "its values cannot be written back");
        return false;
      }
    }
    err_ << prefix() << "what would be written cannot be read: " << read.error().message << '\n';
    return false;
  }

  std::string prefix() const {
    return fmt::format("carpool {}: ", options_.remove ? "uninject" : "inject");
  }

  void say(const Object& object, const std::string& name, const std::string& what) {
    err_ << prefix() << fmt::format("line {}: {}: {}\n", object.line, name, what);
  }

  const InjectOptions& options_;
  std::ostream& err_;
  std::set<std::string> opted_out_;
  References references_;
  std::map<std::string, Sidecar> sidecars_;  // by the ConfigMap
};

}  // namespace

int run_inject(const InjectOptions& options, std::istream& in, std::ostream& out,
               std::ostream& err) {
  if (const Status right = check(options); !right) {
    err << "carpool inject: " << right.error().message << '\n';
    return kExitInjectUsage;
  }
  const Result<std::string> input = read_all(in);
  if (!input) {
    err << "carpool inject: " << input.error().message << '\n';
    return in.bad() ? kExitInputUnreadable : kExitDataError;
  }
  Filter filter(options, err);
  const std::optional<std::string> output = filter.change(*input);
  if (!output) return kExitDataError;
  out << *output;
  return 0;
}

}  // namespace carpool::cli
