#include "config/reference.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/keys.h"
#include "config/text.h"

namespace carpool::config {
namespace {

using Json = nlohmann::ordered_json;

// The sections in the order of the page, and what each is about.
struct Section {
  const char* name;
  const char* about;
};
constexpr Section kSections[] = {
    {"listen", "Where clients connect."},
    {"admin", "The HTTP endpoints: probes, metrics, status, and the control port."},
    {"auth", "How clients sign in."},
    {"server",
     "Where PostgreSQL is and how Carpool signs in there. An entry of `databases` may "
     "override each key."},
    {"pool", "How servers are shared. An entry of `databases` may override each key."},
    {"log", "What is logged."},
    {"drain", "How Carpool ends after SIGTERM."},
};

// A variable anywhere in the text.
constexpr const char* kVariablePattern = R"(\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\})";

std::string default_of(const Key& key) {
  return key.unset.empty() ? to_text(key, key.get(Config{})) : key.unset;
}

std::string type_of(const Key& key) {
  switch (key.type) {
    case KeyType::String:
      return "text";
    case KeyType::Int:
      return key.unit.empty() ? "whole number" : "number of " + key.unit;
    case KeyType::Duration:
      return "duration";
    case KeyType::Enum:
      return "one of " + enumerate(key.values, "or");
    case KeyType::StringList:
      return "list of texts";
  }
  return "";
}

std::string limits_of(const Key& key) {
  if (key.type != KeyType::Int && key.type != KeyType::Duration) return "";
  std::string least = to_text(key, Value{key.min});
  std::string most = to_text(key, Value{key.max});
  std::string limits = fmt::format("{} to {}", least, most);
  if (!key.zero.empty()) {
    limits += fmt::format(", or {}: {}", to_text(key, Value{std::int64_t{0}}), key.zero);
  }
  return limits;
}

const char* applies(const Key& key) {
  return key.live ? "live" : "after a restart";
}

// `|` would end a cell.
std::string cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return text;
}

// `|`-free text between backticks; nothing for nothing.
std::string code(const std::string& text) {
  return text.empty() ? "" : "`" + text + "`";
}

std::string row(const Key& key) {
  std::string values;
  if (key.type == KeyType::Enum) {
    std::vector<std::string> names;
    for (const std::string& name : key.values) names.push_back(code(name));
    values = enumerate(names, "or");
  } else {
    values = type_of(key);
    if (std::string limits = limits_of(key); !limits.empty()) values += ", " + limits;
  }
  return fmt::format("| {} | {} | {} | {} | {} |\n", code(key.path), cell(values),
                     cell(code(default_of(key))), key.live ? "live" : "restart", cell(key.meaning));
}

constexpr const char* kIntroduction = R"(# Configuration

<!-- Made from the loader's own table of keys (sidecar/config/keys.cpp); a test holds this page to
     it. Change the table, not the page. -->

One YAML file, usually mounted from a ConfigMap. Every key has a default, so that an empty file and
a `DATABASE_URL` (or `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, ...) in the environment are enough.
`carpool check FILE` lists every mistake in a file with its line, and `carpool config explain KEY`
prints what stands here about a key.

- **Live or restart.** A change of a *live* key applies within a second of the mounted file's change,
  without cutting a transaction. A *restart* key keeps its value until the next start, and `/config`
  says that it waits.
- **Durations** have a unit: `500ms`, `10s`, `5m`, `1h`, `2d`, or parts together, `1h30m`. A bare
  number is an error.
- **Variables.** `${VAR}` in a value is replaced from the environment, and an unset one is an error;
  `${VAR:-default}` has a default for an unset or empty one; `$$` is a dollar sign. The replacement
  is made after the YAML was read, so that no content can break it. Inside `{ }` it needs quotes:
  `{password: "${PASSWORD}"}`.
- **Passwords** belong into a mounted `server.passwordFile` or a `${VAR}`. In a URL, `@`, `:`, `/`,
  `?`, `#` and `%` in a password have to be percent-encoded. No endpoint or log shows a password.
- **Servers.** Where the file gives neither `server.url` nor `server.host`, they come from
  `DATABASE_URL`, else from libpq's variables; other keys of `server` in the file go first.

)";

constexpr const char* kDatabasesPart = R"(## databases

A list. The first entry whose `name` is the database that the client asked for, or `"*"`, is used;
the rest of the list is not looked at. Without a list there is one entry `"*"`.

| Key | Value | Applies | Meaning |
|---|---|---|---|
| `databases[].name` | text, 1 to 255 bytes, each once | live | The name that clients ask for, or `"*"` for any. |
| `databases[].server` | the keys of `server` | live | What is different from `server` above. A `url` here also replaces what `server` says about the same things; a `password` or `passwordFile` here replaces either. |
| `databases[].pool` | the keys of `pool` | live | What is different from `pool` above. |

```yaml
databases:
  - {name: app_jobs, server: {database: app}, pool: {mode: session, size: 5}}
  - {name: app_ro, server: {host: "replica-0,replica-1", targetSessionAttrs: prefer-standby}}
  - {name: "*"}
```

)";

