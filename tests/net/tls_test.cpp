// A context of TLS from what stands in the files: by memory, and with a clear word where it is bad.
#include "net/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace carpool::net {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Key make_key() {
  return {EVP_EC_gen("P-256"), &EVP_PKEY_free};
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

std::string pem_of(EVP_PKEY* key, const char* passphrase = nullptr) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PKCS8PrivateKey(bio, key, passphrase == nullptr ? nullptr : EVP_aes_128_cbc(),
                                passphrase, passphrase == nullptr ? 0 : 6, nullptr, nullptr);
  return text_of(bio);
}

std::string certificate_of(EVP_PKEY* key, const char* name) {
  X509* made = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(made), 1);
  X509_gmtime_adj(X509_getm_notBefore(made), 0);
  X509_gmtime_adj(X509_getm_notAfter(made), 3600);
  X509_set_pubkey(made, key);
  X509_NAME* subject = X509_get_subject_name(made);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(made, subject);
  X509_sign(made, key, EVP_sha256());
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, made);
  X509_free(made);
  return text_of(bio);
}

class TlsTest : public testing::Test {
 protected:
  std::string problem(const std::string& certificate, const std::string& key,
                      const std::optional<std::string>& authorities = std::nullopt) {
    std::optional<Pem> trusted;
    if (authorities) trusted = Pem{"caFile /a", *authorities};
    const auto made = TlsContext::make({"certFile /c", certificate}, {"keyFile /k", key}, trusted);
    return made ? "" : made.error().message;
  }
  const Key key_ = make_key();
  const Key other_ = make_key();
  const std::string certificate_ = certificate_of(key_.get(), "localhost");
};

TEST_F(TlsTest, TakesAChainAndAuthorities) {
  const std::string issuer = certificate_of(other_.get(), "issuer");
  EXPECT_EQ(problem(certificate_, pem_of(key_.get())), "");
  EXPECT_EQ(problem(certificate_ + issuer, pem_of(key_.get())), "");
  EXPECT_EQ(problem("words before\n" + certificate_ + "\n\n", pem_of(key_.get()), issuer + issuer),
            "");
}

TEST_F(TlsTest, SaysWhichFileIsBad) {
  const std::string key = pem_of(key_.get());
  EXPECT_THAT(problem("", key), StartsWith("certFile /c: "));
  EXPECT_THAT(problem("garbage", key), StartsWith("certFile /c: "));
  EXPECT_THAT(problem(certificate_ + "-----BEGIN CERTIFICATE-----\nbroken", key),
              StartsWith("certFile /c: "));
  EXPECT_THAT(problem(certificate_, ""), StartsWith("keyFile /k: "));
  EXPECT_THAT(problem(certificate_, pem_of(other_.get())), HasSubstr("key values mismatch"));
  EXPECT_THAT(problem(certificate_, key, "garbage"), StartsWith("caFile /a: "));
}

// As one is for a moment that is being written anew.
TEST_F(TlsTest, AuthoritiesThatHoldNoneLetNobodyInWithoutACertificate) {
  const std::string key = pem_of(key_.get());
  for (const std::string none : {"", "\n", "# to come\n"}) {
    EXPECT_THAT(problem(certificate_, key, none), StartsWith("caFile /a: ")) << none;
  }
}

// OpenSSL would ask for it at the terminal, and wait.
TEST_F(TlsTest, AKeyUnderAPassphraseIsAnErrorAndNoQuestion) {
  EXPECT_THAT(problem(certificate_, pem_of(key_.get(), "secret")), StartsWith("keyFile /k: "));
}

TEST_F(TlsTest, KnowsWhetherItAsksMoreOfClientsThanAnother) {
  const std::string key = pem_of(key_.get());
  const std::string authorities = certificate_of(other_.get(), "issuer");
  const auto made = [&](const std::optional<std::string>& trusted) {
    std::optional<Pem> pem;
    if (trusted) pem = Pem{"a", *trusted};
    auto context = TlsContext::make({"c", certificate_}, {"k", key}, pem);
    EXPECT_TRUE(context);
    return std::move(*context);
  };
  const auto open = made(std::nullopt);
  const auto strict = made(authorities);
  EXPECT_TRUE(open->asks_no_more_than(*strict));
  EXPECT_TRUE(strict->asks_no_more_than(*made(authorities)));
  EXPECT_FALSE(strict->asks_no_more_than(*open));
  EXPECT_FALSE(strict->asks_no_more_than(*made(certificate_)));
}

}  // namespace
}  // namespace carpool::net
