// A context of TLS from what stands in the files: by memory, and with a clear word where it is bad.
#include "net/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "certificates.h"

namespace carpool::net {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

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
