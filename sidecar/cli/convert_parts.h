// What `carpool convert` does with each part of PgBouncer's files: settings, databases, and who may
// sign in. Each takes values and writes to the draft.
//
// Invariant: every setting ends as a line of the draft or as one of its notes, but those that say
// what Carpool does anyway.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/convert_draft.h"
#include "cli/pgbouncer_ini.h"

namespace carpool::cli {

// One entry of [pgbouncer], where it has a counterpart of its own.
void convert_setting(const IniEntry& entry, Draft& draft);

// A server_lifetime, of all or of the database that `where` names for a note; 0 is "used once".
void convert_lifetime(const std::string& value, const std::string& where, Lines& lines,
                      Draft& draft);

// What depends on more than one of them, or on PgBouncer's defaults.
void convert_settings_together(const std::vector<IniEntry>& ini, Draft& draft);

// What sizes and limits mean to each other, when the databases are known.
void settle_sizes(const std::vector<IniEntry>& ini, Draft& draft);

// One entry of [databases]. An error names its line.
std::optional<Error> convert_database(const IniEntry& entry, Draft& draft);

// Who may sign in and who may use the console; when the databases are known. `users` is null where
// no userlist was given.
void convert_auth(const std::vector<IniEntry>& ini, const std::vector<UserlistEntry>* users,
                  Draft& draft);

}  // namespace carpool::cli
