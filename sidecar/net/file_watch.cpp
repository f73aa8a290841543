#include "net/file_watch.h"

#include <algorithm>

namespace carpool::net {

struct FileWatch::Directory {
  uv_fs_event_t handle;
  std::string path;
  FileWatch* owner;
  bool is_watched;

  static void close(Directory* directory) {
    uv_close(reinterpret_cast<uv_handle_t*>(&directory->handle),
             [](uv_handle_t* handle) { delete static_cast<Directory*>(handle->data); });
  }
};

FileWatch::FileWatch(Loop& loop, std::function<void()> on_change)
    : loop_(loop), on_change_(std::move(on_change)) {
  poll_.start(loop_, kPoll_us, kPoll_us, [this] {
    // A directory that could not be watched, or was replaced, may be there now.
    std::vector<std::string> paths;
    for (const Directory* directory : watched_) paths.push_back(directory->path);
    if (!all_watched_) watch(paths);
    on_change_();
  });
}

FileWatch::~FileWatch() {
  for (Directory* directory : watched_) Directory::close(directory);
}

void FileWatch::watch(const std::vector<std::string>& directories) {
  std::vector<std::string> wanted = directories;
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());

  // Those that stay are left alone: what has been seen of them and not told yet would be lost.
  std::erase_if(watched_, [&](Directory* directory) {
    const auto found = std::find(wanted.begin(), wanted.end(), directory->path);
    if (found != wanted.end() && directory->is_watched) {
      wanted.erase(found);
      return false;
    }
    Directory::close(directory);
    return true;
  });
  for (const std::string& path : wanted) {
    auto* directory = new Directory{{}, path, this, false};
    uv_fs_event_init(loop_.uv(), &directory->handle);
    directory->handle.data = directory;
    watched_.push_back(directory);
    const int rc = uv_fs_event_start(
        &directory->handle,
        [](uv_fs_event_t* handle, const char*, int, int) {
          static_cast<Directory*>(handle->data)->owner->changed();
        },
        path.c_str(), 0);
    directory->is_watched = rc == 0;
  }
  all_watched_ = !watched_.empty() &&
                 std::all_of(watched_.begin(), watched_.end(),
                             [](const Directory* directory) { return directory->is_watched; });
}

const char* FileWatch::mechanism() const {
  return all_watched_ ? "inotify" : "poll";
}

void FileWatch::changed() {
  if (debounce_.running()) return;
  debounce_.start(loop_, kDebounce_us, 0, [this] {
    debounce_.stop();
    on_change_();
  });
}

}  // namespace carpool::net
