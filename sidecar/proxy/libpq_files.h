// Which files a connection to PostgreSQL needs, those among them that libpq would look for by
// itself. Options in, a list out: nothing is opened here.
//
// libpq opens its files inside PQconnectPoll, on the thread of the loop, where a FIFO or a mount
// that hangs would stop everybody. So they are read beforehand, elsewhere (ServerFiles), and libpq
// gets copies. What it would take from the environment or from the home folder counts as libpq's
// users know it; where there is none, libpq is led to a path where nothing is, lest it look by
// itself.
//
// Source: PostgreSQL manual, chapter libpq, "SSL Support", "The Password File";
// src/interfaces/libpq/fe-secure-openssl.c, initialize_SSL().
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config/config.h"

namespace carpool::proxy {

struct LibpqFile {
  enum class Kind : std::uint8_t {
    Plain,
    Key,        // libpq refuses one that others can read
    Secret,     // a password, and nothing else: its text is the option
    Pgpass,     // libpq passes over one that others can read
    CrlFolder,  // its lists become one file
  };
  std::string keyword;  // of libpq
  std::string name;     // for people: "server.sslRootCert /a/ca.crt"
  std::string path;     // "~/..." is under the home folder
  Kind kind = Kind::Plain;
  bool may_lack = false;  // libpq's own idea: nobody has named it

  bool operator==(const LibpqFile&) const = default;
};

// A path where nothing is. Looking for it asks no disk and no network.
inline constexpr const char* kNoFile = "/proc/self/fd/none";

struct ConnectOptions {
  // libpq's keywords as the settings have them; empty: not set.
  std::function<std::string(const std::string& keyword)> get;
  bool only_sockets = false;  // no TLS is spoken over Unix sockets
  int libpq_version = 0;      // as PQlibVersion() has it
};

std::vector<LibpqFile> files_needed(const config::Server& settings, const ConnectOptions& options);

}  // namespace carpool::proxy
