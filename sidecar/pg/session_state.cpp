#include "pg/session_state.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <optional>
#include <utility>

#include "base/check.h"
#include "pg/session_effect.h"
#include "pg/sql_lexer.h"

namespace carpool::pg {
namespace {

constexpr std::string_view kRole = "role";
constexpr std::string_view kAuthorization = "session_authorization";
constexpr std::string_view kEncoding = "client_encoding";

const std::vector<Parameter>& parameters_of(const StatePtr& state) {
  static const std::vector<Parameter> kNone;
  return state ? state->parameters() : kNone;
}

std::string_view find_in(const StatePtr& state, std::string_view name) {
  const std::string* sql = state ? state->find(name) : nullptr;
  return sql == nullptr ? std::string_view() : std::string_view(*sql);
}

std::size_t hash_of(const std::vector<Parameter>& parameters) {
  std::size_t hash = parameters.size();
  const auto mix = [&hash](const std::string& text) {
    hash ^= std::hash<std::string>{}(text) + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
  };
  for (const Parameter& parameter : parameters) {
    mix(parameter.name);
    mix(parameter.sql);
  }
  return hash;
}

// Empty where there is none.
std::string last_literal(std::string_view sql) {
  SqlLexer lexer(sql, true);
  std::string value;
  for (Token token = lexer.next(); token.type != TokenType::End; token = lexer.next()) {
    if (std::optional<std::string> text = decode_string(token, true)) value = std::move(*text);
  }
  return value;
}

// The parts of a replay, each statement ended by ";".
struct Parts {
  std::string encoding;
  std::string settings;
};

void add(std::string& text, std::string_view sql) {
  text += sql;
  text += ';';
}

void add_change(Parts& parts, std::string_view name, std::string_view sql) {
  // Roles stand around the others and are added by replay().
  if (name == kRole || name == kAuthorization) return;
  std::string& part = name == kEncoding ? parts.encoding : parts.settings;
  if (sql.empty()) {
    add(part, "RESET " + quote_parameter(name));
  } else {
    add(part, sql);
  }
}

// Both lists are sorted by name.
Parts changes(const std::vector<Parameter>& has, const std::vector<Parameter>& wants) {
  Parts parts;
  auto from = has.begin();
  auto to = wants.begin();
  while (from != has.end() || to != wants.end()) {
    if (to == wants.end() || (from != has.end() && from->name < to->name)) {
      add_change(parts, from->name, {});
      ++from;
    } else if (from == has.end() || to->name < from->name) {
      add_change(parts, to->name, to->sql);
      ++to;
    } else {
      if (from->sql != to->sql) add_change(parts, to->name, to->sql);
      ++from;
      ++to;
    }
  }
  return parts;
}

// pg_split_opts() of src/backend/utils/init/postinit.c: separated by white space, which a
// backslash makes part of a word.
std::vector<std::string> split_options(std::string_view text) {
  const auto is_space = [](char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
  };
  std::vector<std::string> words;
  std::size_t at = 0;
  while (true) {
    while (at < text.size() && is_space(text[at])) ++at;
    if (at >= text.size()) return words;
    std::string& word = words.emplace_back();
    for (; at < text.size() && !is_space(text[at]); ++at) {
      if (text[at] == '\\' && ++at >= text.size()) break;
      word.push_back(text[at]);
    }
  }
}

void add_setting(std::string name, std::string_view value, StartupSettings& out) {
  std::string sql = set_sql(name, value);
  out.values.emplace_back(name, value);
  out.parameters.push_back({std::move(name), std::move(sql)});
}

// Adds one "name=value"; false where it is none.
bool add_option(std::string_view option, StartupSettings& out) {
  const std::size_t equals = option.find('=');
  if (equals == 0 || equals == std::string_view::npos) return false;
  std::string name = to_lower(option.substr(0, equals));
  std::replace(name.begin(), name.end(), '-', '_');
  add_setting(std::move(name), option.substr(equals + 1), out);
  return true;
}

bool add_options(std::string_view text, StartupSettings& out) {
  const std::vector<std::string> words = split_options(text);
  bool all = true;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word == "-c" && i + 1 < words.size()) {
      all = add_option(words[++i], out) && all;
    } else if (word.starts_with("-c") || word.starts_with("--")) {
      all = add_option(word.substr(2), out) && all;
    } else {
      all = false;
    }
  }
  return all;
}

}  // namespace