Json any_of(Json first, Json second) {
  return {{"anyOf", {std::move(first), std::move(second)}}};
}

// What `parse_value` takes, as far as a schema can say it. Null is "not given" everywhere.
Json schema_of(const Key& key) {
  Json variable = {{"type", "string"}, {"pattern", kVariablePattern}};
  Json schema;
  switch (key.type) {
    case KeyType::String:
      schema = {{"type", {"string", "null"}}, {"maxLength", kStringBytes_max}};
      break;
    case KeyType::StringList:
      schema = {{"type", {"array", "null"}},
                {"maxItems", kListEntries_max},
                {"items", {{"type", "string"}, {"maxLength", kStringBytes_max}}}};
      break;
    case KeyType::Enum: {
      Json names = key.values;
      for (const std::string& name : key.values) {
        // A plain `off` reaches Helm as false.
        if (name == "off") names.push_back(false);
      }
      if (!key.unset.empty()) names.push_back("");
      names.push_back(nullptr);
      schema = any_of({{"enum", std::move(names)}}, std::move(variable));
      break;
    }
    case KeyType::Int: {
      Json number = {{"type", {"integer", "null"}}, {"minimum", key.min}, {"maximum", key.max}};
      if (!key.zero.empty() && key.min > 0) number["minimum"] = 0;
      schema = any_of(std::move(number), std::move(variable));
      break;
    }
    case KeyType::Duration: {
      Json time = {
          {"type", {"string", "null"}},
          {"pattern", R"(^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?$)"},
          {"minLength", 2}};
      schema = any_of(std::move(time), std::move(variable));
      break;
    }
  }
  std::string description = key.meaning;
  if (std::string limits = limits_of(key); !limits.empty()) {
    description += fmt::format(" {}.", limits);
  }
  description += fmt::format(" Applies {}.", applies(key));
  schema["description"] = description;
  Value initial = key.get(Config{});
  if (key.type == KeyType::Int) {
    schema["default"] = key.unset.empty() ? std::get<std::int64_t>(initial) : std::stoll(key.unset);
  } else if (const auto* list = std::get_if<std::vector<std::string>>(&initial)) {
    schema["default"] = *list;
  } else {
    schema["default"] = default_of(key);
  }
  return schema;
}

Json object_schema(std::string description) {
  return {{"type", {"object", "null"}},
          {"description", std::move(description)},
          {"additionalProperties", false},
          {"properties", Json::object()}};
}

// The place of a path's schema, with the sections on the way made.
Json& schema_place(Json& object, std::string_view path) {
  std::size_t dot = path.find('.');
  std::string name(path.substr(0, dot));
  Json& properties = object["properties"];
  if (dot == std::string_view::npos) return properties[name];
  if (!properties.contains(name)) properties[name] = object_schema("");
  return schema_place(properties[name], path.substr(dot + 1));
}

