#include "cli/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <ostream>
#include <vector>

#include "base/check.h"
#include "base/units.h"
#include "cli/check.h"
#include "cli/convert_names.h"
#include "cli/pgbouncer_ini.h"
#include "config/keys.h"
#include "config/load.h"
#include "config/text.h"

namespace carpool::cli {
namespace {

constexpr std::size_t kLineBytes_max = 100;

// A text as YAML that means exactly that text: `$$` is how the loader spells a dollar sign.
std::string yaml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '$') out += '$';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return line;
}

// A name as part of a file name.
std::string file_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    out += plain ? c : '_';
  }
  return out == "_" && name == "*" ? "any" : out;
}

struct Line {
  std::string text;  // as YAML
  std::string from;  // what it comes from
};

class Conversion {
 public:
  Conversion(std::vector<IniEntry> ini, const std::string* userlist);
  Result<Converted> run();

 private:
  using Lines = std::map<std::string, Line>;  // by path

  const IniEntry* setting(std::string_view name) const;
  std::string value_of(std::string_view name, std::string_view otherwise) const;
  void note(std::string text);
  // Takes `text`, in PgBouncer's form, over as the key `path`. Notes why where that cannot be.
  void carry(Lines& lines, const std::string& path, As as, const std::string& text,
             const std::string& from);
  void convert_setting(const IniEntry& entry);
  void set_defaults();
  void convert_apart();
  void convert_listen();
  void convert_auth();
  void convert_admin_users();
  void note_md5_users();
  std::optional<Error> convert_database(const IniEntry& entry);
  void convert_pair(Lines& lines, const std::string& name, const std::string& key,
                    const std::string& value, std::string& options);
  // Takes out what the loader refuses, such as a minimum above the size. False: nothing is left
  // to take out.
  bool drop_refused(const config::Problem& problem);
  std::string yaml() const;
  void append_section(std::string& out, const Lines& lines, const std::string& section,
                      const std::string& indent) const;

  struct Database {
    std::string name;
    Lines lines;
    bool own_user = false;  // `user=` is given: servers are opened as that one
  };

  std::vector<IniEntry> ini_;
  std::vector<UserlistEntry> users_;
  bool userlist_given_;
  Lines lines_;
  std::vector<Database> databases_;
  std::vector<std::string> notes_;
  int carried_ = 0;
};

Conversion::Conversion(std::vector<IniEntry> ini, const std::string* userlist)
    : ini_(std::move(ini)), userlist_given_(userlist != nullptr) {
  if (userlist != nullptr) users_ = parse_userlist(*userlist);
}

// PgBouncer takes the last of several.
const IniEntry* Conversion::setting(std::string_view name) const {
  const auto found = std::find_if(ini_.rbegin(), ini_.rend(), [&](const IniEntry& entry) {
    return entry.section == "pgbouncer" && entry.key == name;
  });
  return found == ini_.rend() ? nullptr : &*found;
}

std::string Conversion::value_of(std::string_view name, std::string_view otherwise) const {
  const IniEntry* entry = setting(name);
  return entry == nullptr ? std::string(otherwise) : entry->value;
}

void Conversion::note(std::string text) {
  if (std::find(notes_.begin(), notes_.end(), text) == notes_.end()) {
    notes_.push_back(std::move(text));
  }
}

void Conversion::carry(Lines& lines, const std::string& path, As as, const std::string& text,
                       const std::string& from) {
  const config::Key* key = config::find_key(path);
  CHECK(key != nullptr);
  std::string ours = text;
  if (as == As::Seconds) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value >= 0 && value < 1e9)) {
      return note(fmt::format("{} = {}: not a number of seconds", from, one_line(text)));
    }
    ours = config::format_duration(std::llround(value * kMicrosPerSecond));
  }
  const bool is_text = key->type == config::KeyType::String;
  if (Result<config::Value> value = config::parse_value(*key, ours, ours); !value) {
    return note(fmt::format("{} = {}: {} {}", from, one_line(text), path, value.error().message));
  }
  lines[path] = {is_text ? yaml_text(ours) : ours, from};
  carried_++;
}

void Conversion::convert_setting(const IniEntry& entry) {
  if (const Same* same = find_same(entry.key)) {
    if (entry.value.empty() && config::find_key(same->ours)->type != config::KeyType::String)
      return;
    return carry(lines_, same->ours, same->as, entry.value, entry.key);
  }
  if (is_converted_apart(entry.key)) return;
  const char* why = why_not(entry.key);
  note(fmt::format("{} = {}: {}", entry.key, one_line(entry.value),
                   why != nullptr ? why : "a setting that this converter does not know"));
}

