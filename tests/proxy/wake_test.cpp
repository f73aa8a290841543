// Bytes that came when they could not be taken are looked at again when they can, whoever it was
// that the client had to wait for, and though no further byte comes.
#include <openssl/evp.h>

#include <fstream>
#include <utility>

#include "fixture.h"
#include "pg/scram.h"
#include "pg/scram_verifier.h"

namespace carpool::proxy {
namespace {

class Wake : public ProxyTest {
 protected:
  // What a client says, in one piece.
  class Words {
   public:
    Words& startup(const std::string& database = "app") {
      Bytes body;
      append_u32(body, 3u << 16);
      for (const std::string& text :
           {std::string("user"), std::string("alice"), std::string("database"), database}) {
        append_cstring(body, text);
      }
      append_u8(body, 0);
      append_u32(bytes, static_cast<std::uint32_t>(body.size() + 4));
      append(bytes, body);
      return *this;
    }
    Words& message(char type, std::string_view body) {
      const std::size_t start = pg::begin_message(bytes, type);
      append_text(bytes, std::string(body));
      pg::finish_message(bytes, start);
      return *this;
    }
    Words& query(const std::string& sql) { return message('Q', std::string(sql) + '\0'); }
    Words& initial(const std::string& first) {
      Bytes length;
      append_u32(length, static_cast<std::uint32_t>(first.size()));
      return message('p',
                     "SCRAM-SHA-256" + std::string(1, '\0') + std::string(as_text(length)) + first);
    }
    Bytes bytes;
  };

