#include "pg/startup.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace carpool::pg {
namespace {

using namespace std::string_literals;
using Kind = Startup::Kind;

Bytes packet(std::uint32_t code, const std::string& body) {
  Bytes out;
  append_u32(out, static_cast<std::uint32_t>(8 + body.size()));
  append_u32(out, code);
  append_text(out, body);
  return out;
}

constexpr std::uint32_t kCancel = 80877102;
constexpr std::uint32_t kSsl = 80877103;
constexpr std::uint32_t kGss = 80877104;

Bytes typical() {
  return packet(kProtocol30,
                "user\0alice\0database\0app\0application_name\0psql\0client_encoding\0UTF8\0"
                "options\0-c search_path=x\0\0"s);
}

TEST(Startup, ReadsAStartupMessage) {
  const Bytes bytes = typical();
  const Startup startup = parse_startup(bytes);
  ASSERT_EQ(startup.kind, Kind::Message);
  EXPECT_EQ(startup.size, bytes.size());
  EXPECT_EQ(startup.version, kProtocol30);
  EXPECT_EQ(startup.user, "alice");
  EXPECT_EQ(startup.database, "app");
  EXPECT_EQ(startup.options, "-c search_path=x");
  EXPECT_EQ(startup.replication, "");
  ASSERT_EQ(startup.parameters.size(), 2u);
  EXPECT_EQ(startup.parameters[0], std::make_pair("application_name"s, "psql"s));
  EXPECT_EQ(startup.parameters[1], std::make_pair("client_encoding"s, "UTF8"s));
}

TEST(Startup, WaitsAtEverySplitAndThenTakesExactlyItsPacket) {
  for (const Bytes& bytes : {typical(), packet(kSsl, ""), packet(kGss, ""),
                             packet(kCancel, "\0\0\0\x07\x01\x02\x03\x04"s)}) {
    const Kind kind = parse_startup(bytes).kind;
    ASSERT_NE(kind, Kind::NeedMore);
    ASSERT_NE(kind, Kind::Bad);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      const Startup part = parse_startup(ByteSpan(bytes).first(n));
      ASSERT_EQ(part.kind, Kind::NeedMore) << n;
      ASSERT_EQ(part.size, 0u);
    }
    Bytes more = bytes;
    append_text(more, "Q and what follows");
    const Startup whole = parse_startup(more);
    EXPECT_EQ(whole.kind, kind);
    EXPECT_EQ(whole.size, bytes.size());
  }
}

TEST(Startup, TakesTheUserForTheDatabaseWhereNoneIsNamed) {
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0bob\0\0"s)).database, "bob");
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0bob\0database\0\0\0"s)).database, "bob");
}

TEST(Startup, ReadsEqualMeaningsOfReplicationAsOne) {
  const auto replication = [](const std::string& value) {
    return parse_startup(packet(kProtocol30, "user\0a\0replication\0"s + value + "\0\0"s));
  };
  for (const char* value : {"false", "F", "Off", "0"}) {
    EXPECT_EQ(replication(value).replication, "") << value;
  }
  EXPECT_EQ(replication("Y").replication, "true");
  EXPECT_EQ(replication("database").replication, "database");
  EXPECT_EQ(replication("perhaps").replication, "perhaps");
  const Startup empty = replication("");
  ASSERT_EQ(empty.kind, Kind::Bad) << "as PostgreSQL, and with its words";
  EXPECT_STREQ(empty.sqlstate, "22023");
  EXPECT_STREQ(empty.problem, "invalid value for parameter \"replication\": \"\"");
}

TEST(Startup, KeepsTheMinorVersionAndTheProtocolOptions) {
  const Startup startup =
      parse_startup(packet(kProtocol32, "user\0a\0_pq_.x\0on\0_pq_.y\0\0extra\0 1\0\0"s));
  ASSERT_EQ(startup.kind, Kind::Message);
  EXPECT_EQ(startup.version, kProtocol32);
  EXPECT_EQ(startup.protocol_options, (std::vector<std::string>{"_pq_.x", "_pq_.y"}));
  ASSERT_EQ(startup.parameters.size(), 1u);
  EXPECT_EQ(startup.parameters[0].second, " 1");
}

TEST(Startup, NotesAWishForReplication) {
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0a\0replication\0true\0\0"s)).replication,
            "true");
}

TEST(Startup, ReadsACancelRequestOfEverySecretLength) {
  for (std::size_t length = 0; length <= 300; ++length) {
    const Bytes bytes = packet(kCancel, "\0\0\x01\x02"s + std::string(length, 'k'));
    const Startup startup = parse_startup(bytes);
    if (length < 4 || length > 256) {
      EXPECT_EQ(startup.kind, Kind::Bad) << length;
      continue;
    }
    ASSERT_EQ(startup.kind, Kind::Cancel) << length;
    EXPECT_EQ(startup.cancel_pid, 0x102u);
    EXPECT_EQ(as_text(startup.cancel_secret), std::string(length, 'k'));
  }
}

