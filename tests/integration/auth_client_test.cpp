// The promise: who may sign in to Carpool is decided as PostgreSQL would decide it, by password or
// through TLS, and whoever may not learns nothing from the answer.
#include <gtest/gtest.h>

#include <set>

#include "harness/harness.h"

namespace carpool::integration {
namespace {

using namespace std::string_literals;

PostgresCluster& postgres() {
  static PostgresCluster cluster({.tls = true});
  return cluster;
}

const std::string kScram = "mode: scram-sha-256, usersFile: '{mount}/users'";

// A plain password, and a verifier that PostgreSQL made of the same.
std::string users_file() {
  static const std::string verifier =
      postgres().admin("select rolpassword from pg_authid where rolname = 'scram_user'").value();
  return "\"plain\" \""s + kPassword + "\"\n\"verified\" \"" + verifier + "\"\n";
}

std::string as_app() {
  return "user: app, host: 127.0.0.1, port: " + std::to_string(postgres().port());
}

std::string tls(const std::string& mode) {
  const std::string dir = std::filesystem::path(postgres().root_cert()).parent_path();
  return "tls: {mode: " + mode + ", certFile: '" + dir + "/server.crt', keyFile: '" + dir +
         "/server.key'}";
}

std::string password(const std::string& text) {
  return " password='" + text + "'";
}

class ScramUser : public ::testing::TestWithParam<const char*> {};

TEST_P(ScramUser, SignsInByItsPasswordAndByNoOther) {
  Carpool carpool({.auth = kScram, .server = as_app()}, {.files = {{"users", users_file()}}});
  Connection good(carpool.conninfo(GetParam()) + password(kPassword));
  EXPECT_EQ(good.query("select 1").value(), "1") << good.error();
  for (const std::string wrong : {"correct horsf", "x", "correct horse "}) {
    Connection bad(carpool.conninfo(GetParam()) + password(wrong));
    EXPECT_FALSE(bad.connected());
    EXPECT_NE(bad.error().find("password authentication failed for user"), std::string::npos)
        << bad.error();
  }
  EXPECT_FALSE(carpool.logged(kPassword));
}

TEST_P(ScramUser, BindsTheChannelUnderTls) {
  Carpool carpool({.listen = tls("allow"), .auth = kScram, .server = as_app()},
                  {.files = {{"users", users_file()}}});
  const std::string good = carpool.conninfo(GetParam()) + password(kPassword);
  Connection bound(good + " sslmode=require channel_binding=require");
  EXPECT_EQ(bound.query("select 1").value(), "1") << bound.error();
  Connection unbound(good + " sslmode=require channel_binding=disable");
  EXPECT_EQ(unbound.query("select 1").value(), "1") << unbound.error();
  Connection plain(good + " sslmode=disable channel_binding=require");
  EXPECT_FALSE(plain.connected()) << "there is no channel to bind to without TLS";
  Connection wrong(carpool.conninfo(GetParam()) + password("x") +
                   " sslmode=require channel_binding=require");
  EXPECT_FALSE(wrong.connected());
}

INSTANTIATE_TEST_SUITE_P(From, ScramUser, ::testing::Values("plain", "verified"),
                         [](const auto& user) { return std::string(user.param); });

// SASLInitialResponse with this client-first-message.
std::string initial(const std::string& first, const std::string& mechanism = "SCRAM-SHA-256") {
  return message('p',
                 mechanism + '\0' + int32_bytes(static_cast<std::uint32_t>(first.size())) + first);
}

std::string attribute(const std::string& text, char name) {
  const std::string key = std::string(",") + name + "=";
  const std::size_t at = ("," + text).find(key);
  if (at == std::string::npos) return "";
  return text.substr(at + 2, text.find(',', at + 2) - at - 2);
}

// What one attempt with a wrong proof sees, message by message, without what differs by chance.
struct Attempt {
  std::string types;
  std::string mechanisms;
  std::string salt;
  std::string iterations;
  std::string sqlstate;
  std::string text;
  bool ended = false;
};

Attempt attempt(const Carpool& carpool, const std::string& user) {
  Attempt seen;
  Wire wire = carpool.raw();
  wire.send(startup_packet({{"user", user}, {"database", "app"}}));
  const auto next = [&] {
    const std::optional<Message> got = wire.read();
    if (got) seen.types += got->type;
    return got.value_or(Message{});
  };
  seen.mechanisms = next().body;
  wire.send(initial("n,,n=,r=rOprNGfwEbeRWgbNEkqO"));
  const Message challenge = next();
  const std::string first = challenge.body.size() > 4 ? challenge.body.substr(4) : "";
  seen.salt = attribute(first, 's');
  seen.iterations = attribute(first, 'i');
  const std::string proof(43, 'A');
  wire.send(message('p', "c=biws,r=" + attribute(first, 'r') + ",p=" + proof + "="));
  const Message error = next();
  seen.sqlstate = error.sqlstate();
  seen.text = error.field('M');
  const std::size_t at = seen.text.find(user);
  if (at != std::string::npos) seen.text.replace(at, user.size(), "USER");
  seen.ended = wire.ended();
  return seen;
}

TEST(UnknownUser, IsIndistinguishableFromAWrongPassword) {
  Carpool carpool({.auth = kScram, .server = as_app()}, {.files = {{"users", users_file()}}});
  const Attempt known = attempt(carpool, "plain");
  const Attempt unknown = attempt(carpool, "nobody");
  EXPECT_EQ(known.types, "RRE");
  EXPECT_EQ(unknown.types, known.types);
  EXPECT_EQ(unknown.mechanisms, known.mechanisms);
  EXPECT_EQ(unknown.iterations, known.iterations);
  EXPECT_EQ(unknown.salt.size(), known.salt.size());
  EXPECT_NE(unknown.salt, known.salt);
  EXPECT_EQ(known.sqlstate, "28P01");
  EXPECT_EQ(unknown.sqlstate, "28P01");
  EXPECT_EQ(unknown.text, known.text);
  EXPECT_TRUE(known.ended && unknown.ended);
  // A salt that changed from one attempt to the next would say that nobody has it.
  EXPECT_EQ(attempt(carpool, "nobody").salt, unknown.salt);
  EXPECT_EQ(attempt(carpool, "plain").salt, known.salt);
  EXPECT_NE(attempt(carpool, "nobody else").salt, unknown.salt);
}

TEST(UnknownUser, LooksTheSameAtARestartInAnotherPodAndAfterAnEditOfTheUsersFile) {
  struct Pod {
    std::string auth;
    std::string server;
    ConfigMount::Files files;
  };
  const std::string edited = users_file() + "\"newcomer\" \"secret\"\n";
  const std::string salt = "sixteen bytes or more, the same in each pod";
  const std::string with_file = kScram + ", saltFile: '{mount}/salt'";
  const std::vector<std::vector<Pod>> alike = {
      // From the server's password.
      {{kScram, as_app() + ", password: of-the-server", {{"users", users_file()}}},
       {kScram, as_app() + ", password: of-the-server", {{"users", edited}}},
       {kScram,
        as_app() + ", passwordFile: '{mount}/password'",
        {{"users", users_file()}, {"password", "of-the-server\n"}}}},
      // For want of a password, from where the server is.
      {{kScram, as_app(), {{"users", users_file()}}}, {kScram, as_app(), {{"users", edited}}}},
      // From a file of its own, whatever the server's password becomes.
      {{with_file, as_app(), {{"users", users_file()}, {"salt", salt}}},
       {with_file, as_app() + ", password: rotated", {{"users", edited}, {"salt", salt}}}}};
  std::vector<std::string> salts;
  for (const std::vector<Pod>& pods : alike) {
    std::optional<Attempt> first;
    for (const Pod& pod : pods) {
      Carpool carpool({.auth = pod.auth, .server = pod.server}, {.files = pod.files});
      const Attempt seen = attempt(carpool, "nobody");
      if (!first) first = seen;
      EXPECT_EQ(seen.salt, first->salt);
      EXPECT_EQ(seen.iterations, first->iterations);
      EXPECT_EQ(attempt(carpool, "plain").salt.size(), seen.salt.size());
    }
    salts.push_back(first->salt);
  }
  EXPECT_EQ(std::set<std::string>(salts.begin(), salts.end()).size(), salts.size());
}

TEST(UnknownUser, WhoseSaltNoSecretKeepsIsWarnedOf) {
  Carpool carpool({.auth = kScram, .server = as_app()}, {.files = {{"users", users_file()}}});
  EXPECT_TRUE(carpool.logged("who guesses where the server is can tell which users exist"));
  EXPECT_NE(carpool.config()["warnings"].dump().find("auth.saltFile"), std::string::npos);
}

TEST(WrongScramMessages, AreRefusedAtEveryStep) {
  Carpool carpool({.auth = kScram, .server = as_app()}, {.files = {{"users", users_file()}}});
  const std::string good = "n,,n=,r=rOprNGfwEbeRWgbNEkqO";
  const std::vector<std::string> first = {
      message('p', ""),
      message('p', "SCRAM-SHA-256"),
      message('p', "SCRAM-SHA-256\0"s),
      message('p', std::string(1025, 'x')),
      initial(good, "SCRAM-SHA-1"),
      initial(good, "SCRAM-SHA-256-PLUS"),
      initial(""),
      initial("p=tls-unique,,n=,r=abc"),
      initial("n,a=other,n=,r=abc"),
      initial("n,,m=ext,n=,r=abc"),
      initial("n,,n=,r="),
      initial("n,,r=abc"),
      initial("n,,n=,r=abc\0"s),
      message('p', "SCRAM-SHA-256\0"s + int32_bytes(500) + good),
      query_message("select 1"),
  };
  for (std::size_t i = 0; i < first.size(); i++) {
    Wire wire = carpool.raw();
    wire.send(startup_packet({{"user", "plain"}, {"database", "app"}}) + first[i]);
    const std::vector<Message> answer = wire.read_until("E");
    ASSERT_NE(find(answer, 'E'), nullptr) << i;
    EXPECT_EQ(find(answer, 'E')->sqlstate(), "08P01") << i;
    EXPECT_TRUE(wire.ended()) << i;
  }
  const auto final_message = [](const std::string& nonce) {
    const std::string proof(43, 'A');
    return std::vector<std::pair<std::string, std::string>>{
        {"", "08P01"},
        {"c=biws", "08P01"},
        {"c=biws,r=" + nonce, "08P01"},
        {"c=biws,r=" + nonce + ",p=", "08P01"},
        {"c=biws,r=" + nonce + ",p=AAAA", "08P01"},
        {"c=biws,r=" + nonce + "x,p=" + proof + "=", "08P01"},
        {"c=eSws,r=" + nonce + ",p=" + proof + "=", "08P01"},
        {"c=biws,r=" + nonce + ",p=" + proof + "=,x=y", "08P01"},
        {"c=biws,r=" + nonce + ",p=" + proof + "=", "28P01"},
    };
  };
  for (std::size_t i = 0; i < final_message("").size(); i++) {
    Wire wire = carpool.raw();
    wire.send(startup_packet({{"user", "plain"}, {"database", "app"}}) + initial(good));
    wire.read();
    const std::optional<Message> challenge = wire.read();
    ASSERT_TRUE(challenge && challenge->body.size() > 4) << i;
    const auto [text, sqlstate] = final_message(attribute(challenge->body.substr(4), 'r'))[i];
    wire.send(message('p', text));
    const std::vector<Message> answer = wire.read_until("EZ");
    ASSERT_NE(find(answer, 'E'), nullptr) << i;
    EXPECT_EQ(find(answer, 'E')->sqlstate(), sqlstate) << i;
    EXPECT_TRUE(wire.ended()) << i;
  }
  Connection good_one(carpool.conninfo("plain") + password(kPassword));
  EXPECT_TRUE(good_one.connected()) << good_one.error();
}

TEST(Passthrough, TriesThePasswordOnPostgres) {
  const std::string server = "host: 127.0.0.1, port: " + std::to_string(postgres().port());
  Carpool carpool({.auth = "mode: passthrough", .server = server});
  for (const std::string user : {"scram_user", "md5_user", "plain_user"}) {
    Connection wrong(carpool.conninfo(user) + password("wrong"));
    EXPECT_FALSE(wrong.connected()) << user;
    EXPECT_NE(wrong.error().find("password authentication failed"), std::string::npos);
    for (int i = 0; i < 2; i++) {
      Connection good(carpool.conninfo(user) + password(kPassword));
      EXPECT_EQ(good.query("select current_user").value(), user) << good.error();
    }
    Connection still_wrong(carpool.conninfo(user) + password("wrong"));
    EXPECT_FALSE(still_wrong.connected()) << "another's success vouches for no other password";
  }
  EXPECT_FALSE(carpool.logged(kPassword));
}

TEST(ClientTls, IsSpokenAsItsModeSays) {
  Carpool disable({.listen = tls("disable"), .server = as_app()});
  EXPECT_TRUE(Connection(disable.conninfo() + " sslmode=prefer").connected());
  EXPECT_FALSE(Connection(disable.conninfo() + " sslmode=require").connected());
  Carpool allow({.listen = tls("allow"), .server = as_app()});
  EXPECT_TRUE(Connection(allow.conninfo() + " sslmode=disable").connected());
  Connection verified(allow.conninfo() +
                      " sslmode=verify-full sslrootcert=" + postgres().root_cert());
  EXPECT_TRUE(verified.connected()) << verified.error();
  EXPECT_NE(PQsslInUse(verified.raw()), 0);
  Carpool require({.listen = tls("require"), .server = as_app()});
  EXPECT_TRUE(Connection(require.conninfo() + " sslmode=require").connected());
  Connection plain(require.conninfo() + " sslmode=disable");
  EXPECT_FALSE(plain.connected());
  EXPECT_NE(plain.error().find("only TLS connections"), std::string::npos) << plain.error();
}

TEST(ClientTls, BytesToAPlainPortAreToldSo) {
  Carpool carpool({.server = as_app()});
  Wire wire = carpool.raw();
  wire.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s + std::string(506, 'r'));
  const std::optional<Message> error = wire.read();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->type, 'E');
  EXPECT_NE(error->field('M').find("TLS"), std::string::npos);
  EXPECT_TRUE(wire.ended());
}

