// ErrorResponse and NoticeResponse: the message by which either side of the wire says what went
// wrong. Builds whole messages and takes the fields out of a body; it never decides what to say.
//
//   'E' or 'N' | int32 length, itself included | { field type, text, NUL }... | NUL
//
// Invariant: what append_error writes is one well-formed message whatever the texts hold, since a
// NUL inside a text becomes '?' and a text longer than kErrorTextMax is cut at a character.
// PostgreSQL manual, chapters "Message Formats" and "Error and Notice Message Fields".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace carpool::pg {

// Error, Fatal and Panic travel as ErrorResponse, the others as NoticeResponse.
enum class Severity : std::uint8_t { Error, Fatal, Panic, Warning, Notice, Debug, Info, Log };

// The codes that Carpool itself answers with (PostgreSQL manual, "PostgreSQL Error Codes").
namespace sqlstate {
inline constexpr std::string_view kCannotConnect = "08001";
inline constexpr std::string_view kConnectionFailure = "08006";
inline constexpr std::string_view kProtocolViolation = "08P01";
inline constexpr std::string_view kFeatureNotSupported = "0A000";
inline constexpr std::string_view kCharacterNotInRepertoire = "22021";
inline constexpr std::string_view kUntranslatableCharacter = "22P05";
inline constexpr std::string_view kIdleInTransactionTimeout = "25P03";
inline constexpr std::string_view kInvalidSqlStatementName = "26000";
inline constexpr std::string_view kInvalidAuthorization = "28000";
inline constexpr std::string_view kInvalidPassword = "28P01";
inline constexpr std::string_view kInvalidCatalogName = "3D000";
inline constexpr std::string_view kDuplicatePreparedStatement = "42P05";
inline constexpr std::string_view kTooManyConnections = "53300";
inline constexpr std::string_view kQueryCanceled = "57014";
inline constexpr std::string_view kAdminShutdown = "57P01";
inline constexpr std::string_view kIdleSessionTimeout = "57P05";
inline constexpr std::string_view kCannotConnectNow = "57P03";
inline constexpr std::string_view kInternalError = "XX000";
}  // namespace sqlstate

// The most bytes of one text (message, detail, hint) that append_error writes.
inline constexpr std::size_t kErrorTextMax = 16 * 1024;

// Appends one whole message with the fields S, V, C, M and, where they are not empty, D, H and R:
// the function of PostgreSQL's that says so, by which some drivers know an error.
// A `sqlstate` that is not five characters of [0-9A-Z] is written as XX000.
void append_error(std::vector<std::uint8_t>& out, Severity severity, std::string_view sqlstate,
                  std::string_view message, std::string_view detail = {},
                  std::string_view hint = {}, std::string_view routine = {});

// Views into the body they were parsed from, and valid as long as that is. A field that the body
// lacks is empty.
struct ErrorFields {
  std::string_view
      severity;  // V, which is never translated; S where a server older than 9.6 sent it
  std::string_view sqlstate;  // five characters of [0-9A-Z], or empty
  std::string_view message;
  std::string_view detail;
  std::string_view hint;
};

// `body` is what follows the length. Unknown fields are passed over, of a field that comes twice
// the first counts, and a text without its NUL ends with the body. Nullopt where neither a
// usable SQLSTATE nor a message is to be found.
std::optional<ErrorFields> parse_error(std::span<const std::uint8_t> body);

}  // namespace carpool::pg
