// Preloaded into Carpool (ld.so(8), LD_PRELOAD), so that opening a file can hang as on a network's
// mount that is gone, whoever runs the tests:
//   FILE.held   is there: opening FILE waits until it is not
//   FILE.stuck  is there: opening FILE, or asking what it is, never comes back
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#include <string>

namespace {

bool is_there(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

int open_in_time(const char* path, int flags, int mode, const char* real_name) {
  if (is_there(std::string(path) + ".stuck")) pause();
  while (is_there(std::string(path) + ".held")) usleep(2000);
  using Open = int (*)(const char*, int, ...);
  static const auto real = reinterpret_cast<Open>(dlsym(RTLD_NEXT, real_name));
  return real(path, flags, mode);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = va_arg(more, int);
  va_end(more);
  return open_in_time(path, flags, mode, "open");
}

extern "C" int stat(const char* path, struct stat* info) {
  if (is_there(std::string(path) + ".stuck")) pause();
  using Stat = int (*)(const char*, struct stat*);
  static const auto real = reinterpret_cast<Stat>(dlsym(RTLD_NEXT, "stat"));
  return real(path, info);
}

extern "C" int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = va_arg(more, int);
  va_end(more);
  return open_in_time(path, flags, mode, "open64");
}
#pragma GCC visibility pop
