// Messages: builds the protocol messages that Carpool itself says. Appends to a buffer; never
// sends. Texts must hold no zero byte (the caller got them from zero-terminated fields).
//
// Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace carpool::pg {

// Appends the type byte and room for the length; returns where the message starts, for finish().
std::size_t begin_message(Bytes& out, char type);
void finish_message(Bytes& out, std::size_t start);

void append_authentication_ok(Bytes& out);
void append_parameter_status(Bytes& out, std::string_view name, std::string_view value);
// A process number and a secret: of four bytes in protocol 3.0, of up to 256 since 3.2.
void append_backend_key_data(Bytes& out, std::uint32_t pid, ByteSpan secret);
// `status`: 'I' idle, 'T' in a transaction, 'E' in a failed one.
void append_ready_for_query(Bytes& out, char status);
void append_query(Bytes& out, std::string_view sql);
void append_parse(Bytes& out, std::string_view name, ByteSpan query_and_types);
// `kind`: 'S' statement, 'P' portal.
void append_close(Bytes& out, char kind, std::string_view name);
void append_describe(Bytes& out, char kind, std::string_view name);
// Of a statement without parameters, all results as text.
void append_bind(Bytes& out, std::string_view portal, std::string_view statement);
void append_sync(Bytes& out);
void append_copy_fail(Bytes& out, std::string_view reason);
void append_empty(Bytes& out, char type);
void append_command_complete(Bytes& out, std::string_view tag);
// The newest minor version of major 3 that is spoken, and the `_pq_.` options not known.
void append_negotiate_protocol_version(Bytes& out, std::uint32_t newest,
                                       const std::vector<std::string_view>& unknown_options);

}  // namespace carpool::pg
