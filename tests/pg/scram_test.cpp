#include "pg/scram.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <random>

#include "pg/error_response.h"

namespace carpool::pg {
namespace {

using std::string_literals::operator""s;
using Step = ScramOutcome::Step;

// The example of RFC 7677, section 3.
constexpr std::string_view kClientNonce = "rOprNGfwEbeRWgbNEkqO";
constexpr std::string_view kServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
constexpr std::string_view kSalt = "W22ZaJ0SNY7soEsUEjb6gQ==";
const std::string kNonce = std::string(kClientNonce) + std::string(kServerNonce);
const std::string kClientFirst = "n,,n=user,r=" + std::string(kClientNonce);
const std::string kServerFirst = "r=" + kNonce + ",s=" + std::string(kSalt) + ",i=4096";
const std::string kClientFinal =
    "c=biws,r=" + kNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const std::string kServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

const ScramVerifier& pencil() {
  static const ScramVerifier verifier = make_verifier("pencil", *decode_base64(kSalt), 4096);
  return verifier;
}

const Bytes kBinding = {1, 2, 3, 4, 5};

// An exchange with what it sent last, and the verbs of a client.
class Exchange {
 public:
  struct With {
    ScramVerifier verifier = pencil();
    bool user_exists = true;
    std::optional<Bytes> binding = std::nullopt;
  };
  Exchange() : Exchange(With{}) {}
  explicit Exchange(With with)
      : exchange_({"user", std::move(with.verifier), with.user_exists, std::string(kServerNonce),
                   std::move(with.binding)}) {}

  ScramOutcome initial(std::string_view mechanism, const std::string& message) {
    Bytes body;
    append_cstring(body, mechanism);
    append_u32(body, static_cast<std::uint32_t>(message.size()));
    append_text(body, message);
    return raw(body);
  }
  ScramOutcome first(const std::string& message) { return initial("SCRAM-SHA-256", message); }
  ScramOutcome response(const std::string& message) { return raw(as_bytes(message)); }
  ScramOutcome raw(ByteSpan body) {
    sent_.clear();
    return exchange_.on_message(body, sent_);
  }
  std::string request() {
    Bytes out;
    exchange_.append_request(out);
    return std::string(as_text(out));
  }
  // The data of the message that was sent, which must be an Authentication of this code.
  std::string data(std::uint32_t code) const {
    EXPECT_GE(sent_.size(), 9u);
    if (sent_.size() < 9) return {};
    EXPECT_EQ(sent_[0], 'R');
    EXPECT_EQ(load_u32(&sent_[1]), sent_.size() - 1);
    EXPECT_EQ(load_u32(&sent_[5]), code);
    return std::string(as_text(ByteSpan(sent_).subspan(9)));
  }
  bool sent_nothing() const { return sent_.empty(); }