// Where PgBouncer's default is another than ours, it is written out.
void Conversion::set_defaults() {
  for (const Default& standard : kDefaults) {
    if (setting(standard.theirs) != nullptr) continue;
    carry(lines_, standard.ours, standard.as, standard.value,
          fmt::format("PgBouncer's default of {}", standard.theirs));
    carried_--;
  }
  // Its reserve pool is off where reserve_pool_timeout is 0.
  if (value_of("reserve_pool_timeout", "5") == "0") lines_.erase("pool.overflow");
  if (value_of("log_stats", "1") == "0") lines_["log.statsInterval"] = {"0s", "log_stats = 0"};
  if (value_of("verbose", "0") != "0") lines_["log.level"] = {"debug", "verbose"};
}

void Conversion::convert_apart() {
  const std::string wait = value_of("query_wait_timeout", "");
  if (wait == "0") {
    lines_["pool.acquireTimeout"] = {"365d", "query_wait_timeout = 0, which is for ever"};
    carried_++;
  } else if (!wait.empty()) {
    carry(lines_, "pool.acquireTimeout", As::Seconds, wait, "query_wait_timeout");
  }
  const std::string prepared = value_of("max_prepared_statements", "");
  if (prepared == "0") {
    note("max_prepared_statements = 0: prepared statements are always followed");
  } else if (!prepared.empty()) {
    carry(lines_, "pool.preparedStatementsMax", As::Text, prepared, "max_prepared_statements");
  }
  const std::string tls = value_of("client_tls_sslmode", "");
  if (tls.empty()) return;
  const bool verifies = tls.starts_with("verify");
  carry(lines_, "listen.tls.mode", As::Text,
        tls == "prefer" ? "allow"
        : verifies      ? "require"
                        : tls,
        fmt::format("client_tls_sslmode = {}", one_line(tls)));
  if (verifies) {
    note(
        fmt::format("client_tls_sslmode = {}: listen.tls.caFile asks for a client's certificate; "
                    "its name is not compared with the user's",
                    one_line(tls)));
  }
}

void Conversion::convert_listen() {
  const std::string addresses = value_of("listen_addr", "");
  const std::string first = addresses.substr(0, addresses.find(','));
  const bool local =
      first.empty() || first == "localhost" || first == "127.0.0.1" || first == "::1";
  lines_["listen.address"] = {yaml_text(first == "::1" ? "::1" : "127.0.0.1"), "listen_addr"};
  if (local && addresses.find(',') == std::string::npos) return;
  note(
      fmt::format("listen_addr = {}: a sidecar listens on loopback, for its own pod. To serve "
                  "others, set listen.address; it takes one address",
                  one_line(addresses)));
}

void Conversion::convert_auth() {
  const std::string type = value_of("auth_type", "md5");
  const bool secrets = type == "scram-sha-256" || type == "md5" || type == "plain";
  const bool every_own = std::all_of(databases_.begin(), databases_.end(),
                                     [](const Database& database) { return database.own_user; });
  const IniEntry* file = setting("auth_file");
  std::string mode = "passthrough";
  if (type == "trust" || type == "any") {
    mode = "trust";
  } else if (secrets && every_own && file != nullptr && setting("auth_query") == nullptr) {
    mode = "scram-sha-256";
  }
  lines_["auth.mode"] = {mode, fmt::format("auth_type = {}", one_line(type))};
  carried_ += setting("auth_type") != nullptr ? 1 : 0;
  if (type == "any") {
    note(
        "auth_type = any: PgBouncer ignored the client's user name. Carpool keeps a pool for each; "
        "set server.user where all are to be one user on the server");
  }
  if (!secrets && mode == "passthrough") {
    note(
        fmt::format("auth_type = {}: Carpool has no such way of signing in. With passthrough the "
                    "client's own user and password are tried on PostgreSQL, once",
                    one_line(type)));
  }
  if (mode == "scram-sha-256") {
    lines_["auth.usersFile"] = {yaml_text(file->value), "auth_file"};
    carried_++;
    if (!userlist_given_) {
      note(
          fmt::format("auth_file = {}: give it as the second argument, to have its entries looked "
                      "at; mount it from a Secret",
                      one_line(file->value)));
    }
    note_md5_users();
  } else if (file != nullptr || setting("auth_query") != nullptr) {
    note(fmt::format("auth_file, auth_query: not needed with auth.mode {}.{}", mode,
                     mode != "passthrough"
                         ? ""
                         : " Clients sign in as themselves, and so PostgreSQL has to take their "
                           "password, which PgBouncer took from there for its servers too"));
  }
}

