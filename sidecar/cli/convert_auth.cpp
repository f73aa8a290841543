#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "cli/convert_parts.h"

namespace carpool::cli {
namespace {

void note_useless_secrets(const std::vector<UserlistEntry>& users, Draft& draft) {
  for (const UserlistEntry& user : users) {
    if (user.kind == SecretKind::Md5) {
      draft.note(
          fmt::format("userlist line {}, user {}: an MD5 hash cannot check scram-sha-256, and "
                      "Carpool refuses the file while it is there. Set the password anew with "
                      "password_encryption = scram-sha-256 and copy rolpassword from pg_authid",
                      user.line, one_line(user.user)));
    } else if (user.kind == SecretKind::Empty) {
      draft.note(fmt::format("userlist line {}, user {}: an empty password lets nobody in",
                             user.line, one_line(user.user)));
    }
  }
}

void convert_mode(const std::vector<IniEntry>& ini, const std::vector<UserlistEntry>* users,
                  Draft& draft) {
  const std::string type = setting_or(ini, "auth_type", "md5");
  const bool secrets = type == "scram-sha-256" || type == "md5" || type == "plain";
  const bool every_own =
      std::all_of(draft.databases.begin(), draft.databases.end(),
                  [](const Draft::Database& database) { return database.own_user; });
  const IniEntry* file = find_setting(ini, "auth_file");
  std::string mode = "passthrough";
  if (type == "trust" || type == "any") {
    mode = "trust";
  } else if (secrets && every_own && file != nullptr &&
             find_setting(ini, "auth_query") == nullptr) {
    mode = "scram-sha-256";
  }
  draft.lines["auth.mode"] = {mode, fmt::format("auth_type = {}", one_line(type))};
  draft.carried += find_setting(ini, "auth_type") != nullptr ? 1 : 0;
  if (type == "any") {
    draft.note(
        "auth_type = any: PgBouncer ignored the client's user name. Carpool keeps a pool for each; "
        "set server.user where all are to be one user on the server");
  }
  if (!secrets && mode == "passthrough") {
    draft.note(
        fmt::format("auth_type = {}: Carpool has no such way of signing in. With passthrough the "
                    "client's own user and password are tried on PostgreSQL, once",
                    one_line(type)));
  }
  if (mode == "scram-sha-256") {
    draft.carry_file(draft.lines, "auth.usersFile", file->value, "auth_file");
    if (users == nullptr) {
      draft.note(
          fmt::format("auth_file = {}: give it as the second argument, to have its entries looked "
                      "at; mount it from a Secret",
                      one_line(file->value)));
    }
    if (users != nullptr) note_useless_secrets(*users, draft);
  } else if (file != nullptr || find_setting(ini, "auth_query") != nullptr) {
    draft.note(
        fmt::format("auth_file, auth_query: not needed with auth.mode {}.{}", mode,
                    mode != "passthrough"
                        ? ""
                        : " Clients sign in as themselves, and so PostgreSQL has to take their "
                          "password, which PgBouncer took from there for its servers too"));
  }
}

void convert_admin_users(const std::vector<IniEntry>& ini, Draft& draft) {
  std::vector<std::string> names;
  std::string list = setting_or(ini, "admin_users", "");
  std::replace(list.begin(), list.end(), ',', ' ');
  for (std::size_t at = 0; (at = list.find_first_not_of(" \t", at)) != std::string::npos;) {
    const std::size_t end = std::min(list.find_first_of(" \t", at), list.size());
    names.push_back(yaml_text(std::string_view(list).substr(at, end - at)));
    at = end;
  }
  if (!names.empty()) {
    draft.lines["admin.users"] = {fmt::format("[{}]", fmt::join(names, ", ")), "admin_users"};
    draft.carried++;
  }
  if (const IniEntry* stats = find_setting(ini, "stats_users");
      stats != nullptr && !stats->value.empty()) {
    draft.note(
        fmt::format("stats_users = {}: whoever may use Carpool's console may also command it. Add "
                    "them to admin.users if they may",
                    one_line(stats->value)));
  }
}

}  // namespace

void convert_auth(const std::vector<IniEntry>& ini, const std::vector<UserlistEntry>* users,
                  Draft& draft) {
  convert_mode(ini, users, draft);
  convert_admin_users(ini, draft);
}

}  // namespace carpool::cli
