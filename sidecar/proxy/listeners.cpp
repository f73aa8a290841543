#include "proxy/listeners.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

namespace carpool::proxy {
namespace {

// Two ways to write one folder: a slash at the end, a link.
bool is_same_directory(const std::string& a, const std::string& b) {
  struct stat one {};
  struct stat other {};
  return a == b || (stat(a.c_str(), &one) == 0 && stat(b.c_str(), &other) == 0 &&
                    one.st_dev == other.st_dev && one.st_ino == other.st_ino);
}

// The name under which libpq looks for it (manual, "unix_socket_directories").
std::string path_of_unix(const config::Listen& listen, std::uint16_t port) {
  return fmt::format("{}/.s.PGSQL.{}", listen.unix_socket_dir, port);
}

}  // namespace

Status Listeners::listen_on(const config::Listen& wanted) {
  std::unique_ptr<net::Listener> tcp;
  const bool same_port = is_open() && (wanted.port == asked_.port || wanted.port == port());
  if (!same_port || wanted.address != asked_.address) {
    tcp = std::make_unique<net::Listener>();
    Status status =
        tcp->listen_tcp(loop_, wanted.address, wanted.port, handler_, those_at(wanted.port));
    if (!status) return status;
  }
  const std::uint16_t new_port = tcp != nullptr ? tcp->port() : port();
  const bool wants_unix = !wanted.unix_socket_dir.empty();
  const bool keeps_unix = wants_unix && unix_ != nullptr && new_port == port() &&
                          is_same_directory(asked_.unix_socket_dir, wanted.unix_socket_dir);
  std::unique_ptr<net::Listener> unix_socket;
  if (wants_unix && !keeps_unix) {
    unix_socket = std::make_unique<net::Listener>();
    const std::string path = path_of_unix(wanted, new_port);
    if (Status status = unix_socket->listen_unix(loop_, path, handler_); !status) return status;
  }
  // From here on nothing fails.
  asked_ = wanted;
  if (tcp != nullptr) replace(tcp_, std::move(tcp));
  if (!keeps_unix) replace(unix_, std::move(unix_socket));
  return Ok{};
}

Status Listeners::find_unix_again() {
  if (!lost_unix()) return Ok{};
  auto again = std::make_unique<net::Listener>();
  Status status = again->listen_unix(loop_, path_of_unix(asked_, port()), handler_);
  if (status) replace(unix_, std::move(again));
  return status;
}

std::vector<const net::Listener*> Listeners::those_at(std::uint16_t port) const {
  std::vector<const net::Listener*> found;
  if (port == 0) return found;
  if (tcp_ != nullptr && tcp_->port() == port) found.push_back(tcp_.get());
  for (const auto& listener : former_) {
    if (listener->port() == port) found.push_back(listener.get());
  }
  return found;
}

void Listeners::replace(std::unique_ptr<net::Listener>& now, std::unique_ptr<net::Listener> next) {
  if (now != nullptr) former_.push_back(std::move(now));
  now = std::move(next);
}

void Listeners::close_former() {
  if (former_.empty()) return;
  for (const std::unique_ptr<net::Listener>& listener : std::exchange(former_, {})) {
    listener->accept_all_and_close();
  }
}

void Listeners::close() {
  former_.clear();
  tcp_.reset();
  unix_.reset();
}

std::vector<std::string> Listeners::where() const {
  std::vector<std::string> all;
  if (tcp_ != nullptr) all.push_back(tcp_->where());
  if (unix_ != nullptr) all.push_back(unix_->where());
  return all;
}

}  // namespace carpool::proxy
