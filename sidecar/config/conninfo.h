// What libpq is told of a server: the parameters of `server.url` with the other keys of `server`
// laid over them. The connector hands them on as they are, so that what check looks at is what
// happens. Pure; it reads no password file and resolves no name.
// Invariant: the connect_timeout of a url has become `server.connectTimeout` when it was loaded,
// and is no parameter any more.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "config/url.h"

namespace carpool::config {

// As that libpq reads the url: what one takes, another may not. The error is that of the url.
// `port` is always there; what the client decides is not.
Result<UrlParts> conninfo_of(const Server& server, const Libpq& libpq);

// A comma-separated list of libpq's, which has an entry where it is empty.
std::vector<std::string> split_list(std::string_view list);

// Whether libpq takes a host for the directory of a Unix socket, or the name of an abstract one. An
// empty one is the directory that libpq was built with.
bool is_socket(std::string_view host);

}  // namespace carpool::config
