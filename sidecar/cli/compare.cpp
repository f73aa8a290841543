#include "cli/compare.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string_view>
#include <utility>

#include "cli/compare_pools.h"
#include "cli/table.h"
#include "config/diff.h"
#include "config/keys.h"
#include "config/text.h"

namespace carpool::cli {
namespace {

// In the order of the file, which is that of the reference page.
using Json = nlohmann::ordered_json;
using Flat = std::vector<std::pair<std::string, std::string>>;

void flatten(const Json& json, const std::string& path, Flat& into) {
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) {
      if (!path.empty() && path.back() == ']' && name == "name") continue;  // it is in the path
      std::string inner = path;
      if (!inner.empty()) inner += '.';
      inner += name;
      flatten(value, inner, into);
    }
  } else if (json.is_array() && !json.empty() && json[0].is_object()) {
    for (const Json& entry : json)
      flatten(entry, path + "[" + entry.value("name", "?") + "]", into);
  } else {
    into.emplace_back(path, json.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
}

// "databases[app].pool.size" -> "databases[app]"; empty for any other key.
std::string entry_of(const std::string& key) {
  const std::size_t end = key.find("].");
  return key.starts_with("databases[") && end != std::string::npos ? key.substr(0, end + 1) : "";
}

bool is_live(const std::string& key) {
  const std::string entry = entry_of(key);
  const config::Key* known =
      config::find_key(entry.empty() ? key : std::string_view(key).substr(entry.size() + 1));
  return known == nullptr || known->live;
}

std::string* value_in(Flat& flat, const std::string& key) {
  const auto found =
      std::find_if(flat.begin(), flat.end(), [&](const auto& pair) { return pair.first == key; });
  return found == flat.end() ? nullptr : &found->second;
}

bool has_entry(const Flat& flat, const std::string& entry) {
  return std::any_of(flat.begin(), flat.end(),
                     [&](const auto& pair) { return entry_of(pair.first) == entry; });
}

// Whether an entry of `databases` has only inherited what changed in a section.
bool is_inherited(const std::vector<Difference>& list, const Difference& found) {
  const std::string entry = entry_of(found.key);
  if (entry.empty()) return false;
  const std::string_view key = std::string_view(found.key).substr(entry.size() + 1);
  return std::any_of(list.begin(), list.end(), [&](const Difference& other) {
    return other.key == key && other.before == found.before && other.after == found.after;
  });
}

// Adds `found`; where a whole entry of `databases` comes or goes, one line stands for its keys.
void add(std::vector<Difference>& list, Difference found, const Flat& other) {
  const std::string entry = entry_of(found.key);
  if (!entry.empty() && !has_entry(other, entry)) {
    found = {entry, found.before.empty() ? "" : "there", found.after.empty() ? "" : "there", true};
    if (!list.empty() && list.back() == found) return;
  }
  list.push_back(std::move(found));
}

std::vector<std::string> names_of(const std::string& config) {
  std::vector<std::string> names;
  const Json json = Json::parse(config, nullptr, false);
  if (!json.is_object() || !json.contains("databases")) return names;
  for (const Json& entry : json["databases"]) names.push_back(entry.value("name", "?"));
  return names;
}

// Of the entries of `databases` that both have: the first that matches is a pool's.
std::pair<std::string, std::string> orders(const std::string& running, const std::string& desired) {
  const std::vector<std::string> before = names_of(running);
  const std::vector<std::string> after = names_of(desired);
  const auto order = [](const std::vector<std::string>& all,
                        const std::vector<std::string>& other) {
    Json kept = Json::array();
    for (const std::string& name : all) {
      if (std::find(other.begin(), other.end(), name) != other.end()) kept.push_back(name);
    }
    return kept.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  return {order(before, after), order(after, before)};
}

Flat flat_of(const std::string& text) {
  Flat out;
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_object()) flatten(json, "", out);
  return out;
}

// The pools that exist; an Error where it is not carpool that answers.
Result<std::vector<PoolName>> pools_at(const Endpoint& endpoint) {
  const Result<Reply> reply = get(endpoint, "/status");
  if (!reply) return reply.error();
  if (reply->status != 200) return Error{error_of(*reply)};
  const Json status = Json::parse(reply->body, nullptr, false);
  if (!status.is_object() || !status.contains("pools")) {
    return Error{"what answers at " + endpoint.text() + " is not carpool"};
  }
  std::vector<PoolName> pools;
  for (const Json& pool : status["pools"]) {
    pools.emplace_back(pool.value("database", ""), pool.value("user", ""));
  }
  return pools;
}

// The value of a key as masked_json() has it; none where that does not have it, or masks it.
std::optional<config::Value> value_of(const config::Key& key, const Json& effective) {
  const bool masked = key.secrecy != config::Secrecy::None;
  if (masked || key.type == config::KeyType::StringList) return std::nullopt;
  const Json* at = &effective;
  for (std::string_view path = key.path; !path.empty();) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    const auto found = at->find(std::string(path.substr(0, dot)));
    if (found == at->end()) return std::nullopt;
    at = &*found;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  if (at->is_null()) return std::nullopt;
  const std::string text = at->is_string() ? at->get<std::string>() : at->dump();
  const Result<config::Value> value = config::parse_value(key, text, text);
  return value ? std::optional<config::Value>(*value) : std::nullopt;
}

// Why the sidecar would take nothing of the file: what of it comes live does not go together with
// what it keeps until a restart. Empty: it would take it.
std::vector<config::Problem> rejections(const Json& effective, const config::Config& desired,
                                        const config::Libpq& libpq) {
  config::Config running = desired;
  for (const config::Key& key : config::keys()) {
    if (const std::optional<config::Value> runs = value_of(key, effective)) key.set(running, *runs);
  }
  return config::in_force(running, desired, libpq).problems;
}

std::string shown(const std::string& value) {
  return value.empty() ? "-" : value;
}

}  // namespace

std::vector<Difference> differences(const std::string& running, const std::string& desired) {
  Flat before = flat_of(running);
  Flat after = flat_of(desired);
  std::vector<Difference> out;
  for (const auto& [key, value] : after) {
    const std::string* old = value_in(before, key);
    if (old == nullptr) {
      add(out, {key, "", value, is_live(key)}, before);
    } else if (*old != value) {
      out.push_back({key, *old, value, is_live(key)});
    }
  }
  for (const auto& [key, value] : before) {
    if (value_in(after, key) == nullptr) add(out, {key, value, "", is_live(key)}, after);
  }
  if (auto [old_order, new_order] = orders(running, desired); old_order != new_order) {
    out.push_back({"databases", std::move(old_order), std::move(new_order), true});
  }
  std::vector<Difference> told;
  std::copy_if(out.begin(), out.end(), std::back_inserter(told),
               [&](const Difference& difference) { return !is_inherited(out, difference); });
  return told;
}

int run_compare(const std::string& file, const config::Environment& env, const std::string& admin,
                std::ostream& out, std::ostream& err) {
  const auto fail = [&](const std::string& why) {
    err << "carpool check --diff: " << why << "\n";
    return kExitUnreachable;
  };
  const config::LoadResult loaded = config::load_file(file, env);
  if (!loaded.config) return fail(file + " is not valid");
  Result<Endpoint> endpoint = parse_endpoint(admin);
  if (!endpoint) return fail(endpoint.error().message);
  Result<Reply> reply = get(*endpoint, "/config");
  if (!reply) return fail(reply.error().message);
  if (reply->status != 200) return fail(error_of(*reply));
  const Json view = Json::parse(reply->body, nullptr, false);
  if (!view.is_object() || !view.contains("effective")) {
    return fail("what answers at " + endpoint->text() + " is not carpool");
  }

  const Result<std::vector<PoolName>> pools = pools_at(*endpoint);
  if (!pools) return fail(pools.error().message);

  const std::vector<Difference> found =
      differences(view["effective"].dump(), config::masked_json(*loaded.config));
  out << "against the configuration that runs at " << endpoint->text() << ":\n";
  if (found.empty()) {
    out << "  no difference (secrets are not compared)\n";
    return kExitOk;
  }
  const std::vector<config::Problem> rejected =
      rejections(view["effective"], *loaded.config, env.libpq());
  if (!rejected.empty()) {
    out << "  it would be rejected, and nothing of it applied, without a restart:\n";
    for (const config::Problem& problem : rejected) {
      out << "    " << config::format(problem, file) << "\n";
    }
  }
  Table table({"<", "<KEY", "<RUNS", "<FILE", "<"});
  for (const Difference& difference : found) {
    table.add({"", difference.key, shown(difference.before), shown(difference.after),
               difference.live && rejected.empty() ? "applies live" : "waits for a restart"});
  }
  out << table.text();
  if (pools->empty() || !rejected.empty()) return kExitOk;
  Table effects({"<", "<POOL", "<KEY", "<RUNS", "<FILE", "<"});
  const std::vector<PoolChange> changes =
      pool_changes(view["effective"].dump(), config::masked_json(*loaded.config), *pools);
  for (const PoolChange& change : changes) {
    effects.add(
        {"", change.pools, change.key, shown(change.before), shown(change.after), change.effect});
  }
  out << "\nfor the pools that exist:\n"
      << (changes.empty() ? "  no difference\n" : effects.text());
  return kExitOk;
}

}  // namespace carpool::cli
