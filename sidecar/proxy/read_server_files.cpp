// read_server_files(): what a thread beside the loop does for ServerFiles.
#include <dirent.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "config/load.h"
#include "proxy/server_files.h"

namespace carpool::proxy {
namespace {

constexpr std::size_t kCrlsMax = 1000;
constexpr mode_t kPrivate = 0600;
constexpr mode_t kOpen = 0666;  // so that libpq refuses it with its own words
// What PostgreSQL reads of a password message (PG_MAX_AUTH_TOKEN_LENGTH), less its length word and
// its zero.
constexpr std::size_t kPasswordMax = 65'535 - 4 - 1;

std::string home_of_user() {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 16'384> room;
  const int rc = getpwuid_r(geteuid(), &entry, room.data(), room.size(), &found);
  return rc == 0 && found != nullptr ? found->pw_dir : "";
}

// libpq's own rule for keys (initialize_SSL()).
bool is_private_key(const struct stat& info) {
  const mode_t others = info.st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
  return (info.st_mode & others) == 0;
}

// A file that OpenSSL would read in a folder of revocation lists: 1a2b3c4d.r0
bool is_list(const std::string& name) {
  constexpr std::size_t kHash = 8;
  return name.size() > kHash + 2 && name.compare(kHash, 2, ".r") == 0 &&
         name.find_first_not_of("0123456789abcdef") == kHash &&
         name.find_first_not_of("0123456789", kHash + 2) == std::string::npos;
}

class FilesReader {
 public:
  explicit FilesReader(const std::string& home) : home_(home) {}

  ServerFiles::Answer run(const std::vector<LibpqFile>& files) {
    for (const LibpqFile& file : files) {
      take(file);
      if (!answer_.problem.empty()) break;
    }
    if (answer_.problem.empty() && !crls_.empty()) copy("sslcrl", crl_name_, crls_, kPrivate);
    return std::move(answer_);
  }

 private:
  void take(const LibpqFile& file) {
    const std::string path = full_path(file);
    struct stat info {};
    if (file.may_lack && (path.empty() || stat(path.c_str(), &info) != 0)) {
      return set_none(file.keyword, file.path);
    }
    if (file.kind == LibpqFile::Kind::CrlFolder) return take_folder(file, path);
    // Under its name: the file may have gone since.
    const bool known = stat(path.c_str(), &info) == 0;
    const Result<std::string> text = config::read_file(path, config::kNamedFileBytes_max);
    if (!text) return fail(file, text.error().message);
    switch (file.kind) {
      case LibpqFile::Kind::Secret:
        return take_password(file, *text);
      case LibpqFile::Kind::Pgpass:
        if (known && (info.st_mode & (S_IRWXG | S_IRWXO)) == 0) break;
        if (!file.may_lack)
          return fail(file,
                      "others than its owner can read it, so that libpq "
                      "does not take it");
        return set_none(file.keyword, file.path);
      case LibpqFile::Kind::Key:
        return copy(file.keyword, path, *text, known && is_private_key(info) ? kPrivate : kOpen);
      default:
        break;
    }
    if (file.keyword == "sslcrl") {
      crls_ += *text;
      crl_name_ = path;
      return;
    }
    copy(file.keyword, path, *text, kPrivate);
  }

  std::string full_path(const LibpqFile& file) {
    if (!file.may_lack || !file.path.starts_with("~/")) return file.path;
    if (home_.empty()) home_ = home_of_user();
    return home_.empty() ? "" : home_ + file.path.substr(1);
  }

  void take_password(const LibpqFile& file, std::string text) {
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (text.empty()) return fail(file, "is empty");
    if (text.size() > kPasswordMax) return fail(file, "is too long");
    if (text.find('\0') != std::string::npos) return fail(file, "holds a zero byte");
    answer_.copies.options.emplace_back(file.keyword, std::move(text));
  }

  // OpenSSL would look in the folder during the handshake. All of its lists in one file are the
  // same.
  void take_folder(const LibpqFile& file, const std::string& path) {
    DIR* folder = opendir(path.c_str());
    if (folder == nullptr) return fail(file, std::strerror(errno));
    std::vector<std::string> names;
    while (const dirent* entry = readdir(folder)) {
      if (is_list(entry->d_name)) names.emplace_back(entry->d_name);
    }
    closedir(folder);
    std::sort(names.begin(), names.end());
    if (names.empty()) return fail(file, "holds no certificate revocation list");
    if (names.size() > kCrlsMax) return fail(file, "holds too many certificate revocation lists");
    for (const std::string& name : names) {
      const Result<std::string> text =
          config::read_file(fmt::format("{}/{}", path, name), config::kNamedFileBytes_max);
      if (!text) return fail(file, fmt::format("{} in it: {}", name, text.error().message));
      if (text->find("-----BEGIN X509 CRL-----") == std::string::npos) {
        return fail(file, name + " in it: is no certificate revocation list");
      }
      crls_.append(*text).append("\n");
      if (crls_.size() > config::kNamedFileBytes_max) {
        return fail(file,
                    fmt::format("holds more than {} bytes of lists", config::kNamedFileBytes_max));
      }
    }
    crl_name_ = path;
    set_none("sslcrldir", path);
  }

  void copy(const std::string& keyword, const std::string& name, const std::string& text,
            mode_t mode) {
    std::shared_ptr<const MemoryFile> file = MemoryFile::make(text, mode);
    if (file == nullptr) {
      answer_.problem = name + ": the kernel gives no memory for a copy of it";
      return;
    }
    answer_.copies.options.emplace_back(keyword, file->path());
    const std::string path = file->path();
    answer_.copies.copies.push_back({path, name, std::move(file)});
  }

  void set_none(const std::string& keyword, const std::string& name) {
    const std::string path = std::string(kNoFile) + "/" + keyword;
    answer_.copies.options.emplace_back(keyword, path);
    answer_.copies.copies.push_back({path, name, nullptr});
  }

  void fail(const LibpqFile& file, const std::string& why) {
    answer_.problem = file.name + ": " + why;
    answer_.of_password = file.kind == LibpqFile::Kind::Secret;
  }

  std::string home_;
  std::string crls_;
  std::string crl_name_;
  ServerFiles::Answer answer_;
};

}  // namespace

ServerFiles::Answer read_server_files(const std::vector<LibpqFile>& files,
                                      const std::string& home) {
  return FilesReader(home).run(files);
}

}  // namespace carpool::proxy
