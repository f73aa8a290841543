// Names and query texts come from clients and are bytes; what leaves here is UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace carpool::admin {

// Every byte that is not part of well-formed UTF-8 (RFC 3629) becomes U+FFFD: one bad user name
// must not make a whole scrape or page unreadable.
std::string valid_utf8(std::string_view bytes);

}  // namespace carpool::admin
