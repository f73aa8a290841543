#include "pg/startup.h"

#include "pg/replication.h"

namespace carpool::pg {
namespace {

constexpr std::uint32_t kCancelCode = 80877102;
constexpr std::uint32_t kSslCode = 80877103;
constexpr std::uint32_t kGssCode = 80877104;

Startup bad(const char* problem, const char* sqlstate = "08P01") {
  Startup startup;
  startup.kind = Startup::Kind::Bad;
  startup.problem = problem;
  startup.sqlstate = sqlstate;
  return startup;
}

// The name/value pairs behind the version, up to an empty name.
Startup parse_message(Startup startup, ByteSpan body) {
  Reader reader(body);
  for (;;) {
    const std::string_view name = reader.cstring();
    if (!reader.ok()) return bad("the startup packet does not end with an empty name");
    if (name.empty()) break;
    const std::string_view value = reader.cstring();
    if (!reader.ok()) return bad("a parameter of the startup packet has no value");
    if (name == "user") {
      startup.user = value;
    } else if (name == "database") {
      startup.database = value;
    } else if (name == "options") {
      startup.options = value;
    } else if (name == "replication") {
      // libpq, which opens our servers, says nothing where nothing stands.
      if (value.empty()) return bad("invalid value for parameter \"replication\": \"\"", "22023");
      startup.replication = replication_meant(value);
    } else if (name.starts_with("_pq_.")) {
      startup.protocol_options.emplace_back(name);
    } else {
      startup.parameters.emplace_back(name, value);
    }
  }
  if (!reader.rest().empty()) return bad("the startup packet goes on behind its end");
  if (startup.user.empty()) {
    return bad("no PostgreSQL user name specified in startup packet", "28000");
  }
  if (startup.database.empty()) startup.database = startup.user;
  startup.kind = Startup::Kind::Message;
  return startup;
}

}  // namespace

Startup parse_startup(ByteSpan in) {
  Startup startup;
  if (in.empty()) return startup;
  if (in[0] == kTlsHandshake) {
    startup.kind = Startup::Kind::DirectTls;
    return startup;
  }
  if (in[0] != 0) return bad("this is not a PostgreSQL startup packet");
  if (in.size() < 8) return startup;
  const std::uint32_t length = load_u32(in.data());
  if (length < 8 || length > kStartupPacketMax) return bad("the startup packet has a wrong length");
  const std::uint32_t code = load_u32(in.data() + 4);
  if (in.size() < length) return startup;
  startup.size = length;
  const ByteSpan body = in.subspan(8, length - 8);
  if (code == kSslCode || code == kGssCode) {
    if (!body.empty()) return bad("an encryption request of the wrong length");
    startup.kind = code == kSslCode ? Startup::Kind::SslRequest : Startup::Kind::GssRequest;
    return startup;
  }
  if (code == kCancelCode) {
    // Protocol 3.2 allows secrets of 4 to 256 bytes.
    if (body.size() < 8 || body.size() > 4 + 256)
      return bad("a cancel request of the wrong length");
    startup.kind = Startup::Kind::Cancel;
    startup.cancel_pid = load_u32(body.data());
    startup.cancel_secret = body.subspan(4);
    return startup;
  }
  if (code >> 16 != 3) return bad("only protocol version 3 is spoken here", "0A000");
  startup.version = code;
  return parse_message(std::move(startup), body);
}

}  // namespace carpool::pg
