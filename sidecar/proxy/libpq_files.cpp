#include "proxy/libpq_files.h"

#include <utility>

namespace carpool::proxy {
namespace {

constexpr int kKnowsSystemRoots = 160'000;  // the first libpq that knows `sslrootcert=system`

class Finder {
 public:
  Finder(const config::Server& settings, const ConnectOptions& options)
      : settings_(settings), options_(options) {}

  std::vector<LibpqFile> run() {
    if (!settings_.password_file.empty()) {
      add("password", "server.passwordFile", settings_.password_file, LibpqFile::Kind::Secret);
    } else if (options_.get("password").empty()) {
      find("passfile", "", "", "~/.pgpass", LibpqFile::Kind::Pgpass);
    }
    if (options_.get("sslmode") == "disable" || options_.only_sockets) return std::move(found_);
    if (options_.get("sslrootcert") != "system" || options_.libpq_version < kKnowsSystemRoots) {
      find("sslrootcert", "server.sslRootCert", settings_.ssl_root_cert, "~/.postgresql/root.crt",
           LibpqFile::Kind::Plain);
    }
    find("sslcert", "server.sslCert", settings_.ssl_cert, "~/.postgresql/postgresql.crt",
         LibpqFile::Kind::Plain);
    // With a colon it is an engine's key, and no file.
    if (options_.get("sslkey").find(':') == std::string::npos) {
      find("sslkey", "server.sslKey", settings_.ssl_key, "~/.postgresql/postgresql.key",
           LibpqFile::Kind::Key);
    }
    const bool folder = find("sslcrldir", "", "", "", LibpqFile::Kind::CrlFolder);
    find("sslcrl", "", "", folder ? "" : "~/.postgresql/root.crl", LibpqFile::Kind::Plain);
    return std::move(found_);
  }

 private:
  void add(const std::string& keyword, const std::string& who, const std::string& path,
           LibpqFile::Kind kind, bool may_lack = false) {
    found_.push_back({keyword, who + " " + path, path, kind, may_lack});
  }
  // Named by a key of ours or by the url; else libpq's own idea. Whether there is any.
  bool find(const std::string& keyword, const std::string& key, const std::string& by_key,
            const std::string& by_itself, LibpqFile::Kind kind) {
    if (!by_key.empty()) {
      add(keyword, key, by_key, kind);
    } else if (const std::string path = options_.get(keyword); !path.empty()) {
      add(keyword, keyword + " of server.url", path, kind);
    } else if (!by_itself.empty()) {
      add(keyword, "libpq's own", by_itself, kind, true);
    } else {
      return false;
    }
    return true;
  }

  const config::Server& settings_;
  const ConnectOptions& options_;
  std::vector<LibpqFile> found_;
};

}  // namespace

std::vector<LibpqFile> files_needed(const config::Server& settings, const ConnectOptions& options) {
  return Finder(settings, options).run();
}

}  // namespace carpool::proxy
