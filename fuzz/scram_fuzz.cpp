// The exchange against any two messages: without the password nothing leads to Done, and what is
// sent is a whole message or nothing. The input is the bodies, separated by a line of "--".
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "pg/scram.h"

using namespace carpool;
using namespace carpool::pg;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Bytes secret = {1, 2, 3};
  ScramExchange::Start start;
  start.user = "user";
  start.verifier = mock_verifier(secret, "user", {.iterations = 4096});
  start.server_nonce = "c2VydmVyLW5vbmNl";
  if ((data[0] & 1) != 0) start.channel_binding = Bytes{1, 2, 3, 4};
  ScramExchange exchange(start);
  Bytes out;
  exchange.append_request(out);

  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  bool failed = false;
  for (int i = 0; i < 4; ++i) {
    const std::size_t end = std::min(rest.find("\n--\n"), rest.size());
    out.clear();
    const ScramOutcome outcome = exchange.on_message(as_bytes(rest.substr(0, end)), out);
    rest.remove_prefix(std::min(end + 4, rest.size()));
    CHECK(outcome.step != ScramOutcome::Step::Done);
    if (failed) CHECK(outcome.step == ScramOutcome::Step::Failed);
    failed = outcome.step == ScramOutcome::Step::Failed;
    if (failed) {
      CHECK(out.empty());
      CHECK(outcome.sqlstate == "28P01" || outcome.sqlstate == "08P01");
      CHECK(!outcome.message.empty());
    } else {
      CHECK(out.size() >= 9 && out[0] == 'R');
      CHECK(load_u32(&out[1]) == out.size() - 1);
    }
  }
  if (const auto verifier = parse_verifier(as_text({data, size}))) {
    CHECK(*parse_verifier(to_string(*verifier)) == *verifier);
  }
  tls_server_end_point({data, size});
  return 0;
}
