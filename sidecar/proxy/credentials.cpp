#include "proxy/credentials.h"

#include <utility>

#include "base/check.h"
#include "config/load.h"
#include "pg/scram.h"

namespace carpool::proxy {
namespace {

// What stands in one of the files; an error names it.
struct File {
  const char* key;  // "auth.usersFile"
  std::string path;
  Result<std::string> text = Error{"not read"};

  std::string name() const { return std::string(key) + " " + path; }
};

std::vector<File> files_of(const CredentialsPlan& plan) {
  std::vector<File> files;
  const auto add = [&files](const char* key, const std::string& path) {
    if (!path.empty()) files.push_back({key, path});
  };
  add("listen.tls.certFile", plan.tls.cert_file);
  add("listen.tls.keyFile", plan.tls.key_file);
  add("listen.tls.caFile", plan.tls.ca_file);
  add("auth.usersFile", plan.users_file);
  return files;
}

const std::string* text_of(const std::vector<File>& files, std::string_view key) {
  for (const File& file : files) {
    if (file.key == key) return &*file.text;
  }
  return nullptr;
}

std::string fingerprint_of(const std::vector<File>& files) {
  Bytes all;
  for (const File& file : files) {
    const std::string& content = file.text ? *file.text : file.text.error().message;
    append_u32(all, file.text ? 1 : 0);
    append_u32(all, static_cast<std::uint32_t>(content.size()));
    append_text(all, content);
  }
  const pg::ScramKey hash = pg::sha256(all);
  return std::string(hash.begin(), hash.end());
}

Result<Credentials> make(const CredentialsPlan& plan, const std::vector<File>& files,
                         ByteSpan salt_secret, ReadingProgress& progress) {
  for (const File& file : files) {
    if (!file.text) return Error{file.name() + ": " + file.text.error().message};
  }
  Credentials made;
  made.scram_iterations = plan.scram_iterations;
  if (plan.reads_tls()) {
    const auto pem = [&files](const char* key, const std::string& path) {
      const std::string* text = text_of(files, key);
      return net::Pem{std::string(key) + " " + path, text == nullptr ? "" : *text};
    };
    Result<std::unique_ptr<net::TlsContext>> context = net::TlsContext::make(
        pem("listen.tls.certFile", plan.tls.cert_file),
        pem("listen.tls.keyFile", plan.tls.key_file), pem("listen.tls.caFile", plan.tls.ca_file));
    if (!context) return context.error();
    made.tls = std::move(*context);
  }
  if (plan.reads_users()) {
    const std::string name = "auth.usersFile " + plan.users_file;
    progress.set("hashing the passwords of auth.usersFile");
    Result<pg::Users> users =
        pg::Users::parse(*text_of(files, "auth.usersFile"), {salt_secret, plan.scram_iterations});
    if (!users) return Error{name + ": " + users.error().message};
    for (const std::string& warning : users->warnings()) {
      made.warnings.push_back(name + ": " + warning);
    }
    made.users = std::move(*users);
  }
  return made;
}

}  // namespace

CredentialsPlan::CredentialsPlan(const config::Config& config)
    : mode(config.auth.mode), scram_iterations(config.auth.scram_iterations) {
  if (mode == config::AuthMode::ScramSha256) users_file = config.auth.users_file;
  if (config.listen.tls.mode != config::TlsMode::Disable) tls = config.listen.tls;
}

Credentials Credentials::without_files(const CredentialsPlan& plan) {
  CHECK(!plan.needs_files());
  Credentials made;
  made.scram_iterations = plan.scram_iterations;
  return made;
}

std::string CredentialsPlan::describe() const {
  std::string all;
  for (const File& file : files_of(*this)) all += (all.empty() ? "" : ", ") + file.name();
  return all;
}

CredentialsRead read_credentials(const CredentialsPlan& plan, ByteSpan salt_secret,
                                 const std::string& known, ReadingProgress& progress) {
  std::vector<File> files = files_of(plan);
  for (File& file : files) {
    progress.set(file.key);
    file.text = config::read_file(file.path);
  }
  CredentialsRead read{fingerprint_of(files), std::nullopt};
  if (read.fingerprint != known) read.credentials = make(plan, files, salt_secret, progress);
  return read;
}

}  // namespace carpool::proxy
