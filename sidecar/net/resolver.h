// Resolver: host names to addresses, off the loop's thread (getaddrinfo blocks). Addresses and
// socket directories are not names and are not for this.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/loop.h"

namespace carpool::net {

// Calls back on the loop, never from inside, with the numeric addresses in the order in which
// they should be tried. The callback must own, or check, what it uses: it always comes.
void resolve(Loop& loop, const std::string& host,
             std::function<void(Result<std::vector<std::string>>)> done);

// Whether `host` is an address already.
bool is_address(const std::string& host);

}  // namespace carpool::net
