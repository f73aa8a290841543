#include "proxy/secret_watch.h"

#include <utility>

#include "base/bytes.h"
#include "config/conninfo.h"
#include "config/load.h"
#include "pg/scram_verifier.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

std::string hash_of(const std::string& path) {
  const Result<std::string> text = config::read_file(path);
  Bytes all;
  append_u8(all, text ? 1 : 0);
  append_text(all, text ? *text : text.error().message);
  const pg::ScramKey hash = pg::sha256(all);
  return std::string(hash.begin(), hash.end());
}

}  // namespace

std::set<std::string> files_of(const config::Server& server) {
  std::set<std::string> files = {server.password_file};
  if (const Result<config::UrlParts> parts = config::conninfo_of(server, libpq_at_hand())) {
    for (const char* name : {"sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"}) {
      if (const auto found = parts->find(name); found != parts->end()) files.insert(found->second);
    }
  }
  files.erase("");
  files.erase("system");  // an sslrootcert that is no file
  return files;
}

SecretWatch::SecretWatch(net::Loop& loop, Changed changed)
    : changed_(std::move(changed)), aside_(loop) {}

void SecretWatch::look(const std::set<std::string>& paths) {
  std::erase_if(files_, [&](const auto& entry) {
    return !entry.second.reading && !paths.contains(entry.first);
  });
  for (const std::string& path : paths) read(path, files_[path]);
}

void SecretWatch::read(const std::string& path, File& file) {
  file.again = file.reading;
  if (file.reading) return;
  auto hash = std::make_shared<std::string>();
  file.reading = aside_.run([path, hash] { *hash = hash_of(path); },
                            [this, path, hash] { has_read(path, std::move(*hash)); });
}

void SecretWatch::has_read(const std::string& path, std::string hash) {
  File& file = files_[path];
  file.reading = false;
  const std::string before = std::exchange(file.seen, std::move(hash));
  const bool changed = !before.empty() && before != file.seen;
  if (file.again) read(path, file);
  if (changed) changed_(path);
}

}  // namespace carpool::proxy
