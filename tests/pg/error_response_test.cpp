#include "pg/error_response.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace carpool::pg {
namespace {

using Bytes = std::vector<std::uint8_t>;
using std::string_literals::operator""s;

Bytes bytes(const std::string& text) {
  return Bytes(text.begin(), text.end());
}

std::span<const std::uint8_t> body_of(const Bytes& message) {
  return std::span<const std::uint8_t>(message).subspan(5);
}

// A body and what was read from it, which views into it.
struct Read {
  explicit Read(Bytes bytes_in) : body(std::move(bytes_in)), fields(parse_error(body)) {}
  explicit Read(const std::string& text) : Read(bytes(text)) {}
  explicit operator bool() const { return fields.has_value(); }
  const ErrorFields* operator->() const { return &*fields; }
  Bytes body;
  std::optional<ErrorFields> fields;
};

std::size_t length_in(const Bytes& message, std::size_t at = 0) {
  std::size_t length = 0;
  for (std::size_t i = 1; i <= 4; ++i) length = (length << 8) | message[at + i];
  return length;
}

TEST(ErrorResponse, IsWrittenByteForByteAsTheManualDrawsIt) {
  Bytes out;
  append_error(out, Severity::Fatal, "28P01", "no", "why", "so");
  EXPECT_EQ(out, bytes("E\0\0\0\x27"
                       "SFATAL\0VFATAL\0C28P01\0Mno\0Dwhy\0Hso\0\0"s));
}

TEST(ErrorResponse, LeavesOutAnEmptyDetailAndHint) {
  Bytes out;
  append_error(out, Severity::Error, "53300", "full");
  EXPECT_EQ(out, bytes("E\0\0\0\x20"
                       "SERROR\0VERROR\0C53300\0Mfull\0\0"s));
}

TEST(ErrorResponse, AppendsBehindWhatTheBufferHolds) {
  Bytes out = bytes("Z\0\0\0\5I"s);
  append_error(out, Severity::Error, "53300", "full");
  ASSERT_EQ(out[0], 'Z');
  ASSERT_EQ(out[6], 'E');
  EXPECT_EQ(length_in(out, 6), out.size() - 7);
}

TEST(ErrorResponse, SendsWarningsAsANoticeResponse) {
  for (const Severity severity :
       {Severity::Warning, Severity::Notice, Severity::Debug, Severity::Info, Severity::Log}) {
    Bytes out;
    append_error(out, severity, "01000", "mind");
    EXPECT_EQ(out[0], 'N');
  }
  for (const Severity severity : {Severity::Error, Severity::Fatal, Severity::Panic}) {
    Bytes out;
    append_error(out, severity, "XX000", "broken");
    EXPECT_EQ(out[0], 'E');
  }
}

TEST(ErrorResponse, SurvivesNulsInItsTexts) {
  Bytes out;
  append_error(out, Severity::Error, "08P01", "a\0b\0"s, "\0\0"s, "c\0"s);
  EXPECT_EQ(length_in(out), out.size() - 1);
  const auto fields = parse_error(body_of(out));
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->message, "a?b?");
  EXPECT_EQ(fields->detail, "??");
  EXPECT_EQ(fields->hint, "c?");
}

TEST(ErrorResponse, CutsAnEndlessTextBetweenTwoCharacters) {
  std::string text(kErrorTextMax - 1, 'x');
  for (int i = 0; i < 10; ++i) text += "\xE2\x82\xAC";
  Bytes out;
  append_error(out, Severity::Error, "08P01", text);
  const auto fields = parse_error(body_of(out));
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->message, std::string(kErrorTextMax - 1, 'x'));

  out.clear();
  append_error(out, Severity::Error, "08P01", std::string(kErrorTextMax, 'y'));
  EXPECT_EQ(parse_error(body_of(out))->message.size(), kErrorTextMax);
  out.clear();
  append_error(out, Severity::Error, "08P01", std::string(kErrorTextMax + 100, '\x80'));
  EXPECT_EQ(parse_error(body_of(out))->message.size(), kErrorTextMax - 3);
}

