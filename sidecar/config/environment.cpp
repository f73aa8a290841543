#include "config/environment.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

#include "base/check.h"
#include "config/keys.h"
#include "config/text.h"
#include "config/url.h"

namespace carpool::config {
namespace {

// Where a variable's value goes.
constexpr std::array<std::pair<const char*, const char*>, 11> kVariables = {{
    {"PGPORT", "server.port"},
    {"PGUSER", "server.user"},
    {"PGPASSWORD", "server.password"},
    {"PGDATABASE", "server.database"},
    {"PGSSLMODE", "server.sslMode"},
    {"PGSSLROOTCERT", "server.sslRootCert"},
    {"PGSSLCERT", "server.sslCert"},
    {"PGSSLKEY", "server.sslKey"},
    {"PGTARGETSESSIONATTRS", "server.targetSessionAttrs"},
    {"PGOPTIONS", "server.options"},
    {"PGCONNECT_TIMEOUT", "server.connectTimeout"},
}};

// A variable that is set to nothing counts as not set, as it does for libpq.
std::optional<std::string> lookup(const Environment& env, const char* name) {
  std::optional<std::string> value = env(name);
  return value && !value->empty() ? value : std::nullopt;
}

void set_from(const char* variable, std::string text, const char* path, Draft& draft) {
  if (draft.is_given(path)) return;
  const Key* key = find_key(path);
  CHECK(key != nullptr);
  std::string written = text;
  // libpq counts whole seconds, and 0 means to wait for ever, which Carpool never does.
  if (key->type == KeyType::Duration) {
    if (text == "0") return;
    text += "s";
  }
  Result<Value> value = parse_value(*key, text, written);
  if (!value) {
    add_problem(draft.problems, variable, {}, value.error().message);
    draft.bad.insert(path);
    return;
  }
  key->set(draft.config, *value);
}

}  // namespace

void server_from_environment(const Environment& env, Draft& draft) {
  if (std::optional<std::string> url = lookup(env, "DATABASE_URL")) {
    Result<UrlParts> parts = parse_url(*url);
    if (!parts) {
      add_problem(draft.problems, "DATABASE_URL", {}, parts.error().message);
      draft.bad.insert("server.url");
      return;
    }
    set_from("DATABASE_URL", *url, "server.url", draft);
    return;
  }
  // A name in PGHOST is what certificates are checked against, so it goes first.
  const char* host_variable = lookup(env, "PGHOST") ? "PGHOST" : "PGHOSTADDR";
  std::optional<std::string> host = lookup(env, host_variable);
  if (!host) return;
  set_from(host_variable, *host, "server.host", draft);
  for (const auto& [variable, path] : kVariables) {
    // The file's password, in whichever form, goes before the environment's.
    bool other_password =
        std::string_view(path) == "server.password" && draft.is_given("server.passwordFile");
    std::optional<std::string> value = lookup(env, variable);
    if (value && !other_password) set_from(variable, *value, path, draft);
  }
}

}  // namespace carpool::config
