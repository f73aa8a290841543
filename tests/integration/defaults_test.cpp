// The promise: what a client was told at sign-in of how values are written stays true, although the
// database's defaults change and servers are opened that begin with others.
#include "one_server.h"

namespace carpool::integration {
namespace {

class Defaults : public OneServer {
 protected:
  ~Defaults() override { set("reset all"); }
  // A default of the database's, and servers that begin with it.
  void set(const std::string& what) {
    EXPECT_TRUE(postgres().admin("alter database app " + what).ok());
    postgres().terminate_backends();
    EVENTUALLY(value_of(client().query("select 1")) == "1");
  }
  static constexpr const char* kShow =
      "select concat_ws(' ', make_date(2024, 2, 1), current_setting('TimeZone'))";
};

TEST_F(Defaults, StayAsTheyWereAtSignIn) {
  Wire old = client();
  const std::string before = value_of(old.query(kShow));
  set("set datestyle to 'German, DMY'");
  set("set timezone to 'Asia/Tokyo'");
  Wire fresh = client();
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(value_of(old.query(kShow)), before);
    EXPECT_EQ(value_of(fresh.query(kShow)), "01.02.2024 Asia/Tokyo");
  }
  // RESET leads to what a session began with.
  old.query("set datestyle to 'SQL'");
  EXPECT_EQ(value_of(fresh.query(kShow)), "01.02.2024 Asia/Tokyo");
  old.query("reset datestyle");
  EXPECT_EQ(value_of(old.query(kShow)), before);
  old.query("discard all");
  EXPECT_EQ(value_of(fresh.query(kShow)), "01.02.2024 Asia/Tokyo");
  EXPECT_EQ(value_of(old.query(kShow)), before);
  // And back: both keep what they have.
  set("reset all");
  EXPECT_EQ(value_of(old.query(kShow)), before);
  EXPECT_EQ(value_of(fresh.query(kShow)), "01.02.2024 Asia/Tokyo");
  EXPECT_EQ(value_of(client().query(kShow)), before);
}

TEST_F(Defaults, OfTheStartupPacketComeFirst) {
  Wire own = client({{"DateStyle", "SQL, DMY"}});
  own.query("select 1");
  set("set datestyle to 'German, DMY'");
  EXPECT_EQ(value_of(own.query("show datestyle")), "SQL, DMY");
  own.query("set datestyle to 'ISO'");
  set("set timezone to 'Asia/Tokyo'");
  own.query("reset datestyle");
  EXPECT_EQ(value_of(own.query("show datestyle")), "SQL, DMY");
}

}  // namespace
}  // namespace carpool::integration
