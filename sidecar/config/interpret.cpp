#include "config/interpret.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/check.h"
#include "config/environment.h"
#include "config/framework_url.h"
#include "config/keys.h"
#include "config/text.h"
#include "config/url.h"
#include "config/validate_server.h"

namespace carpool::config {
namespace {

const std::string kTimeoutPath = "server.connectTimeout";

const char* name_of(NodeKind kind) {
  switch (kind) {
    case NodeKind::Null:
      return "nothing";
    case NodeKind::Scalar:
      return "a single value";
    case NodeKind::List:
      return "a list";
    case NodeKind::Mapping:
      return "a mapping";
  }
  CHECK(false);
}

// The names that may stand directly in a section: "" -> listen, admin, ...; "listen." -> address,
// port, ..., tls. A name comes once, in the order of the table.
std::vector<std::string> names_below(const std::string& prefix) {
  std::vector<std::string> names;
  for (const Key& key : keys()) {
    if (!key.path.starts_with(prefix)) continue;
    std::string name = key.path.substr(prefix.size());
    name = name.substr(0, name.find('.'));
    if (names.empty() || names.back() != name) names.push_back(std::move(name));
  }
  return names;
}

bool is_section(const std::string& path) {
  for (const Key& key : keys()) {
    if (key.path.starts_with(path + ".")) return true;
  }
  return false;
}

// The whole path of the only key of that bare name; empty where there is none or are several.
std::string path_elsewhere(const std::string& name) {
  std::string found;
  for (const Key& key : keys()) {
    if (!key.path.ends_with("." + name)) continue;
    if (!found.empty()) return "";
    found = key.path;
  }
  return found;
}

class Interpreter {
 public:
  // All three must outlive this object.
  Interpreter(const Tree& tree, const Environment& env, Draft& draft)
      : tree_(tree), env_(env), draft_(draft) {}

  void run();

 private:
  struct Entry {
    std::string name;
    Place key_place;
    const Node* value = nullptr;
  };

  const Node& at(std::size_t index) const { return tree_.nodes.at(index); }
  void problem(const std::string& path, Place place, std::string message) {
    add_problem(draft_.problems, path, place, std::move(message));
  }

  std::vector<Entry> entries_of(const Node& node, const std::string& shown);
  void unknown(const Entry& entry, const std::string& prefix, const std::string& shown,
               const std::vector<std::string>& known);
  void read_section(const Node& node, const std::string& prefix, const std::string& shown,
                    Config& target);
  void read_key(const Node& node, const Key& key, const std::string& shown, Config& target);
  std::optional<Value> read_scalar(const Node& node, const Key& key, const std::string& shown);
  std::string take_url(const std::string& text, const Node& node, const std::string& shown);
  void read_databases();
  void read_database(const Node& node, const std::string& shown);
  void drop_overridden(const std::string& shown, Config& view) const;
  void read_url_timeout(const std::string& shown, Server& server) const;

