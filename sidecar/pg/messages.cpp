#include "pg/messages.h"

namespace carpool::pg {

std::size_t begin_message(Bytes& out, char type) {
  const std::size_t start = out.size();
  append_u8(out, static_cast<std::uint8_t>(type));
  append_u32(out, 0);
  return start;
}

void finish_message(Bytes& out, std::size_t start) {
  store_u32(out.data() + start + 1, static_cast<std::uint32_t>(out.size() - start - 1));
}

void append_empty(Bytes& out, char type) {
  finish_message(out, begin_message(out, type));
}

void append_authentication_ok(Bytes& out) {
  const std::size_t start = begin_message(out, 'R');
  append_u32(out, 0);
  finish_message(out, start);
}

void append_parameter_status(Bytes& out, std::string_view name, std::string_view value) {
  const std::size_t start = begin_message(out, 'S');
  append_cstring(out, name);
  append_cstring(out, value);
  finish_message(out, start);
}

void append_backend_key_data(Bytes& out, std::uint32_t pid, ByteSpan secret) {
  const std::size_t start = begin_message(out, 'K');
  append_u32(out, pid);
  append(out, secret);
  finish_message(out, start);
}

void append_ready_for_query(Bytes& out, char status) {
  const std::size_t start = begin_message(out, 'Z');
  append_u8(out, static_cast<std::uint8_t>(status));
  finish_message(out, start);
}

void append_query(Bytes& out, std::string_view sql) {
  const std::size_t start = begin_message(out, 'Q');
  append_cstring(out, sql);
  finish_message(out, start);
}

void append_parse(Bytes& out, std::string_view name, ByteSpan query_and_types) {
  const std::size_t start = begin_message(out, 'P');
  append_cstring(out, name);
  append(out, query_and_types);
  finish_message(out, start);
}

namespace {

void append_named(Bytes& out, char type, char kind, std::string_view name) {
  const std::size_t start = begin_message(out, type);
  append_u8(out, static_cast<std::uint8_t>(kind));
  append_cstring(out, name);
  finish_message(out, start);
}

}  // namespace

void append_close(Bytes& out, char kind, std::string_view name) {
  append_named(out, 'C', kind, name);
}

void append_describe(Bytes& out, char kind, std::string_view name) {
  append_named(out, 'D', kind, name);
}

void append_bind(Bytes& out, std::string_view portal, std::string_view statement) {
  constexpr std::uint16_t kNone = 0;
  append_u8(out, 'B');
  append_u32(out, static_cast<std::uint32_t>(4 + portal.size() + 1 + statement.size() + 1 + 6));
  append_cstring(out, portal);
  append_cstring(out, statement);
  append_u16(out, kNone);  // formats of parameters
  append_u16(out, kNone);  // parameters
  append_u16(out, kNone);  // formats of results
}

void append_sync(Bytes& out) {
  append_empty(out, 'S');
}

void append_copy_fail(Bytes& out, std::string_view reason) {
  const std::size_t start = begin_message(out, 'f');
  append_cstring(out, reason);
  finish_message(out, start);
}

void append_command_complete(Bytes& out, std::string_view tag) {
  const std::size_t start = begin_message(out, 'C');
  append_cstring(out, tag);
  finish_message(out, start);
}

void append_negotiate_protocol_version(Bytes& out, std::uint32_t newest,
                                       const std::vector<std::string_view>& unknown_options) {
  const std::size_t start = begin_message(out, 'v');
  append_u32(out, newest);
  append_u32(out, static_cast<std::uint32_t>(unknown_options.size()));
  for (std::string_view option : unknown_options) append_cstring(out, option);
  finish_message(out, start);
}

}  // namespace carpool::pg
