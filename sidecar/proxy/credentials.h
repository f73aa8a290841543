// Credentials: what the mounted files say about who may sign in, as a value: the users and their
// verifiers, and the context of TLS. read_files() may take for ever (a mount that hangs) and
// make_credentials() seconds (a PBKDF2 for each plain password), so that both belong on a thread
// where they keep nobody waiting (CredentialsReader). Nothing here touches what the loop owns.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "config/config.h"
#include "config/salt_source.h"
#include "net/tls.h"
#include "pg/users_file.h"

namespace carpool::proxy {

// What stands for itself: one of them may be bad, or late, and the other is of use all the same.
enum class CredentialsPart : std::uint8_t {
  Tls,    // listen.tls: certificate, key and authorities, which fit each other or do not
  Users,  // auth: the users' file, and what its salts are made of
};
inline constexpr std::array kCredentialsParts = {CredentialsPart::Tls, CredentialsPart::Users};

// Which files are read, and what for. Equal ones read the same files in the same way; what a
// configuration does not use is left out.
struct CredentialsPlan {
  explicit CredentialsPlan(const config::Config& config);

  bool needs_files() const { return reads_users() || reads_tls(); }
  bool reads_users() const { return mode == config::AuthMode::ScramSha256; }
  bool reads_tls() const { return tls.mode != config::TlsMode::Disable; }
  // A plan of that part alone.
  CredentialsPlan part(CredentialsPart part) const;
  // What the keys of its own section say: salts that a server's password or place is good for are
  // as good as any.
  CredentialsPlan but_for_servers() const;
  // The paths, for people: "auth.usersFile /a, listen.tls.certFile /b".
  std::string describe() const;
  bool operator==(const CredentialsPlan&) const = default;

  config::AuthMode mode;
  std::string users_file;
  std::uint32_t scram_iterations;
  config::SaltSource salts;
  config::Tls tls;
};

struct Credentials {
  // Those of a plan before its files have been read: all, where it needs none.
  static Credentials without_files(const CredentialsPlan& plan);
  // That part of theirs instead of its own.
  void take(CredentialsPart part, Credentials theirs);

  std::uint32_t scram_iterations = 4096;  // of users that there are not
  std::shared_ptr<net::TlsContext> tls;   // null: TLS is not spoken
  std::optional<pg::Users> users;         // none: nobody signs in by the users' file
  Bytes salt_secret;                      // of those users (salt_secret.h); empty: there are none
  std::vector<std::string> warnings;      // about the files, each naming one
};

// What a reading is at, for others to look at from their thread.
class ReadingProgress {
 public:
  // `what` lives for ever: "auth.usersFile".
  void set(const char* what) { what_.store(what, std::memory_order_relaxed); }
  const char* what() const { return what_.load(std::memory_order_relaxed); }

 private:
  std::atomic<const char*> what_{""};
};

// One of the files as it stands.
struct CredentialsFile {
  std::string key;  // "auth.usersFile"
  std::string path;
  Result<std::string> text;

  std::string name() const { return key + " " + path; }
};

// The files of a plan, in one order.
std::vector<CredentialsFile> read_files(const CredentialsPlan& plan, ReadingProgress& progress);
// Of the files' contents, or of why they could not be read: equal ones mean the same.
std::string fingerprint_of(const std::vector<CredentialsFile>& files);
// What they say; an error names the file. `salt_secret`: as in pg::Users::Secrets, where the plan
// has nothing to derive one from. `salts_known`: that it came from this plan, so that it stays
// where auth.saltFile has become bad, and that stops no change of the users' file.
Result<Credentials> make_credentials(const CredentialsPlan& plan,
                                     const std::vector<CredentialsFile>& files,
                                     ByteSpan salt_secret, ReadingProgress& progress,
                                     bool salts_known = false);

}  // namespace carpool::proxy
