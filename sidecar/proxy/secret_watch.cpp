#include "proxy/secret_watch.h"

#include <iterator>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "config/conninfo.h"
#include "config/load.h"
#include "pg/scram_verifier.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

std::string hash_of(const std::string& path) {
  const Result<std::string> text = config::read_file(path, config::kNamedFileBytes_max);
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
    : SecretWatch(loop, std::move(changed), hash_of) {}

SecretWatch::SecretWatch(net::Loop& loop, Changed changed, Hash hash)
    : loop_(loop), changed_(std::move(changed)), hash_(std::move(hash)), aside_(loop) {}

void SecretWatch::look(const std::set<std::string>& paths) {
  std::erase_if(files_, [&](const auto& entry) {
    return entry.second.readings.empty() && !paths.contains(entry.first);
  });
  for (auto& [path, file] : files_) file.again = false;
  for (const std::string& path : paths) read(path, files_[path]);
}

// Beside those that hang: 1 s after the first, 3 s after the second, 9 s after the third, ... They
// leave half of the threads to the files that do not hang.
bool SecretWatch::may_read(const File& file) const {
  const std::size_t running = file.readings.size();
  if (running == 0) return true;
  if (running == kAtOnceMax || aside_.running() >= net::Aside::kThreadsMax / 2) return false;
  Micros rest_us = kHangs_us;
  for (std::size_t i = 1; i < running; ++i) rest_us *= 3;
  return loop_.now_us() - file.readings.rbegin()->second >= rest_us;
}

void SecretWatch::read(const std::string& path, File& file) {
  file.again = !may_read(file);
  if (file.again) return look_later();
  auto hash = std::make_shared<std::string>();
  const std::uint64_t number = ++numbers_;
  const bool runs =
      aside_.run([path, hash, work = hash_] { *hash = work(path); },
                 [this, path, number, hash] { has_read(path, number, std::move(*hash)); });
  if (runs) file.readings[number] = loop_.now_us();
}

// A look that came too soon is made up for.
void SecretWatch::look_later() {
  if (later_.running()) return;
  later_.start(loop_, kHangs_us, 0, [this] {
    later_.stop();
    for (auto& [path, file] : files_) {
      if (file.again) read(path, file);
    }
  });
}

void SecretWatch::has_read(const std::string& path, std::uint64_t number, std::string hash) {
  const auto found = files_.find(path);
  if (found == files_.end()) return;
  File& file = found->second;
  const auto reading = file.readings.find(number);
  if (reading == file.readings.end()) return;  // it was overtaken
  const Micros oldest_us = file.readings.begin()->second;
  const bool overtook = reading->second - oldest_us >= kHangs_us;
  // What began before says nothing any more.
  file.readings.erase(file.readings.begin(), std::next(reading));
  const std::string before = std::exchange(file.seen, std::move(hash));
  const bool changed = overtook || (!before.empty() && before != file.seen);
  if (file.again) read(path, file);
  if (changed) changed_(path);
}

}  // namespace carpool::proxy
