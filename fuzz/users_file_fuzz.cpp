// The users file with any text: an error names a line, and a good file holds only users that can
// be found.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "pg/users_file.h"

using namespace carpool;
using namespace carpool::pg;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes secret = {1};
  const auto users = Users::parse(as_text({data, size}), {.salt_secret = secret, .iterations = 1});
  if (!users) {
    CHECK(users.error().message.starts_with("line "));
  } else {
    CHECK(users->size() <= size);
    CHECK(users->find("") == nullptr);
  }
  return 0;
}