  // PostgreSQL asks for a password, and takes each.
  void ask_for_passwords() {
    postgres_.at_start = [](Backend& backend) {
      Bytes out;
      const std::size_t start = pg::begin_message(out, 'R');
      append_u32(out, 3);
      pg::finish_message(out, start);
      backend.say(out);
      backend.greeted = true;
    };
    postgres_.script = [](Backend& backend, const Message& request) {
      if (request.type == 'p') return backend.greet();
      ScriptedPostgres::well_behaved(backend, request);
    };
  }
  // The proof for these messages (RFC 5802).
  static std::string client_final(const std::string& password, const std::string& bare,
                                  const std::string& server_first) {
    const auto attribute = [&](char name) {
      const std::size_t at = ("," + server_first).find(std::string(",") + name + "=") + 2;
      return server_first.substr(at, server_first.find(',', at) - at);
    };
    const Result<Bytes> salt = pg::decode_base64(attribute('s'));
    pg::ScramKey salted;
    PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt->data(),
                      static_cast<int>(salt->size()), std::stoi(attribute('i')), EVP_sha256(),
                      static_cast<int>(salted.size()), salted.data());
    const pg::ScramKey key = pg::hmac_sha256(salted, as_bytes("Client Key"));
    const std::string without_proof = "c=biws,r=" + attribute('r');
    const std::string all = bare + "," + server_first + "," + without_proof;
    pg::ScramKey proof = pg::hmac_sha256(pg::sha256(key), as_bytes(all));
    for (std::size_t i = 0; i < proof.size(); ++i) {
      proof[i] = static_cast<std::uint8_t>(proof[i] ^ key[i]);
    }
    return without_proof + ",p=" + pg::encode_base64(proof);
  }
};

TEST_F(Wake, AQueryBehindTheStartupPacketOfAPoolWithoutServers) {
  serve();
  TestClient& client = connect();
  client.say(Words().startup().query("SELECT 1").bytes);
  ASSERT_TRUE(until([&] { return client.types == "RSSKZCZ"; })) << client.types;
}

TEST_F(Wake, AQueryAndAGoodbyeBehindTheStartupPacket) {
  serve();
  TestClient& client = connect();
  client.say(Words().startup().query("SELECT 1").message('X', "").bytes);
  ASSERT_TRUE(until([&] { return client.ended; })) << client.types;
  EXPECT_EQ(client.types, "RSSKZCZ");
}

TEST_F(Wake, HalfAQueryBehindTheStartupPacket) {
  serve();
  TestClient& client = connect();
  const Bytes words = Words().startup().query("SELECT 1").bytes;
  client.say(ByteSpan(words).first(words.size() - 4));
  ASSERT_TRUE(until([&] { return client.types == "RSSKZ"; })) << client.types;
  client.say(ByteSpan(words).last(4));
  ASSERT_TRUE(until([&] { return client.types == "RSSKZCZ"; })) << client.types;
}

TEST_F(Wake, AQueryBehindAPasswordThatPostgresIsAskedAbout) {
  config_.auth.mode = config::AuthMode::Passthrough;
  ask_for_passwords();
  serve();
  TestClient& client = connect();
  const std::string password = std::string("right") + '\0';
  client.say(Words().startup().message('p', password).query("SELECT 1").bytes);
  ASSERT_TRUE(until([&] { return client.types == "RRSSKZCZ"; })) << client.types;
}

TEST_F(Wake, ACommandBehindAPasswordOfTheConsole) {
  config_.auth.mode = config::AuthMode::Passthrough;
  config_.admin.users = {"alice"};
  ask_for_passwords();
  serve();
  TestClient& client = connect();
  const std::string password = std::string("right") + '\0';
  client.say(Words().startup("pgbouncer").message('p', password).query("SHOW VERSION").bytes);
  ASSERT_TRUE(until([&] { return client.count('Z') == 2; })) << client.types;
}

TEST_F(Wake, ACommandBehindTheStartupPacketOfTheConsole) {
  config_.admin.users = {"alice"};
  serve();
  TestClient& client = connect();
  client.say(Words().startup("pgbouncer").query("SHOW VERSION").bytes);
  ASSERT_TRUE(until([&] { return client.count('Z') == 2; })) << client.types;
}

TEST_F(Wake, AQueryBehindTheLastMessageOfScram) {
  config_.auth.mode = config::AuthMode::ScramSha256;
  serve();
  Credentials credentials;
  Result<pg::Users> users = pg::Users::parse("\"alice\" \"pencil\"\n", {as_bytes("salts"), 4096});
  ASSERT_TRUE(users);
  credentials.users = std::move(*users);
  proxy_->gatekeeper().take(credentials);
  // With a server to greet it, and without one.
  for (const char* database : {"app", "app", "other"}) {
    const std::string bare = "n=,r=rOprNGfwEbeRWgbNEkqO";
    TestClient& client = connect();
    client.say(Words().startup(database).bytes);
    ASSERT_TRUE(until([&] { return client.types == "R"; })) << client.types;
    client.say(Words().initial("n,," + bare).bytes);
    ASSERT_TRUE(until([&] { return client.types == "RR"; })) << client.types;
    const std::string last = client_final("pencil", bare, client.messages[1].text().substr(4));
    client.say(Words().message('p', last).query("SELECT 1").bytes);
    ASSERT_TRUE(until([&] { return client.types == "RRRRSSKZCZ"; })) << client.types;
  }
}

TEST_F(Wake, ACommandBehindAPauseAtTheConsole) {
  config_.admin.users = {"alice"};
  serve();
  TestClient& busy = client();
  busy.query("BEGIN");
  ASSERT_TRUE(until([&] { return busy.status() == 'T'; }));
  TestClient& console = connect();
  console.say(Words().startup("pgbouncer").query("PAUSE").query("RESUME").bytes);
  settle();
  EXPECT_EQ(console.count('Z'), 1u);
  busy.query("COMMIT");
  ASSERT_TRUE(until([&] { return console.count('Z') == 3; })) << console.types;
  EXPECT_EQ(console.count('E'), 0u);
}

// What it sends behind a COPY that has failed is nothing to PostgreSQL, and may lie in the queue
// to a server that is not its own any more.
TEST_F(Wake, AClientWhoseLeaseEndedWhileItsServerTookNoMore) {
  serve();
  TestClient& client = this->client();
  postgres_.script = [](Backend& backend, const Message& request) {
    if (request.type != 'Q') return;
    if (std::string(request.text().c_str()) != "COPY") {
      return ScriptedPostgres::well_behaved(backend, request);
    }
    Bytes out;
    const std::size_t start = pg::begin_message(out, 'G');
    append_text(out, std::string("\0\0\0", 3));
    pg::finish_message(out, start);
    backend.say(out);
  };
  client.query("COPY");
  ASSERT_TRUE(until([&] { return client.types == "G"; })) << client.types;
  Backend& backend = *postgres_.backends[0];
  backend.deaf = true;
  Words data;
  const std::string row(1000, 'x');
  for (int i = 0; i < 20'000; ++i) data.message('d', row);
  client.say(data.bytes);
  std::size_t unsent = 0;
  ASSERT_TRUE(until([&] {
    const std::size_t before = std::exchange(unsent, client.unsent());
    settle();
    return before > 0 && before == client.unsent();
  })) << "the proxy stops reading";
  backend.error("22P02");
  backend.ready('I');
  ASSERT_TRUE(until([&] { return client.types == "GEZ"; })) << client.types;
  backend.deaf = false;
  ASSERT_TRUE(until([&] { return client.unsent() == 0; }));
  client.query("SELECT 1");
  ASSERT_TRUE(until([&] { return client.types == "GEZCZ"; })) << client.types;
}

// The refusal is Carpool's own answer and ends the lease, behind what PostgreSQL answers.
TEST_F(Wake, AGoodbyeBehindAQueryThatIsRefused) {
  config_.pool.mode = config::PoolMode::Statement;
  serve();
  TestClient& client = this->client();
  postgres_.script = [](Backend&, const Message&) {};
  client.say(Words().query("SELECT 1").query("BEGIN").message('X', "").bytes);
  // What it asked last is refused by PostgreSQL, in its order; what it is told is Carpool's word.
  ASSERT_TRUE(until([&] { return postgres_.backends[0]->requests.size() == 3; }))
      << postgres_.backends[0]->asked();
  EXPECT_EQ(postgres_.backends[0]->asked(), "Q:SELECT 1 Q:EXECUTE \"carpool: refused\" f");
  settle();
  EXPECT_FALSE(client.ended);
  postgres_.backends[0]->complete("SELECT");
  postgres_.backends[0]->ready('I');
  postgres_.backends[0]->error("26000");
  postgres_.backends[0]->ready('I');
  ASSERT_TRUE(until([&] { return client.ended; })) << client.types;
  EXPECT_EQ(client.types, "CZEZ");
  EXPECT_EQ(client.sqlstate(), "0A000");
}

}  // namespace
}  // namespace carpool::proxy
