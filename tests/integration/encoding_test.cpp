// The promise: a client may speak any encoding that PostgreSQL knows. In those that only clients
// may speak a backslash may be the half of a character, and what a text does is found all the same.
#include "one_server.h"

namespace carpool::integration {
namespace {

using Pins = std::map<std::string, int>;

// A character of two bytes, the second of which is a backslash.
const std::string kTable = "\x95\\";
// Read as ASCII, the SET is a part of a string.
const std::string kHidden = "select E'" + kTable + "'; set app.a to 'followed'; select 'x'";

class Encoding : public OneServer {
 protected:
  // What another client finds of app.a.
  std::string of_another() {
    return value_of(other.query("select coalesce(current_setting('app.a', true), '')"));
  }
  Wire other = client();
};

TEST_F(Encoding, WhatACharacterHidesIsFound) {
  for (const bool at_sign_in : {true, false}) {
    Wire wire = at_sign_in ? client({{"client_encoding", "SJIS"}}) : client();
    if (!at_sign_in) wire.query("set names 'shift-jis'");
    EXPECT_EQ(sqlstate_of(wire.query(kHidden)), "");
    EXPECT_EQ(of_another(), "");
    EXPECT_EQ(value_of(wire.query("show app.a")), "followed");
    EXPECT_EQ(pins(carpool), Pins());
  }
}

TEST_F(Encoding, WhatOneHidesInAPreparedStatementIsFound) {
  Wire wire = client({{"client_encoding", "SJIS"}});
  // Read as ASCII, the call is a part of a string.
  const std::string text = "select E'" + kTable + "', set_config('app.a', 'it''s', false)";
  exchange(wire,
           parse_message("s", text) + bind_message("", "s") + execute_message("") + sync_message());
  EXPECT_EQ(value_of(wire.query("show app.a")), "it's");
  EXPECT_EQ(pins(carpool), (Pins{{"session_parameter", 1}}));
  wire.query("discard all");
  EXPECT_EQ(of_another(), "");
}

TEST_F(Encoding, AValueThatCannotBeQuotedPinsAndIsNobodyElses) {
  Wire wire = client({{"client_encoding", "SJIS"}});
  wire.query("set app.a to '" + kTable + "'");
  EXPECT_EQ(pins(carpool), (Pins{{"other", 1}}));
  EXPECT_EQ(value_of(wire.query("show app.a")), kTable);
  wire.query("discard all");
  EXPECT_EQ(of_another(), "");
  // By a Bind, too.
  exchange(wire, parse_message("", "select set_config('app.a', $1, false)") +
                     bind_texts("", {kTable}) + execute_message("") + sync_message());
  EXPECT_EQ(value_of(wire.query("show app.a")), kTable);
  wire.query("discard all");
  EXPECT_EQ(of_another(), "");
}

TEST_F(Encoding, WhereItIsNotKnownTheTextPins) {
  Wire wire = client();
  ASSERT_TRUE(wire.send(query_message("set names 'SJIS'") + query_message(kHidden)));
  for (int i = 0; i < 2; i++) wire.read_until("Z");
  EXPECT_EQ(pins(carpool), (Pins{{"other", 1}}));
  wire.query("discard all");
  EXPECT_EQ(of_another(), "");
}

TEST_F(Encoding, OfAValueThatWasSetBeforeIsNotMixedUp) {
  Wire wire = client({{"client_encoding", "LATIN1"}});
  wire.query("set app.a to '\xe9'");
  EXPECT_EQ(of_another(), "");
  EXPECT_EQ(value_of(wire.query("show app.a")), "\xe9");
  EXPECT_EQ(pins(carpool), Pins());
  wire.query("set names 'UTF8'");
  EXPECT_EQ(value_of(wire.query("show app.a")), "\xc3\xa9");
  // It has its server to itself.
  ASSERT_TRUE(other.send(query_message("select 'waited'")));
  EVENTUALLY(carpool.clients("waiting") == 1);
  wire.query("discard all");
  EXPECT_EQ(value_of(other.read_until("Z")), "waited");
}

TEST_F(Encoding, ANameOfTheStartupPacketIsTakenAsItsBytes) {
  // An application of Windows, by its own name.
  const std::map<std::string, std::string> own = {{"client_encoding", "SJIS"},
                                                  {"application_name", kTable + "\x8e\xa6"}};
  Wire direct = Wire::tcp(postgres().port());
  ASSERT_TRUE(direct.sign_in("app", "app", own));
  Wire wire = client(own);
  EXPECT_EQ(value_of(wire.query("show application_name")),
            value_of(direct.query("show application_name")));
  EXPECT_EQ(value_of(wire.query("show client_encoding")), "SJIS");
  Wire again = client(own);
  EXPECT_EQ(value_of(again.query("select pg_backend_pid()")),
            value_of(wire.query("select pg_backend_pid()")));
  EXPECT_EQ(value_of(other.query("show client_encoding")), "UTF8");
}

}  // namespace
}  // namespace carpool::integration
