// Error messages: any body is read without fault, and any texts make one whole message that says
// them again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "pg/error_response.h"

using namespace carpool;
using namespace carpool::pg;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan body(data, size);
  if (const auto fields = parse_error(body)) {
    CHECK(fields->sqlstate.empty() || fields->sqlstate.size() == 5);
  }
  const std::string_view text = as_text(body);
  Bytes out;
  append_error(out, Severity::Error, text.substr(0, 5), text, text.substr(size / 2),
               text.substr(size / 3));
  CHECK(load_u32(&out[1]) == out.size() - 1);
  const auto fields = parse_error(ByteSpan(out).subspan(5));
  CHECK(fields.has_value());
  CHECK(fields->sqlstate.size() == 5);
  CHECK(fields->message.size() <= kErrorTextMax);
  CHECK(size > kErrorTextMax || fields->message.size() == size);
  return 0;
}