 private:
  ScramExchange exchange_;
  Bytes sent_;
};

// The client's side, as RFC 5802 has it.
std::string client_final(std::string_view password, const std::string& first,
                         const std::string& server_first, const Bytes& binding = {}) {
  const std::size_t header = first.find(',', first.find(',') + 1) + 1;
  Bytes bound(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(header));
  append(bound, binding);
  const std::string nonce = server_first.substr(2, server_first.find(',') - 2);
  const std::size_t salt_at = server_first.find(",s=") + 3;
  const std::size_t salt_end = server_first.find(",i=");
  const Bytes salt = *decode_base64(server_first.substr(salt_at, salt_end - salt_at));
  const int iterations = std::stoi(server_first.substr(salt_end + 3));
  ScramKey salted;
  PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt.data(),
                    static_cast<int>(salt.size()), iterations, EVP_sha256(),
                    static_cast<int>(salted.size()), salted.data());
  const ScramKey client_key = hmac_sha256(salted, as_bytes("Client Key"));
  const std::string without_proof = "c=" + encode_base64(bound) + ",r=" + nonce;
  const std::string message = first.substr(header) + "," + server_first + "," + without_proof;
  ScramKey proof = hmac_sha256(sha256(client_key), as_bytes(message));
  for (std::size_t i = 0; i < proof.size(); ++i) {
    proof[i] = static_cast<std::uint8_t>(proof[i] ^ client_key[i]);
  }
  return without_proof + ",p=" + encode_base64(proof);
}

void expect_broken(const ScramOutcome& outcome, const std::string& what) {
  EXPECT_EQ(outcome.step, Step::Failed) << what;
  EXPECT_EQ(outcome.sqlstate, sqlstate::kProtocolViolation) << what;
  EXPECT_FALSE(outcome.message.empty());
}

void expect_refused(const ScramOutcome& outcome, const std::string& what) {
  EXPECT_EQ(outcome.step, Step::Failed) << what;
  EXPECT_EQ(outcome.sqlstate, sqlstate::kInvalidPassword) << what;
  EXPECT_EQ(outcome.message, "password authentication failed for user \"user\"") << what;
}

TEST(Scram, SpeaksTheExampleOfRfc7677) {
  Exchange exchange;
  EXPECT_EQ(exchange.first(kClientFirst).step, Step::Continue);
  EXPECT_EQ(exchange.data(11), kServerFirst);
  const ScramOutcome outcome = exchange.response(kClientFinal);
  EXPECT_EQ(outcome.step, Step::Done) << outcome.detail;
  EXPECT_EQ(exchange.data(12), kServerFinal);
}

TEST(Scram, TheTestsOwnClientSpeaksTheExampleToo) {
  EXPECT_EQ(client_final("pencil", kClientFirst, kServerFirst), kClientFinal);
}

TEST(Scram, OffersChannelBindingOnlyWithTls) {
  EXPECT_EQ(Exchange().request(), "R\0\0\0\x17\0\0\0\x0ASCRAM-SHA-256\0\0"s);
  EXPECT_EQ(Exchange({.binding = kBinding}).request(),
            "R\0\0\0\x2A\0\0\0\x0ASCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"s);
}

TEST(Scram, TakesTheFirstMessageAfterAnEmptyChallenge) {
  Exchange exchange;
  const Bytes body = [] {
    Bytes out;
    append_cstring(out, "SCRAM-SHA-256");
    append_u32(out, 0xFFFFFFFF);
    return out;
  }();
  EXPECT_EQ(exchange.raw(body).step, Step::Continue);
  EXPECT_EQ(exchange.data(11), "");
  EXPECT_EQ(exchange.response(kClientFirst).step, Step::Continue);
  EXPECT_EQ(exchange.data(11), kServerFirst);
  EXPECT_EQ(exchange.response(kClientFinal).step, Step::Done);
}

TEST(Scram, TakesTheFirstMessageOfLibpqWhoseUserIsEmpty) {
  Exchange exchange;
  const std::string first = "n,,n=,r=abc";
  ASSERT_EQ(exchange.first(first).step, Step::Continue);
  EXPECT_EQ(exchange.response(client_final("pencil", first, exchange.data(11))).step, Step::Done);
}

TEST(Scram, PassesOverExtensionsThatAreOptional) {
  Exchange exchange;
  const std::string first = "n,,n=,r=abc,x=1,y=2";
  ASSERT_EQ(exchange.first(first).step, Step::Continue);
  const std::string server_first = exchange.data(11);
  EXPECT_EQ(exchange.response(client_final("pencil", first, server_first)).step, Step::Done);
  // In the final message they are signed, too: one that was put in between does not fit.
  Exchange second;
  ASSERT_EQ(second.first(first).step, Step::Continue);
  std::string final_message = client_final("pencil", first, server_first);
  final_message.insert(final_message.find(",p="), ",x=1");
  expect_refused(second.response(final_message), final_message);
}

TEST(Scram, RefusesAWrongPasswordAndSendsNothing) {
  Exchange exchange;
  ASSERT_EQ(exchange.first(kClientFirst).step, Step::Continue);
  expect_refused(exchange.response(client_final("Pencil", kClientFirst, kServerFirst)), "case");
  EXPECT_TRUE(exchange.sent_nothing());
}

TEST(Scram, RefusesAnUnknownUserInTheSameBytesAsAWrongPassword) {
  const Bytes secret = {9, 9, 9};
  Exchange known({.verifier = make_verifier("right", salt_for_user(secret, "user"), 4096)});
  Exchange unknown(
      {.verifier = mock_verifier(secret, "user", {.iterations = 4096}), .user_exists = false});
  ASSERT_EQ(known.first(kClientFirst).step, Step::Continue);
  ASSERT_EQ(unknown.first(kClientFirst).step, Step::Continue);
  ASSERT_EQ(known.data(11), unknown.data(11));
  const std::string last = client_final("wrong", kClientFirst, known.data(11));
  const ScramOutcome one = known.response(last);
  const ScramOutcome two = unknown.response(last);
  expect_refused(one, "known");
  expect_refused(two, "unknown");
  EXPECT_EQ(one.detail, two.detail);
}

TEST(Scram, RefusesAUserThatDoesNotExistEvenWithTheRightProof) {
  Exchange exchange({.verifier = pencil(), .user_exists = false});
  ASSERT_EQ(exchange.first(kClientFirst).step, Step::Continue);
  expect_refused(exchange.response(kClientFinal), "doomed");
}

TEST(Scram, GivesAUserThatDoesNotExistTheSameSaltEachTime) {
  const Bytes secret = {1};
  EXPECT_EQ(mock_verifier(secret, "a", {.iterations = 4096}),
            mock_verifier(secret, "a", {.iterations = 4096}));
  EXPECT_NE(mock_verifier(secret, "a", {.iterations = 4096}).salt,
            mock_verifier(secret, "b", {.iterations = 4096}).salt);
  EXPECT_NE(mock_verifier(secret, "a", {.iterations = 4096}).salt,
            mock_verifier(Bytes{2}, "a", {.iterations = 4096}).salt);
  EXPECT_EQ(mock_verifier(secret, "a", {.iterations = 4096}).salt.size(), kScramSaltBytes);
}

TEST(Scram, GivesAUserThatDoesNotExistTheShapeThatUsersHave) {
  const Bytes secret = {1};
  for (const std::size_t bytes : {1u, 12u, 16u, 40u, 256u}) {
    const ScramVerifier mock =
        mock_verifier(secret, "a", {.iterations = 7000, .salt_bytes = bytes});
    EXPECT_EQ(mock.salt.size(), bytes);
    EXPECT_EQ(mock.iterations, 7000u);
  }
}

TEST(Scram, BindsTheChannel) {
  const std::string first = "p=tls-server-end-point,,n=,r=abc";
  {
    Exchange exchange({.binding = kBinding});
    ASSERT_EQ(exchange.initial("SCRAM-SHA-256-PLUS", first).step, Step::Continue);
    const std::string last = client_final("pencil", first, exchange.data(11), kBinding);
    EXPECT_EQ(exchange.response(last).step, Step::Done);
  }
  {
    Exchange exchange({.binding = kBinding});
    ASSERT_EQ(exchange.initial("SCRAM-SHA-256-PLUS", first).step, Step::Continue);
    const std::string last = client_final("pencil", first, exchange.data(11), Bytes{6, 6, 6});
    expect_refused(exchange.response(last), "another certificate");
  }
}

TEST(Scram, TakesAClientThatDoesNotBindThoughItCould) {
  Exchange exchange({.binding = kBinding});
  EXPECT_EQ(exchange.first(kClientFirst).step, Step::Continue);
  EXPECT_EQ(exchange.response(kClientFinal).step, Step::Done);
}

TEST(Scram, TakesAClientThatCouldBindWhereThisSideCannot) {
  Exchange exchange;
  const std::string first = "y,,n=,r=abc";
  ASSERT_EQ(exchange.first(first).step, Step::Continue);
  EXPECT_EQ(exchange.response(client_final("pencil", first, exchange.data(11))).step, Step::Done);
}

TEST(Scram, DetectsThatTheOfferOfChannelBindingWasTakenAway) {
  expect_broken(Exchange({.binding = kBinding}).first("y,,n=,r=abc"), "downgrade");
}

TEST(Scram, RefusesAChannelBindingFlagThatDoesNotFitTheMechanism) {
  const std::string bound = "p=tls-server-end-point,,n=,r=abc";
  expect_broken(Exchange().first(bound), "without TLS");
  expect_broken(Exchange({.binding = kBinding}).first(bound), "mechanism without PLUS");
  expect_broken(Exchange().initial("SCRAM-SHA-256-PLUS", bound), "not offered");
  for (const std::string first :
       {"n,,n=,r=abc", "y,,n=,r=abc", "p=tls-unique,,n=,r=abc", "p=,,n=,r=abc"}) {
    expect_broken(Exchange({.binding = kBinding}).initial("SCRAM-SHA-256-PLUS", first), first);
  }
}

TEST(Scram, RefusesAMechanismThatWasNotOffered) {
  for (const std::string mechanism : {"", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-"}) {
    expect_broken(Exchange().initial(mechanism, kClientFirst), mechanism);
  }
}

TEST(Scram, RefusesABrokenInitialResponse) {
  expect_broken(Exchange().raw({}), "nothing");
  expect_broken(Exchange().raw(as_bytes("SCRAM-SHA-256")), "no zero byte");
  expect_broken(Exchange().raw(as_bytes("SCRAM-SHA-256\0\0\0\0"s)), "no length");
  expect_broken(Exchange().raw(as_bytes("SCRAM-SHA-256\0\0\0\0\5n,,n"s)), "shorter than it says");
  expect_broken(Exchange().raw(as_bytes("SCRAM-SHA-256\0\0\0\0\1n,,n"s)), "longer than it says");
  expect_broken(Exchange().raw(as_bytes("SCRAM-SHA-256\0\xff\xff\xff\xffn,,n"s)), "none, and some");
  expect_broken(Exchange().raw(as_bytes("SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n"s)), "huge");
  expect_broken(Exchange().first("n,,n=\0,r=abc"s), "zero byte");
}

TEST(Scram, RefusesABrokenFirstMessage) {
  for (const std::string& first : {""s,
                                   "n"s,
                                   "n,"s,
                                   "n,,"s,
                                   "x,,n=,r=abc"s,
                                   "n,a=user,n=,r=abc"s,
                                   "n,,m=x,n=,r=abc"s,
                                   "n,,r=abc"s,
                                   "n,,n="s,
                                   "n,,n=,"s,
                                   "n,,n=,r="s,
                                   "n,,n=,r"s,
                                   "n,,n=,s=abc"s,
                                   "n,,n=,r=a c"s,
                                   "n,,n=,r=a\x7f"s,
                                   "n,,n=,r=\xc3\xa9"s,
                                   "n,,n=,r=abc,"s,
                                   "n,,n=,r=abc,x"s,
                                   "n,,n=,r=abc,1=2"s,
                                   "n,,n=,r=abc,,x=1"s,
                                   "n=,n=,r=abc"s,
                                   ",,n=,r=abc"s,
                                   "nn,,n=,r=abc"s}) {
    Exchange exchange;
    expect_broken(exchange.first(first), first);
    EXPECT_TRUE(exchange.sent_nothing());
  }
}

TEST(Scram, RefusesABrokenFinalMessage) {
  const std::string proof = kClientFinal.substr(kClientFinal.find(",p="));
  for (const std::string& last : {""s,
                                  "x"s,
                                  "c=biws"s,
                                  "c=biws,r=" + kNonce,
                                  "r=" + kNonce + proof,
                                  "c=biws" + proof,
                                  "c=eSws,r=" + kNonce + proof,
                                  "c=,r=" + kNonce + proof,
                                  "c=!!!!,r=" + kNonce + proof,
                                  "c=biws,r=" + kNonce + "x" + proof,
                                  "c=biws,r=" + std::string(kClientNonce) + proof,
                                  "c=biws,r=" + proof,
                                  "c=biws,r=" + kNonce + ",p=",
                                  "c=biws,r=" + kNonce + ",p=AAAA",
                                  "c=biws,r=" + kNonce + ",p=" + std::string(44, '!'),
                                  kClientFinal + ",",
                                  kClientFinal + "=",
                                  kClientFinal + ",x=1",
                                  "c=biws,r=" + kNonce + ",x" + proof,
                                  "c=biws,r=" + kNonce + ",m" + proof,
                                  kClientFinal + "\0"s,
                                  "\0"s + kClientFinal,
                                  " " + kClientFinal,
                                  kClientFinal + "\n"}) {
    Exchange exchange;
    ASSERT_EQ(exchange.first(kClientFirst).step, Step::Continue);
    expect_broken(exchange.response(last), last);
    EXPECT_TRUE(exchange.sent_nothing());
  }
}

TEST(Scram, RefusesAMessageLongerThanPostgresqlTakes) {
  const std::string nonce(2000, 'a');
  expect_broken(Exchange().first("n,,n=,r=" + nonce), "first");
  Exchange exchange;
  ASSERT_EQ(exchange.first(kClientFirst).step, Step::Continue);
  expect_broken(exchange.response(kClientFinal + std::string(2000, 'a')), "final");
}

TEST(Scram, AcceptsNothingAfterItsEnd) {
  Exchange done;
  ASSERT_EQ(done.first(kClientFirst).step, Step::Continue);
  ASSERT_EQ(done.response(kClientFinal).step, Step::Done);
  expect_broken(done.response(kClientFinal), "after Done");
  Exchange failed;
  expect_broken(failed.first(""), "empty");
  expect_broken(failed.first(kClientFirst), "after Failed");
  expect_broken(failed.response(kClientFinal), "after Failed");
}

TEST(Scram, RefusesEveryChangeOfOneByteInTheProof) {
  const std::size_t start = kClientFinal.find(",p=") + 3;
  for (std::size_t at = start; at < kClientFinal.size(); ++at) {
    std::string last = kClientFinal;
    last[at] = last[at] == 'A' ? 'B' : 'A';
    Exchange exchange;
    ASSERT_EQ(exchange.first(kClientFirst).step, Step::Continue);
    EXPECT_EQ(exchange.response(last).step, Step::Failed) << last;
  }
}

TEST(Scram, RefusesEveryPrefixOfARightMessage) {
  for (std::size_t end = 0; end < kClientFirst.size(); ++end) {
    const std::string first = kClientFirst.substr(0, end);
    Exchange exchange;
    if (exchange.first(first).step == Step::Continue) {
      EXPECT_GT(end, kClientFirst.find("r=") + 2) << "a shorter nonce is a nonce";
    }
  }
  for (std::size_t end = 0; end < kClientFinal.size(); ++end) {
    Exchange exchange;
    ASSERT_EQ(exchange.first(kClientFirst).step, Step::Continue);
    expect_broken(exchange.response(kClientFinal.substr(0, end)), std::to_string(end));
  }
}

TEST(Scram, ReadsRubbishWithoutFault) {
  std::mt19937 random(20240105);
  for (int round = 0; round < 20'000; ++round) {
    Exchange exchange({.binding = random() % 2 == 0 ? std::optional(kBinding) : std::nullopt});
    std::string first = kClientFirst;
    std::string last = kClientFinal;
    for (std::string* message : {&first, &last}) {
      for (unsigned changes = random() % 3; changes > 0; --changes) {
        const std::size_t at = random() % message->size();
        switch (random() % 3) {
          case 0:
            message->erase(at, 1 + random() % 4);
            break;
          case 1:
            message->insert(at, 1, ",=npcr\0\xff"s[random() % 8]);
            break;
          default:
            (*message)[at] = static_cast<char>(random());
            break;
        }
        if (message->empty()) message->push_back('n');
      }
    }
    if (exchange.first(first).step != Step::Continue) continue;
    const ScramOutcome outcome = exchange.response(last);
    if (outcome.step == Step::Done) {
      EXPECT_EQ(first, kClientFirst);
      EXPECT_EQ(last, kClientFinal);
    }
  }
}

TEST(ScramVerifier, IsReadAndWrittenAsPostgresqlHasIt) {
  // The password and salt of RFC 7677.
  const std::string text =
      "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
      "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
  const auto verifier = parse_verifier(text);
  ASSERT_TRUE(verifier);
  EXPECT_EQ(*verifier, pencil());
  EXPECT_EQ(to_string(*verifier), text);
}

TEST(ScramVerifier, IsRefusedWhereAnyPartIsBroken) {
  const std::string good = to_string(pencil());
  ASSERT_TRUE(parse_verifier(good));
  for (std::size_t end = 0; end < good.size(); ++end) {
    EXPECT_FALSE(parse_verifier(good.substr(0, end))) << end;
  }
  for (const std::string& bad :
       {good + "=", good + " ", " " + good, "SCRAM-SHA-1" + good.substr(13),
        "SCRAM-SHA-256$0:" + good.substr(19), "SCRAM-SHA-256$-1:" + good.substr(19),
        "SCRAM-SHA-256$:" + good.substr(19), "SCRAM-SHA-256$4096x:" + good.substr(19),
        "SCRAM-SHA-256$99999999999:" + good.substr(19), "SCRAM-SHA-256$4096:$a:b"s,
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA"s, "SCRAM-SHA-256$4096$AAAA:a:b"s}) {
    EXPECT_FALSE(parse_verifier(bad)) << bad;
  }
}

TEST(ScramVerifier, TakesControlCharactersAndNoUtf8AsTheyAre) {
  EXPECT_FALSE(needs_saslprep("plain ascii \x01\x7f"));
  EXPECT_FALSE(needs_saslprep("\xff\xfe"));
  EXPECT_FALSE(needs_saslprep("\xc3"));
  EXPECT_FALSE(needs_saslprep("\xed\xa0\x80"));  // a surrogate
  EXPECT_TRUE(needs_saslprep("p\xc3\xa4ss"));
  EXPECT_TRUE(needs_saslprep("\xf0\x9f\x94\x91"));
}

TEST(Base64, ReadsOnlyWhatItWrites) {
  std::mt19937 random(20240106);
  for (std::size_t size = 0; size < 70; ++size) {
    Bytes bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const auto back = decode_base64(encode_base64(bytes));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, bytes);
  }
  for (const std::string bad : {"A", "AA", "AAA", "AA=A", "A===", "====", "AB==", "AAB=", "AAAA\n",
                                " AAAA", "AAA\n", "AA A", "AAAA====", "AA==AAAA", "A-_A"}) {
    EXPECT_FALSE(decode_base64(bad)) << bad;
  }
}

TEST(TlsServerEndPoint, IsTheHashOfTheCertificateByItsSignaturesAlgorithm) {
  for (const auto& [signature, hash] :
       {std::pair{EVP_sha256(), EVP_sha256()}, std::pair{EVP_sha384(), EVP_sha384()},
        std::pair{EVP_sha1(), EVP_sha256()}}) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                  &EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    ASSERT_GT(X509_sign(certificate.get(), key.get(), signature), 0);
    unsigned char* der = nullptr;
    const int length = i2d_X509(certificate.get(), &der);
    ASSERT_GT(length, 0);
    const Bytes bytes(der, der + length);
    OPENSSL_free(der);
    Bytes expected(static_cast<std::size_t>(EVP_MD_get_size(hash)));
    EVP_Digest(bytes.data(), bytes.size(), expected.data(), nullptr, hash, nullptr);
    EXPECT_EQ(tls_server_end_point(bytes), expected);
    const ByteSpan cut = ByteSpan(bytes).first(bytes.size() - 1);
    EXPECT_EQ(tls_server_end_point(cut), std::nullopt);
  }
}

TEST(ScramVerifier, AnUnknownUsersShapeChangesOnlyWithTheOneThatItDrew) {
  const Bytes secret = {1, 2, 3};
  const std::vector<ScramShape> all = {{4096, 16}, {4096, 12}, {10'000, 16}, {600'000, 16}};
  EXPECT_EQ(shape_for_user(secret, "a", {}), std::nullopt);
  std::array<int, 4> drawn{};
  for (int i = 0; i < 400; ++i) {
    const std::string user = "user" + std::to_string(i);
    const ScramShape shape = *shape_for_user(secret, user, all);
    EXPECT_EQ(shape_for_user(secret, user, all), shape);
    for (std::size_t gone = 0; gone < all.size(); ++gone) {
      std::vector<ScramShape> left = all;
      left.erase(left.begin() + static_cast<std::ptrdiff_t>(gone));
      const ScramShape now = *shape_for_user(secret, user, left);
      if (all[gone] == shape) {
        drawn[gone]++;
      } else {
        EXPECT_EQ(now, shape) << user;
      }
    }
  }
  for (const int count : drawn) EXPECT_GT(count, 50) << "each has its share";
}

}  // namespace
}  // namespace carpool::pg