bool decides_reading(std::string_view name) {
  constexpr std::string_view kReading[] = {"array_nulls",
                                           "backslash_quote",
                                           "client_encoding",
                                           "datestyle",
                                           "default_text_search_config",
                                           "intervalstyle",
                                           "lc_monetary",
                                           "role",
                                           "search_path",
                                           "session_authorization",
                                           "standard_conforming_strings",
                                           "timezone",
                                           "transform_null_equals",
                                           "xmloption"};
  return std::binary_search(std::begin(kReading), std::end(kReading), name);
}

SessionState::SessionState(std::vector<Parameter> parameters) : parameters_(std::move(parameters)) {
  for (const Parameter& parameter : parameters_) {
    if (!decides_reading(parameter.name)) continue;
    reading_ += parameter.sql;
    reading_ += ';';
    if (parameter.name == kEncoding) encoding_ = text_encoding(last_literal(parameter.sql));
  }
}

const std::string* SessionState::find(std::string_view name) const {
  const auto at = std::lower_bound(
      parameters_.begin(), parameters_.end(), name,
      [](const Parameter& parameter, std::string_view key) { return parameter.name < key; });
  return at != parameters_.end() && at->name == name ? &at->sql : nullptr;
}

StateTable::~StateTable() {
  CHECK(states_.empty());
}

StatePtr StateTable::intern(std::vector<Parameter> sorted) {
  if (sorted.empty()) return nullptr;
  const std::size_t hash = hash_of(sorted);
  const auto [begin, end] = states_.equal_range(hash);
  for (auto at = begin; at != end; ++at) {
    if (StatePtr state = at->second.lock(); state && state->parameters() == sorted) return state;
  }
  // The entry goes with the last pointer to the state.
  const auto forget = [this, hash](const SessionState* state) {
    const auto [first, last] = states_.equal_range(hash);
    for (auto at = first; at != last; ++at) {
      if (at->second.expired()) {
        states_.erase(at);
        break;
      }
    }
    delete state;
  };
  StatePtr state(new SessionState(std::move(sorted)), forget);
  states_.emplace(hash, state);
  return state;
}

StatePtr StateTable::make(std::vector<Parameter> parameters) {
  std::stable_sort(parameters.begin(), parameters.end(),
                   [](const Parameter& a, const Parameter& b) { return a.name < b.name; });
  std::vector<Parameter> sorted;
  for (Parameter& parameter : parameters) {
    if (!sorted.empty() && sorted.back().name == parameter.name) {
      sorted.back() = std::move(parameter);
    } else {
      sorted.push_back(std::move(parameter));
    }
  }
  return intern(std::move(sorted));
}

StatePtr StateTable::with(const StatePtr& state, std::string_view name, std::string_view sql) {
  if (find_in(state, name) == sql && !sql.empty()) return state;
  std::vector<Parameter> parameters = parameters_of(state);
  parameters.push_back({std::string(name), std::string(sql)});
  return make(std::move(parameters));
}

StatePtr StateTable::without(const StatePtr& state, std::string_view name) {
  if (!state || state->find(name) == nullptr) return state;
  std::vector<Parameter> parameters = state->parameters();
  std::erase_if(parameters, [name](const Parameter& parameter) { return parameter.name == name; });
  return intern(std::move(parameters));
}

std::string value_of(const StatePtr& state, std::string_view name) {
  const std::string* sql = state == nullptr ? nullptr : state->find(name);
  return sql == nullptr ? std::string() : last_literal(*sql);
}

