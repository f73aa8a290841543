#include "config/diff.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/draft.h"
#include "config/keys.h"
#include "config/text.h"
#include "config/validate.h"

namespace carpool::config {
namespace {

const Database* find_entry(const std::vector<Database>& databases, const std::string& name) {
  auto found = std::find_if(databases.begin(), databases.end(),
                            [&](const Database& database) { return database.name == name; });
  return found == databases.end() ? nullptr : &*found;
}

std::string names_of(const std::vector<Database>& databases) {
  std::vector<std::string> names;
  names.reserve(databases.size());
  for (const Database& database : databases) names.push_back(database.name);
  return enumerate(names, "then");
}

// A secret that changed still has to look different.
KeyChange change_of(const Key& key, std::string path, const Value& before, const Value& after) {
  KeyChange change{std::move(path), to_masked_text(key, before), to_masked_text(key, after),
                   key.live};
  if (change.before == change.after) change.after += " (changed)";
  return change;
}

void add_entry_changes(const Database& before, const Database& after, const Config& running,
                       const Config& desired, std::vector<KeyChange>& changes) {
  Config old_view = view_of(before.server, before.pool);
  Config new_view = view_of(after.server, after.pool);
  for (const Key& key : keys()) {
    if (!key.in_databases()) continue;
    Value old_value = key.get(old_view);
    Value new_value = key.get(new_view);
    if (old_value == new_value) continue;
    if (old_value == key.get(running) && new_value == key.get(desired)) continue;  // inherited
    changes.push_back(change_of(key, fmt::format("databases[{}].{}", after.name, key.path),
                                old_value, new_value));
  }
}

void add_database_changes(const Config& running, const Config& desired,
                          std::vector<KeyChange>& changes) {
  std::vector<std::string> kept_before;
  std::vector<std::string> kept_after;
  for (const Database& before : running.databases) {
    if (find_entry(desired.databases, before.name) != nullptr) {
      kept_before.push_back(before.name);
    } else {
      changes.push_back({fmt::format("databases[{}]", before.name), before.name, "", true});
    }
  }
  for (const Database& after : desired.databases) {
    const Database* before = find_entry(running.databases, after.name);
    if (before != nullptr) {
      kept_after.push_back(after.name);
      add_entry_changes(*before, after, running, desired, changes);
    } else {
      changes.push_back({fmt::format("databases[{}]", after.name), "", after.name, true});
    }
  }
  // An entry that is added or removed says so by itself; this is about the others' order.
  if (kept_before != kept_after) {
    changes.push_back(
        {"databases", names_of(running.databases), names_of(desired.databases), true});
  }
}

// What may be reached, and from where. Where it changes together with who may come in, the one does
// not come without the other: neither file lets those of the old rules at what is new.
bool opens_doors(const Key& key) {
  return key.path.starts_with("server.") || key.path.starts_with("admin.") ||
         key.path.starts_with("listen.");
}

// The same for the databases: those that run, where they are, with the pools that are wanted.
void keep_doors_shut(const Config& running, Config& mixture) {
  std::vector<Database> kept = running.databases;
  for (Database& database : kept) {
    const Database* wanted = find_entry(mixture.databases, database.name);
    if (wanted != nullptr) database.pool = wanted->pool;
  }
  mixture.databases = std::move(kept);
}

bool contains(const std::vector<Problem>& problems, const Problem& problem) {
  return std::find(problems.begin(), problems.end(), problem) != problems.end();
}

// Judges a mixture of two configurations that are good.
class Judge {
 public:
  // All must outlive this object. `waiting`: the keys that are in the mixture as they run.
  Judge(const Config& running, const Config& desired, const Config& mixture,
        const std::vector<const Key*>& waiting, const Libpq& libpq)
      : running_(running), desired_(desired), mixture_(mixture), waiting_(waiting), libpq_(libpq) {}

  std::vector<Problem> run() const {
    std::vector<Problem> explained;
    for (const Problem& problem : problems()) explained.push_back(explain(problem));
    return explained;
  }