TEST(ClientTls, BytesBehindAnSslRequestInTheClearAreRefused) {
  Carpool carpool({.listen = tls("allow"), .server = as_app()});
  Wire wire = carpool.raw();
  wire.send(untyped(kSslRequestCode) + startup_packet({{"user", "app"}, {"database", "app"}}));
  const std::optional<Message> error = wire.read();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->sqlstate(), "08P01");
}

// As PostgreSQL refuses them whatever it answers.
TEST(ClientTls, BytesBehindARequestThatIsAnsweredNoAreRefusedToo) {
  Carpool carpool({.server = as_app()});
  for (const std::uint32_t code : {kSslRequestCode, kGssRequestCode}) {
    Wire wire = carpool.raw();
    wire.send(untyped(code) + startup_packet({{"user", "app"}, {"database", "app"}}));
    EXPECT_EQ(wire.read_bytes(1), "N");
    const std::optional<Message> error = wire.read();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->sqlstate(), "08P01");
    EXPECT_TRUE(wire.ended());
  }
}

TEST(ProtocolVersion, NewerMinorVersionsAndUnknownOptionsAreNegotiated) {
  Carpool carpool({.server = as_app()});
  struct Case {
    std::uint32_t version;
    bool option;
    bool negotiated;
  };
  for (const Case& now : {Case{kProtocol30, false, false}, Case{kProtocol30 + 2, false, false},
                          Case{kProtocol30 + 9999, false, true}, Case{kProtocol30, true, true},
                          Case{kProtocol30 + 9999, true, true}}) {
    Wire wire = carpool.raw();
    std::map<std::string, std::string> parameters = {{"user", "app"}, {"database", "app"}};
    if (now.option) parameters["_pq_.unheard_of"] = "on";
    wire.send(startup_packet(parameters, now.version));
    const std::vector<Message> answer = wire.read_until("ZE");
    ASSERT_NE(find(answer, 'Z'), nullptr) << now.version;
    // Long cancel keys are of 3.2, which is what a newer client is brought down to.
    ASSERT_NE(find(answer, 'K'), nullptr);
    EXPECT_EQ(find(answer, 'K')->body.size(), now.version == kProtocol30 ? 8U : 40U) << now.version;
    const Message* negotiate = find(answer, 'v');
    ASSERT_EQ(negotiate != nullptr, now.negotiated) << now.version << now.option;
    if (negotiate == nullptr) continue;
    const std::uint32_t newest = now.version > kProtocol30 + 2 ? kProtocol30 + 2 : now.version;
    EXPECT_EQ(int32_at(negotiate->body, 0), newest);
    EXPECT_EQ(int32_at(negotiate->body, 4), now.option ? 1U : 0U);
    EXPECT_EQ(negotiate->body.substr(8), now.option ? "_pq_.unheard_of\0"s : ""s);
  }
}