  const Tree& tree_;
  const Environment& env_;
  Draft& draft_;
  const Node* databases_ = nullptr;
};

// The entries of a mapping whose keys are plain names, each once; `shown` is where it stands, with
// a dot at its end, or empty. Null is an empty mapping.
std::vector<Interpreter::Entry> Interpreter::entries_of(const Node& node,
                                                        const std::string& shown) {
  std::vector<Entry> entries;
  std::string path = shown.empty() ? "" : shown.substr(0, shown.size() - 1);
  if (node.kind == NodeKind::Null) return entries;
  if (node.kind != NodeKind::Mapping) {
    problem(path, node.place,
            fmt::format("a mapping of keys is expected, not {}", name_of(node.kind)));
    return entries;
  }
  std::map<std::string, Place> seen;
  for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) {
    const Node& key = at(node.children[i]);
    if (key.kind != NodeKind::Scalar) {
      problem(path, key.place, fmt::format("a key has to be a name, not {}", name_of(key.kind)));
      continue;
    }
    if (key.text == "<<") {
      problem(path, key.place,
              "merge keys (`<<`) are not supported; write the keys out (a database inherits "
              "`server` and `pool` by itself)");
      continue;
    }
    auto [first, is_new] = seen.emplace(key.text, key.place);
    if (!is_new) {
      problem(shown + key.text, key.place,
              fmt::format("is given twice; the first is in line {}", first->second.line));
      continue;
    }
    entries.push_back({key.text, key.place, &at(node.children[i + 1])});
  }
  return entries;
}

void Interpreter::unknown(const Entry& entry, const std::string& prefix, const std::string& shown,
                          const std::vector<std::string>& known) {
  std::string meant = nearest_name(entry.name, known);
  std::string elsewhere = path_elsewhere(entry.name);
  std::string hint;
  if (entry.name.find(':') != std::string::npos) {
    hint = "a `:` needs a space behind it";
  } else if (!meant.empty()) {
    hint = fmt::format("did you mean `{}`?", meant);
  } else if (!elsewhere.empty() && elsewhere != prefix + entry.name) {
    hint = fmt::format("did you mean `{}`?", elsewhere);
  } else {
    hint = fmt::format("known here: {}", enumerate(known));
  }
  std::string printable = quote(entry.name);
  problem(shown + printable.substr(1, printable.size() - 2), entry.key_place,
          "unknown key; " + hint);
}

void Interpreter::read_section(const Node& node, const std::string& prefix,
                               const std::string& shown, Config& target) {
  for (const Entry& entry : entries_of(node, shown)) {
    std::string path = prefix + entry.name;
    const Key* key = find_key(path);
    if (key != nullptr) {
      read_key(*entry.value, *key, shown + entry.name, target);
    } else if (path == "databases") {
      draft_.given[path] = entry.key_place;
      databases_ = entry.value;
    } else if (is_section(path)) {
      draft_.given[shown + entry.name] = entry.key_place;
      read_section(*entry.value, path + ".", shown + entry.name + ".", target);
    } else {
      std::vector<std::string> known = names_below(prefix);
      if (prefix.empty()) known.push_back("databases");
      unknown(entry, prefix, shown, known);
    }
  }
}

std::string Interpreter::take_url(const std::string& text, const Node& node,
                                  const std::string& shown) {
  PlainUrl plain = plain_url(text);
  if (!plain.left_out.empty()) {
    add_problem(draft_.warnings, shown, node.place, left_out_warning(plain.left_out));
  }
  return std::move(plain.url);
}

std::optional<Value> Interpreter::read_scalar(const Node& node, const Key& key,
                                              const std::string& shown) {
  std::string error;
  if (node.kind != NodeKind::Scalar) {
    error = fmt::format("a single value is expected, not {}", name_of(node.kind));
  } else if (Result<std::string> text = expand(node.text, env_); !text) {
    error = text.error().message;
  } else {
    if (key.path == "server.url") *text = take_url(*text, node, shown);
    Result<Value> value = parse_value(key, *text, node.text);
    if (value) return *value;
    error = value.error().message;
  }
  problem(shown, node.place, error);
  draft_.bad.insert(shown);
  return std::nullopt;
}

void Interpreter::read_key(const Node& node, const Key& key, const std::string& shown,
                           Config& target) {
  // `certFile:` with nothing behind it, and a value that Helm was told to delete.
  if (node.kind == NodeKind::Null) return;
  draft_.given[shown] = node.place;
  if (key.type != KeyType::StringList) {
    std::optional<Value> value = read_scalar(node, key, shown);
    if (!value) return;
    key.set(target, *value);
    bool in_clear = key.secrecy == Secrecy::Whole && !node.text.empty() &&
                    node.text.find("${") == std::string::npos;
    if (in_clear) {
      add_problem(draft_.warnings, shown, node.place,
                  "a password stands in the file; use ${VAR} or `server.passwordFile`");
    }
    return;
  }
  if (node.kind != NodeKind::List) {
    problem(shown, node.place,
            fmt::format("a list is expected, such as [a, b], not {}", name_of(node.kind)));
    draft_.bad.insert(shown);
    return;
  }
  if (node.children.size() > kListEntries_max) {
    problem(shown, node.place, fmt::format("has more than {} entries", kListEntries_max));
    draft_.bad.insert(shown);
    return;
  }
  std::vector<std::string> list;
  for (std::size_t i = 0; i < node.children.size(); i++) {
    std::optional<Value> value =
        read_scalar(at(node.children[i]), key, fmt::format("{}[{}]", shown, i));
    if (value) list.push_back(std::get<std::string>(*value));
  }
  key.set(target, Value{std::move(list)});
}

// A database's own url, or its own form of password, takes the place of what the sections say
// about the same thing.
void Interpreter::drop_overridden(const std::string& shown, Config& view) const {
  static const Config kDefaults;
  auto drop = [&](const char* path) {
    const Key* key = find_key(path);
    CHECK(key != nullptr);
    if (!draft_.is_given(shown + path)) key->set(view, key->get(kDefaults));
  };
  if (draft_.is_given(shown + "server.url")) {
    Result<UrlParts> parts = parse_url(view.server.url, draft_.libpq);
    for (const UrlDecides& decides : kUrlDecides) {
      if (parts && parts->contains(decides.parameter)) drop(decides.path);
    }
    // A port and a password belong to the host and the user that they stand beside.
    bool has_host = parts && (parts->contains("host") || parts->contains("hostaddr"));
    if (has_host) drop("server.port");
    if (parts && parts->contains("password")) drop("server.passwordFile");
  }
  if (draft_.is_given(shown + "server.password")) drop("server.passwordFile");
  if (draft_.is_given(shown + "server.passwordFile")) drop("server.password");
}

// The `connect_timeout` of a url means `server.connectTimeout`, which goes before it where it is
// given: in an entry of `databases`, `shown`, or in the section from which the entry has the url.
void Interpreter::read_url_timeout(const std::string& shown, Server& server) const {
  bool of_section = !draft_.is_given(shown + "server.url") && draft_.is_given(kTimeoutPath);
  if (draft_.is_given(shown + kTimeoutPath) || of_section) return;
  Result<UrlParts> parts = parse_url(server.url, draft_.libpq);
  if (!parts || !parts->contains("connect_timeout")) return;
  if (std::optional<Micros> given = connect_timeout_of(parts->at("connect_timeout"))) {
    server.connect_timeout_us = *given;
  }
}

void Interpreter::read_database(const Node& node, const std::string& shown) {
  std::string prefix = shown + ".";
  draft_.given[shown] = node.place;
  Database database;
  Config view = view_of(draft_.config.server, draft_.config.pool);
  Key name_key;  // a name is read like any string, but belongs to no plain struct
  bool named = false;
  for (const Entry& entry : entries_of(node, prefix)) {
    if (entry.name == "name") {
      named = true;
      std::optional<Value> value = read_scalar(*entry.value, name_key, prefix + "name");
      if (!value) continue;
      draft_.given[prefix + "name"] = entry.value->place;
      database.name = std::get<std::string>(*value);
      if (database.name.empty()) problem(prefix + "name", entry.value->place, "is empty");
    } else if (entry.name == "server" || entry.name == "pool") {
      draft_.given[prefix + entry.name] = entry.key_place;
      read_section(*entry.value, entry.name + ".", prefix + entry.name + ".", view);
    } else {
      unknown(entry, "", prefix, {"name", "server", "pool"});
    }
  }
  if (!named && node.kind == NodeKind::Mapping) {
    problem(shown, node.place, "lacks its `name`: the database that clients ask for, or \"*\"");
  }
  drop_overridden(prefix, view);
  read_url_timeout(prefix, view.server);
  database.server = std::move(view.server);
  database.pool = std::move(view.pool);
  draft_.config.databases.push_back(std::move(database));
  draft_.database_paths.push_back(shown);
}

void Interpreter::read_databases() {
  if (databases_ == nullptr || databases_->kind == NodeKind::Null) return;
  if (databases_->kind != NodeKind::List) {
    problem("databases", databases_->place,
            fmt::format("a list of `- name: ...` entries is expected, not {}",
                        name_of(databases_->kind)));
    return;
  }
  if (databases_->children.size() > kDatabases_max) {
    problem("databases", databases_->place,
            fmt::format("has more than {} entries", kDatabases_max));
    return;
  }
  for (std::size_t i = 0; i < databases_->children.size(); i++) {
    const Node& node = at(databases_->children[i]);
    std::string shown = fmt::format("databases[{}]", i);
    if (node.kind == NodeKind::Null) {
      problem(shown, node.place, "is empty; a `name` is the least");
      continue;
    }
    read_database(node, shown);
  }
}

void Interpreter::run() {
  if (!tree_.nodes.empty()) read_section(at(0), "", "", draft_.config);
  if (!draft_.is_given("server.url") && !draft_.is_given("server.host")) {
    server_from_environment(env_, draft_);
  } else {
    warn_of_environment(env_, draft_);
  }
  read_databases();
  // Behind the databases: those with a url of their own do not inherit what this one says.
  read_url_timeout("", draft_.config.server);
  if (draft_.config.databases.empty()) {
    draft_.config.databases.push_back({"*", draft_.config.server, draft_.config.pool});
    draft_.database_paths.push_back("databases[0]");
  }
}

}  // namespace

void interpret(const Tree& tree, const Environment& env, Draft& draft) {
  Interpreter(tree, env, draft).run();
}

}  // namespace carpool::config
