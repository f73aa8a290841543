#include "proxy/server_files.h"

#include <algorithm>
#include <cstdlib>

namespace carpool::proxy {

std::string FileCopies::in_words(std::string message) const {
  for (const Copy& copy : copies) {
    // In quotes, so that one number is not found in another.
    const std::string quoted = "\"" + copy.path + "\"";
    for (std::size_t at = message.find(quoted); at != std::string::npos;
         at = message.find(quoted, at)) {
      message.replace(at + 1, copy.path.size(), copy.name);
      at += copy.name.size();
    }
  }
  return message;
}

struct ServerFiles::Reading {
  std::vector<LibpqFile> files;
  std::vector<std::weak_ptr<Done>> told;   // by the reading that runs
  std::vector<std::weak_ptr<Done>> later;  // by the next
  std::uint64_t number = 0;                // of the one that runs; 0: none does
};

ServerFiles::ServerFiles(net::Loop& loop) : ServerFiles(loop, read_server_files) {}
ServerFiles::ServerFiles(net::Loop& loop, Read read) : read_(std::move(read)), aside_(loop) {}
ServerFiles::~ServerFiles() = default;

void ServerFiles::read(const std::vector<LibpqFile>& files, const std::shared_ptr<Done>& done) {
  Key key;
  for (const LibpqFile& file : files) key += file.keyword + '\0' + file.path + '\0';
  std::unique_ptr<Reading>& reading = readings_[key];
  if (reading == nullptr) {
    reading = std::make_unique<Reading>();
    reading->files = files;
  }
  std::erase_if(reading->later, [](const std::weak_ptr<Done>& one) { return one.expired(); });
  reading->later.push_back(done);
  if (reading->number == 0) begin(key);
}

void ServerFiles::begin(const Key& key) {
  Reading& reading = *readings_[key];
  const char* home = std::getenv("HOME");
  auto answer = std::make_shared<Answer>();
  const std::uint64_t number = numbers_ + 1;
  const bool runs =
      aside_.run([answer, read = read_, files = reading.files,
                  home = std::string(home == nullptr ? "" : home)] { *answer = read(files, home); },
                 [this, key, number, answer] { ended(key, number, std::move(*answer)); });
  if (!runs) return;
  reading.number = numbers_ = number;
  reading.told.swap(reading.later);
}

void ServerFiles::ended(const Key& key, std::uint64_t number, Answer answer) {
  const auto found = readings_.find(key);
  if (found == readings_.end() || found->second->number != number) return begin_waiting();
  share(answer);
  Reading& reading = *found->second;
  reading.number = 0;
  std::vector<std::weak_ptr<Done>> told;
  told.swap(reading.told);
  if (reading.later.empty()) readings_.erase(found);
  begin_waiting();
  for (const std::weak_ptr<Done>& one : told) {
    if (const auto done = one.lock()) (*done)(answer);
  }
}

void ServerFiles::changed(const std::string& path) {
  for (auto& [key, reading] : readings_) {
    const bool names_it = std::any_of(reading->files.begin(), reading->files.end(),
                                      [&path](const LibpqFile& file) { return file.path == path; });
    if (!names_it) continue;
    reading->number = 0;
    reading->later.insert(reading->later.end(), reading->told.begin(), reading->told.end());
    reading->told.clear();
  }
  begin_waiting();
}

// There is room for one more thread.
void ServerFiles::begin_waiting() {
  std::vector<Key> waiting;
  for (auto& [key, reading] : readings_) {
    std::erase_if(reading->later, [](const std::weak_ptr<Done>& one) { return one.expired(); });
    if (reading->number == 0) waiting.push_back(key);
  }
  for (const Key& key : waiting) {
    if (readings_[key]->later.empty()) {
      readings_.erase(key);
    } else {
      begin(key);
    }
  }
}

void ServerFiles::share(Answer& answer) {
  std::erase_if(shared_, [](const auto& entry) { return entry.second.expired(); });
  for (std::size_t i = 0; i < answer.copies.copies.size(); ++i) {
    FileCopies::Copy& copy = answer.copies.copies[i];
    if (copy.file == nullptr) continue;
    std::weak_ptr<const MemoryFile>& known = shared_[copy.name];
    const std::shared_ptr<const MemoryFile> held = known.lock();
    if (held == nullptr || !held->equals(*copy.file)) {
      known = copy.file;
      continue;
    }
    for (auto& [keyword, value] : answer.copies.options) {
      if (value == copy.path) value = held->path();
    }
    copy.path = held->path();
    copy.file = held;
  }
}

}  // namespace carpool::proxy