TEST(Startup, KnowsTlsByItsFirstByte) {
  const Bytes hello = {0x16, 0x03, 0x01};
  for (std::size_t n = 1; n <= hello.size(); ++n) {
    const Startup startup = parse_startup(ByteSpan(hello).first(n));
    EXPECT_EQ(startup.kind, Kind::DirectTls);
    EXPECT_EQ(startup.size, 0u);
  }
}

TEST(Startup, ReadsAnEncryptionRequestAndThenTheStartupBehindIt) {
  Bytes bytes = packet(kSsl, "");
  append(bytes, packet(kGss, ""));
  append(bytes, typical());
  ByteSpan rest = bytes;
  for (const Kind expected : {Kind::SslRequest, Kind::GssRequest, Kind::Message}) {
    const Startup startup = parse_startup(rest);
    ASSERT_EQ(startup.kind, expected);
    rest = rest.subspan(startup.size);
  }
  EXPECT_TRUE(rest.empty());
}

TEST(Startup, RefusesLengthsThatCannotBe) {
  for (const std::uint32_t length : {0u, 4u, 7u, kStartupPacketMax + 1, 0x00ffffffu}) {
    Bytes bytes;
    append_u32(bytes, length);
    append_u32(bytes, kProtocol30);
    EXPECT_EQ(parse_startup(bytes).kind, Kind::Bad) << length;
  }
}

TEST(Startup, RefusesALengthOfFourGigabytesAtItsFirstByte) {
  const Bytes bytes = {0xff};
  EXPECT_EQ(parse_startup(bytes).kind, Kind::Bad);
}

TEST(Startup, AcceptsTheLongestPacketThatPostgresqlDoes) {
  const std::string user = "user\0a\0x\0"s;
  const Bytes bytes = packet(
      kProtocol30, user + std::string(kStartupPacketMax - 8 - user.size() - 2, 'v') + "\0\0"s);
  ASSERT_EQ(bytes.size(), kStartupPacketMax);
  EXPECT_EQ(parse_startup(bytes).kind, Kind::Message);
}

TEST(Startup, RefusesAnHttpRequestAtOnce) {
  const Startup startup = parse_startup(as_bytes("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(startup.kind, Kind::Bad);
  EXPECT_STRNE(startup.problem, "");
}

TEST(Startup, RefusesOtherVersions) {
  for (const std::uint32_t version : {0u, 1u, 2u << 16, 4u << 16, 80877105u}) {
    EXPECT_EQ(parse_startup(packet(version, "user\0a\0\0"s)).kind, Kind::Bad) << version;
  }
}

TEST(Startup, RefusesBrokenParameterLists) {
  EXPECT_EQ(parse_startup(packet(kProtocol30, "")).kind, Kind::Bad) << "no end";
  const Startup nobody = parse_startup(packet(kProtocol30, "\0"s));
  EXPECT_EQ(nobody.kind, Kind::Bad) << "no user";
  EXPECT_STREQ(nobody.sqlstate, "28000");
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0\0\0"s)).kind, Kind::Bad) << "empty user";
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0a\0"s)).kind, Kind::Bad) << "no end";
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0a"s)).kind, Kind::Bad) << "value cut off";
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0a\0x\0"s)).kind, Kind::Bad) << "no value";
  EXPECT_EQ(parse_startup(packet(kProtocol30, "user\0a\0\0more"s)).kind, Kind::Bad) << "goes on";
  EXPECT_EQ(parse_startup(packet(kSsl, "x")).kind, Kind::Bad);
  EXPECT_EQ(parse_startup(packet(kGss, "x")).kind, Kind::Bad);
}

TEST(Startup, AnswersWithoutHarmWhateverComes) {
  std::mt19937 random(7);
  const Bytes good = typical();
  for (int i = 0; i < 20'000; ++i) {
    Bytes bytes = good;
    const std::size_t changes = 1 + random() % 4;
    for (std::size_t c = 0; c < changes; ++c) {
      bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random() % 4 == 0 ? 0 : random());
    }
    if (random() % 3 == 0) bytes.resize(random() % bytes.size());
    const Startup startup = parse_startup(bytes);
    ASSERT_LE(startup.size, bytes.size());
    ASSERT_EQ(startup.kind == Kind::Bad, *startup.problem != '\0');
    ASSERT_EQ(startup.kind == Kind::Message, !startup.user.empty());
    ASSERT_TRUE(startup.kind != Kind::NeedMore || startup.size == 0);
  }
}

}  // namespace
}  // namespace carpool::pg