TEST(ARotatedPasswordThatIsWrong, LeavesTheOldServersServingAndIsSaid) {
  postgres().admin("create role turning login password 'first'");
  postgres().admin("grant all on database app to turning");
  // `turning` must show a password where the template trusts everybody.
  const std::string hba = postgres().admin("show hba_file").value();
  write_file(hba, "host all turning 127.0.0.1/32 scram-sha-256\n" + read_file(hba));
  ASSERT_TRUE(postgres().admin("select pg_reload_conf()").ok());
  const std::string conninfo = "host=127.0.0.1 port=" + std::to_string(postgres().port()) +
                               " user=turning dbname=app password=wrong";
  ASSERT_EVENTUALLY(!Connection(conninfo).connected());
  Carpool carpool(
      {.server = "user: turning, passwordFile: '{mount}/password', host: 127.0.0.1, port: " +
                 std::to_string(postgres().port()),
       .pool = "size: 2"},
      {.files = {{"password", "first"}}});
  Connection client = carpool.connect();
  const int pid = client.backend_pid();
  carpool.mount().swap(
      {{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))}, {"password", "wrong"}});
  ASSERT_TRUE(client.query("begin").ok());
  // The only server is in use, so that this one calls for another, which cannot be had.
  Connection second = carpool.connect();
  second.send("select pg_backend_pid()");
  EVENTUALLY(
      carpool.metric("carpool_server_connect_errors_total", {{"reason", "auth"}}).value_or(0) > 0);
  EVENTUALLY(carpool.logged("password authentication failed"));
  EXPECT_EQ(client.backend_pid(), pid);
  ASSERT_TRUE(client.query("commit").ok());
  EXPECT_EQ(second.wait().value(), std::to_string(pid)) << "the old server serves it";
  // The right one: a new server is opened with it, and nobody has noticed.
  ASSERT_TRUE(postgres().admin("alter role turning password 'third'").ok());
  carpool.mount().swap(
      {{"carpool.yaml", read_file(carpool.mount().file("carpool.yaml"))}, {"password", "third"}});
  ASSERT_TRUE(client.query("begin").ok());
  second.send("select pg_backend_pid()");
  const Reply other = second.wait();
  EXPECT_TRUE(other.ok()) << other.message;
  EXPECT_NE(other.value(), std::to_string(pid));
  EXPECT_TRUE(client.query("commit").ok());
}

}  // namespace
}  // namespace carpool::integration
