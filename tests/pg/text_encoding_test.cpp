#include "pg/text_encoding.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace carpool::pg {
namespace {

TEST(TextEncoding, IsKnownInEachOfItsSpellings) {
  for (const char* name :
       {"SJIS", "Shift_JIS", "shift-jis", "MSKANJI", "win932", "Windows932", "SHIFT_JIS_2004"}) {
    EXPECT_EQ(text_encoding(name), TextEncoding::Sjis) << name;
  }
  for (const char* name : {"BIG5", "Big-5", "WIN950", "windows950", "GBK", "gbk", "WIN936",
                           "Windows936", "UHC", "win949", "Windows949"}) {
    EXPECT_EQ(text_encoding(name), TextEncoding::TwoBytes) << name;
  }
  EXPECT_EQ(text_encoding("JOHAB"), TextEncoding::Johab);
  EXPECT_EQ(text_encoding("GB18030"), TextEncoding::Gb18030);
  for (const char* name :
       {"UTF8", "LATIN1", "EUC_JP", "EUC_JIS_2004", "WIN1252", "SQL_ASCII", "", "no such"}) {
    EXPECT_EQ(text_encoding(name), TextEncoding::AsciiSafe) << name;
  }
  EXPECT_TRUE(same_encoding("UTF8", "utf-8"));
  EXPECT_FALSE(same_encoding("UTF8", "LATIN1"));
}

TEST(TextEncoding, HidesTheHalvesOfCharactersAndNothingElse) {
  EXPECT_EQ(without_ascii_halves("select 'it\\'s'", TextEncoding::Sjis), "select 'it\\'s'");
  EXPECT_EQ(without_ascii_halves("'\x95\\'", TextEncoding::Sjis), "'\x95\xff'");
  // Half-width katakana are of one byte.
  EXPECT_EQ(without_ascii_halves("'\xb1'", TextEncoding::Sjis), "'\xb1'");
  EXPECT_EQ(without_ascii_halves("'\xb1\\'", TextEncoding::TwoBytes), "'\xb1\xff'");
  EXPECT_EQ(without_ascii_halves("\x84\x31;", TextEncoding::Johab), "\x84\xff;");
  EXPECT_EQ(without_ascii_halves("\x8f\x41\x41;", TextEncoding::Johab), "\x8f\xff\xff;");
  EXPECT_EQ(without_ascii_halves("'\x81\x30\x81\x30'", TextEncoding::Gb18030),
            "'\x81\xff\x81\xff'");
  EXPECT_EQ(without_ascii_halves("'\x81\\'", TextEncoding::Gb18030), "'\x81\xff'");
  EXPECT_EQ(without_ascii_halves("'\x95\\'", TextEncoding::AsciiSafe), "'\x95\\'");
}

TEST(TextEncoding, FindsWhatIsBeyondAsciiWhereverItStands) {
  EXPECT_TRUE(is_ascii(""));
  const std::string plain(20, '\x7f');
  EXPECT_TRUE(is_ascii(plain));
  for (std::size_t i = 0; i < plain.size(); ++i) {
    std::string text = plain;
    text[i] = '\x80';
    EXPECT_FALSE(is_ascii(text)) << i;
  }
}

TEST(TextEncoding, EndsWithTheText) {
  for (const TextEncoding encoding :
       {TextEncoding::AsciiSafe, TextEncoding::TwoBytes, TextEncoding::Sjis, TextEncoding::Johab,
        TextEncoding::Gb18030}) {
    for (const char* text : {"", "\x8f", "\x81\x30", "\x81\x30\x81", "a\xff"}) {
      EXPECT_EQ(without_ascii_halves(text, encoding).size(), std::string_view(text).size());
    }
  }
}

}  // namespace
}  // namespace carpool::pg
