#include "config/environment.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "config/framework_url.h"
#include "config/keys.h"
#include "config/postgres_options.h"
#include "config/text.h"
#include "config/url.h"
#include "config/validate_server.h"

namespace carpool::config {
namespace {

constexpr const char* kTimeoutPath = "server.connectTimeout";

// A variable that is set to nothing counts as not set, as it does for libpq.
std::optional<std::string> lookup(const Environment& env, std::string_view name) {
  std::optional<std::string> value = env(std::string(name));
  return value && !value->empty() ? value : std::nullopt;
}

struct Variable {
  std::string_view name;
  std::string text;
};

// What the environment says of a parameter.
std::optional<Variable> variable_of(const Environment& env, const LibpqParameter& parameter) {
  if (std::optional<std::string> text = lookup(env, parameter.variable)) {
    return Variable{parameter.variable, std::move(*text)};
  }
  const bool older =
      parameter.name == "sslmode" && asks_for_tls(lookup(env, kRequireSslVariable).value_or(""));
  return older ? std::optional<Variable>({kRequireSslVariable, "require"}) : std::nullopt;
}

// The key of ours that says what a parameter of libpq says; null where there is none.
const char* path_of(std::string_view parameter) {
  if (parameter == "connect_timeout") return kTimeoutPath;
  for (const UrlDecides& decides : kUrlDecides) {
    if (decides.parameter == parameter) return decides.path;
  }
  return nullptr;
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '/' || c == ',';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string single_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

// One reading of the environment.
class Reader {
 public:
  // Both must outlive this object.
  Reader(const Environment& env, Draft& draft) : env_(env), draft_(draft) {}

  void read();

 private:
  void problem(std::string_view variable, std::string message) {
    add_problem(draft_.problems, std::string(variable), {}, std::move(message));
  }
  bool read_url();
  bool counts(const LibpqParameter& parameter) const;
  void set_key(std::string_view variable, const std::string& text, const char* path);
  void read_variable(const LibpqParameter& parameter, const Variable& variable);
  void read_settings();
  void add_to_url(std::string_view name, std::string_view value);

  const Environment& env_;
  Draft& draft_;
  bool has_url_ = false;
  UrlParts parts_;  // of DATABASE_URL
  bool both_hosts_ = false;
};

// False where DATABASE_URL is wrong.
bool Reader::read_url() {
  std::optional<std::string> url = lookup(env_, "DATABASE_URL");
  if (!url) return true;
  PlainUrl plain = plain_url(*url);
  *url = std::move(plain.url);
  if (!plain.left_out.empty()) {
    add_problem(draft_.warnings, "DATABASE_URL", {}, left_out_warning(plain.left_out));
  }
  std::string wrong;
  if (Result<UrlParts> parts = parse_url(*url, env_.libpq())) {
    parts_ = std::move(*parts);
    wrong = parameter_problem(parts_, env_.libpq());
  } else {
    wrong = parts.error().message;
  }
  if (!wrong.empty()) {
    problem("DATABASE_URL", std::move(wrong));
    draft_.bad.insert("server.url");
    return false;
  }
  has_url_ = true;
  set_key("DATABASE_URL", *url, "server.url");
  return true;
}

// Whether a variable says something that neither the file nor DATABASE_URL says.
bool Reader::counts(const LibpqParameter& parameter) const {
  const std::string name(parameter.name);
  const bool of_place = name == "host" || name == "hostaddr" || name == "port";
  if (parts_.contains(name)) return false;
  if (of_place && (parts_.contains("host") || parts_.contains("hostaddr"))) return false;
  // Empty, they are the client's own.
  if (has_url_ && (name == "user" || name == "dbname")) return false;
  const char* path = path_of(name);
  // The file's password, in whichever form, goes before the environment's.
  if (name == "password" && draft_.is_given("server.passwordFile")) return false;
  return path == nullptr || !draft_.is_given(path);
}

void Reader::set_key(std::string_view variable, const std::string& text, const char* path) {
  const Key* key = find_key(path);
  CHECK(key != nullptr);
  Result<Value> value = parse_value(*key, text, text);
  if (!value) {
    problem(variable, value.error().message);
    draft_.bad.insert(path);
    return;
  }
  key->set(draft_.config, *value);
}

void Reader::add_to_url(std::string_view name, std::string_view value) {
  std::string& url = draft_.config.server.url;
  if (!is_uri(url)) {
    url += fmt::format("{}{}={}", url.empty() ? "" : " ", name, single_quoted(value));
    return;
  }
  const char* joint = !has_query(url) ? "?" : url.ends_with('?') || url.ends_with('&') ? "" : "&";
  url += fmt::format("{}{}={}", joint, name, percent_encoded(value));
}

void Reader::read_variable(const LibpqParameter& parameter, const Variable& variable) {
  const auto& [name, text] = variable;
  const char* path = path_of(parameter.name);
  if (!env_.libpq().knows(parameter.name)) {
    return problem(name, fmt::format("is of libpq {} and later, and this is libpq {}",
                                     parameter.since, env_.libpq().version));
  }
  const bool is_list = parameter.name == "port" && text.find(',') != std::string::npos;
  const bool is_enum = path != nullptr && find_key(path)->type == KeyType::Enum;
  if (!is_enum && parameter.problem != nullptr) {
    std::string wrong = parameter.problem(text, env_.libpq());
    if (!wrong.empty()) return problem(name, std::move(wrong));
  }
  if (path == kTimeoutPath) {
    // libpq waits for ever where it is 0, which Carpool never does.
    std::optional<Micros> timeout = connect_timeout_of(text);
    if (timeout) draft_.config.server.connect_timeout_us = *timeout;
  } else if (path != nullptr && !is_list && !(both_hosts_ && parameter.name.starts_with("host"))) {
    set_key(name, text, path);
  } else {
    add_to_url(parameter.name, text);
  }
}

// They win over PGOPTIONS and the options of DATABASE_URL, as in libpq, but not over the file's: of
// two equal ones PostgreSQL takes the last.
void Reader::read_settings() {
  std::string options;
  for (const LibpqSetting& setting : libpq_settings()) {
    std::optional<std::string> value = lookup(env_, setting.variable);
    // "default" is libpq's word for leaving it out.
    if (!value || lower_case(*value) == "default") continue;
    if (SettingVerdict verdict = check_setting(setting.setting, *value); !verdict.error.empty()) {
      problem(setting.variable, verdict.error);
      continue;
    }
    options += fmt::format(" -c {}={}", setting.setting, escaped_option(*value));
  }
  if (options.empty()) return;
  std::string& ours = draft_.config.server.options;
  if (draft_.is_given("server.options")) {
    ours = options.substr(1) + (ours.empty() ? "" : " ") + ours;
    return;
  }
  if (ours.empty() && parts_.contains("options")) ours = parts_["options"];
  ours = ours.empty() ? options.substr(1) : ours + options;
}

void Reader::read() {
  if (!read_url()) return;
  const bool has_host = lookup(env_, "PGHOST").has_value();
  const bool has_address = lookup(env_, "PGHOSTADDR").has_value();
  if (!has_url_ && !has_host && !has_address) {
    const LibpqParameter& service = *find_parameter("service");
    if (std::optional<Variable> found = variable_of(env_, service)) read_variable(service, *found);
    return;
  }
  // A name in PGHOST is what certificates are checked against; the address is where it is.
  both_hosts_ = has_host && has_address;
  const bool names_place = parts_.contains("host") || parts_.contains("hostaddr");
  if (!names_place && !has_host && has_address) {
    set_key("PGHOSTADDR", *lookup(env_, "PGHOSTADDR"), "server.host");
  }
  for (const LibpqParameter& parameter : libpq_parameters()) {
    if (parameter.variable.empty()) continue;
    if (parameter.name == "hostaddr" && !both_hosts_) continue;
    if (std::optional<Variable> found = variable_of(env_, parameter); found && counts(parameter)) {
      read_variable(parameter, *found);
    }
  }
  read_settings();
}

}  // namespace

void server_from_environment(const Environment& env, Draft& draft) {
  Reader(env, draft).read();
}

void warn_of_environment(const Environment& env, Draft& draft) {
  UrlParts parts;
  if (Result<UrlParts> parsed = parse_url(draft.config.server.url, env.libpq())) parts = *parsed;
  std::vector<std::string> names;
  for (const LibpqParameter& parameter : libpq_parameters()) {
    const std::string name(parameter.name);
    const char* path = path_of(name);
    const bool of_place = name == "host" || name == "hostaddr" || name == "port";
    const bool given = parts.contains(name) || (path != nullptr && draft.is_given(path)) ||
                       (name == "password" && draft.is_given("server.passwordFile"));
    if (parameter.variable.empty() || of_place || given) continue;
    if (std::optional<Variable> found = variable_of(env, parameter))
      names.emplace_back(found->name);
  }
  for (const LibpqSetting& setting : libpq_settings()) {
    if (lookup(env, setting.variable)) names.emplace_back(setting.variable);
  }
  if (names.empty()) return;
  add_problem(draft.warnings, "server", draft.place_of("server"),
              fmt::format("{} of the environment {} no effect, since the file names the server; "
                          "what is to count stands in the file, as in `password: ${{PGPASSWORD}}`",
                          enumerate(names), names.size() == 1 ? "has" : "have"));
}

}  // namespace carpool::config
