// Startup: what a client's first packet asks for. Bytes in, a value out; answers nothing itself.
//
// The startup packet has no type byte: length (4, counts itself), a code (4), and what the code
// calls for. A client may send SSLRequest or GSSENCRequest first and then, after the answer, start
// anew. Source: PostgreSQL manual, "Message Formats", StartupMessage, SSLRequest, GSSENCRequest,
// CancelRequest; src/include/libpq/pqcomm.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace carpool::pg {

inline constexpr std::uint32_t kProtocol30 = 3u << 16;
inline constexpr std::uint32_t kProtocol32 = 3u << 16 | 2;
inline constexpr std::uint8_t kTlsHandshake = 0x16;         // RFC 8446, section 5.1, ContentType
inline constexpr std::uint32_t kStartupPacketMax = 10'000;  // PostgreSQL's own limit

struct Startup {
  enum class Kind : std::uint8_t {
    NeedMore,
    Message,     // a StartupMessage; the fields below are set
    SslRequest,  // answer one byte, S or N
    GssRequest,  // likewise, G or N
    Cancel,      // pid and secret are set; close after it, answer nothing
    DirectTls,   // a TLS ClientHello without SSLRequest (PostgreSQL 17's sslnegotiation=direct)
    Bad,         // `problem` says what is wrong
  };
  Kind kind = Kind::NeedMore;
  std::uint32_t size = 0;  // bytes taken from the input; 0 for NeedMore, DirectTls and Bad

  std::uint32_t version = 0;  // as asked for: 3 << 16 | minor
  std::string user;
  std::string database;  // the user's name where none was given
  std::string options;
  std::string replication;  // as replication_meant() says
  // The others, in their order: run-time parameters for the session.
  std::vector<std::pair<std::string, std::string>> parameters;
  std::vector<std::string> protocol_options;  // names that start with `_pq_.`

  std::uint32_t cancel_pid = 0;
  ByteSpan cancel_secret;  // points into the input; 4 to 256 bytes

  const char* problem = "";
  const char* sqlstate = "08P01";  // of `problem`
};

Startup parse_startup(ByteSpan in);

}  // namespace carpool::pg
