// Listener: accepts connections on one address and hands their descriptors over. At most
// kAcceptMax a loop turn, so that a flood cannot starve those who are served. When there are no
// descriptors left it stops accepting, says so once, and tries again each kRetry_us; the waiting
// connections stay in the kernel's queue meanwhile.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/loop.h"
#include "net/timer.h"

namespace carpool::net {

class Listener final : private Watched {
 public:
  static constexpr int kAcceptMax = 64;
  static constexpr Micros kRetry_us = 100 * kMicrosPerMilli;

  struct Handler {
    // Owns `fd` from now on: non-blocking, close-on-exec, TCP_NODELAY set.
    std::function<void(int fd)> on_connection;
    // Accepting stopped (true), or goes on (false), for want of descriptors or memory.
    std::function<void(bool stopped, const std::string& why)> on_exhausted;
  };

  Listener() = default;
  ~Listener() { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // `address` is an IPv4 or IPv6 address or "localhost". Port 0 takes a free one. `beside`:
  // listeners of ours that are to be closed after this one is open, and whose address may overlap,
  // as 0.0.0.0 does with 127.0.0.1.
  Status listen_tcp(Loop& loop, const std::string& address, std::uint16_t port, Handler handler,
                    const std::vector<const Listener*>& beside = {});
  // Makes `path`, writable for everyone: the pod is the boundary. A path that a dead process left
  // is replaced, one that somebody answers on is an error. Removed again by close().
  Status listen_unix(Loop& loop, const std::string& path, Handler handler);

  bool is_open() const { return fd_ >= 0; }
  // Whether who looks for it finds it: a Unix socket's path may have been removed, or taken.
  bool can_be_found() const;
  // Of TCP; 0 else.
  std::uint16_t port() const { return port_; }
  // Where it listens, as the kernel says: "127.0.0.1:6432", or the path.
  std::string where() const;
  void close();
  // The same, but who has connected already is handed over first.
  void accept_all_and_close();

 private:
  Status start(Loop& loop, Handler handler);
  void on_events(std::uint32_t events) override;
  bool watch();
  bool accept_one();
  void exhausted(int error);

  Loop* loop_ = nullptr;
  Handler handler_;
  Timer retry_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  std::string unix_path_;
  std::uint64_t unix_device_ = 0;
  std::uint64_t unix_inode_ = 0;
  bool watched_ = false;
  bool exhausted_ = false;
};

}  // namespace carpool::net
