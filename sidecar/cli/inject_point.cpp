#include "cli/inject_point.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "cli/inject_environment.h"
#include "cli/inject_pods.h"
#include "cli/inject_sidecar.h"
#include "cli/inject_url.h"

namespace carpool::cli {
namespace {

constexpr const char* kUrl = "DATABASE_URL";
// libpq's variables that say which server, as whom, and how it is to be trusted (PostgreSQL manual,
// "Environment Variables"). The application keeps its others: they are its session's.
constexpr std::array<std::string_view, 18> kMoved = {
    "PGHOST",        "PGHOSTADDR",          "PGPORT",           "PGDATABASE",
    "PGUSER",        "PGPASSWORD",          "PGPASSFILE",       "PGSSLMODE",
    "PGSSLROOTCERT", "PGSSLCERT",           "PGSSLKEY",         "PGSSLCRL",
    "PGSSLCRLDIR",   "PGREQUIRESSL",        "PGCHANNELBINDING", "PGREQUIREAUTH",
    "PGGSSENCMODE",  "PGTARGETSESSIONATTRS"};
// Of these the application keeps as whom and to which database, and gets the others anew.
constexpr std::array<std::string_view, 5> kKept = {"PGUSER", "PGDATABASE", "PGHOST", "PGPORT",
                                                   "PGSSLMODE"};
constexpr std::array<std::string_view, 6> kFiles = {"PGPASSFILE", "PGSSLROOTCERT", "PGSSLCERT",
                                                    "PGSSLKEY",   "PGSSLCRL",      "PGSSLCRLDIR"};
constexpr std::array<const char*, 6> kFilesOfUrl = {"passfile", "sslrootcert", "sslcert",
                                                    "sslkey",   "sslcrl",      "sslcrldir"};

// What the sidecar gets from one container.
struct Moved {
  std::string container;
  List env;
  List mounts;
};

template <typename Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool leads_to_sidecar_by_host(const Environment& env) {
  const std::string host = env.literal("PGHOST").value_or("");
  return (host == kSidecarHost || host == "localhost") && env.literal("PGPORT") == kSidecarPort;
}

// Variables that others are made of, $(NAME), go along, before them.
Status take_referenced(const Environment& env, std::string_view value, List& taken, int depth) {
  for (std::size_t at = 0; (at = value.find("$(", at)) != std::string_view::npos;) {
    const std::size_t end = value.find(')', at);
    if (end == std::string_view::npos) break;
    const std::string name(value.substr(at + 2, end - at - 2));
    const bool escaped = at > 0 && value[at - 1] == '$';
    at = end;
    if (escaped || named(taken, name) != nullptr) continue;
    const std::optional<Value> entry = env.find(name);
    if (!entry || depth == kDepth_max) {
      return Error{fmt::format("$({}) is not in its env", name)};
    }
    if (Status inner = take_referenced(env, entry->text_at({"value"}), taken, depth + 1); !inner) {
      return inner;
    }
    if (named(taken, name) == nullptr) taken.push_back(*entry);
  }
  return Ok{};
}

// The volume in which the application has a file that the sidecar needs now.
Status take_mount(const Value& container, const std::string& path, List& taken) {
  if (!path.starts_with('/')) return Ok{};
  const Value* best = nullptr;
  for (const Value& mount : container.list_at({"volumeMounts"})) {
    const std::string at = mount.text_at({"mountPath"});
    const bool holds = path == at || path.starts_with(at.ends_with('/') ? at : at + "/");
    if (holds && (best == nullptr || at.size() > best->text_at({"mountPath"}).size()))
      best = &mount;
  }
  if (best == nullptr) {
    return Error{
        fmt::format("{} is a file of its image, which the sidecar has not: mount it from a "
                    "Secret or ConfigMap",
                    path)};
  }
  if (std::find(taken.begin(), taken.end(), *best) == taken.end()) taken.push_back(*best);
  return Ok{};
}

class Container {
 public:
  Container(Value& container, const References& references, const PointOptions& options)
      : container_(container), env_(container, references), options_(options) {}

  // What is to be moved; nothing where there is nothing, or it is done already.
  Result<std::optional<Moved>> point(std::vector<std::string>& notes) {
    moved_.container = container_.text_at({"name"});
    Status done = Ok{};
    if (env_.find(kUrl)) {
      if (leads_to_sidecar(env_.literal(kUrl).value_or(""))) return std::optional<Moved>();
      if (env_.find("PGHOST")) {
        notes.push_back(
            fmt::format("container {}: {} was pointed at the sidecar, PGHOST left as it is",
                        moved_.container, kUrl));
      }
      done = point_url(notes);
    } else if (env_.find("PGHOST") || env_.find("PGHOSTADDR")) {
      if (leads_to_sidecar_by_host(env_)) return std::optional<Moved>();
      done = point_variables();
    } else {
      if (const std::string unknown = env_.unknown_source(); !unknown.empty()) {
        notes.push_back(
            fmt::format("warning: container {}: its variables come from {}, which is not in the "
                        "stream; if {} or "
                        "PGHOST is there, name it in env",
                        moved_.container, unknown, kUrl));
      }
      return std::optional<Moved>();
    }
    if (!done)
      return Error{fmt::format("container {}: {}", moved_.container, done.error().message)};
    return std::optional<Moved>(std::move(moved_));
  }

