// What a pod's mounts look like: the kubelet's own way to lay out a ConfigMap or a Secret, and what
// that means for watching a file and for its mode. It looks at names and modes, and opens no file
// but the kernel's list of mounts; on a mount that hangs it hangs, too.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace carpool {

std::string directory_of(const std::string& path);

// A file mounted by subPath is a mount point of its own, and the kubelet never updates it.
bool is_sub_path_mount(const std::string& path);

// A file that a configuration names, with the key that does so.
struct NamedFile {
  std::string key;  // "auth.usersFile"
  std::string path;
  bool is_secret = false;  // nobody but Carpool needs to read it
  auto operator<=>(const NamedFile&) const = default;
};
// Each once, whichever databases name it.
std::vector<NamedFile> files_of(const config::Config& config);

// What to say of those secrets that every user of this machine can read. Not of those that the
// kubelet has mounted: their modes are its own, and the pod is their boundary.
std::vector<std::string> warn_of_open_secrets(const std::vector<NamedFile>& files);

}  // namespace carpool
