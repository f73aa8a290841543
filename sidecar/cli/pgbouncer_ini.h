// PgBouncer's two files as values: its ini, and the names and kinds of secrets in its userlist.
// Text in, values out; it reads no file, interprets no setting, and never keeps a secret.
//
//   [section]
//   ; a comment, or # a comment
//   key = value                      "key with spaces" = value, in [databases]
//
// Source: pgbouncer.org, "pgbouncer.ini", sections "Description" and "Authentication file format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace carpool::cli {

struct IniEntry {
  std::string section;
  std::string key;
  std::string value;
  int line = 0;
};

// The entries in the order of the file. An error names its line. `%include` is refused: what it
// names would have to be read too, and its path means something only where PgBouncer runs.
Result<std::vector<IniEntry>> parse_pgbouncer_ini(std::string_view text);

// That of [pgbouncer], the last of several; null where there is none.
const IniEntry* find_setting(const std::vector<IniEntry>& ini, std::string_view key);
// Its value, or `otherwise`.
std::string setting_or(const std::vector<IniEntry>& ini, std::string_view key,
                       std::string_view otherwise);

using ConnectPairs = std::vector<std::pair<std::string, std::string>>;

// A value of [databases] or [users]: "host=db port=5432 password='it''s'".
Result<ConnectPairs> parse_connect_string(std::string_view text);

enum class SecretKind : std::uint8_t { Plain, Md5, Scram, Empty };

struct UserlistEntry {
  std::string user;
  SecretKind kind = SecretKind::Plain;
  int line = 0;
};

// What cannot be read as an entry is passed over, as PgBouncer does.
std::vector<UserlistEntry> parse_userlist(std::string_view text);

}  // namespace carpool::cli