 private:
  Draft judged(const Config& config) const {
    Draft draft = draft_of(config, libpq_);
    validate(draft);
    sort_problems(draft.problems);
    return draft;
  }
  // Whether `problem`, or warning, of the mixture is gone once `key` is as in `other`.
  bool solves(const Key& key, const Config& other, const Problem& problem) const {
    Config tried = mixture_;
    key.set(tried, key.get(other));
    const Draft draft = judged(tried);
    return !contains(draft.problems, problem) && !contains(draft.warnings, problem);
  }
  std::vector<Problem> problems() const;
  Problem explain(const Problem& problem) const;

  const Config& running_;
  const Config& desired_;
  const Config& mixture_;
  const std::vector<const Key*>& waiting_;
  const Libpq& libpq_;
};

// For a while, or until the next start, is too long for what nobody has asked for: passwords in
// clear, for one, are only warned of in a file.
std::vector<Problem> Judge::problems() const {
  Draft draft = judged(mixture_);
  const std::vector<Problem> before = judged(running_).warnings;
  const std::vector<Problem> after = judged(desired_).warnings;
  for (Problem& warning : draft.warnings) {
    if (contains(before, warning) || contains(after, warning)) continue;
    draft.problems.push_back(std::move(warning));
  }
  return std::move(draft.problems);
}

// A problem that only the mixture has, in words about the change: its file alone has none.
Problem Judge::explain(const Problem& problem) const {
  std::vector<std::string> without;
  for (const Key* key : waiting_) {
    if (!solves(*key, desired_, problem)) continue;
    without.push_back(
        fmt::format("`{}` ({})", key->path, to_masked_text(*key, key->get(running_))));
  }
  if (without.empty()) {  // no single one of them
    for (const Key* key : waiting_) without.push_back(fmt::format("`{}`", key->path));
  }
  std::string blamed;  // the changed key that cannot come
  for (const Key& key : keys()) {
    if (key.get(running_) == key.get(mixture_) || !solves(key, running_, problem)) continue;
    blamed = key.path;
    break;
  }
  if (blamed.empty()) blamed = problem.path;
  return {blamed, 0, 0,
          fmt::format("cannot come without {}, which {} {}: `{}` {}", enumerate(without, "and"),
                      without.size() == 1 ? "waits for" : "wait for",
                      waiting_.front()->live ? "files that are still being read" : "a restart",
                      problem.path, problem.message)};
}

}  // namespace

std::vector<KeyChange> diff(const Config& running, const Config& desired) {
  std::vector<KeyChange> changes;
  for (const Key& key : keys()) {
    Value before = key.get(running);
    Value after = key.get(desired);
    if (before != after) changes.push_back(change_of(key, key.path, before, after));
  }
  add_database_changes(running, desired, changes);
  return changes;
}

bool needs_credentials(const Key& key) {
  return key.path.starts_with("auth.") || key.path.starts_with("listen.tls.");
}

InForce in_force(const Config& running, const Config& desired, const Libpq& libpq, Late late) {
  const bool strangers =
      late == Late::Credentials && std::any_of(keys().begin(), keys().end(), [&](const Key& key) {
        return needs_credentials(key) && key.get(running) != key.get(desired);
      });
  const auto waits = [&](const Key& key) {
    return !key.live || (late == Late::Credentials && needs_credentials(key)) ||
           (strangers && opens_doors(key));
  };
  Config mixture = desired;
  std::vector<const Key*> waiting;
  for (const Key& key : keys()) {
    if (!waits(key) || key.get(running) == key.get(desired)) continue;
    key.set(mixture, key.get(running));
    waiting.push_back(&key);
  }
  if (strangers) keep_doors_shut(running, mixture);
  if (waiting.empty()) return {std::move(mixture), {}};
  InForce result;
  result.problems = Judge(running, desired, mixture, waiting, libpq).run();
  if (result.problems.empty()) result.config = std::move(mixture);
  return result;
}

}  // namespace carpool::config