bool within_limits(const StatePtr& state) {
  std::size_t bytes = 0;
  for (const Parameter& parameter : parameters_of(state)) {
    bytes += parameter.name.size() + parameter.sql.size();
  }
  return parameters_of(state).size() <= kSessionParametersMax && bytes <= kSessionBytesMax;
}

std::vector<std::string> replay(const StatePtr& server_has, const StatePtr& client_wants) {
  if (server_has == client_wants) return {};
  const Parts parts = changes(parameters_of(server_has), parameters_of(client_wants));
  const std::string_view role_has = find_in(server_has, kRole);
  const std::string_view role_wants = find_in(client_wants, kRole);
  const std::string_view authorization_has = find_in(server_has, kAuthorization);
  const std::string_view authorization_wants = find_in(client_wants, kAuthorization);

  // The settings are made as the user that signed in, who may do most; SET SESSION AUTHORIZATION
  // takes the role away, and so comes before it.
  const bool settings = !parts.encoding.empty() || !parts.settings.empty();
  const bool roles = role_has != role_wants || authorization_has != authorization_wants || settings;
  std::string before;
  std::string after;
  if (roles) {
    if (!role_has.empty()) add(before, "RESET ROLE");
    if (!authorization_has.empty()) add(before, "RESET SESSION AUTHORIZATION");
    if (!authorization_wants.empty()) add(after, authorization_wants);
    if (!role_wants.empty()) add(after, role_wants);
  }
  // The server reads a whole text in the encoding that it has when the text arrives.
  if (!parts.encoding.empty() && !is_ascii(parts.settings + after)) {
    return {before + parts.encoding, parts.settings + after};
  }
  return {before + parts.encoding + parts.settings + after};
}

std::string all_options(std::string_view options,
                        const std::vector<std::pair<std::string, std::string>>& parameters) {
  std::string all(options);
  for (const auto& [name, value] : parameters) {
    if (name.starts_with("_pq_.")) continue;
    all += all.empty() ? "-c " : " -c ";
    std::string setting = name;
    setting += '=';
    setting += value;
    for (const char c : setting) {
      if (c == '\\' || c == ' ' || (c >= '\t' && c <= '\r')) all += '\\';
      all += c;
    }
  }
  return all;
}

StartupSettings startup_settings(
    std::string_view options, const std::vector<std::pair<std::string, std::string>>& parameters) {
  StartupSettings settings;
  settings.replayable = add_options(options, settings);
  for (const auto& [name, value] : parameters) {
    if (name == "user" || name == "database" || name == "replication" || name == "options" ||
        name.starts_with("_pq_.")) {
      continue;
    }
    add_setting(to_lower(name), value, settings);
  }
  TextEncoding encoding = TextEncoding::AsciiSafe;
  bool ascii = true;
  bool utf8 = true;
  bool encoded = false;
  for (const auto& [name, value] : settings.values) {
    if (name == kEncoding) encoding = text_encoding(value);
    encoded = encoded || name == kEncoding;
    ascii = ascii && is_ascii(name) && is_ascii(value);
    utf8 = utf8 && is_utf8(name) && is_utf8(value);
  }
  settings.quotable = ascii || (encoding == TextEncoding::AsciiSafe && (encoded || utf8));
  return settings;
}

void ReportedValues::set(std::string_view name, std::string_view value) {
  const std::string lower = to_lower(name);
  for (auto& [known, known_value] : values_) {
    if (known == lower) {
      known_value = value;
      return;
    }
  }
  values_.emplace_back(lower, value);
}

ReportedValues ReportedValues::of_reading() const {
  ReportedValues out;
  for (const std::string_view name : {"client_encoding", "datestyle", "intervalstyle",
                                      "standard_conforming_strings", "timezone"}) {
    if (const std::string* value = find(name)) out.set(name, *value);
  }
  return out;
}

const std::string* ReportedValues::find(std::string_view name) const {
  const std::string lower = to_lower(name);
  for (const auto& [known, value] : values_) {
    if (known == lower) return &value;
  }
  return nullptr;
}

}  // namespace carpool::pg
