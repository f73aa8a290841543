#include "cli/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "cli/check.h"
#include "cli/convert_draft.h"
#include "cli/convert_parts.h"
#include "cli/pgbouncer_ini.h"
#include "config/load.h"

namespace carpool::cli {
namespace {

// A setting that stands in no section that is read.
std::string why_not_section(const IniEntry& entry) {
  if (entry.section == "users") {
    return "there are no settings for one user. Give him a name in `databases` of its own, and "
           "settings there";
  }
  if (entry.section == "peers") {
    return "a cancel reaches the sidecar that has the client: no peers are needed";
  }
  return "not a section of PgBouncer's";
}

std::optional<Error> convert_entries(const std::vector<IniEntry>& ini, Draft& draft) {
  for (const IniEntry& entry : ini) {
    if (entry.section == "pgbouncer") {
      // PgBouncer takes the last of several.
      if (find_setting(ini, entry.key) == &entry) convert_setting(entry, draft);
    } else if (entry.section != "databases") {
      draft.note(fmt::format("[{}] {} = {}: {}", one_line(entry.section), one_line(entry.key),
                             one_line(entry.value), why_not_section(entry)));
    } else if (entry.key == "pgbouncer") {
      draft.note("[databases] pgbouncer: the name of the console");
    } else if (std::optional<Error> error = convert_database(entry, draft)) {
      return error;
    }
  }
  if (draft.databases.empty()) {
    return Error{"[databases] is empty: there is no server to go to"};
  }
  // First match wins: what matches any comes last.
  std::stable_partition(draft.databases.begin(), draft.databases.end(),
                        [](const Draft::Database& database) { return database.name != "*"; });
  return std::nullopt;
}

}  // namespace

Result<Converted> convert_pgbouncer(std::string_view ini_text, const std::string* userlist) {
  const Result<std::vector<IniEntry>> ini = parse_pgbouncer_ini(ini_text);
  if (!ini) return ini.error();
  std::optional<std::vector<UserlistEntry>> users;
  if (userlist != nullptr) users = parse_userlist(*userlist);

  Draft draft;
  if (std::optional<Error> error = convert_entries(*ini, draft)) return *error;
  convert_settings_together(*ini, draft);
  settle_sizes(*ini, draft);
  convert_auth(*ini, users ? &*users : nullptr, draft);
  while (true) {
    std::string text = draft.yaml();
    const config::LoadResult loaded = config::load_text(text, [&draft](const std::string& name) {
      return draft.needs(name) ? std::optional<std::string>("x") : std::nullopt;
    });
    if (loaded.config) {
      return Converted{std::move(text), draft.carried, static_cast<int>(draft.notes())};
    }
    const config::Problem& problem = loaded.problems.front();
    if (!draft.drop_refused(problem)) {
      return Error{fmt::format("{}: {}", problem.path, problem.message)};
    }
  }
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
    Result<std::string> text = config::read_file(userlist_file, config::kNamedFileBytes_max);
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
