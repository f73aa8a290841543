#include "mounts.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>

namespace carpool {
namespace {

// The kubelet's folders hold `..data`, a link to the folder of the day, and links into that.
bool is_in_a_kubelets_folder(const std::string& path) {
  return path.find("/..data/") != std::string::npos ||
         access((directory_of(path) + "/..data").c_str(), F_OK) == 0;
}

}  // namespace

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool is_sub_path_mount(const std::string& path) {
  if (is_in_a_kubelets_folder(path)) return false;
  std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
  std::ifstream mounts("/proc/self/mountinfo");
  std::string id, parent, device, root, point, rest;
  while (real != nullptr && mounts >> id >> parent >> device >> root >> point &&
         std::getline(mounts, rest)) {
    if (point == real.get()) return true;
  }
  return false;
}

std::vector<NamedFile> files_of(const config::Config& config) {
  std::vector<NamedFile> files;
  const auto add = [&files](const char* key, const std::string& path, bool is_secret) {
    if (!path.empty()) files.push_back({key, path, is_secret});
  };
  add("auth.usersFile", config.auth.users_file, true);
  add("auth.saltFile", config.auth.salt_file, true);
  add("listen.tls.certFile", config.listen.tls.cert_file, false);
  add("listen.tls.keyFile", config.listen.tls.key_file, true);
  add("listen.tls.caFile", config.listen.tls.ca_file, false);
  for (const config::Database& database : config.databases) {
    add("server.passwordFile", database.server.password_file, true);
    add("server.sslRootCert", database.server.ssl_root_cert, false);
    add("server.sslCert", database.server.ssl_cert, false);
    add("server.sslKey", database.server.ssl_key, true);
  }
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

std::vector<std::string> warn_of_open_secrets(const std::vector<NamedFile>& files) {
  std::vector<std::string> warnings;
  for (const NamedFile& file : files) {
    struct stat info {};
    if (!file.is_secret || stat(file.path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const bool is_open = (info.st_mode & S_IROTH) != 0;
    if (!is_open || is_in_a_kubelets_folder(file.path) || is_sub_path_mount(file.path)) continue;
    warnings.push_back(fmt::format(
        "{} {} can be read by every user of this machine (mode {:04o}): it should be 0600 or 0640",
        file.key, file.path, info.st_mode & 07777));
  }
  return warnings;
}

}  // namespace carpool
