#include "pg/messages.h"

#include <gtest/gtest.h>

#include <string>

#include "pg/framer.h"

namespace carpool::pg {
namespace {

using namespace std::string_literals;

std::string text(const Bytes& bytes) {
  return std::string(as_text(bytes));
}

TEST(Messages, AuthenticationOkIsNineBytes) {
  Bytes out;
  append_authentication_ok(out);
  EXPECT_EQ(text(out), "R\0\0\0\x08\0\0\0\0"s);
}

TEST(Messages, ParameterStatusHasTwoTerminatedTexts) {
  Bytes out;
  append_parameter_status(out, "TimeZone", "UTC");
  EXPECT_EQ(text(out), "S\0\0\0\x11TimeZone\0UTC\0"s);
}

TEST(Messages, BackendKeyDataIsInNetworkOrder) {
  Bytes out;
  append_backend_key_data(out, 0x01020304, as_bytes("\xff\xfe\xfd\xfc"));
  EXPECT_EQ(text(out), "K\0\0\0\x0c\x01\x02\x03\x04\xff\xfe\xfd\xfc"s);
}

TEST(Messages, ReadyForQueryCarriesItsStatus) {
  for (const char status : {'I', 'T', 'E'}) {
    Bytes out;
    append_ready_for_query(out, status);
    EXPECT_EQ(text(out), "Z\0\0\0\x05"s + status);
  }
}

TEST(Messages, QueryIsOneTerminatedText) {
  Bytes out;
  append_query(out, "SELECT 1");
  EXPECT_EQ(text(out), "Q\0\0\0\x0dSELECT 1\0"s);
}

TEST(Messages, ParseKeepsTheTextAndTypesAsTheyStood) {
  Bytes out;
  const std::string rest = "SELECT $1\0\0\x01\0\0\0\x17"s;
  append_parse(out, "s1", as_bytes(rest));
  EXPECT_EQ(text(out), "P\0\0\0\x17s1\0"s + rest);
}

TEST(Messages, CloseNamesAStatementOrAPortal) {
  Bytes out;
  append_close(out, 'S', "a");
  append_close(out, 'P', "");
  EXPECT_EQ(text(out), "C\0\0\0\x07Sa\0C\0\0\0\x06P\0"s);
}

TEST(Messages, SyncAndOtherEmptyMessagesAreTheirHeader) {
  Bytes out;
  append_sync(out);
  append_empty(out, '1');
  EXPECT_EQ(text(out), "S\0\0\0\x04"s + "1\0\0\0\x04"s);
}

TEST(Messages, CopyFailAndCommandCompleteAreOneText) {
  Bytes out;
  append_copy_fail(out, "no");
  append_command_complete(out, "SET");
  EXPECT_EQ(text(out), "f\0\0\0\x07no\0C\0\0\0\x08SET\0"s);
}

TEST(Messages, NegotiateProtocolVersionListsWhatIsNotKnown) {
  Bytes out;
  append_negotiate_protocol_version(out, 3u << 16 | 2, {"_pq_.a", "_pq_.b"});
  EXPECT_EQ(text(out), "v\0\0\0\x1a\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0"s);
}

TEST(Messages, FollowEachOtherInOneBuffer) {
  Bytes out;
  append_text(out, "before");
  const std::size_t start = begin_message(out, 'X');
  EXPECT_EQ(start, 6u);
  append_text(out, "body");
  finish_message(out, start);
  append_ready_for_query(out, 'I');
  EXPECT_EQ(text(out), "beforeX\0\0\0\x08"s + "bodyZ\0\0\0\x05I"s);
}

TEST(Messages, AreWhatTheFramerTakesForWhole) {
  Bytes out;
  append_authentication_ok(out);
  append_parameter_status(out, "server_version", "15.4");
  append_backend_key_data(out, 1, as_bytes("a secret of 3.2"));
  append_query(out, std::string(5000, 'x'));
  append_negotiate_protocol_version(out, 3u << 16, {});
  append_ready_for_query(out, 'T');
  const Framer framer(Framer::Side::FromServer);
  std::string types;
  for (ByteSpan rest = out; !rest.empty();) {
    const Frame frame = framer.next(rest);
    ASSERT_EQ(frame.kind, Frame::Kind::Whole);
    types += frame.type;
    rest = rest.subspan(frame.bytes.size());
  }
  EXPECT_EQ(types, "RSKQvZ");
}

}  // namespace
}  // namespace carpool::pg