void Conversion::note_md5_users() {
  for (const UserlistEntry& user : users_) {
    if (user.kind == SecretKind::Md5) {
      note(
          fmt::format("userlist line {}, user {}: an MD5 hash cannot check scram-sha-256, and "
                      "Carpool refuses the file while it is there. Set the password anew with "
                      "password_encryption = scram-sha-256 and copy rolpassword from pg_authid",
                      user.line, one_line(user.user)));
    } else if (user.kind == SecretKind::Empty) {
      note(fmt::format("userlist line {}, user {}: an empty password lets nobody in", user.line,
                       one_line(user.user)));
    }
  }
}

void Conversion::convert_admin_users() {
  std::vector<std::string> names;
  std::string list = value_of("admin_users", "");
  std::replace(list.begin(), list.end(), ',', ' ');
  for (std::size_t at = 0; (at = list.find_first_not_of(" \t", at)) != std::string::npos;) {
    const std::size_t end = std::min(list.find_first_of(" \t", at), list.size());
    names.push_back(yaml_text(std::string_view(list).substr(at, end - at)));
    at = end;
  }
  if (!names.empty()) {
    lines_["admin.users"] = {fmt::format("[{}]", fmt::join(names, ", ")), "admin_users"};
    carried_++;
  }
  if (const IniEntry* stats = setting("stats_users"); stats != nullptr && !stats->value.empty()) {
    note(
        fmt::format("stats_users = {}: whoever may use Carpool's console may also command it. Add "
                    "them to admin.users if they may",
                    one_line(stats->value)));
  }
}

void Conversion::convert_pair(Lines& lines, const std::string& name, const std::string& key,
                              const std::string& value, std::string& options) {
  const std::string from = fmt::format("[databases] {}: {}", one_line(name), key);
  if (const Same* same = find_same_of_database(key)) {
    return carry(lines, same->ours, same->as, value, key);
  }
  if (key == "password") {
    lines["server.passwordFile"] = {
        yaml_text(fmt::format("/etc/secrets/{}-password", file_name(name))),
        "password: put it in there"};
    carried_++;
    return;
  }
  if (key == "client_encoding" || key == "datestyle" || key == "timezone" ||
      key == "application_name") {
    std::string escaped;  // as the backend takes its options apart
    for (const char c : value) {
      if (c == ' ' || c == '\\') escaped += '\\';
      escaped += c;
    }
    options += fmt::format("{}-c {}={}", options.empty() ? "" : " ", key, escaped);
    return;
  }
  const char* why = why_not_of_database(key);
  note(fmt::format("{} = {}: {}", from, one_line(value),
                   why != nullptr ? why : "a setting that this converter does not know"));
}

std::optional<Error> Conversion::convert_database(const IniEntry& entry) {
  const Result<ConnectPairs> pairs = parse_connect_string(entry.value);
  if (!pairs) {
    return Error{fmt::format("line {}: {}", entry.line, pairs.error().message)};
  }
  const std::string& name = entry.key;
  std::erase_if(databases_, [&](const Database& other) { return other.name == name; });
  Database database{name, {}, false};
  std::string options;
  bool has_host = false;
  bool has_password = false;
  for (const auto& [key, value] : *pairs) {
    convert_pair(database.lines, name, key, value, options);
    has_host = has_host || (key == "host" && !value.empty());
    has_password = has_password || key == "password";
    database.own_user = database.own_user || (key == "user" && !value.empty());
  }
  if (!options.empty()) {
    carry(database.lines, "server.options", As::Text, options, "the session's settings");
  }
  if (!has_host) {
    database.lines["server.host"] = {yaml_text("/var/run/postgresql"), "no host: the Unix socket"};
  }
  if (database.own_user && !has_password) {
    database.lines["server.passwordFile"] = {
        yaml_text(fmt::format("/etc/secrets/{}-password", file_name(name))),
        "the userlist, which had the user's password: put it in there"};
  }
  if (database.own_user) {
    note(
        fmt::format("[databases] {}: user: all its clients shared one pool. Carpool has one for "
                    "each name under which clients come; pool.size holds for each",
                    one_line(name)));
  }
  databases_.push_back(std::move(database));
  return std::nullopt;
}

bool Conversion::drop_refused(const config::Problem& problem) {
  std::string path = problem.path;
  Lines* lines = &lines_;
  if (path.starts_with("databases[")) {
    const std::size_t index = std::strtoul(path.c_str() + 10, nullptr, 10);
    const std::size_t dot = path.find('.');
    if (index >= databases_.size() || dot == std::string::npos) return false;
    lines = &databases_[index].lines;
    path.erase(0, dot + 1);
  }
  const auto line = lines->find(path);
  if (line == lines->end()) return false;
  note(fmt::format("{}: {}", line->second.from, problem.message));
  lines->erase(line);
  carried_--;
  return true;
}

