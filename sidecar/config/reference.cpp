#include "config/reference.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "config/keys.h"
#include "config/moment.h"
#include "config/text.h"

namespace carpool::config {
namespace {

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
    if (std::string limits = limits_text(key); !limits.empty()) values += ", " + limits;
  }
  return fmt::format("| {} | {} | {} | {} | {} |\n", code(key.path), cell(values),
                     cell(code(default_text(key))), name_of(moment_of(key)), cell(key.meaning));
}

constexpr const char* kIntroduction = R"(# Configuration

<!-- Made from the loader's own table of keys (sidecar/config/keys.cpp); a test holds this page to
     it. Change the table, not the page. -->

One YAML file, usually mounted from a ConfigMap. Every key has a default, so that an empty file and
a `DATABASE_URL` (or `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, ...) in the environment are enough.
`carpool check FILE` lists every mistake in a file with its line, and `carpool config explain KEY`
prints what stands here about a key.

- **Live or restart.** A change of a *live* key applies within a second of the mounted file's change,
  without cutting a transaction. What is under way may go on by the old value: the new one counts from
  the *next client* that connects, for *each server* as it comes back and is replaced, from the *next
  lease* of a server, which is a session in session mode, or from the *next transaction*. A *restart*
  key keeps its value until the next start, and `/config` says that it waits.
- **Durations** have a unit: `500ms`, `10s`, `5m`, `1h`, `2d`, or parts together, `1h30m`. A bare
  number is an error.
- **Variables.** `${VAR}` in a value is replaced from the environment, and an unset one is an error;
  `${VAR:-default}` has a default for an unset or empty one; `$$` is a dollar sign. The replacement
  is made after the YAML was read, so that no content can break it. Inside `{ }` it needs quotes:
  `{password: "${PASSWORD}"}`.
- **Passwords** belong into a mounted `server.passwordFile` or a `${VAR}`. In a URL, `@`, `:`, `/`,
  `?`, `#` and `%` in a password have to be percent-encoded. No endpoint or log shows a password.
- **Files** that servers are opened with (`server.passwordFile`, `server.sslRootCert`, ..., those that a URL names
  and those that libpq looks for in the home folder) are read anew for each connection. They have to be plain
  files. One that is none, or hangs, is an error for its database alone.
- **Servers.** Where the file gives neither `server.url` nor `server.host`, they come from
  `DATABASE_URL`, else from libpq's variables; other keys of `server` in the file go first. All of
  libpq's variables count then, those of sessions too (`PGOPTIONS`, `PGTZ`, `PGDATESTYLE`,
  `PGCLIENTENCODING`, `PGPASSFILE`, ...), beside `DATABASE_URL` those for what it leaves open but
  `PGUSER` and `PGDATABASE`; `/config` shows what came of them, in `server.url` where no key says the
  same. Where the file names the server, none of them counts, `PGPASSWORD` and `PGPASSFILE` no more
  than the others, and a warning names them; `${PGPASSWORD}` in the file is a word of the file. A
  `~/.pgpass` is still looked at where there is no password.
- **URLs.** A parameter of `server.url` that has a key of ours means that key, `connect_timeout` the
  key `server.connectTimeout`; the key beside it goes first. What libpq does not know, or refuses
  whatever the server is, is an error, and so is what PostgreSQL refuses in `options`; what means
  nothing is a warning. `service` is an error: libpq's service file is not read. A URL without a host
  leads to a Unix socket in the folder that libpq was built with, which is a warning.

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

std::string explain_key(const Key& key) {
  std::string out = fmt::format("{}\n  {}\n", key.path, key.meaning);
  out += fmt::format("  type     {}\n", type_of(key));
  if (std::string limits = limits_text(key); !limits.empty()) {
    out += fmt::format("  limits   {}\n", limits);
  }
  std::string initial = default_text(key);
  out += fmt::format("  default  {}\n", initial.empty() ? "(empty)" : initial);
  out += fmt::format("  applies  {}\n", applies_text(key));
  if (key.in_databases()) {
    out += fmt::format("  also     databases[].{}\n", key.path);
  }
  return out;
}

std::string explain_section(const Section& section) {
  std::string prefix = section.name + ".";
  std::string out = fmt::format("{}\n  {}\n", section.name, section.about);
  for (const Key& key : keys()) {
    if (!key.path.starts_with(prefix)) continue;
    std::string initial = default_text(key);
    out += fmt::format("  {:<32} {:<16} {}\n", key.path, initial.empty() ? "(empty)" : initial,
                       applies_text(key));
  }
  return out;
}

}  // namespace

std::string reference_markdown() {
  std::string page = kIntroduction;
  for (const Section& section : sections()) {
    if (section.name == "log") page += kDatabasesPart;
    page += fmt::format("## {}\n\n{}\n\n", section.name, section.about);
    page += "| Key | Value | Default | Applies | Meaning |\n|---|---|---|---|---|\n";
    std::string prefix = section.name + ".";
    for (const Key& key : keys()) {
      if (key.path.starts_with(prefix)) page += row(key);
    }
    page += "\n";
  }
  page.pop_back();
  return page;
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
  for (const Section& section : sections()) {
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
