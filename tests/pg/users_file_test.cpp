#include "pg/users_file.h"

#include <gtest/gtest.h>

#include <random>

namespace carpool::pg {
namespace {

const Bytes kSecret = {1, 2, 3};

Result<Users> parse(std::string_view text) {
  return Users::parse(text, {.salt_secret = kSecret, .iterations = 2});
}

std::string problem(std::string_view text) {
  const Result<Users> users = parse(text);
  return users ? "none" : users.error().message;
}

const std::string kVerifier =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

TEST(UsersFile, HoldsPasswordsAndVerifiers) {
  const Result<Users> users = parse("\"alice\" \"" + kVerifier + "\"\n\"bob\" \"secret\"\n");
  ASSERT_TRUE(users);
  EXPECT_EQ(users->size(), 2u);
  ASSERT_NE(users->find("alice"), nullptr);
  EXPECT_EQ(to_string(*users->find("alice")), kVerifier);
  ASSERT_NE(users->find("bob"), nullptr);
  EXPECT_EQ(*users->find("bob"), make_verifier("secret", salt_for_user(kSecret, "bob"), 2));
  EXPECT_EQ(users->find("carol"), nullptr);
  EXPECT_EQ(users->find("Alice"), nullptr);
}

TEST(UsersFile, KnowsWhatTheChallengesOfItsUsersLookLike) {
  EXPECT_TRUE(parse("")->shapes().empty());
  const std::string other = to_string(make_verifier("x", Bytes(24, 1), 4096));
  const Result<Users> users =
      parse("\"a\" \"1\"\n\"b\" \"2\"\n\"c\" \"" + kVerifier + "\"\n\"d\" \"" + other + "\"\n");
  ASSERT_TRUE(users);
  const std::vector<ScramShape> expected = {{2, kScramSaltBytes}, {4096, 16}, {4096, 24}};
  EXPECT_EQ(users->shapes(), expected);
}

TEST(UsersFile, MayBeEmptyOrCommentsOnly) {
  for (const std::string text : {"", "\n\n", "; none\n# none\n  \t\r\n", ";"}) {
    const Result<Users> users = parse(text);
    ASSERT_TRUE(users) << text;
    EXPECT_EQ(users->size(), 0u);
  }
}

TEST(UsersFile, IsReadAsEditorsOfAllKindsLeaveIt) {
  const Result<Users> users =
      parse("  \"a\"\t\"1\"  \r\n\f\"c\"\v \"3\" \"ignored\" and so on\n\"d\" \"4\"");
  ASSERT_TRUE(users);
  EXPECT_EQ(users->size(), 3u);
  EXPECT_NE(users->find("a"), nullptr);
  EXPECT_NE(users->find("c"), nullptr);
  EXPECT_NE(users->find("d"), nullptr);
}

// A cloud's token is one of 1500 bytes.
TEST(UsersFile, TakesAPasswordAsLongAsPostgresqlDoes) {
  const std::string longest(kUserPasswordBytesMax, 'x');
  const Result<Users> users = parse("\"a\" \"" + longest + "\"");
  ASSERT_TRUE(users);
  EXPECT_EQ(*users->find("a"), make_verifier(longest, salt_for_user(kSecret, "a"), 2));
}

TEST(UsersFile, TakesADoubledQuoteForOne) {
  const Result<Users> users = parse("\"a\"\"b\" \"it\"\"s\"");
  ASSERT_TRUE(users);
  ASSERT_NE(users->find("a\"b"), nullptr);
  EXPECT_EQ(*users->find("a\"b"), make_verifier("it\"s", salt_for_user(kSecret, "a\"b"), 2));
}

TEST(UsersFile, NamesTheLineOfEachMistakeAndNeverASecret) {
  EXPECT_EQ(problem("\n\nalice secret"), "line 3: the user must stand in double quotes");
  EXPECT_EQ(problem("\"a"), "line 1: the user lacks its closing quote");
  EXPECT_EQ(problem("\"a\""), "line 1: the password or verifier is missing");
  EXPECT_EQ(problem("\"a\" x"), "line 1: the password or verifier must stand in double quotes");
  EXPECT_EQ(problem("\"\" \"x\""), "line 1: the user is empty");
  EXPECT_EQ(problem("\"a\" \"1\"\n\"a\" \"2\""),
            "line 2: the user \"a\" stands here a second time");
  EXPECT_EQ(problem("\"a\" \"" + std::string(kUserPasswordBytesMax + 1, 'x') + "\""),
            "line 1: the password or verifier is too long");
  EXPECT_EQ(problem("\"" + std::string(kUserNameBytesMax + 1, 'x') + "\" \"x\""),
            "line 1: the user is too long");
  EXPECT_EQ(problem(std::string("\"a\" \"x\0y\"", 9)),
            "line 1: the password or verifier holds a zero byte");
  for (const std::string secret : {"SCRAM-SHA-256$secret", "md5aaaabbbbccccddddaaaabbbbccccdddd"}) {
    const std::string found = problem("\"a\" \"" + secret + "\"");
    EXPECT_TRUE(found.starts_with("line 1: ")) << found;
    EXPECT_EQ(found.find(secret), std::string::npos) << found;
  }
}

TEST(UsersFile, TakesAPasswordThatOnlyLooksLikeAnMd5Hash) {
  EXPECT_TRUE(parse("\"a\" \"md5\"\n\"b\" \"md5xaaabbbbccccddddaaaabbbbccccdddd\""));
}

TEST(UsersFile, WarnsOfAPasswordThatSaslprepCouldChange) {
  const Result<Users> users = parse("\"a\" \"p\xc3\xa4ss\"\n\"b\" \"pass\"");
  ASSERT_TRUE(users);
  ASSERT_EQ(users->warnings().size(), 1u);
  EXPECT_TRUE(users->warnings()[0].starts_with("line 1: "));
}

TEST(UsersFile, ReadsRubbishWithoutFault) {
  std::mt19937 random(20240107);
  const std::string alphabet = "\"\"\"\"ab \t\r\n;#\\\x80" + std::string(1, '\0');
  for (int round = 0; round < 20'000; ++round) {
    std::string text(random() % 40, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    const Result<Users> users = parse(text);
    if (users) {
      EXPECT_LE(users->size(), text.size());
    }
  }
}

// What PgBouncer's mkauth.py, or a query over pg_shadow, writes for a role without a password.
TEST(UsersFile, ALineWithAnEmptyPasswordLetsNobodyInAndSpoilsNoOther) {
  const auto users = parse("\"alice\" \"secret\"\n\"reporting\" \"\"\n\"bob\" \"secret\"\n");
  ASSERT_TRUE(users);
  EXPECT_NE(users->find("alice"), nullptr);
  EXPECT_NE(users->find("bob"), nullptr);
  EXPECT_EQ(users->find("reporting"), nullptr);
  EXPECT_EQ(users->warnings(),
            std::vector<std::string>{
                "line 2: the password of \"reporting\" is empty: it lets nobody in"});
  EXPECT_EQ(problem("\"a\" \"\"\n\"a\" \"x\""), "line 2: the user \"a\" stands here a second time");
}

}  // namespace
}  // namespace carpool::pg