Result<Converted> Conversion::run() {
  for (const IniEntry& entry : ini_) {
    if (entry.section == "pgbouncer") {
      if (setting(entry.key) == &entry) convert_setting(entry);
    } else if (entry.section == "databases") {
      if (entry.key == "pgbouncer") {
        note("[databases] pgbouncer: the name of the console");
      } else if (std::optional<Error> error = convert_database(entry)) {
        return *error;
      }
    } else {
      note(fmt::format("[{}] {} = {}: {}", one_line(entry.section), one_line(entry.key),
                       one_line(entry.value),
                       entry.section == "users"
                           ? "there are no settings for one user. Give him a name in `databases` "
                             "of its own, and settings there"
                       : entry.section == "peers"
                           ? "a cancel reaches the sidecar that has the client: no peers are needed"
                           : "not a section of PgBouncer's"));
    }
  }
  // First match wins: what matches any comes last.
  std::stable_partition(databases_.begin(), databases_.end(),
                        [](const Database& database) { return database.name != "*"; });
  set_defaults();
  convert_apart();
  convert_listen();
  convert_auth();
  convert_admin_users();
  if (databases_.empty()) {
    return Error{"[databases] is empty: there is no server to go to"};
  }
  while (true) {
    std::string text = yaml();
    const config::LoadResult loaded =
        config::load_text(text, [](const std::string&) { return std::nullopt; });
    if (loaded.config) {
      return Converted{std::move(text), carried_, static_cast<int>(notes_.size())};
    }
    const config::Problem& problem = loaded.problems.front();
    if (!drop_refused(problem)) {
      return Error{fmt::format("{}: {}", problem.path, problem.message)};
    }
  }
}

void Conversion::append_section(std::string& out, const Lines& lines, const std::string& section,
                                const std::string& indent) const {
  bool opened = false;
  std::string inner;
  for (const config::Key& key : config::keys()) {  // in the order of the reference page
    const auto line = lines.find(key.path);
    if (line == lines.end() || !key.path.starts_with(section + ".")) continue;
    if (!opened) out += fmt::format("{}{}:\n", indent, section);
    opened = true;
    std::string name = key.path.substr(section.size() + 1);
    std::string margin = indent + "  ";
    if (const std::size_t dot = name.find('.'); dot != std::string::npos) {
      if (inner != name.substr(0, dot)) out += fmt::format("{}{}:\n", margin, name.substr(0, dot));
      inner = name.substr(0, dot);
      name = name.substr(dot + 1);
      margin += "  ";
    }
    out += fmt::format("{}{}: {}  # {}\n", margin, name, line->second.text,
                       one_line(line->second.from));
  }
}

void append_comment(std::string& out, const std::string& text) {
  std::string line = "# -";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (line.size() + 1 + (end - at) > kLineBytes_max && line.size() > 3) {
      out += line + '\n';
      line = "#  ";
    }
    line += ' ' + text.substr(at, end - at);
    at = end + 1;
  }
  out += line + '\n';
}

std::string Conversion::yaml() const {
  std::string out = "# Made by `carpool convert` from PgBouncer's configuration.\n";
  if (!notes_.empty()) out += "#\n# Not carried over, or not quite:\n";
  for (const std::string& text : notes_) append_comment(out, text);
  out += '\n';
  for (const config::Section& section : config::sections()) {
    append_section(out, lines_, section.name, "");
    if (section.name != "pool") continue;
    out += "databases:\n";
    for (const Database& database : databases_) {
      out += fmt::format("  - name: {}\n", yaml_text(database.name));
      append_section(out, database.lines, "server", "    ");
      append_section(out, database.lines, "pool", "    ");
    }
  }
  return out;
}

}  // namespace

Result<Converted> convert_pgbouncer(std::string_view ini, const std::string* userlist) {
  Result<std::vector<IniEntry>> entries = parse_pgbouncer_ini(ini);
  if (!entries) return entries.error();
  return Conversion(std::move(*entries), userlist).run();
}

int run_convert(const std::string& ini_file, const std::string& userlist_file, std::ostream& out,
                std::ostream& err) {
  const Result<std::string> ini = config::read_file(ini_file);
  if (!ini) {
    err << ini_file << ": " << ini.error().message << "\n";
    return kExitNoInput;
  }
  std::optional<std::string> userlist;
  if (!userlist_file.empty()) {
    Result<std::string> text = config::read_file(userlist_file);
    if (!text) {
      err << userlist_file << ": " << text.error().message << "\n";
      return kExitNoInput;
    }
    userlist = *text;
  }
  const Result<Converted> converted = convert_pgbouncer(*ini, userlist ? &*userlist : nullptr);
  if (!converted) {
    err << ini_file << ": " << converted.error().message << "\n";
    return kExitBadConfig;
  }
  out << converted->yaml;
  err << fmt::format("{}: {} settings carried over, {} comments on what was not\n", ini_file,
                     converted->carried, converted->not_carried);
  return kExitValid;
}

}  // namespace carpool::cli