std::string explain_key(const Key& key) {
  std::string out = fmt::format("{}\n  {}\n", key.path, key.meaning);
  out += fmt::format("  type     {}\n", type_of(key));
  if (std::string limits = limits_of(key); !limits.empty()) {
    out += fmt::format("  limits   {}\n", limits);
  }
  std::string initial = default_of(key);
  out += fmt::format("  default  {}\n", initial.empty() ? "(empty)" : initial);
  out += fmt::format("  applies  {}\n", applies(key));
  if (key.in_databases()) {
    out += fmt::format("  also     databases[].{}\n", key.path);
  }
  return out;
}

std::string explain_section(const Section& section) {
  std::string prefix = std::string(section.name) + ".";
  std::string out = fmt::format("{}\n  {}\n", section.name, section.about);
  for (const Key& key : keys()) {
    if (!key.path.starts_with(prefix)) continue;
    std::string initial = default_of(key);
    out += fmt::format("  {:<32} {:<16} {}\n", key.path, initial.empty() ? "(empty)" : initial,
                       applies(key));
  }
  return out;
}

}  // namespace

std::string reference_markdown() {
  std::string page = kIntroduction;
  for (const Section& section : kSections) {
    if (std::string_view(section.name) == "log") page += kDatabasesPart;
    page += fmt::format("## {}\n\n{}\n\n", section.name, section.about);
    page += "| Key | Value | Default | Applies | Meaning |\n|---|---|---|---|---|\n";
    std::string prefix = std::string(section.name) + ".";
    for (const Key& key : keys()) {
      if (key.path.starts_with(prefix)) page += row(key);
    }
    page += "\n";
  }
  page.pop_back();
  return page;
}

std::string json_schema() {
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "Carpool configuration"},
                 {"type", {"object", "null"}},
                 {"additionalProperties", false},
                 {"properties", Json::object()}};
  Json entry = object_schema("One database that clients may ask for.");
  entry["type"] = "object";
  entry["required"] = {"name"};
  entry["properties"]["name"] = {{"type", "string"},
                                 {"minLength", 1},
                                 {"maxLength", 255},
                                 {"description", "The name that clients ask for, or \"*\"."}};
  for (const Section& section : kSections) {
    if (std::string_view(section.name) == "log") schema["properties"]["databases"] = nullptr;
    schema["properties"][section.name] = object_schema(section.about);
  }
  for (const Key& key : keys()) {
    schema_place(schema, key.path) = schema_of(key);
    if (!key.in_databases()) continue;
    Json inherited = schema_of(key);
    inherited.erase("default");
    schema_place(entry, key.path) = std::move(inherited);
  }
  schema["properties"]["listen"]["properties"]["tls"]["description"] = "TLS for clients.";
  entry["properties"]["server"]["description"] = "What is different from `server` above.";
  entry["properties"]["pool"]["description"] = "What is different from `pool` above.";
  schema["properties"]["databases"] = {
      {"type", {"array", "null"}},
      {"description", "The first entry whose name matches is used; without any, one \"*\"."},
      {"maxItems", kDatabases_max},
      {"items", std::move(entry)}};
  return schema.dump(2) + "\n";
}

std::optional<std::string> explain(std::string_view key) {
  // databases[].pool.size, databases[app].pool.size
  if (key.starts_with("databases[") && key.find("].") != std::string_view::npos) {
    key.remove_prefix(key.find("].") + 2);
    const Key* found = find_key(key);
    if (found == nullptr || !found->in_databases()) return std::nullopt;
    return explain_key(*found);
  }
  if (const Key* found = find_key(key)) return explain_key(*found);
  for (const Section& section : kSections) {
    if (key == section.name) return explain_section(section);
  }
  std::string out;
  for (const Key& candidate : keys()) {
    if (key.empty() || !candidate.path.ends_with("." + std::string(key))) continue;
    if (!out.empty()) out += "\n";
    out += explain_key(candidate);
  }
  if (key == "databases") {
    return "databases\n  A list of entries {name, server, pool}. The first whose name is the "
           "database that the\n  client asked for, or \"*\", is used; `server` and `pool` override "
           "the sections, key by key.\n  default  one entry \"*\"\n  applies  live\n";
  }
  if (out.empty()) return std::nullopt;
  return out;
}

}  // namespace carpool::config
