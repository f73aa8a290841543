#include "net/file_watch.h"

#include <sys/stat.h>

#include <algorithm>

namespace carpool::net {

// Which directory a path leads to; 0: none.
struct FileWatch::Identity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const Identity&) const = default;

  static Identity of(const std::string& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0 ? Identity{info.st_dev, info.st_ino} : Identity{};
  }
};

struct FileWatch::Directory {
  uv_fs_event_t handle;
  std::string path;
  Identity identity;
  FileWatch* owner;

  static void close(Directory* directory) {
    uv_close(reinterpret_cast<uv_handle_t*>(&directory->handle),
             [](uv_handle_t* handle) { delete static_cast<Directory*>(handle->data); });
  }
};

FileWatch::FileWatch(Loop& loop, std::function<void()> on_change)
    : loop_(loop), on_change_(std::move(on_change)), aside_(loop) {
  poll_.start(loop_, kPoll_us, kPoll_us, [this] {
    // A directory that could not be watched, or was replaced, may be there now.
    for (const std::string& path : wanted_) look_up(path);
    on_change_();
  });
}

FileWatch::~FileWatch() {
  for (Directory* directory : watched_) Directory::close(directory);
}

void FileWatch::watch_now(const std::string& directory) {
  wanted_.push_back(directory);
  add(directory, Identity::of(directory));
}

void FileWatch::watch(const std::vector<std::string>& directories) {
  std::vector<std::string> wanted = directories;
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  wanted_ = std::move(wanted);
  // Those that stay are left alone: what has been seen of them and not told yet would be lost.
  std::erase_if(watched_, [this](Directory* directory) {
    if (std::binary_search(wanted_.begin(), wanted_.end(), directory->path)) return false;
    Directory::close(directory);
    return true;
  });
  for (const std::string& path : wanted_) {
    if (find(path) == nullptr) look_up(path);
  }
}

void FileWatch::look_up(const std::string& path) {
  if (looked_up_.contains(path)) return;
  auto found = std::make_shared<Identity>();
  const bool looks = aside_.run([found, path] { *found = Identity::of(path); },
                                [this, found, path] {
                                  looked_up_.erase(path);
                                  seen(path, *found);
                                });
  if (looks) looked_up_.insert(path);
}

void FileWatch::seen(const std::string& path, const Identity& identity) {
  if (std::find(wanted_.begin(), wanted_.end(), path) == wanted_.end()) return;
  if (Directory* before = find(path)) {
    if (before->identity == identity) return;
    std::erase(watched_, before);
    Directory::close(before);
  }
  if (add(path, identity)) changed();
}

bool FileWatch::add(const std::string& path, const Identity& identity) {
  auto* directory = new Directory{{}, path, identity, this};
  uv_fs_event_init(loop_.uv(), &directory->handle);
  directory->handle.data = directory;
  const int rc = uv_fs_event_start(
      &directory->handle,
      [](uv_fs_event_t* handle, const char*, int, int) {
        static_cast<Directory*>(handle->data)->owner->changed();
      },
      path.c_str(), 0);
  if (rc == 0) {
    watched_.push_back(directory);
  } else {
    Directory::close(directory);
  }
  return rc == 0;
}

FileWatch::Directory* FileWatch::find(const std::string& path) const {
  const auto found = std::find_if(watched_.begin(), watched_.end(),
                                  [&](const Directory* one) { return one->path == path; });
  return found == watched_.end() ? nullptr : *found;
}

const char* FileWatch::mechanism() const {
  return !wanted_.empty() && watched_.size() == wanted_.size() ? "inotify" : "poll";
}

void FileWatch::changed() {
  if (debounce_.running()) return;
  debounce_.start(loop_, kDebounce_us, 0, [this] {
    debounce_.stop();
    on_change_();
  });
}

}  // namespace carpool::net