TEST(ErrorResponse, WritesACodeThatIsNoneAsAnInternalError) {
  for (const std::string& code : {""s, "1234"s, "123456"s, "28p01"s, "28\0P1"s}) {
    Bytes out;
    append_error(out, Severity::Error, code, "odd");
    EXPECT_EQ(parse_error(body_of(out))->sqlstate, "XX000");
  }
}

TEST(ErrorResponse, ReadsWhatPostgresqlSends) {
  // As under a German lc_messages: S is translated, V is not.
  const Bytes body = bytes(
      "SFEHLER\0VERROR\0C42703\0MSpalte \"x\" existiert nicht\0P8\0"
      "Fparse_relation.c\0L3638\0RerrorMissingColumn\0\0"s);
  const auto fields = parse_error(body);
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->severity, "ERROR");
  EXPECT_EQ(fields->sqlstate, "42703");
  EXPECT_EQ(fields->message, "Spalte \"x\" existiert nicht");
  EXPECT_EQ(fields->detail, "");
}

TEST(ErrorResponse, TakesTheTranslatedSeverityWhereThereIsNoOther) {
  const Bytes body = bytes("SERROR\0C42703\0Mno\0\0"s);
  EXPECT_EQ(parse_error(body)->severity, "ERROR");
}

TEST(ErrorResponse, PrefersTheUntranslatedSeverityInEitherOrder) {
  EXPECT_EQ(Read("VERROR\0SFEHLER\0Mno\0\0"s)->severity, "ERROR");
}

TEST(ErrorResponse, TakesATextWithoutItsNulToTheEndOfTheBody) {
  const Read fields("C42703\0Mcut sh"s);
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->message, "cut sh");
  const Read bare("C42703\0M"s);
  ASSERT_TRUE(bare);
  EXPECT_EQ(bare->message, "");
}

TEST(ErrorResponse, IgnoresACodeThatCouldNotBeALabel) {
  const Read fields("C42\n{}\0Mno\0\0"s);
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->sqlstate, "");
}

TEST(ErrorResponse, CountsTheFirstOfAFieldThatComesTwice) {
  const Read fields("C42703\0C53300\0Mone\0Mtwo\0Done\0Dtwo\0\0"s);
  EXPECT_EQ(fields->sqlstate, "42703");
  EXPECT_EQ(fields->message, "one");
  EXPECT_EQ(fields->detail, "one");
}

TEST(ErrorResponse, SaysSoWhenThereIsNothingToRead) {
  EXPECT_FALSE(parse_error({}));
  EXPECT_FALSE(Read("\0"s));
  EXPECT_FALSE(Read("\0C42703\0Mbehind the end\0"s));
  EXPECT_FALSE(Read("SERROR\0\0"s));
}

TEST(ErrorResponse, ReadsEveryPrefixWithoutLookingPastIt) {
  Bytes whole;
  append_error(whole, Severity::Error, "42703", "message", "detail", "hint");
  for (std::size_t end = 5; end <= whole.size(); ++end) {
    const Bytes prefix(whole.begin() + 5, whole.begin() + static_cast<std::ptrdiff_t>(end));
    const auto fields = parse_error(prefix);
    EXPECT_TRUE(!fields || fields->message.size() <= 7u);
  }
}

TEST(ErrorResponse, ReadsRubbishWithoutFault) {
  std::mt19937 random(20240101);
  const std::string alphabet = "SVCMDH42703\0\0\0xyz\xff"s;
  for (int round = 0; round < 20'000; ++round) {
    Bytes body(random() % 40);
    for (auto& byte : body) {
      byte = static_cast<std::uint8_t>(alphabet[random() % alphabet.size()]);
    }
    const auto fields = parse_error(body);
    EXPECT_TRUE(!fields || fields->sqlstate.empty() || fields->sqlstate.size() == 5);
  }
}

}  // namespace
}  // namespace carpool::pg
