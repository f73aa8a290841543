// Query text for people: logs and status. One line, and, where data must not leak, with its
// literals masked. Never used to decide anything.
#pragma once

#include <string>
#include <string_view>

namespace carpool::pg {

// Up to the first zero byte, with runs of white space and control bytes as one blank.
std::string one_line(std::string_view sql);

// Likewise, with every string, dollar-quoted text and number as `?`. A literal that the text's end
// cuts off is masked too.
std::string masked(std::string_view sql);

}  // namespace carpool::pg