 private:
  Status point_url(std::vector<std::string>& notes) {
    const Value entry = *env_.find(kUrl);
    const std::optional<std::string> literal = env_.literal(kUrl);
    const std::optional<std::string> seen = literal ? literal : env_.behind(kUrl);
    if (literal) {
      if (Status taken = take_referenced(env_, *literal, moved_.env, 0); !taken) return taken;
    }
    std::string like = seen.value_or(options_.url_like);
    if (!seen) {
      if (like.empty()) {
        like = "postgresql://";
        notes.push_back(fmt::format(
            "warning: container {}: {} comes from a Secret that is not in the stream, so the "
            "application gets postgresql:// without parameters; --url-like says another form",
            moved_.container, kUrl));
      }
      // Whatever user and database it names, those of the sidecar's own URL are meant.
      like = with_user_and_database(like, "app", "app");
    }
    Result<std::string> url = url_at_sidecar(like);
    if (!url) return Error{fmt::format("{}: {}", kUrl, url.error().message)};
    for (const char* parameter : kFilesOfUrl) {
      if (Status taken = take_mount(container_, parameter_of(like, parameter), moved_.mounts);
          !taken) {
        return taken;
      }
    }
    moved_.env.push_back(entry);
    env_.set(kUrl, Value::text(*url));
    return Ok{};
  }

  Status point_variables() {
    for (const std::string_view name : kMoved) {
      const std::optional<Value> entry = env_.find(name);
      if (!entry) continue;
      const std::string value = env_.literal(name).value_or("");
      if (Status taken = take_referenced(env_, value, moved_.env, 0); !taken) return taken;
      if (contains(kFiles, name)) {
        if (Status taken = take_mount(container_, value, moved_.mounts); !taken) return taken;
      }
      if (named(moved_.env, name) == nullptr) moved_.env.push_back(*entry);
      if (!contains(kKept, name)) env_.take(name);
    }
    env_.set("PGHOST", Value::text(kSidecarHost));
    env_.set("PGPORT", Value::text(kSidecarPort));
    env_.set("PGSSLMODE", Value::text("disable"));
    return Ok{};
  }

  Value& container_;
  Environment env_;
  const PointOptions& options_;
  Moved moved_;
};

// The containers of the application that the sidecar serves.
std::vector<Value*> applications(Value& pod, bool classic) {
  std::vector<Value*> found;
  for (const std::string_view key : {"initContainers", "containers"}) {
    Value* list = pod.at({"spec", key});
    if (list == nullptr || list->list() == nullptr || (classic && key == "initContainers"))
      continue;
    for (Value& container : *list->list()) {
      if (container.text_at({"name"}) != kSidecarName) found.push_back(&container);
    }
  }
  return found;
}

Status add_mounts(Value& sidecar, const List& mounts) {
  Value* there = sidecar.at({"volumeMounts"});
  for (const Value& mount : mounts) {
    const std::string path = mount.text_at({"mountPath"});
    const auto same =
        std::find_if(there->list()->begin(), there->list()->end(),
                     [&path](const Value& each) { return each.text_at({"mountPath"}) == path; });
    if (same == there->list()->end()) {
      there->list()->push_back(mount);
    } else if (!alike(*same, mount)) {
      return Error{fmt::format("the sidecar has another volume at {}", path)};
    }
  }
  return Ok{};
}

}  // namespace

Result<std::vector<std::string>> point_at_sidecar(Value& pod, const References& references,
                                                  const PointOptions& options) {
  std::vector<std::string> notes;
  std::optional<Moved> first;
  bool leads = false;
  for (Value* container : applications(pod, options.classic)) {
    Result<std::optional<Moved>> moved = Container(*container, references, options).point(notes);
    if (!moved) return moved.error();
    leads = leads || *moved || points_somewhere(*container);
    if (!*moved) continue;
    if (first && !(first->env == (*moved)->env)) {
      return Error{
          fmt::format("containers {} and {} go to PostgreSQL in two ways, and the sidecar's "
                      "environment names one server: write both in `databases` of the "
                      "ConfigMap, and point the containers by hand",
                      first->container, (*moved)->container)};
    }
    if (!first) {
      first = std::move(*moved);
    } else {
      first->mounts.insert(first->mounts.end(), (*moved)->mounts.begin(), (*moved)->mounts.end());
    }
  }
  if (!leads)
    notes.push_back(
        fmt::format("warning: no container has {} or PGHOST: none was pointed "
                    "at the sidecar",
                    kUrl));
  Value* sidecar = find_sidecar(pod);
  if (!first || sidecar == nullptr) return notes;
  if (Status added = add_mounts(*sidecar, first->mounts); !added) return added.error();
  sidecar->set("env", Value(std::move(first->env)), "image");
  return notes;
}

void point_back(Value& pod) {
  const Value* sidecar = find_sidecar(pod);
  if (sidecar == nullptr) return;
  static const References kNone;
  const List env = sidecar->list_at({"env"});
  if (env.empty()) return;
  for (Value* container : applications(pod, false)) {
    Environment own(*container, kNone);
    const bool by_url =
        named(env, kUrl) != nullptr && leads_to_sidecar(own.literal(kUrl).value_or(""));
    const bool by_host = named(env, kUrl) == nullptr && leads_to_sidecar_by_host(own);
    if (!by_url && !by_host) continue;
    for (const std::string_view name : {"PGHOST", "PGPORT", "PGSSLMODE"}) {
      if (by_host && named(env, name) == nullptr) own.erase(name);
    }
    for (const Value& entry : env) own.put(entry);
  }
}

}  // namespace carpool::cli
