#include "proxy/credentials.h"

#include <fmt/format.h>

#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.h"
#include "config/load.h"
#include "pg/scram.h"
#include "proxy/connector_environment.h"
#include "proxy/salt_secret.h"

namespace carpool::proxy {
namespace {

constexpr const char* kSaltFile = "auth.saltFile";
constexpr const char* kPasswordFile = "server.passwordFile";

struct NamedPath {
  const char* key;
  const std::string* path;
};

std::vector<NamedPath> paths_of(const CredentialsPlan& plan) {
  std::vector<NamedPath> paths = {
      {"listen.tls.certFile", &plan.tls.cert_file}, {"listen.tls.keyFile", &plan.tls.key_file},
      {"listen.tls.caFile", &plan.tls.ca_file},     {kSaltFile, &plan.salts.file},
      {kPasswordFile, &plan.salts.password_file},   {"auth.usersFile", &plan.users_file}};
  std::erase_if(paths, [](const NamedPath& one) { return one.path->empty(); });
  return paths;
}

// A server's passwordFile is of use for salts, and who signs in does not wait for it longer than
// this.
constexpr std::chrono::seconds kPasswordFileMax(2);

// What hangs keeps its thread: one a path, for whose end all wait that read it.
Result<std::string> read_in_time(const std::string& path) {
  struct Running {
    std::mutex mutex;
    std::map<std::string, std::shared_future<Result<std::string>>> contents;
  };
  static auto* const running = new Running;  // for threads that outlive everything
  const Error late{fmt::format("not read within {} s", kPasswordFileMax.count())};
  std::shared_future<Result<std::string>> content;
  {
    const std::lock_guard lock(running->mutex);
    const auto known = running->contents.find(path);
    if (known != running->contents.end()) {
      content = known->second;
    } else {
      std::packaged_task<Result<std::string>()> read([path] {
        Result<std::string> text = config::read_file(path, config::kNamedFileBytes_max);
        const std::lock_guard over(running->mutex);
        running->contents.erase(path);
        return text;
      });
      content = read.get_future();
      try {
        running->contents.emplace(path, content);
        std::thread(std::move(read)).detach();
      } catch (const std::system_error&) {  // no thread is to be had
        running->contents.erase(path);
        return late;
      }
    }
  }
  if (content.wait_for(kPasswordFileMax) != std::future_status::ready) return late;
  return content.get();
}

// None where the plan names no such file.
std::optional<net::Pem> pem_of(const std::vector<CredentialsFile>& files, std::string_view key) {
  for (const CredentialsFile& file : files) {
    if (file.key == key) return net::Pem{file.name(), *file.text};
  }
  return std::nullopt;
}

// What salts are made from; empty where there is nothing. A passwordFile that cannot be read is no
// error here: it is one for whoever opens a server.
Result<Bytes> derive_salts(const CredentialsPlan& plan, const std::vector<CredentialsFile>& files,
                           bool known, std::vector<std::string>& warnings) {
  for (const CredentialsFile& file : files) {
    if (file.key == kSaltFile) {
      Result<Bytes> made = file.text ? salt_secret_of_file(*file.text) : file.text.error();
      if (made) return made;
      const std::string problem = file.name() + ": " + made.error().message;
      if (!known) return Error{problem};
      warnings.push_back(problem + ", so that salts stay as they were until a restart");
      return Bytes();
    }
    if (file.key != kPasswordFile) continue;
    if (file.text) return salt_secret_of_password(*file.text);
    warnings.push_back(file.name() + ": " + file.text.error().message +
                       ", so that a restart may tell which users exist");
    return Bytes();
  }
  const config::SaltSource& salts = plan.salts;
  return salts.password.empty() ? salt_secret_of_place(salts.place)
                                : salt_secret_of_password(salts.password);
}

}  // namespace

CredentialsPlan::CredentialsPlan(const config::Config& config)
    : mode(config.auth.mode), scram_iterations(config.auth.scram_iterations) {
  if (mode == config::AuthMode::ScramSha256) {
    users_file = config.auth.users_file;
    salts = config::salt_source(config, libpq_at_hand());
  }
  if (config.listen.tls.mode != config::TlsMode::Disable) tls = config.listen.tls;
}

CredentialsPlan CredentialsPlan::part(CredentialsPart part) const {
  CredentialsPlan alone = *this;
  if (part == CredentialsPart::Users) {
    alone.tls = {};
  } else {
    alone.mode = config::AuthMode::Trust;
    alone.scram_iterations = 0;
    alone.users_file.clear();
    alone.salts = {};
  }
  return alone;
}

CredentialsPlan CredentialsPlan::but_for_servers() const {
  CredentialsPlan rest = *this;
  rest.salts = {.file = salts.file};
  return rest;
}

Credentials Credentials::without_files(const CredentialsPlan& plan) {
  Credentials made;
  made.scram_iterations = plan.scram_iterations;
  return made;
}

void Credentials::take(CredentialsPart part, Credentials theirs) {
  if (part == CredentialsPart::Tls) {
    tls = std::move(theirs.tls);
    return;
  }
  scram_iterations = theirs.scram_iterations;
  users = std::move(theirs.users);
  // Salts stay as they were where nothing is said of them.
  if (!theirs.salt_secret.empty()) salt_secret = std::move(theirs.salt_secret);
  warnings = std::move(theirs.warnings);
}

std::string CredentialsPlan::describe() const {
  std::string all;
  for (const NamedPath& one : paths_of(*this)) {
    all += (all.empty() ? "" : ", ") + std::string(one.key) + " " + *one.path;
  }
  return all;
}

std::vector<CredentialsFile> read_files(const CredentialsPlan& plan, ReadingProgress& progress) {
  std::vector<CredentialsFile> files;
  for (const NamedPath& one : paths_of(plan)) {
    progress.set(one.key);
    files.push_back({one.key, *one.path,
                     one.key == kPasswordFile
                         ? read_in_time(*one.path)
                         : config::read_file(*one.path, config::kNamedFileBytes_max)});
  }
  return files;
}

std::string fingerprint_of(const std::vector<CredentialsFile>& files) {
  Bytes all;
  for (const CredentialsFile& file : files) {
    const std::string& content = file.text ? *file.text : file.text.error().message;
    append_u32(all, file.text ? 1 : 0);
    append_u32(all, static_cast<std::uint32_t>(content.size()));
    append_text(all, content);
  }
  const pg::ScramKey hash = pg::sha256(all);
  return std::string(hash.begin(), hash.end());
}

Result<Credentials> make_credentials(const CredentialsPlan& plan,
                                     const std::vector<CredentialsFile>& files,
                                     ByteSpan salt_secret, ReadingProgress& progress,
                                     bool salts_known) {
  for (const CredentialsFile& file : files) {
    if (file.text || file.key == kPasswordFile || file.key == kSaltFile) continue;
    return Error{file.name() + ": " + file.text.error().message};
  }
  Credentials made;
  made.scram_iterations = plan.scram_iterations;
  if (plan.reads_tls()) {
    const auto named = [&files](const char* key) {
      return pem_of(files, key).value_or(net::Pem{key, ""});
    };
    Result<std::unique_ptr<net::TlsContext>> context =
        net::TlsContext::make(named("listen.tls.certFile"), named("listen.tls.keyFile"),
                              pem_of(files, "listen.tls.caFile"));
    if (!context) return context.error();
    made.tls = std::move(*context);
  }
  if (plan.reads_users()) {
    const CredentialsFile& file = files.back();
    CHECK(file.key == "auth.usersFile");
    progress.set("hashing the passwords of auth.usersFile");
    Result<Bytes> derived = derive_salts(plan, files, salts_known, made.warnings);
    if (!derived) return derived.error();
    made.salt_secret = derived->empty() ? Bytes(salt_secret.begin(), salt_secret.end()) : *derived;
    Result<pg::Users> users =
        pg::Users::parse(*file.text, {made.salt_secret, plan.scram_iterations});
    if (!users) return Error{file.name() + ": " + users.error().message};
    for (const std::string& warning : users->warnings()) {
      made.warnings.push_back(file.name() + ": " + warning);
    }
    made.users = std::move(*users);
  }
  return made;
}

}  // namespace carpool::proxy
