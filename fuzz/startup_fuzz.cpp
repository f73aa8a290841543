// Startup packets: any bytes are read without fault and to the same end however they are cut, a
// packet that was read could be written again, and options are never lost silently.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "pg/session_state.h"
#include "pg/startup.h"

using namespace carpool;
using namespace carpool::pg;

namespace {

void check_message(const Startup& startup) {
  CHECK(startup.version >> 16 == 3);
  CHECK(!startup.user.empty() && !startup.database.empty());
  std::size_t texts = startup.user.size() + startup.options.size() + startup.replication.size();
  for (const auto& [name, value] : startup.parameters) {
    CHECK(!name.empty() && !name.starts_with("_pq_."));
    texts += name.size() + value.size();
  }
  for (const std::string& name : startup.protocol_options) {
    CHECK(name.starts_with("_pq_."));
    texts += name.size();
  }
  CHECK(texts <= startup.size);
  startup_settings(startup.options, startup.parameters);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ByteSpan in(data, size);
  // A client may ask for encryption and then start anew, so that packets follow each other.
  while (true) {
    const Startup startup = parse_startup(in);
    switch (startup.kind) {
      case Startup::Kind::NeedMore:
        CHECK(startup.size == 0 && in.size() < kStartupPacketMax);
        return 0;
      case Startup::Kind::DirectTls:
        CHECK(startup.size == 0 && in[0] == kTlsHandshake);
        return 0;
      case Startup::Kind::Bad:
        CHECK(startup.size == 0 && !std::string_view(startup.problem).empty());
        return 0;
      case Startup::Kind::Message:
        check_message(startup);
        break;
      case Startup::Kind::Cancel:
        CHECK(startup.cancel_secret.size() >= 4 && startup.cancel_secret.size() <= 256);
        CHECK(startup.cancel_secret.data() + startup.cancel_secret.size() ==
              in.data() + startup.size);
        break;
      case Startup::Kind::SslRequest:
      case Startup::Kind::GssRequest:
        CHECK(startup.size == 8);
        break;
    }
    CHECK(startup.size >= 8 && startup.size <= kStartupPacketMax && startup.size <= in.size());
    // Cut anywhere before its end, it waits for more; with what follows cut off, it is the same.
    for (const std::size_t cut : {startup.size - 1, startup.size / 2, 7U, 1U}) {
      CHECK(parse_startup(in.first(cut)).kind == Startup::Kind::NeedMore);
    }
    CHECK(parse_startup(in.first(startup.size)).kind == startup.kind);
    in = in.subspan(startup.size);
    if (startup.kind == Startup::Kind::Cancel) return 0;
  }
}
