#include "pg/users_file.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace carpool::pg {
namespace {

constexpr std::size_t kWarningsMax = 100;
constexpr std::size_t kShapesMax = 100;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

void skip_space(std::string_view& line) {
  while (!line.empty() && is_space(line.front())) line.remove_prefix(1);
}

// A text in quotes at the start of the line, which is then behind it.
Result<std::string> take_text(std::string_view& line, std::string_view what,
                              std::size_t bytes_max) {
  const auto error = [&what](std::string_view problem) {
    return Error{std::string(what) + " " + std::string(problem)};
  };
  if (line.empty()) return error("is missing");
  if (line.front() != '"') return error("must stand in double quotes");
  std::string text;
  for (std::size_t at = 1; at < line.size(); ++at) {
    if (line[at] != '"') {
      text.push_back(line[at]);
    } else if (at + 1 < line.size() && line[at + 1] == '"') {
      text.push_back('"');
      ++at;
    } else {
      line.remove_prefix(at + 1);
      if (text.size() > bytes_max) return error("is too long");
      if (text.find('\0') != std::string::npos) return error("holds a zero byte");
      return text;
    }
  }
  return error("lacks its closing quote");
}

bool is_md5(std::string_view secret) {
  constexpr std::size_t kMd5Length = 35;
  return secret.size() == kMd5Length && secret.starts_with("md5") &&
         std::all_of(secret.begin() + 3, secret.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
         });
}

}  // namespace

Result<Users> Users::parse(std::string_view text, const Secrets& secrets) {
  Users users;
  std::unordered_set<std::string> seen;
  std::size_t number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto at_line = [number](const std::string& problem) {
      return Error{"line " + std::to_string(number) + ": " + problem};
    };
    skip_space(line);
    if (line.empty() || line.front() == ';' || line.front() == '#') continue;
    Result<std::string> user = take_text(line, "the user", kUserNameBytesMax);
    if (!user) return at_line(user.error().message);
    if (user->empty()) return at_line("the user is empty");
    skip_space(line);
    const Result<std::string> secret =
        take_text(line, "the password or verifier", kUserPasswordBytesMax);
    if (!secret) return at_line(secret.error().message);
    if (seen.size() >= kUsersMax) return at_line("there are too many users");
    if (!seen.insert(*user).second) {
      return at_line("the user \"" + *user + "\" stands here a second time");
    }
    // As PgBouncer's tools write a role without a password.
    if (secret->empty()) {
      users.warn(number, "the password of \"" + *user + "\" is empty: it lets nobody in");
      continue;
    }

    ScramVerifier verifier;
    if (looks_like_verifier(*secret)) {
      Result<ScramVerifier> parsed = parse_verifier(*secret);
      if (!parsed) return at_line(parsed.error().message);
      verifier = std::move(*parsed);
    } else if (is_md5(*secret)) {
      return at_line(
          "an MD5 hash cannot check scram-sha-256; set the password anew with "
          "password_encryption = scram-sha-256 and copy rolpassword from pg_authid");
    } else {
      if (needs_saslprep(*secret)) {
        users.warn(number,
                   "a password beyond ASCII is taken as it stands, without SASLprep; a verifier "
                   "from pg_authid is safe in any case");
      }
      verifier =
          make_verifier(*secret, salt_for_user(secrets.salt_secret, *user), secrets.iterations);
    }
    users.note_shape({verifier.iterations, verifier.salt.size()});
    users.verifiers_.emplace(std::move(*user), std::move(verifier));
  }
  return users;
}

void Users::warn(std::size_t line, const std::string& what) {
  if (warnings_.size() >= kWarningsMax) return;
  warnings_.push_back("line " + std::to_string(line) + ": " + what);
}

void Users::note_shape(ScramShape shape) {
  const auto at = std::lower_bound(shapes_.begin(), shapes_.end(), shape);
  if ((at == shapes_.end() || *at != shape) && shapes_.size() < kShapesMax) {
    shapes_.insert(at, shape);
  }
}

const ScramVerifier* Users::find(std::string_view user) const {
  const auto at = verifiers_.find(std::string(user));
  return at == verifiers_.end() ? nullptr : &at->second;
}

}  // namespace carpool::pg
